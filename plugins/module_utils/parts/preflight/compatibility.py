# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the database uses of its server's own, compared with what the target's major still has."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

FIRST_OF_USERS = 16384  # FirstNormalObjectId

# Where parsed expressions are stored, and what they belong to.
EXPRESSIONS = (
    ("pg_rewrite", "ev_action", "pg_class", "ev_class"),
    ("pg_attrdef", "adbin", "pg_class", "adrelid"),
    ("pg_constraint", "conbin", "pg_constraint", "oid"),
    ("pg_index", "concat(indexprs, indpred)", "pg_class", "indexrelid"),
    ("pg_policy", "concat(polqual, polwithcheck)", "pg_policy", "oid"),
    ("pg_trigger", "tgqual", "pg_trigger", "oid"),
    ("pg_proc", "proargdefaults", "pg_proc", "oid"),
)
SQL_BODIES = ("pg_proc", "prosqlbody", "pg_proc", "oid")  # 14+

# Where a function of the server's is named with its types.
CALLS = (
    ("pg_aggregate", ("aggtransfn", "aggfinalfn", "aggcombinefn", "aggserialfn", "aggdeserialfn", "aggmtransfn",
                      "aggminvtransfn", "aggmfinalfn"), "pg_proc", "aggfnoid"),
    ("pg_operator", ("oprcode", "oprrest", "oprjoin"), "pg_operator", "oid"),
    ("pg_cast", ("castfunc",), "pg_cast", "oid"),
    ("pg_amproc", ("amproc",), "pg_opfamily", "amprocfamily"),
)  # fmt: skip


def _functions(side: Side) -> dict[tuple[str, str], int]:
    """The server's own functions by (name, types of arguments)."""
    query = """
        SELECT proname::text, oidvectortypes(proargtypes), oid::bigint FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384"""
    return {(name, types): oid for name, types, oid in side.rows(query)}


def _identities(database: Database, parts: list[tuple[str, tuple]]) -> list[str]:
    """Descriptions such as ``view public.v`` of the (classid, objid) of queries, each with its parameters, that are the
    user's own. They are asked in one: there are many, and databases are, too.
    """
    if not parts:
        return []
    query = " UNION ALL ".join(f"({part})" for part, _parameters in parts)
    parameters = [one for _part, given in parts for one in given]
    statement = f"""
        SELECT DISTINCT k.type || ' ' || k.identity FROM ({query}) AS o (classid, objid),
        pg_identify_object(o.classid, o.objid, 0) AS k
        WHERE o.objid >= {FIRST_OF_USERS} AND NOT EXISTS (
            SELECT FROM pg_depend AS d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype = 'e')
        ORDER BY 1"""
    return sorted(name for (name,) in database.rows(statement, parameters or None))


@database_check("removed_functions", "The target has every built-in function in use.", needs_target=True)
def removed_functions(database: Database):
    """Functions and operators that later majors dropped, or have with other types, in views, defaults,
    constraints, indexes, policies, aggregates, operators and casts. Bodies of functions that are text are not read.
    """
    here, there = database.pair.source.once(_functions), database.target.once(_functions)
    names = {name for name, _types in there}
    gone = {oid: name for (name, types), oid in here.items() if name not in names}
    changed = {oid: f"{name}({types})" for (name, types), oid in here.items() if (name, types) not in there}
    expressions = EXPRESSIONS + ((SQL_BODIES,) if database.server.major >= 14 else ())
    parts: list[tuple[str, tuple]] = []
    if gone:
        pattern = f":(funcid|opfuncid|aggfnoid|winfnoid) ({'|'.join(map(str, gone))}) "
        for catalog, expression, classid, objid in expressions:
            query = f"SELECT '{classid}'::regclass::oid, {objid} FROM {catalog} WHERE {expression}::text ~ %s"
            parts.append((query, (pattern,)))
    for catalog, columns, classid, objid in CALLS if changed else ():
        any_of = " OR ".join(f"{column}::oid::bigint = ANY (%s)" for column in columns)
        query = f"SELECT '{classid}'::regclass::oid, {objid}::oid FROM {catalog} WHERE {any_of}"
        parts.append((query, (list(changed),) * len(columns)))
    if database.target.server.major >= 14:
        postfix = "SELECT 'pg_operator'::regclass::oid, oid FROM pg_operator WHERE oprkind = 'r'"
        parts.append((postfix, ()))
    objects = _identities(database, parts)
    if objects:
        yield Finding(
            "blocker",
            f"{counted(len(objects), 'object')} of functions or operators that the target lacks: {some(objects)}.",
            "They cannot be created there, and the import fails.",
            "Change them to use what both majors have; the release notes between the majors name the replacements.",
            objects,
        )


def _columns(side: Side) -> dict[str, set[str]]:
    """Columns of the server's own tables and views, by the name of these."""
    query = """
        SELECT c.relname::text, array_agg(a.attname::text)
        FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
        AND NOT a.attisdropped AND c.oid < 16384 GROUP BY c.relname"""
    return {name: set(columns) for name, columns in side.rows(query)}


@database_check("system_views", "The target has every system column that views read.", needs_target=True)
def system_views(database: Database):
    """System catalogs and statistics views lose and rename columns from major to major."""
    there = database.target.once(_columns)
    gone = {name: columns - there.get(name, set()) for name, columns in database.pair.source.once(_columns).items()}
    gone = {name: columns for name, columns in gone.items() if columns}
    if not gone:
        return
    query = """
        SELECT format('%%I.%%I', n.nspname, v.relname), s.relname::text, pg_get_viewdef(v.oid)
        FROM pg_rewrite AS r JOIN pg_class AS v ON v.oid = r.ev_class JOIN pg_namespace AS n ON n.oid = v.relnamespace
        JOIN pg_class AS s ON s.relname = ANY (%s) AND s.relnamespace = 'pg_catalog'::regnamespace
             AND r.ev_action ~ (':relid ' || s.oid || ' ')
        WHERE r.ev_class >= 16384 AND v.relkind IN ('v', 'm') AND NOT EXISTS (
            SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.deptype = 'e')
        ORDER BY 1"""
    found: dict[str, list[str]] = {}
    for view, system, text in database.rows(query, (list(gone),)):
        words = set(re.findall(r"\w+", text))
        lacking = [f"{system}.{column}" for column in sorted(gone[system] & words)]
        if lacking or system not in there:
            found.setdefault(view, []).extend(lacking or [system])
    if found:
        listed = [f"{view} ({some(columns)})" for view, columns in found.items()]
        yield Finding(
            "blocker",
            f"{counted(len(found), 'view')} reading what the target's system catalogs lack: {some(listed)}.",
            "They cannot be created there, and the import fails.",
            "Change them to use what both majors have, or drop them for the migration.",
            list(found),
        )
