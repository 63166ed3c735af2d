# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions that count as immutable and are not: what they read of other tables, and what else they yield there.

Generated columns are computed when a row is loaded, expressions of indexes when the rows of their table are there: rows
of other tables may come later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece, sampled
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing

# An object calls a function that is neither the server's nor in C, perhaps through an operator.
CALLS = """EXISTS (
    SELECT FROM pg_depend AS d LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = refobjid
    JOIN pg_proc AS p ON p.oid = coalesce(o.oprcode::oid, refobjid) AND p.prolang NOT IN (12, 13)
    WHERE d.classid = {} AND d.objid = {}
    AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))"""
NAME = "format('%I.%I', n.nspname, c.relname)"

# (kind, name of the object, schema and name of its table, expression)
EVALUATED = f"""
    SELECT 'index', format('%I.%I', n.nspname, x.relname), n.nspname::text, c.relname::text, e.expression
    FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL (SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnatts) AS k
             WHERE i.indkey[k - 1] = 0
             UNION ALL SELECT pg_get_expr(i.indpred, i.indrelid) WHERE i.indpred IS NOT NULL) AS e (expression)
    WHERE c.relkind = 'r' AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
    AND {CALLS.format("'pg_class'::regclass", "i.indexrelid")}
    UNION ALL
    SELECT 'column', {NAME} || '.' || quote_ident(a.attname), n.nspname::text, c.relname::text,
           pg_get_expr(f.adbin, f.adrelid)
    FROM pg_attrdef AS f JOIN pg_attribute AS a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    JOIN pg_class AS c ON c.oid = f.adrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND a.attgenerated = 's' AND {CALLS.format("'pg_attrdef'::regclass", "f.oid")}
    ORDER BY 1, 2"""

SCANNED = """
    SELECT format('%%I.%%I', schemaname, relname), coalesce(seq_scan, 0) + coalesce(idx_scan, 0)
    FROM pg_stat_xact_user_tables WHERE (schemaname, relname) <> (%s, %s)"""

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


def lookups(place: Connection) -> list[Lookup]:
    """Those of the database that was filled, found by evaluating each for the rows that are there."""
    found: dict[tuple[str, str], set[str]] = {}
    for kind, name, schema, table, expression in rows(place, EVALUATED):
        read = _reads(place, schema, table, expression)
        if read:
            found.setdefault((kind, name), set()).update(read)
    return [Lookup(kind, name, tuple(sorted(tables))) for (kind, name), tables in sorted(found.items())]


def _reads(place: Connection, schema: str, table: str, expression: str) -> set[str]:
    """What is scanned besides the table itself; nothing where it cannot be evaluated, which is said elsewhere."""
    query = sql.SQL("SELECT count(ROW(x)) FROM (SELECT {} AS x FROM ONLY {}) AS one").format(
        sql.SQL(f"({expression})"), sql.Identifier(schema, table)
    )
    try:
        with transaction(place, end="ROLLBACK") as cursor:
            before = dict(rows(place, SCANNED, (schema, table)))
            cursor.execute(query)
            after = dict(rows(place, SCANNED, (schema, table)))
    except psycopg2.Error:
        if place.closed:
            raise
        return set()
    return {name for name, number in after.items() if number > before.get(name, 0)}


def changed_columns(
    source: Connection, place: Connection, tables: list[SourceTable], sample: int, path: str
) -> Iterator[str]:
    """Generated columns, as ``schema.table.column``, whose values are not the source's in rows that both have. Both
    sessions are in transactions; queries are planned by the application's search_path.
    """
    generated = {(schema, name): found for schema, name, *found in rows(source, GENERATED)}
    for table in tables:
        if table.key in generated and table.size and table.condition is None and not table.through_root:
            columns, names = generated[table.key]
            with_them = replace(table, columns=(*table.columns, *columns))
            sampled_here = sampled(with_them, sample, source.info.server_version).query()
            ours = _by_row(source, sampled_here, table, columns, path)
            theirs = _by_row(place, Piece(with_them).query(), table, columns, path)
            yield from (names[number] for number in _different(ours, theirs))


def _different(ours: dict, theirs: dict) -> list[int]:
    """Which of the columns."""
    common = ours.keys() & theirs.keys()
    numbers = {number for row in common for number, value in enumerate(ours[row]) if value != theirs[row][number]}
    return sorted(numbers)


def _by_row(session: Connection, query: sql.Composable, table: SourceTable, columns: list[str], path: str) -> dict:
    """Values of the generated columns, by those of the others, all as text; none where the server cannot read them."""
    names = (*table.columns, *columns)
    texts = sql.SQL(", ").join([sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in names])
    width = len(table.columns)
    try:
        with passing(session), session.cursor() as cursor:
            cursor.execute("SELECT set_config('search_path', %s, true)", (path,))
            cursor.execute(sql.SQL("SELECT {} FROM ({}) AS t").format(texts, query))
            return {row[:width]: row[width:] for row in cursor.fetchall()}
    except psycopg2.Error:
        if session.closed:
            raise
        return {}
