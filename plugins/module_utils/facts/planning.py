# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of which no query is planned without the application's functions, and how they are read all the same.

To plan a query of a table, servers look at the expressions of its indexes and statistics: they put bodies of SQL
functions in the place of calls, under our search_path, with which these may not find what they name; and they call
functions of constants, as us. COPY of a table plans nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

# SQL: planning a query of table ``c`` comes to functions that are neither the server's nor in C.
EVALUATES = """EXISTS (
    SELECT FROM pg_depend AS d LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = refobjid
    JOIN pg_proc AS p ON p.oid = coalesce(o.oprcode::oid, refobjid) AND p.prolang NOT IN (12, 13)
    WHERE d.deptype = 'n' AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)
    AND (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid)
         OR d.classid = 'pg_statistic_ext'::regclass
         AND d.objid IN (SELECT oid FROM pg_statistic_ext WHERE stxrelid = c.oid)))"""

# Those tables, (schema, name) each: by what is queried, a table or a root of partitions.
EVALUATING = f"""
    SELECT rn.nspname::text, r.relname::text, n.nspname::text, c.relname::text, {EVALUATES}
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace,
         LATERAL (SELECT coalesce(pg_partition_root(c.oid), c.oid) UNION SELECT c.oid) AS q (oid)
    JOIN pg_class AS r ON r.oid = q.oid JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
    WHERE c.relkind = 'r' AND c.oid >= 16384"""

COLUMN = """
    SELECT attname::text FROM pg_attribute AS a
    WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0 AND NOT attisdropped
    AND attgenerated = '' ORDER BY attlen < 0, attlen, attnum LIMIT 1"""


def evaluating(connection: Any) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Tables and roots of partitions whose queries cannot be planned so, with the tables that hold their rows."""
    found: set[tuple[str, str]] = set()
    leaves: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for schema, name, of_leaf, leaf, evaluates in rows(connection, EVALUATING):
        leaves.setdefault((schema, name), []).append((of_leaf, leaf))
        if evaluates:
            found.add((schema, name))
    return {identity: leaves[identity] for identity in found}


def copy_rows(connection: Any, identity: tuple[str, str], columns: list[str], write: Callable[[bytes], Any]) -> None:
    """Call ``write(bytes)`` for every row of a table in COPY's text format. Generated columns cannot be copied."""
    names = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
    statement = sql.SQL("COPY {} {} TO STDOUT").format(sql.Identifier(*identity), names)
    with connection.cursor() as cursor:
        cursor.copy_expert(statement, _Sink(write))


def count_rows(connection: Any, identity: tuple[str, str]) -> int:
    """The rows of a table, in which only the smallest column is read."""
    number = itertools.count()
    copy_rows(connection, identity, [name for (name,) in rows(connection, COLUMN, identity)], lambda _row: next(number))
    return next(number)


class _Sink:
    """What psycopg2 writes rows to, one at a time."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self.write = write
