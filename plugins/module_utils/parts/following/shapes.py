# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes: tables and their columns by number, so that one that has another name is known to be the same.

One query for all tables of an end. What the migration knows of the publisher's is kept in its journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import known_columns

# ``missing`` is what rows show that are older than the column: no statement has written it into them, and no row that
# was sent before has it. ``file`` is another as soon as the table was rewritten. ``age`` tells which change was first.
SHAPES = f"""
    WITH own AS MATERIALIZED (
        SELECT c.oid, n.nspname, c.relname, c.relkind, c.relfilenode, c.relowner, c.relnatts, c.relreplident,
               age(c.xmin) AS age
        FROM {OWN_RELATIONS} AND c.relkind IN ('r', 'p')),
    keys AS (SELECT i.indrelid, k.attnum FROM pg_index AS i JOIN own ON own.oid = i.indrelid,
             unnest(i.indkey::int2[]) AS k (attnum) WHERE i.indisprimary OR i.indisreplident GROUP BY 1, 2),
    parents AS (SELECT h.inhrelid, jsonb_agg(h.inhparent::bigint ORDER BY h.inhseqno) AS found
                FROM pg_inherits AS h GROUP BY 1),
    columns AS (
        SELECT a.attrelid, jsonb_agg(jsonb_build_object(
            'number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
            'collation', CASE WHEN a.attcollation <> t.typcollation THEN (
                SELECT format('%I.%I', s.nspname, o.collname) FROM pg_collation AS o
                JOIN pg_namespace AS s ON s.oid = o.collnamespace WHERE o.oid = a.attcollation) END,
            'not_null', a.attnotnull, 'generated', a.attgenerated, 'identity', a.attidentity,
            'default', CASE a.attgenerated WHEN '' THEN pg_get_expr(d.adbin, 0)
                                           ELSE pg_get_expr(d.adbin, d.adrelid) END,
            'missing', CASE WHEN a.atthasmissing AND t.typdelim = ',' THEN (a.attmissingval::text::text[])[1] END,
            'unknown', a.atthasmissing AND t.typdelim <> ',',
            'inherited', a.attinhcount > 0, 'key', keys.attnum IS NOT NULL, 'age', age(a.xmin))) AS found
        FROM own JOIN pg_attribute AS a ON a.attrelid = own.oid JOIN pg_type AS t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        LEFT JOIN keys ON keys.indrelid = a.attrelid AND keys.attnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY 1),
    checks AS (
        SELECT k.conrelid, jsonb_agg(jsonb_build_object(
            'oid', k.oid::bigint, 'name', k.conname, 'sql', pg_get_constraintdef(k.oid), 'checked', k.convalidated,
            'inherited', k.coninhcount > 0)) AS found
        FROM own JOIN pg_constraint AS k ON k.conrelid = own.oid AND k.contype = 'c' GROUP BY 1),
    uniques AS (
        SELECT i.indrelid, jsonb_agg(jsonb_build_object(
            'oid', i.indexrelid::bigint, 'name', x.relname, 'primary', i.indisprimary, 'chosen', i.indisreplident,
            'constraint', k.oid IS NOT NULL, 'inherited', x.relispartition, 'age', age(i.xmin),
            'sql', coalesce(pg_get_constraintdef(k.oid), pg_get_indexdef(i.indexrelid)))) AS found
        FROM own JOIN pg_index AS i ON i.indrelid = own.oid AND i.indisunique AND i.indisvalid
        JOIN pg_class AS x ON x.oid = i.indexrelid
        LEFT JOIN pg_constraint AS k ON k.conrelid = own.oid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
        GROUP BY 1)
    SELECT jsonb_build_object(
        'oid', own.oid::bigint, 'schema', own.nspname, 'name', own.relname, 'kind', own.relkind,
        'file', own.relfilenode::bigint, 'owner', pg_get_userbyid(own.relowner), 'age', own.age,
        'last', own.relnatts, 'identity', own.relreplident, 'keys', coalesce(uniques.found, '[]'),
        'parents', coalesce(parents.found, '[]'), 'columns', coalesce(columns.found, '[]'),
        'checks', coalesce(checks.found, '[]')) AS shape
    FROM own LEFT JOIN columns ON columns.attrelid = own.oid LEFT JOIN parents ON parents.inhrelid = own.oid
    LEFT JOIN checks ON checks.conrelid = own.oid
    LEFT JOIN uniques ON uniques.indrelid = own.oid"""

