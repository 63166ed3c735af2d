# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be copied: tables with their columns and sizes, and the pieces in which each goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    OWN_RELATIONS,
    partition_roots,
    rows,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import execute
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import rewritten_tables

FIRST_USER_OID = 16384
TID_SCAN_SINCE = 140000  # before, each piece of a table would read all of it
SMALL = 1 << 20  # bytes; below, the cost of a transaction is more than that of the rows
BATCH_TABLES = 64
HELD_TOGETHER = 200
BATCH_BYTES = 16 << 20
LEAST_PIECE = 128 << 20


@dataclass(frozen=True)
class Table:
    """A table that holds rows of its own, as the source has it.

    ``size`` is in bytes, TOAST included; ``pages`` those of the table itself, 0 where it cannot be read in ranges.
    ``columns`` are those that have values of their own. ``binary`` says whether the binary format means the same
    everywhere, provided that ``extensions``, (name, version), are of the same version on the target.
    ``condition`` is the part of an extension's configuration table that is the user's (``WHERE ...``, or empty), None
    for all others. ``root`` is the topmost parent of a partition, ``through_root`` whether rows have to be loaded
    through it, because they may belong into another partition there.
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

    @property
    def key(self) -> tuple[str, str]:
        return self.schema, self.name

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Piece:
    """A table, or a range of its pages: from ``first`` up to, but not including, ``last`` (None: to the end); or a
    ``sample`` of so many of its rows.
    """

    table: Table
    first: int | None = None
    last: int | None = None
    sample: int | None = None

    @property
    def is_whole(self) -> bool:
        return self.first is None

    @property
    def size(self) -> int:
        """Bytes, about."""
        if self.is_whole:
            return self.table.size
        return self.table.size * ((self.last or self.table.pages) - self.first) // max(1, self.table.pages)

    def reads(self, binary: bool):
        """The COPY statement that the source runs."""
        table = self.table
        relation = sql.Identifier(table.schema, table.name)
        conditions = [table.condition.strip()[len("WHERE ") :]] if table.condition else []
        conditions += [f"ctid >= '({self.first},0)'::pg_catalog.tid"] if self.first else []
        conditions += [f"ctid < '({self.last},0)'::pg_catalog.tid"] if self.last else []
        if not conditions and self.sample is None:
            return sql.SQL("COPY {}{} TO STDOUT{}").format(relation, _columns(table), _options(binary))
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        query = sql.SQL("SELECT {} FROM ONLY {}").format(columns, relation)
        if conditions:
            where = sql.SQL(" AND ").join([sql.SQL("(") + sql.SQL(one) + sql.SQL(")") for one in conditions])
            query += sql.SQL(" WHERE {}").format(where)
        if self.sample is not None:
            query += sql.SQL(" LIMIT {}").format(sql.Literal(self.sample))
        return sql.SQL("COPY ({}) TO STDOUT{}").format(query, _options(binary))

    def writes(self, binary: bool, freeze: bool):
        """The COPY statement that the target runs."""
        place = self.table.root if self.table.through_root else self.table.key
        relation = sql.Identifier(*place)
        return sql.SQL("COPY {}{} FROM STDIN{}").format(relation, _columns(self.table), _options(binary, freeze))


def _columns(table: Table):
    """The list of columns; a table without any has none, and one that has generated columns only needs none."""
    names = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    return sql.SQL(" ({})").format(names) if table.columns else sql.SQL("")


def _options(binary: bool, freeze: bool = False):
    chosen = [word for word, wanted in (("FORMAT binary", binary), ("FREEZE true", freeze)) if wanted]
    return sql.SQL(f" WITH ({', '.join(chosen)})" if chosen else "")


def read_tables(connection, only: list[tuple[str, str]] | None = None) -> list[Table]:
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
               CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::oid::bigint END
        FROM own JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_am AS a ON a.oid = c.relam
        WHERE c.relkind = 'r' {{only}} ORDER BY pg_table_size(c.oid) DESC, n.nspname, c.relname"""
    columns = "attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
    chosen = "" if only is None else "AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
    names = None if only is None else ([schema for schema, _name in only], [name for _schema, name in only])
    found = rows(connection, query.format(columns=columns, only=chosen), names)
    formats, roots, movable = _formats(connection), partition_roots(connection), _movable_roots(connection)
    return [_table(row, formats, roots, movable) for row in found]


