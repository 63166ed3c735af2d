# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login role that the target uses on the source: with the least that works, and a record of what was changed.

The record is the role's comment: it is there before the first change, every migrator finds it, and it goes with the
role.
"""

from __future__ import annotations

import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK, rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.passwords import (
    belongs_to,
    scram_verifier,
)

READ_ALL = "pg_read_all_data"
RDS_REPLICATION = "rds_replication"  # what stands for the attribute REPLICATION where nobody may give that

# A server's defaults must not cut off replication, or a copy of a large table, and by whom they are known.
SETTINGS = {
    "statement_timeout": 0,
    "idle_in_transaction_session_timeout": 0,
    "idle_session_timeout": 140000,
    "transaction_timeout": 170000,
}


def exists(connection, role: str) -> bool:
    """Whether there is a role of this name."""
    return bool(rows(connection, "SELECT FROM pg_roles WHERE rolname = %s", (role,)))


# --- the record ------------------------------------------------------------------------------------------------------


def read_records(connection) -> dict[str, dict]:
    """The records of all roles of ours on this server, by role: each has ``databases`` and ``settings``."""
    query = """
        SELECT rolname::text, shobj_description(oid, 'pg_authid') FROM pg_roles
        WHERE starts_with(shobj_description(oid, 'pg_authid'), %s) ORDER BY 1"""
    return {role: _read(comment) for role, comment in rows(connection, query, (MARK,))}


def _read(comment: str) -> dict:
    try:
        return {"databases": [], "settings": {}, **json.loads(comment[len(MARK) :])}
    except ValueError:
        raise HandoverError(
            f"The comment of a role begins with {MARK}, but is not a record of the collection: {comment}",
            "Put it back as it was, or drop that role.",
        ) from None


def record_of(connection, role: str) -> dict | None:
    """What was changed for the migration; None where there is no such role. Raises for a role that is not ours."""
    record = read_records(connection).get(role)
    if record is None and exists(connection, role):
        raise HandoverError(
            f'The source has a role "{role}" that was not made for this migration.',
            "Choose another name in replication_role or, if the role is meant for the target, set "
            "create_replication_role: false.",
        )
    return record


def write_record(role: str, record: dict) -> sql.Composable:
    """The statement that replaces the record."""
    comment = sql.Literal(f"{MARK} {json.dumps(record, sort_keys=True)}")
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role), comment)


# --- the role --------------------------------------------------------------------------------------------------------


def creation(connection, role: str, record: dict, attributes: str) -> list[sql.Composable]:
    """Statements that make the role and its record, without the password."""
    name = sql.Identifier(role)
    create = sql.SQL("CREATE ROLE {} " + attributes).format(name)
    return [create, *(_set(role, setting, "0") for setting in _settings(connection)), write_record(role, record)]


def create(connection, role: str, password: str | None, statements: list) -> None:
    """Run such statements, all or none. Only the SCRAM verifier of the password is sent, and kept out of the log."""
    with transaction(connection) as cursor:
        for statement in statements:
            cursor.execute(statement)
        if password:
            cursor.execute(_password(connection, role, password))


def has_password(connection, role: str, password: str) -> bool | None:
    """Whether this is the role's password; None where the server does not show it."""
    if not value(connection, "SELECT has_table_privilege('pg_authid', 'SELECT')"):
        return None
    stored = value(connection, "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,))
    return bool(stored) and belongs_to(stored, password)


def set_password(connection, role: str, password: str) -> None:
    """Give the role another password."""
    with transaction(connection) as cursor:
        cursor.execute(_password(connection, role, password))


def shown_password(role: str) -> sql.Composable:
    """The statement that gives the role its password, as it may be shown."""
    return sql.SQL("ALTER ROLE {} PASSWORD '********'").format(sql.Identifier(role))


def _password(connection, role: str, password: str) -> sql.Composable:
    verifier = sql.Literal(scram_verifier(connection, role, password))
    return sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), verifier)


def missing_attributes(connection, role: str) -> list[sql.Composable]:
    """The statement for attributes that the role lacks, if any."""
    query = """
        SELECT rolcanlogin, rolreplication OR EXISTS (
            SELECT FROM pg_roles AS g WHERE g.rolname = %s AND pg_has_role(r.oid, g.oid, 'MEMBER'))
        FROM pg_roles AS r WHERE rolname = %s"""
    has = dict(zip(("LOGIN", "REPLICATION"), rows(connection, query, (RDS_REPLICATION, role))[0]))
    words = [word for word, there in has.items() if not there]
    return [sql.SQL("ALTER ROLE {} " + " ".join(words)).format(sql.Identifier(role))] if words else []


def missing_settings(connection, role: str) -> list[sql.Composable]:
    """Statements for the settings that the role's sessions lack."""
    query = "SELECT coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = %s"
    there = value(connection, query, (role,))
    return [_set(role, name, "0") for name in _settings(connection) if f"{name}=0" not in there]