Key = tuple  # (schema, name)


@dataclass(frozen=True)
class ColumnShape:
    """``type`` and ``default`` are as the server writes them with an empty search_path. ``missing``: what rows show
    that are older than the column, if that is not NULL, and ``unknown`` if there is such a value that cannot be read.
    ``key``: it is part of the primary key or of the replica identity.
    """

    number: int
    name: str
    type: str
    collation: str | None = None
    not_null: bool = False
    default: str | None = None
    generated: str = ""
    identity: str = ""
    missing: str | None = None
    unknown: bool = False
    inherited: bool = False
    key: bool = False
    age: int = field(default=0, compare=False)


@dataclass(frozen=True)
class CheckShape:
    """A CHECK constraint, which is no object of its own to pg_dump. Another ``sql`` is another constraint, or follows
    from other names; ``checked``: it was not left NOT VALID.
    """

    oid: int
    name: str
    sql: str = field(compare=False)
    checked: bool
    inherited: bool


@dataclass(frozen=True)
class KeyShape:
    """A unique index. ``chosen``: it is the replica identity; ``constraint``: ``sql`` follows ADD CONSTRAINT and its
    name, or else it makes the index; ``inherited``: it is a part of a partitioned one.
    """

    oid: int
    name: str
    sql: str
    primary: bool = False
    chosen: bool = False
    constraint: bool = False
    inherited: bool = False
    age: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Shape:
    """A table. ``kind``: r, or p if it is partitioned; ``file``: where its rows are; ``parents``: their oids; ``last``:
    the highest number that a column has, or had that was dropped; ``identity``: pg_class.relreplident, empty where an
    older release has recorded it; ``keys`` by the oid of their index.
    """

    oid: int
    schema: str
    name: str
    kind: str
    file: int
    owner: str = field(compare=False)
    parents: tuple[int, ...]
    columns: dict[int, ColumnShape]
    checks: dict[int, CheckShape] = field(default_factory=dict)
    last: int = 0
    identity: str = ""
    keys: dict[int, KeyShape] = field(default_factory=dict)
    age: int = field(default=0, compare=False)

    @property
    def key(self) -> Key:
        return self.schema, self.name

    def named(self, name: str) -> ColumnShape | None:
        """The column of that name."""
        return next((one for one in self.columns.values() if one.name == name), None)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def read(connection: Connection) -> dict[int, Shape]:
    """The shapes of all tables that are not an extension's, by oid."""
    return parse(one for (one,) in rows(connection, SHAPES))


def parse(found: Iterable[dict[str, Any]]) -> dict[int, Shape]:
    """Shapes as SHAPES has them, or the journal, by oid."""
    return {one["oid"]: _shape(one) for one in found}


def _shape(found: dict[str, Any]) -> Shape:
    columns = [ColumnShape(**column) for column in found["columns"]]
    checks = [CheckShape(**check) for check in found["checks"]]
    keys = [KeyShape(**key) for key in found.get("keys", ())]
    parts: dict[str, Any] = {
        "parents": tuple(found["parents"]),
        "columns": {one.number: one for one in columns},
        "checks": {one.oid: one for one in checks},
        "keys": {one.oid: one for one in keys},
    }
    return Shape(**{**found, **parts})


# --- what the journal knows ----------------------------------------------------------------------------------------


def recorded(connection: Connection, identifier: str) -> dict[int, Shape] | None:
    """What the journal has of the publisher's tables; None where an older release has begun the migration."""
    found = known_columns.read(connection, identifier, "shapes")
    return None if found is None else parse(found)


def record(connection: Connection, identifier: str, known: dict[int, Shape]) -> None:
    """Let the journal know these, and no others."""
    known_columns.write(connection, identifier, "shapes", [_as_json(one) for one in known.values()])


def _as_json(shape: Shape) -> dict[str, Any]:
    parts: dict[str, dict[int, Any]] = {"columns": shape.columns, "checks": shape.checks, "keys": shape.keys}
    return {**vars(shape), **{name: [vars(one) for one in found.values()] for name, found in parts.items()}}
