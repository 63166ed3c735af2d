# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there: the server, its databases, what a database holds, and what of it this role cannot read."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Union

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

Parameters = Union[Sequence[Any], Mapping[str, Any], None]


def rows(connection: Connection, query: str | sql.Composable, parameters: Parameters = None) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def value(connection: Connection, query: str | sql.Composable, parameters: Parameters = None) -> Any:
    """The first column of the first row."""
    return rows(connection, query, parameters)[0][0]


_memories: weakref.WeakKeyDictionary[Connection, dict[Any, Any]] = weakref.WeakKeyDictionary()


def memory(connection: Connection) -> dict[Any, Any]:
    """What was found out over a session, and is not asked again as long as it lasts."""
    return _memories.setdefault(connection, {})


def known(connection: Connection, query: str) -> Any:
    """The first column of the first row, which stays the same, and is asked for once."""
    found = memory(connection)
    if query not in found:
        found[query] = value(connection, query)
    return found[query]


def records(connection: Connection, *questions: tuple[str | sql.Composable, Parameters]) -> list[list[dict[str, Any]]]:
    """The rows of several queries, asked for at once, by their columns, each of another name: as JSON has them."""
    with connection.cursor() as cursor:
        asked = [cursor.mogrify(*question) for question in questions]
        each = [b"(SELECT coalesce(json_agg(q), '[]') FROM (" + query + b") AS q)" for query in asked]
        cursor.execute(b"SELECT json_build_array(" + b", ".join(each) + b")")
        return cursor.fetchall()[0][0]


@dataclass(frozen=True)
class Server:
    """Identity of a server. ``system_identifier`` is that of its data directory, the same on its standbys."""

    version: str
    major: int
    system_identifier: str
    in_recovery: bool

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