def hold(connection, tables: list[Table]) -> list[str]:
    """Keep these tables from being changed, other than in their rows, as long as the transaction lasts. Returned are
    those that were truncated or rewritten since its snapshot was taken, which would look empty to it.
    """
    for start in range(0, len(tables), HELD_TOGETHER):
        names = (sql.Identifier(*table.key) for table in tables[start : start + HELD_TOGETHER])
        execute(connection, sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(sql.SQL(", ONLY ").join(names)))
    changed = rewritten_tables(connection)
    return [str(table) for table in tables if table.key in changed]


def _table(row: tuple, formats: dict, roots: dict, movable: set) -> Table:
    oid, schema, name, size, pages, columns, types, extension, condition, unlogged, root = row
    needed = [formats[one] for one in types]
    binary = bool(columns) and None not in needed
    return Table(
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
    )


def _movable_roots(connection) -> set[int]:
    """Roots of partitions whose rows may belong into another one on the target: an enum's hash is that of its oid."""
    query = """
        SELECT DISTINCT coalesce(pg_partition_root(p.partrelid)::oid, p.partrelid)::bigint
        FROM pg_partitioned_table AS p, unnest(p.partclass) AS class (oid)
        JOIN pg_opclass AS o USING (oid) JOIN pg_am AS a ON a.oid = o.opcmethod
        WHERE a.amname = 'hash' AND o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace"""
    return {oid for (oid,) in rows(connection, query)}


def _formats(connection) -> dict[int, frozenset | None]:
    """For each type in use, (name, version) of the extensions that its binary format takes on the target; None where
    only text will do.

    Objects are sent by their oids (regclass and its like), and so are the types of elements of arrays and of
    composite types: those that users make have other oids elsewhere.
    """
    multiranges = "UNION ALL SELECT rngmultitypid, rngtypid FROM pg_range"
    since_14 = connection.info.server_version >= 140000
    types = {row[0]: row[1:] for row in rows(connection, TYPES.format(multiranges=multiranges if since_14 else ""))}

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
        (CASE t.typtype WHEN 'd' THEN t.typbasetype WHEN 'b' THEN t.typelem ELSE r.base END)::bigint,
        t.typsend <> 0 AND t.typreceive <> 0,
        (SELECT ARRAY[e.extname::text, e.extversion] FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    FROM used JOIN pg_type AS t USING (oid) LEFT JOIN range AS r USING (oid)"""


def split(table: Table, jobs: int, total: int, limit: int | None, server_version: int) -> list[Piece]:
    """A table in pieces, where several sessions at one table are worth it: when it is more than a fair share of the
    ``total`` bytes that ``jobs`` sessions have before them, or larger than ``limit`` bytes if that is given.
    """
    if server_version < TID_SCAN_SINCE or not table.pages or table.condition or table.through_root:
        return [Piece(table)]
    share = limit or max(LEAST_PIECE, total // jobs // 2)
    worth_it = table.size > (limit or 2 * share) and (limit is not None or jobs > 2)
    count = min(table.pages, math.ceil(table.size / share)) if worth_it else 1
    if count < 2:
        return [Piece(table)]
    bounds = [table.pages * number // count for number in range(count)]
    return [Piece(table, first, last) for first, last in zip(bounds, [*bounds[1:], None])]


def batches(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces, biggest first, in the groups of which each is copied in one transaction: small ones together."""
    groups = [[piece] for piece in pieces if piece.size > SMALL or not piece.is_whole]
    group = []
    for piece in (piece for piece in pieces if piece.size <= SMALL and piece.is_whole):
        if len(group) == BATCH_TABLES or sum(one.size for one in group) + piece.size > BATCH_BYTES:
            groups.append(group)
            group = []
        group.append(piece)
    return [*groups, *([group] if group else [])]
