# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions that count as immutable and are not: what they read of other tables, and what else they yield there.

Generated columns are computed when a row is loaded, expressions of indexes when the rows of their table are there: rows
of other tables may come later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece, sampled
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing

TOGETHER = 64  # tables, or expressions, of one statement

# An object calls a function that is neither the server's nor in C, perhaps through an operator.
CALLS = """EXISTS (
    SELECT FROM pg_depend AS d LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = refobjid
    JOIN pg_proc AS p ON p.oid = coalesce(o.oprcode::oid, refobjid) AND p.prolang NOT IN (12, 13)
    WHERE d.classid = {} AND d.objid = {}
    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))"""
NAME = "format('%I.%I', n.nspname, c.relname)"

# (kind, name of the object, oid, schema and name of its table, expression). Before 15, servers record for the column
# what its expression uses.
EVALUATED = f"""
    SELECT 'index', format('%I.%I', n.nspname, x.relname), c.oid::bigint, n.nspname::text, c.relname::text, e.expression
    FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL (SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) AS k
             WHERE i.indkey[k - 1] = 0
             UNION ALL SELECT pg_get_expr(i.indpred, i.indrelid) WHERE i.indpred IS NOT NULL) AS e (expression)
    WHERE c.relkind = 'r' AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
    AND {CALLS.format("'pg_class'::regclass", "i.indexrelid")}
    UNION ALL
    SELECT 'column', {NAME} || '.' || quote_ident(a.attname), c.oid::bigint, n.nspname::text, c.relname::text,
           pg_get_expr(f.adbin, f.adrelid)
    FROM pg_attrdef AS f JOIN pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    JOIN pg_class AS c ON c.oid = f.adrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND a.attgenerated = 's' AND ({CALLS.format("'pg_attrdef'::regclass", "f.oid")}
        OR {CALLS.format("'pg_class'::regclass", "c.oid AND d.objsubid = a.attnum")})
    ORDER BY 1, 2"""

# Scans of each table and its indexes that this session has made and not reported yet, as it does between transactions;
# of all tables, or these. The server's view of the same would take its time for those that were not scanned, too.
SCANS = """
    SELECT coalesce(i.indrelid, c.oid)::bigint, sum(pg_stat_get_xact_numscans(c.oid))::bigint
    FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'i') AND pg_stat_get_xact_numscans(c.oid) > 0 GROUP BY 1"""
SCANS_OF = """
    SELECT t.oid, pg_stat_get_xact_numscans(t.oid::oid) + coalesce((
        SELECT sum(pg_stat_get_xact_numscans(indexrelid)) FROM pg_index WHERE indrelid = t.oid), 0)::bigint
    FROM unnest(%s::bigint[]) AS t (oid)"""
