# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What depends on objects that the target will not have."""

from __future__ import annotations

# {seeds} is a query of (classid, objid). In a dump defaults and checks are part of their table, rules of their view.
DEPENDENTS = """
    WITH RECURSIVE needing (classid, objid) AS (
        SELECT classid::oid, objid::oid FROM ({seeds}) AS seeds
        UNION
        SELECT coalesce(whole.classid, d.classid), coalesce(whole.objid, d.objid)
        FROM needing JOIN pg_depend AS d ON d.refclassid = needing.classid AND d.refobjid = needing.objid
        LEFT JOIN LATERAL (
            SELECT 'pg_class'::regclass::oid AS classid, a.adrelid AS objid FROM pg_attrdef AS a
            WHERE d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
            UNION ALL SELECT CASE WHEN k.contypid = 0 THEN 'pg_class' ELSE 'pg_type' END::regclass::oid,
                             CASE WHEN k.contypid = 0 THEN k.conrelid ELSE k.contypid END
            FROM pg_constraint AS k
            WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
            UNION ALL SELECT 'pg_class'::regclass::oid, r.ev_class FROM pg_rewrite AS r
            WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.rulename = '_RETURN') AS whole ON true)
    SELECT DISTINCT c.relkind::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM needing JOIN pg_class AS c ON c.oid = needing.objid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE needing.classid = 'pg_class'::regclass AND NOT EXISTS (
        SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 2"""


def tables_needing(database, seeds: str, parameters=None) -> list[str]:
    """Names of tables that cannot be made without the objects that the query ``seeds`` yields as (classid, objid).

    This is the rule by which an import leaves objects out together; it refuses to leave out a table with its rows.
    """
    return [name for kind, name in _relations_needing(database, seeds, parameters) if kind == "r"]


def views_needing(database, seeds: str, parameters=None) -> list[str]:
    """Names of views, materialized or not, of which the same holds."""
    return [name for kind, name in _relations_needing(database, seeds, parameters) if kind in ("v", "m")]


def _relations_needing(database, seeds: str, parameters) -> list[tuple]:
    return database.rows(DEPENDENTS.format(seeds=seeds), parameters)
