# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that hold rows, as the source has them: columns, sizes, and in which format they can travel."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    OWN_RELATIONS,
    PARTITION_ROOTS,
    records,
    rows,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.planning import EVALUATES
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import execute, in_unicode
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import rewritten_tables

FIRST_USER_OID = 16384
HELD_TOGETHER = 200
MEASURED_ABOVE = 32 << 20  # bytes of a table that takes a while


@dataclass(frozen=True)
class SourceTable:
    """A table that holds rows of its own, as the source has it.

    ``size`` is in bytes, TOAST included; ``pages`` those of the table itself, 0 where it cannot be read in ranges.
    ``columns`` are those that have values of their own. ``binary`` says whether the binary format means the same
    everywhere, provided that ``extensions``, (name, version), are of the same version on the target.
    ``condition`` is the part of an extension's configuration table that is the user's (``WHERE ...``, or empty), None
    for all others. ``root`` is the topmost parent of a partition, ``through_root`` whether rows have to be loaded
    through it, because they may belong into another partition there. ``copy_bytes`` is what COPY will make of a large
    one, by the planner's statistics (pg_stats.avg_width); None where there are none. ``evaluates``: to plan a query of
    it, the server calls the application's functions, where COPY of the table does not.
    """

    oid: int
    schema: str
    name: str
    size: int
    pages: int
    columns: tuple
    binary: bool
    extensions: frozenset = frozenset()
    extension: str | None = None
    condition: str | None = None
    unlogged: bool = False
    root: tuple | None = None
    root_oid: int | None = None
    through_root: bool = False
    copy_bytes: int | None = None
    evaluates: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(*self.key)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def read_tables(connection, only: list[tuple[str, str]] | None = None) -> list[SourceTable]:
    """All tables of the database with rows of their own, or those of these names, biggest first.

    Extensions' tables are among them only where they hold configuration of the user's.
    """
    query = f"""
        WITH configuration AS (
            SELECT e.extname, config.oid, config.condition FROM pg_extension AS e,
            unnest(e.extconfig, e.extcondition) AS config (oid, condition)),
        own AS (
            SELECT c.oid, NULL AS extname, NULL AS condition FROM {OWN_RELATIONS} AND c.relkind = 'r'
            UNION ALL SELECT oid, extname, condition FROM configuration)
        SELECT c.oid::bigint, n.nspname::text, c.relname::text, pg_table_size(c.oid),
               CASE WHEN a.amname = 'heap' THEN pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END,
               ARRAY(SELECT attname::text FROM pg_attribute WHERE {{columns}} ORDER BY attnum),
               ARRAY(SELECT DISTINCT atttypid::bigint FROM pg_attribute WHERE {{columns}}),
               own.extname::text, own.condition, c.relpersistence = 'u',
               CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid::bigint END, {EVALUATES},
               CASE WHEN c.reltuples > 0 AND pg_table_size(c.oid) > {MEASURED_ABOVE} THEN (
                   SELECT (c.reltuples * sum(4 + s.avg_width * (1 - s.null_frac)))::bigint FROM pg_stats AS s
                   WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited) END
        FROM own JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_am AS a ON a.oid = c.relam
        WHERE c.relkind = 'r' {{only}} ORDER BY pg_table_size(c.oid) DESC, n.nspname, c.relname"""
    columns = "attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
    chosen = "" if only is None else "AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
    names = None if only is None else ([schema for schema, _name in only], [name for _schema, name in only])
    found = rows(connection, query.format(columns=columns, only=chosen), names)
    multiranges = "UNION ALL SELECT rngmultitypid, rngtypid FROM pg_range"
    since_14 = connection.info.server_version >= 140000
    queries = (TYPES.format(multiranges=multiranges if since_14 else ""), PARTITION_ROOTS, MOVABLE_ROOTS)
    types, roots, movable = records(connection, *((query, None) for query in queries))
    formats, root_names = _formats(types), {one["oid"]: (one["schema"], one["name"]) for one in roots}
    return [_table(row, formats, root_names, {one["oid"] for one in movable}) for row in found]