def read_server(connection: Connection) -> Server:
    """The server at the other end, as the session found it (PostgreSQL documentation, 9.28: pg_control_system)."""
    identifier, in_recovery, version = known(
        connection,
        "SELECT json_build_array(system_identifier::text, pg_is_in_recovery(), current_setting('server_version'))"
        " FROM pg_control_system()",
    )
    return Server(version.split(" ")[0], connection.info.server_version // 10000, identifier, in_recovery)


def database_names(connection: Connection) -> list[str]:
    """All databases to which one can connect, templates aside; -2 marks what is left of an interrupted DROP."""
    query = """
        SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2
        ORDER BY datname"""
    return [name for (name,) in rows(connection, query)]


def select_databases(connection: Connection, wanted: list[str], ignored: list[str], side: str = "source") -> list[str]:
    """The databases to work on: those wanted, else all but ``postgres`` and the ignored. Raises for a missing one."""
    there = database_names(connection)
    missing = [name for name in wanted if name not in there]
    if missing:
        raise HandoverError(
            f"The {side} has no database {', '.join(map(repr, missing))}; it has {', '.join(map(repr, there))}.",
            "Correct databases.",
        )
    return list(wanted) or [name for name in there if name not in {"postgres", *ignored}]


def other_databases(connection: Connection, selected: list[str]) -> list[str]:
    """The databases that are not selected, templates aside, but with those to which nobody may connect."""
    query = "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname"
    return [name for (name,) in rows(connection, query) if name not in selected]


def database_sizes(connection: Connection, names: list[str]) -> dict[str, int | None]:
    """Sizes in bytes, None where the role may not ask."""
    query = """
        SELECT datname::text,
               CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                    THEN pg_database_size(oid) END
        FROM pg_database WHERE datname = ANY (%s::text[])"""
    return dict(rows(connection, query, (names,)))


# How comments on objects of ours begin, so that they are told from an operator's.
MARK = "handover.postgresql:"

# Oids of the roles that were made for migrations, and go with them.
OUR_ROLES = f"""SELECT oid FROM pg_catalog.pg_roles
    WHERE pg_catalog.starts_with(coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), ''), '{MARK}')
    OR rolname ~ '^handover_[0-9a-f]{{10}}_'"""

# What pg_dump locks, reads or needs the rights on, by kind. Members of extensions are left to their extension.
OWN_RELATIONS = f"""
    pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT starts_with(coalesce(obj_description(n.oid, 'pg_namespace'), ''), '{MARK}')
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass
                    AND d.objid = c.oid AND d.deptype = 'e')"""


def data_size(connection: Connection) -> int:
    """Bytes in tables and large objects, indexes aside: the most that a dump has to read."""
    query = f"SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint FROM {OWN_RELATIONS} AND c.relkind = 'r'"
    return value(connection, query) + value(connection, "SELECT pg_table_size('pg_largeobject')::bigint")


def columns_of(keys: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """(schemas, names) of relations, (schema, name) each, as ``unnest`` takes them."""
    return [schema for schema, _name in keys], [name for _schema, name in keys]


def quoted_names(connection: Connection, keys: list[tuple[str, str]]) -> list[str]:
    """Names of relations, (schema, name) each, as the server quotes them, in the same order."""
    query = """
        SELECT format('%%I.%%I', schema, name)
        FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS t (schema, name, number) ORDER BY number"""
    quoted = memory(connection).setdefault(query, {})
    unknown = [key for key in keys if key not in quoted]
    if unknown:
        quoted.update(zip(unknown, (name for (name,) in rows(connection, query, columns_of(unknown)))))
    return [quoted[key] for key in keys]


def table_count(connection: Connection) -> int:
    """Tables that hold rows of their own."""
    return value(connection, f"SELECT count(*)::int FROM {OWN_RELATIONS} AND c.relkind = 'r'")


def unlogged_tables(connection: Connection) -> list[str]:
    """Tables whose rows are not in WAL, so that a standby does not have them; quoted."""
    query = f"SELECT format('%I.%I', n.nspname, c.relname) FROM {OWN_RELATIONS} AND c.relkind = 'r'"
    return [name for (name,) in rows(connection, f"{query} AND c.relpersistence = 'u' ORDER BY 1")]


def has_pg_attver(connection: Connection) -> bool:
    """Whether columns carry the internal option of the minors of 2026-11-12 that older clients dump as an option."""
    query = "SELECT EXISTS (SELECT FROM pg_attribute WHERE array_to_string(attoptions, ',') ~ '(^|,)pg_attver=')"
    return value(connection, query)


@dataclass(frozen=True)
class Unreadable:
    """Something that this role cannot read: its kind (table, sequence, large object), its name, quoted, that of its
    schema (None for large objects), and the privilege that is missing: USAGE (on the schema), SELECT, or BYPASSRLS.
    """

    kind: str
    name: str
    schema: str | None
    privilege: str

    def __str__(self) -> str:
        """Ready to show: ``table public.orders: SELECT``."""
        more = {"USAGE": " on its schema", "BYPASSRLS": ", for its row level security"}.get(self.privilege, "")
        return f"{self.kind} {self.name}: {self.privilege}{more}"


def unreadable_objects(connection: Connection) -> list[Unreadable]:
    """What pg_dump would fail on for want of a privilege.

    pg_dump locks every table and reads every sequence and large object (PostgreSQL documentation, pg_dump, Notes);
    with row_security off, a policy that applies to this role is an error.
    """
    relations = f"""
        SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, format('%I.%I', n.nspname, c.relname),
               quote_ident(n.nspname),
               CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'USAGE'
                    WHEN has_table_privilege(c.oid, 'SELECT') THEN 'BYPASSRLS' ELSE 'SELECT' END
        FROM {OWN_RELATIONS} AND c.relkind IN ('r', 'p', 'S')
        AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                 AND NOT (c.relkind = 'r' AND row_security_active(c.oid)))
        ORDER BY 1 DESC, 2"""
    large_objects = """
        SELECT 'large object', m.oid::text, NULL, 'SELECT' FROM pg_largeobject_metadata AS m
        WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        AND NOT pg_has_role(m.lomowner, 'USAGE')
        AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) AS a WHERE a.privilege_type = 'SELECT'
                        AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
        ORDER BY m.oid"""
    return [Unreadable(*row) for query in (relations, large_objects) for row in rows(connection, query)]


REFERENCED_ROLES = """
    SELECT DISTINCT r.rolname::text AS name FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid
    WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname !~ '^pg_'
    AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1"""

# Roles without which policies and user mappings of the database cannot be made.
NAMED_ROLES = """
    SELECT r.rolname::text AS name FROM pg_policy AS p, unnest(p.polroles) AS named JOIN pg_roles AS r ON r.oid = named
    UNION SELECT usename::text FROM pg_user_mappings WHERE umuser <> 0 ORDER BY 1"""
BOOTSTRAP_ROLE = "SELECT rolname::text AS name FROM pg_roles WHERE oid = 10"

# Of each extension: [kind, schema, name] of its relations, with their indexes, and of its functions.
EXTENSION_MEMBERS = """
    SELECT e.extname::text AS name, json_agg(DISTINCT jsonb_build_array(m.kind, n.nspname, m.name)) AS members
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid, LATERAL (
        SELECT 'relation', relnamespace, relname FROM pg_class
        WHERE d.classid = 'pg_class'::regclass AND (
            oid = d.objid OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = d.objid))
        UNION ALL SELECT 'function', pronamespace, proname FROM pg_proc
        WHERE d.classid = 'pg_proc'::regclass AND oid = d.objid) AS m (kind, namespace, name)
    JOIN pg_namespace AS n ON n.oid = m.namespace
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' GROUP BY e.extname"""


def referenced_roles(connection: Connection) -> list[str]:
    """Roles that own something in this database, or that a privilege or a policy names (pg_shdepend)."""
    return [name for (name,) in rows(connection, REFERENCED_ROLES)]


def bootstrap_role(connection: Connection) -> str:
    """The superuser that initdb made."""
    return value(connection, BOOTSTRAP_ROLE)


def partially_dumped_tables(connection: Connection) -> set[int]:
    """Oids of tables of which a dump holds a part or a copy from elsewhere: configuration of extensions, foreign."""
    query = """
        SELECT c.oid::bigint FROM pg_class AS c WHERE c.relkind = 'f' OR EXISTS (
            SELECT FROM pg_extension AS e WHERE c.oid = ANY (e.extconfig))"""
    return {oid for (oid,) in rows(connection, query)}


# Of each partition, the topmost parent.
PARTITION_ROOTS = """
    SELECT p.oid::bigint, n.nspname::text AS schema, r.relname::text AS name
    FROM pg_class AS p JOIN pg_class AS r ON r.oid = pg_partition_root(p.oid)
    JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE p.relispartition"""


def partition_roots(connection: Connection) -> dict[int, tuple[str, str]]:
    """(schema, name) of the topmost parent of each partition, by the partition's oid."""
    return {oid: (schema, table) for oid, schema, table in rows(connection, PARTITION_ROOTS)}
