# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence: statement triggers on every table that refuse to write to a database that was handed over.

All triggers call one function in schema handover, so replacing that function opens or closes all of them in one
statement and without a lock on any table. They hold for superusers and for sessions that set a transaction READ WRITE;
the apply worker of a subscription, which runs with session_replication_role = replica, passes (PostgreSQL
documentation, ALTER TABLE, ENABLE TRIGGER). Who may disable a trigger of a table may of course take the fence down.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    MARK,
    OWN_RELATIONS,
    columns_of,
    quoted_names,
    rows,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import (
    execute_briefly,
    execute_patiently,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

TRIGGER = "handover_fence"
SQLSTATE = "25006"  # read_only_sql_transaction
CHANGED = "HO002"  # SQLSTATE
BATCH = 50  # tables whose triggers are made or dropped in one transaction
LOCK_TIMEOUT = 100  # milliseconds that writers may wait behind us for a trigger to be made

CREATE_TRIGGER = (
    "CREATE TRIGGER " + TRIGGER + " BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
    " FOR EACH STATEMENT EXECUTE FUNCTION handover.fence()"
)

RAISES = """
BEGIN
    RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = {message}, HINT = {hint};
END
"""
PASSES = """
BEGIN
    RETURN NULL;
END
"""

TRIGGERS = f"""
    SELECT n.nspname::text, c.relname::text
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE t.tgname = '{TRIGGER}' AND t.tgfoid = to_regproc('handover.fence')"""
FENCED = f"{TRIGGERS} AND t.tgenabled IN ('O', 'A') ORDER BY 1, 2"


# What tells that neither a trigger nor what the fence says of itself was changed: a text, to be compared.
SIGHT = f"""
    SELECT json_build_array(
        (SELECT obj_description(to_regproc('handover.fence'), 'pg_proc')),
        (SELECT json_build_array(count(*), sum(hashint8(tgrelid::bigint))) FROM pg_trigger
         WHERE tgname = '{TRIGGER}' AND tgfoid = to_regproc('handover.fence') AND tgenabled IN ('O', 'A')))::text"""


@dataclass(frozen=True)
class Fence:
    """What the fence says of itself, kept in the comment on its function: whether it is ``closed``, the ``home`` where
    the database lives instead, the id of the ``migration``, roles that have no LOGIN because of it or of another one on
    this server, and whether the database was here before (``handed_over``) or is still to come.
    """

    closed: bool
    home: str
    migration: str
    roles: tuple = ()
    handed_over: bool = True


def read(connection) -> Fence | None:
    """The fence of this database, or None where there is none. Raises HandoverError for one that may not be ours."""
    query = f"""
        SELECT obj_description(p.oid, 'pg_proc'), {trust.query(connection)}
        FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = 'handover' AND p.proname = 'fence' AND p.prorettype = 'trigger'::regtype"""
    found = [(text, strangers) for text, strangers in rows(connection, query) if text and text.startswith(MARK)]
    if not found:
        return None
    [(text, strangers)] = found
    trust.refuse(connection, strangers)
    record = json.loads(text[len(MARK) :])
    return Fence(**{**record, "roles": tuple(record["roles"])})


def roles_without_login(endpoint: Endpoint, dbnames: list[str]) -> tuple[set[str], list[str]]:
    """(roles that lost LOGIN with the fence of any of these databases, the databases that could not be asked)."""
    found, unknown = set(), []
    for name in dbnames:
        try:
            with contextlib.closing(endpoint.connect(name)) as session:
                there = read(session)
        except (HandoverError, psycopg2.Error):
            unknown.append(name)
        else:
            found.update(there.roles if there else ())
    return found, unknown


def fenced_tables(connection) -> list[tuple[str, str]]:
    """(schema, name) of the tables that have the trigger, enabled; whether it refuses says ``read``."""
    return rows(connection, FENCED)


def tables_with_trigger(connection) -> list[tuple[str, str]]:
    """The same, with those whose trigger somebody has disabled."""
    return rows(connection, f"{TRIGGERS} ORDER BY 1, 2")


def tables_to_fence(connection, configuration: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """(schema, name) of all tables with rows of their own and of all partitioned ones: a statement that names a
    partitioned table fires only that table's statement triggers. Those of extensions are left to their extension, but
    for ``configuration``, tables whose rows are handed over, as far as this role owns them. No dump has their triggers.
    """
    query = f"""
        SELECT n.nspname::text, c.relname::text FROM {OWN_RELATIONS} AND c.relkind IN ('r', 'p')
        UNION SELECT t.schema, t.name FROM unnest(%s::text[], %s::text[]) AS t (schema, name)
        JOIN pg_namespace AS n ON n.nspname = t.schema
        JOIN pg_class AS c ON (c.relnamespace, c.relname) = (n.oid, t.name)
        WHERE c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE') ORDER BY 1, 2"""
    return rows(connection, query, columns_of([one for one in configuration if one not in WORKERS_LOGS]))


# pg_cron's launcher writes each run there, of jobs in other databases, too: it would end at the fence, again and again.
WORKERS_LOGS = [("cron", "job_run_details")]


def unfenced_tables(connection, fenced: list[tuple[str, str]]) -> list[str]:
    """Tables of extensions that are not among those that are fenced; quoted."""
    query = """
        SELECT n.nspname::text, c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND EXISTS (
            SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        ORDER BY 1, 2"""
    return quoted_names(connection, [key for key in rows(connection, query) if key not in set(fenced)])


def without_trigger(connection, configuration: Iterable[tuple[str, str]] = ()) -> list[str]:
    """Tables that belong within the fence and are not, as they were made since, or freed; quoted."""
    fenced = set(fenced_tables(connection))
    return quoted_names(connection, [key for key in tables_to_fence(connection, configuration) if key not in fenced])


def passing(connection) -> list[tuple[str, str]]:
    """(whom a setting lets pass, statement that takes it back): triggers, and so the fence, and foreign keys, do not
    fire in sessions that begin with session_replication_role = replica.
    """
    settings = """
        SELECT CASE WHEN s.setrole = 0 THEN '' ELSE format('role %I', r.rolname) END,
               format(CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALTER ROLE ALL'
                           WHEN s.setrole = 0 THEN 'ALTER DATABASE %2$I'
                           WHEN s.setdatabase = 0 THEN 'ALTER ROLE %1$I'
                           ELSE 'ALTER ROLE %1$I IN DATABASE %2$I' END, r.rolname, current_database())
               || ' RESET session_replication_role'
        FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
        WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND lower(setting) = 'session_replication_role=replica' AND r.rolcanlogin IS NOT FALSE
        UNION ALL SELECT '', 'ALTER SYSTEM RESET session_replication_role; SELECT pg_reload_conf()' FROM pg_settings
        WHERE name = 'session_replication_role' AND reset_val = 'replica' AND source NOT LIKE '%database%'
        AND source <> 'user' ORDER BY 1, 2"""
    return [(whom or "everybody", statement) for whom, statement in rows(connection, settings)]


def not_permitted(connection, tables: list[tuple[str, str]]) -> list[str]:
    """Those of the tables on which this role may not create a trigger or drop it again; quoted."""
    query = """
        SELECT format('%%I.%%I', n.nspname, c.relname)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN ROWS FROM (unnest(%s), unnest(%s)) AS t (schema, name) ON (t.schema, t.name) = (n.nspname, c.relname)
        WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1"""
    schemas, names = [schema for schema, _name in tables], [name for _schema, name in tables]
    return [name for (name,) in rows(connection, query, (schemas, names))]


def prepare(connection, fence: Fence, dbname: str, tables: list[tuple[str, str]], patience: float) -> int:
    """Make the function and the triggers that are not there yet, in an autocommit session; how many triggers.

    A few tables at a time, each for the moment that its trigger takes. Raises HandoverError, naming who holds them,
    when the locks are not to be had within ``patience`` seconds.
    """
    missing = sorted(set(tables) - set(fenced_tables(connection)))
    with connection.cursor() as cursor:
        cursor.execute(define(fence, dbname))
    for group in in_groups(missing, BATCH):
        _create_triggers(connection, group, patience)
    return len(missing)


def close(connection, fence: Fence, dbname: str, tables: list[tuple[str, str]]) -> int:
    """Refuse writes to ``tables`` from the commit of the connection's transaction on; how many triggers were made.

    The caller holds SHARE ROW EXCLUSIVE locks on them, so that whoever writes next sees the fence, also in a
    transaction whose snapshot is older: functions and triggers are looked up after the lock on the table.
    """
    missing = sorted(set(tables) - set(fenced_tables(connection)))
    with connection.cursor() as cursor:
        cursor.execute(define(fence, dbname))
        if missing:
            cursor.execute(_triggers(missing))
    return len(missing)


def open_(connection, migration: str) -> bool:
    """Let writers pass again, at once and for all tables; the triggers stay until ``remove``. Whether that
    was left to do. Another migration's fence is left alone.
    """
    found = read(connection)
    if found is None or found.migration != migration or not (found.closed or found.roles):
        return False
    there = rows(connection, "SELECT rolname::text FROM pg_roles WHERE rolname = ANY (%s)", (list(found.roles),))
    with connection.cursor() as cursor:
        cursor.execute(define(replace(found, closed=False), ""))
        for (role,) in there:  # a run that ends here leaves them to the next one
            cursor.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        cursor.execute(define(replace(found, closed=False, roles=()), ""))
    return True


def opening(connection, found: Fence) -> str:
    """The same as one statement, for a fence that says ``found``. It fails with CHANGED where that says something else
    by now.
    """
    query = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY (%s)"
    there = rows(connection, query, (list(found.roles),)) if found.roles else []
    statements = [
        *(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)) for (role,) in there),
        define(replace(found, closed=False, roles=()), ""),
    ]
    body = f"""
    BEGIN
        IF obj_description(to_regproc('handover.fence'), 'pg_proc') IS DISTINCT FROM {constant(_record(found))} THEN
            RAISE EXCEPTION USING ERRCODE = '{CHANGED}', MESSAGE = 'changed';
        END IF;
        EXECUTE {constant(sql.SQL("; ").join(statements).as_string(connection))};
    END"""
    return f"DO {constant(body)}"