NAMES = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])"""

GENERATED = """
    SELECT n.nspname::text, c.relname::text, array_agg(a.attname::text ORDER BY a.attnum),
           array_agg(format('%I.%I.%I', n.nspname, c.relname, a.attname) ORDER BY a.attnum)
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE a.attgenerated <> '' AND NOT a.attisdropped AND c.relkind = 'r' AND c.oid >= 16384
    GROUP BY c.oid, n.nspname, c.relname"""


@dataclass(frozen=True)
class Lookup:
    """An ``index`` or a generated ``column`` (``kind``) whose expression reads other tables."""

    kind: str
    name: str
    tables: tuple[str, ...]


@dataclass(frozen=True)
class _Expression:
    """What it belongs to (``kind``, ``name``), and the table for whose rows it is computed."""

    kind: str
    name: str
    oid: int
    schema: str
    table: str
    text: str

    @property
    def query(self) -> sql.Composable:
        """Evaluates it for each row."""
        return sql.SQL("SELECT count(ROW(x)) FROM (SELECT {} AS x FROM ONLY {}) AS one").format(
            sql.SQL(f"({self.text})"), sql.Identifier(self.schema, self.table)
        )


def lookups(place: Connection) -> list[Lookup]:
    """Those of the database that was filled, found by evaluating each for the rows that are there. The session is in a
    transaction.
    """
    found: dict[tuple[str, str], set[str]] = {}
    expressions = [_Expression(*one) for one in rows(place, EVALUATED)]
    with place.cursor() as cursor:
        cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")  # what workers scan is not counted here
    before = Counter(dict(rows(place, SCANS)))
    groups = [part for group in in_groups(expressions, TOGETHER) for part in _evaluate(place, group)]
    own = Counter(one.oid for group in groups for one in group)
    read = _more_than(before + own, dict(rows(place, SCANS)))
    for group in groups if read else ():
        for one, oids in _reads(place, group, read):
            names = {name for (name,) in rows(place, NAMES, (oids,))}
            found.setdefault((one.kind, one.name), set()).update(names)
    return [Lookup(kind, name, tuple(sorted(tables))) for (kind, name), tables in sorted(found.items())]


def _evaluate(place: Connection, group: list[_Expression]) -> list[list[_Expression]]:
    """The group, or those parts of it that the server can evaluate; what it cannot is said elsewhere."""
    try:
        with passing(place, unsure=True), place.cursor() as cursor:
            cursor.execute(sql.SQL(" UNION ALL ").join([one.query for one in group]))
        return [group]
    except psycopg2.Error:
        if place.closed:
            raise
        return [part for half in _halves(group) for part in _evaluate(place, half)]


def _reads(place: Connection, group: list[_Expression], suspects: list[int]) -> Iterator[tuple[_Expression, list[int]]]:
    """Which expression of the group scans one of the ``suspects`` besides its own table, found by halves."""
    before = Counter(dict(rows(place, SCANS_OF, (suspects,))))
    _evaluate(place, group)
    own = Counter(one.oid for one in group)
    read = _more_than(before + own, dict(rows(place, SCANS_OF, (suspects,))))
    if read and len(group) > 1:
        for half in _halves(group):
            yield from _reads(place, half, suspects)
    elif others := [oid for oid in read if oid != group[0].oid]:
        yield group[0], others


def _more_than(expected: Counter[int], scans: dict[int, int]) -> list[int]:
    """Tables that were scanned more often."""
    return [oid for oid, count in scans.items() if count > expected[oid]]


def _halves(group: list[_Expression]) -> list[list[_Expression]]:
    """None, where there is but one."""
    middle = len(group) // 2
    return [group[:middle], group[middle:]] if middle else []


@dataclass(frozen=True)
class _Generated:
    """A table with all its columns, and the last of them that are generated, by their own and by their whole names."""

    table: SourceTable
    columns: list[str]
    names: list[str]

    def values(self, number: int, rows_of: sql.Composable) -> sql.Composable:
        """SQL: the number, and of each row digests of what is not generated, and of each column that is."""
        others = self.table.columns[: len(self.table.columns) - len(self.columns)]
        digests = sql.SQL(", ").join([_digest([name]) for name in self.columns])
        return sql.SQL("SELECT {}, {}, ARRAY[{}] FROM ({}) AS t").format(
            sql.Literal(number), _digest(others), digests, rows_of
        )


def _digest(columns: Sequence[str]) -> sql.Composable:
    """SQL: the same on servers of either byte order, and where MD5 is forbidden."""
    row = sql.SQL(", ").join([sql.SQL("t.{}").format(sql.Identifier(name)) for name in columns])
    return sql.SQL("encode(sha256(convert_to(ROW({})::text, getdatabaseencoding())), 'hex')").format(row)


def changed_columns(
    source: Connection, place: Connection, tables: list[SourceTable], sample: int, path: str
) -> Iterator[str]:
    """Generated columns, as ``schema.table.column``, whose values are not the source's in rows that both have. Both
    sessions are in transactions; queries are planned by the application's search_path.
    """
    generated = {(schema, name): found for schema, name, *found in rows(source, GENERATED)}
    looked_at = []
    for table in tables:
        if table.key in generated and table.size and table.condition is None and not table.through_root:
            columns, names = generated[table.key]
            looked_at.append(_Generated(replace(table, columns=(*table.columns, *columns)), columns, names))
    version = source.info.server_version
    for group in in_groups(looked_at, TOGETHER):
        sample_of = {one.table.key: sampled(one.table, sample, version).query() for one in group}
        all_of = {one.table.key: Piece(one.table).query() for one in group}
        ours, theirs = together(
            partial(_by_table, source, group, path, sample_of), partial(_by_table, place, group, path, all_of)
        )
        for one in group:
            both = ours.get(one.table.key, {}), theirs.get(one.table.key, {})
            yield from (one.names[number] for number in _different(*both))


def _different(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> list[int]:
    """Which of the columns."""
    common = ours.keys() & theirs.keys()
    numbers = {number for row in common for number, value in enumerate(ours[row]) if value != theirs[row][number]}
    return sorted(numbers)


def _by_table(
    session: Connection, group: list[_Generated], path: str, rows_of: dict[tuple[str, str], sql.Composable]
) -> dict[tuple[str, str], dict[str, list[str]]]:
    """Generated values by the rest of the row, of each table; tables that the server cannot read are missing."""
    queries = [one.values(number, rows_of[one.table.key]) for number, one in enumerate(group)]
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    try:
        with passing(session, unsure=True), session.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, true)", (path,))
            cursor.execute(sql.SQL(" UNION ALL ").join(queries))
            for number, row, values in cursor.fetchall():
                found.setdefault(group[number].table.key, {})[row] = values
    except psycopg2.Error:
        if session.closed:
            raise
        for one in group if len(group) > 1 else ():
            found.update(_by_table(session, [one], path, rows_of))
    return found