def sender_timeout(connection, role: str, milliseconds: int) -> list[sql.Composable]:
    """The statement that gives the role's replication connections a timeout of their own, unless they have one."""
    query = (
        "SELECT FROM pg_roles, unnest(rolconfig) AS setting WHERE rolname = %s AND setting LIKE 'wal_sender_timeout=%%'"
    )
    return [] if rows(connection, query, (role,)) else [_set(role, "wal_sender_timeout", str(milliseconds))]


def _settings(connection) -> list[str]:
    return [name for name, since in SETTINGS.items() if connection.info.server_version >= since]


def _set(role: str, name: str, text: str) -> sql.Composable:
    return sql.SQL("ALTER ROLE {} SET {} = {}").format(sql.Identifier(role), sql.Identifier(name), sql.Literal(text))


# --- what it may do --------------------------------------------------------------------------------------------------


def missing_grants(connection, role: str, databases: list[str], select: bool) -> list[sql.Composable]:
    """Statements for what the role lacks: CONNECT on the databases and, on request, the right to read all tables."""
    name = sql.Identifier(role)
    there = exists(connection, role)
    statements: list[sql.Composable] = []
    for dbname in databases:
        grantee = role if there else "public"
        if not value(connection, "SELECT has_database_privilege(%s, %s, 'CONNECT')", (grantee, dbname)):
            statements.append(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(dbname), name))
    if select and connection.info.server_version >= 140000 and not (there and _may_read_all(connection, role)):
        statements.append(sql.SQL("GRANT {} TO {}").format(sql.Identifier(READ_ALL), name))
    return statements


def _may_read_all(connection, role: str) -> bool:
    return value(connection, "SELECT pg_has_role(%s, %s, 'USAGE')", (role, READ_ALL))


def missing_select(connection, role: str) -> list[sql.Composable]:
    """For a database of a server before 14, which has no pg_read_all_data: grants schema by schema."""
    query = """
        SELECT n.nspname::text FROM pg_namespace AS n
        WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        AND (%(role)s::text IS NULL OR NOT has_schema_privilege(%(role)s, n.oid, 'USAGE') OR EXISTS (
            SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid
            AND CASE WHEN c.relkind IN ('r', 'p') THEN NOT has_table_privilege(%(role)s, c.oid, 'SELECT')
                     WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(%(role)s, c.oid, 'SELECT') END))
        ORDER BY 1"""
    statements: list[sql.Composable] = []
    for (schema,) in rows(connection, query, {"role": role if exists(connection, role) else None}):
        names = (sql.Identifier(schema), sql.Identifier(role))
        statements.append(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(*names))
        for kind in ("TABLES", "SEQUENCES"):
            statements.append(sql.SQL("GRANT SELECT ON ALL " + kind + " IN SCHEMA {} TO {}").format(*names))
    return statements


# --- its end ---------------------------------------------------------------------------------------------------------


def in_use(connection, role: str, databases: list[str]) -> list[str]:
    """What of a migration still uses the role: its sessions, replication included, and slots of ours."""
    sessions = value(connection, "SELECT count(*)::int FROM pg_stat_activity WHERE usename = %s", (role,))
    slots = rows(
        connection,
        "SELECT slot_name::text FROM pg_replication_slots"
        " WHERE starts_with(slot_name, 'handover_') AND database = ANY (%s) ORDER BY 1",
        (databases,),
    )
    return [*([f"{sessions} of its sessions"] if sessions else []), *(f"the slot {slot}" for (slot,) in slots)]


def owned_in(connection, role: str) -> list[str]:
    """Databases in which the role owns something, which is not for us to drop; shared objects count as ``shared``."""
    query = """
        SELECT DISTINCT coalesce(datname, 'shared')::text
        FROM pg_shdepend AS d LEFT JOIN pg_database AS b ON b.oid = dbid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
        AND deptype = 'o' ORDER BY 1"""
    return [name for (name,) in rows(connection, query, (role,))]


def granted_in(connection, role: str) -> list[str]:
    """Databases that hold privileges of the role, on themselves or on what is in them."""
    query = """
        SELECT DISTINCT datname::text FROM pg_shdepend AS d JOIN pg_database AS b
        ON b.oid = CASE WHEN dbid = 0 AND classid = 'pg_database'::regclass THEN objid ELSE dbid END
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s)
        ORDER BY 1"""
    return [name for (name,) in rows(connection, query, (role,))]


def drop_grants(role: str) -> sql.Composable:
    """Takes back what the role was granted in the database where it is run, and on databases."""
    return sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role))


def drop(role: str) -> sql.Composable:
    """Drops the role, and with it the record."""
    return sql.SQL("DROP ROLE {}").format(sql.Identifier(role))