def _record(fence: Fence) -> str:
    return f"{MARK} {json.dumps(asdict(fence))}"


def define(fence: Fence, dbname: str):
    """The statements that make the function say what the fence is now."""
    body = PASSES
    if fence.closed:
        happened = "was handed over to" if fence.handed_over else "is not in use on this server yet; it still lives at"
        message = f'database "{dbname}" {happened} {fence.home}'
        hint = "Connect there: this server refuses writes to it."
        body = RAISES.format(sqlstate=SQLSTATE, message=constant(message), hint=constant(hint))
    statements = (
        "CREATE OR REPLACE FUNCTION handover.fence() RETURNS trigger LANGUAGE plpgsql AS {};"
        " COMMENT ON FUNCTION handover.fence() IS {}"
    )
    return sql.SQL(statements).format(sql.Literal(body), sql.Literal(_record(fence)))


def remove(connection, migration: str) -> int:
    """Take the fence down for good, in an autocommit session; how many triggers were dropped.

    Each batch of triggers needs an ACCESS EXCLUSIVE lock on its tables, which is asked for with patience. Until the
    last is gone, the fence is open. Raises HandoverError for locks that are not to be had; a rerun goes on.
    """
    found = read(connection)
    if found is None or found.migration != migration:
        return 0
    open_(connection, migration)
    tables = tables_with_trigger(connection)
    for group in in_groups(tables, BATCH):
        drop = sql.SQL("DROP TRIGGER IF EXISTS " + TRIGGER + " ON {}")
        batch = [drop.format(sql.Identifier(*table)) for table in group]
        execute_patiently(connection, sql.SQL("; ").join(batch))
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION handover.fence()")
    return len(tables)


def _create_triggers(connection, tables: list[tuple[str, str]], patience: float) -> None:
    execute_briefly(connection, _triggers(tables), patience, LOCK_TIMEOUT)


def _triggers(tables: list[tuple[str, str]]):
    return sql.SQL("; ").join([sql.SQL(CREATE_TRIGGER).format(sql.Identifier(*table)) for table in tables])
