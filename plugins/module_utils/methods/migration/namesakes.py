# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a column, and is called otherwise at the other end: its sequence, and, from 18 on, its NOT NULL.

The server chooses these names by those that table and column have at that moment, and they may be renamed, too.
"""

from __future__ import annotations

from collections import defaultdict

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

SEQUENCE, NOT_NULL = "SEQUENCE", "NOT NULL CONSTRAINT"
NAMES = f"""
    WITH own (kind, tabled, number, name) AS (
        SELECT '{SEQUENCE}', d.refobjid, d.refobjsubid, s.relname::text FROM pg_depend AS d
        JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S'
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
        AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
        UNION ALL SELECT '{NOT_NULL}', conrelid, conkey[1], conname::text FROM pg_constraint
        WHERE contype = 'n' AND coninhcount = 0 AND conrelid >= 16384)
    SELECT own.kind, n.nspname::text, c.relname::text, a.attname::text, own.name
    FROM own JOIN pg_class AS c ON c.oid = own.tabled JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = own.number WHERE n.nspname <> 'handover'"""


def renaming(publisher: Connection, subscriber: Connection) -> dict[str, list[str]]:
    """Statements for the subscriber, by what they are about."""
    here, there = _read(publisher), _read(subscriber)
    found = {}
    for (kind, schema, table, column), names in there.items():
        wanted = here.get((kind, schema, table, column), [])
        if len(wanted) == len(names) == 1 and wanted != names:
            before, after = map(sql.Identifier, (*names, *wanted))
            if kind == SEQUENCE:
                statement = sql.SQL("ALTER SEQUENCE {}.{} RENAME TO {}").format(sql.Identifier(schema), before, after)
            else:
                text = sql.SQL("ALTER TABLE {} RENAME CONSTRAINT {} TO {}")
                statement = text.format(sql.Identifier(schema, table), before, after)
            found[f"{kind} of {schema}.{table}.{column}"] = [statement.as_string(subscriber)]
    return found


def _read(connection: Connection) -> dict[tuple, list[str]]:
    """Names by kind, schema, table and column."""
    found = defaultdict(list)
    for *owner, name in rows(connection, NAMES):
        found[tuple(owner)].append(name)
    return found
