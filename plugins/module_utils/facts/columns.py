# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns by what their types are made of."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side


@dataclass(frozen=True)
class ColumnOfType:
    """A column of a table; ``part`` is the type that was looked for, which may be deep inside the column's own."""

    table_oid: int
    table: str
    name: str
    type: str
    part: str

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"


# What the types of columns are made of: elements of arrays, bases of domains, fields of composite types, subtypes.
TYPE_PARTS = f"""
    WITH RECURSIVE own AS (
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name FROM {OWN_RELATIONS} AND c.relkind IN ('r', 'p')),
    columns AS (
        SELECT own.oid, own.name, a.attname, a.atttypid, a.atttypmod, a.attnum
        FROM own JOIN pg_attribute AS a ON a.attrelid = own.oid
        WHERE a.attnum > 0 AND NOT a.attisdropped),
    parts (whole, part) AS (
        SELECT DISTINCT atttypid, atttypid FROM columns
        UNION
        SELECT parts.whole, inner_part.oid
        FROM parts JOIN pg_type AS t ON t.oid = parts.part, LATERAL (
            SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
            UNION ALL SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
            UNION ALL SELECT r.rngsubtype FROM pg_range AS r WHERE r.rngtypid = t.oid
            UNION ALL SELECT a.atttypid FROM pg_attribute AS a
                      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) AS inner_part)"""


def columns_made_of(side: Side, condition: str) -> list[ColumnOfType]:
    """Columns whose type is, or contains, a type ``t`` (a row of pg_type) for which the SQL condition holds."""
    query = f"""{TYPE_PARTS}, found AS (
            SELECT parts.whole, min(format_type(t.oid, NULL)) AS part FROM parts JOIN pg_type AS t ON t.oid = parts.part
            WHERE {condition} GROUP BY parts.whole)
        SELECT columns.oid::bigint, columns.name, quote_ident(columns.attname),
               format_type(columns.atttypid, columns.atttypmod), found.part
        FROM columns JOIN found ON found.whole = columns.atttypid ORDER BY columns.name, columns.attnum"""
    return [ColumnOfType(*row) for row in side.rows(query)]