def hold(connection, tables: list[SourceTable]) -> list[str]:
    """Keep these tables from being changed, other than in their rows, as long as the transaction lasts. Returned are
    those that were truncated or rewritten since its snapshot was taken, which would look empty to it.
    """
    for group in in_groups(tables, HELD_TOGETHER):
        names = (table.identifier for table in group)
        execute(connection, sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(sql.SQL(", ONLY ").join(names)))
    changed = rewritten_tables(connection)
    return [str(table) for table in tables if table.key in changed]


def refuse_rewritten(connection, table: SourceTable) -> None:
    """Raise HandoverError if it was: ranges are those of one file, in which the transaction that has read one keeps the
    table.
    """
    with in_unicode(connection):
        if hold(connection, [table]):
            raise HandoverError(
                f"Table {table} was rewritten on the source while it was copied in ranges, so rows may be missing.",
                "Run this again, and do not run VACUUM FULL, CLUSTER, TRUNCATE or ALTER TABLE on it meanwhile.",
            )


def _table(row: tuple, formats: dict, roots: dict, movable: set) -> SourceTable:
    oid, schema, name, size, pages, columns, types, extension, condition, unlogged, root, evaluates, copy_bytes = row
    needed = [formats[one] for one in types]
    binary = bool(columns) and None not in needed
    return SourceTable(
        oid,
        schema,
        name,
        size,
        pages,
        tuple(columns),
        binary,
        extensions=frozenset().union(*needed) if binary else frozenset(),
        extension=extension,
        condition=(condition or "") if extension else None,
        unlogged=unlogged,
        root=roots.get(oid),
        root_oid=root,
        through_root=root in movable,
        copy_bytes=copy_bytes,
        evaluates=evaluates,
    )


# Roots of partitions whose rows may belong into another one on the target: an enum's hash is that of its oid.
MOVABLE_ROOTS = """
    SELECT DISTINCT coalesce(pg_partition_root(p.partrelid)::oid, p.partrelid)::bigint AS oid
    FROM pg_partitioned_table AS p, unnest(p.partclass) AS class (oid)
    JOIN pg_opclass AS o USING (oid) JOIN pg_am AS a ON a.oid = o.opcmethod
    WHERE a.amname = 'hash' AND o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace"""


def _formats(found: list[dict]) -> dict[int, frozenset | None]:
    """For each type in use, (name, version) of the extensions that its binary format takes on the target; None where
    only text will do.

    Objects are sent by their oids (regclass and its like), and so are the types of elements of arrays and of
    composite types: those that users make have other oids elsewhere.
    """
    types = {one.pop("oid"): one.values() for one in found}

    def needs(oid: int) -> frozenset | None:
        name, kind, category, base, converts, extension = types[oid]
        builtin = oid < FIRST_USER_OID
        if kind == "e":
            return frozenset()
        if kind in "drm":
            return needs(base)
        if kind != "b" or not converts or (builtin and name.startswith("reg")):
            return None
        if category == "A":
            return needs(base) if builtin else None
        return frozenset() if builtin else frozenset([tuple(extension)]) if extension else None

    return {oid: needs(oid) for oid in types}


TYPES = """
    WITH RECURSIVE range AS (SELECT rngtypid AS oid, rngsubtype AS base FROM pg_range {multiranges}),
    used AS (
        SELECT DISTINCT atttypid AS oid FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
        UNION SELECT inside.oid FROM used JOIN pg_type AS t USING (oid) LEFT JOIN range AS r USING (oid),
        LATERAL (VALUES (t.typelem), (t.typbasetype), (r.base)) AS inside (oid) WHERE inside.oid <> 0)
    SELECT t.oid::bigint, t.typname::text, t.typtype::text, t.typcategory::text,
        (CASE t.typtype WHEN 'd' THEN t.typbasetype WHEN 'b' THEN t.typelem ELSE r.base END)::bigint AS base,
        t.typsend <> 0 AND t.typreceive <> 0 AS converts,
        (SELECT ARRAY[e.extname::text, e.extversion] FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e') AS extension
    FROM used JOIN pg_type AS t USING (oid) LEFT JOIN range AS r USING (oid)"""
