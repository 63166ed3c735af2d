# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users may make in a database and pg_dump passes over without a word, class by class: queries for the names."""

from __future__ import annotations


def of_extension(catalog: str, column: str) -> str:
    """SQL: the object is a member of an extension."""
    return f"""EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = '{catalog}'::regclass
        AND e.objid = {column} AND e.objsubid = 0 AND e.deptype = 'e')"""


def _added(family: str, catalog: str, member: str) -> str:
    """SQL: the member was added to a family which is the server's or an extension's. What an extension added itself is
    known by what it is about, as members belong to nobody.
    """
    extensions = of_extension(catalog, member)
    return f"""(o.oid >= 16384 AND NOT {extensions} AND ({family} < 16384
        OR {member} >= 16384 AND {of_extension("pg_opfamily", family)}))"""


ADDED_OPERATORS = _added("o.amopfamily", "pg_operator", "o.amopopr")
ADDED_FUNCTIONS = _added("o.amprocfamily", "pg_proc", "o.amproc::oid")
CHANGED_CONFIGURATION = """(o.oid < 16384 AND EXISTS (
    SELECT FROM pg_ts_config_map WHERE mapcfg = o.oid AND mapdict >= 16384))"""

# Collations may be the operating system's, and are imported on each server.
IN_SYSTEM_SCHEMAS = " UNION ALL ".join(
    f"""SELECT i.type || ' ' || i.identity FROM {catalog} AS o, pg_identify_object('{catalog}'::regclass, o.oid, 0) AS i
    WHERE {schema} IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema'))
    AND o.oid >= 16384 AND NOT {of_extension(catalog, "o.oid")} AND NOT EXISTS (
        SELECT FROM pg_depend AS d WHERE d.classid = '{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'i')"""
    for catalog, schema in (
        ("pg_class", "relnamespace"),
        ("pg_proc", "pronamespace"),
        ("pg_type", "typnamespace"),
        ("pg_operator", "oprcode <> 0 AND oprnamespace"),
        ("pg_opclass", "opcnamespace"),
        ("pg_ts_config", "cfgnamespace"),
        ("pg_ts_dict", "dictnamespace"),
    )
)
# One that is another's commutator or negator is named by the dump, too.
SHELL_OPERATORS = f"""
    SELECT o.oid::regoperator::text FROM pg_operator AS o
    WHERE oprcode = 0 AND o.oid >= 16384 AND NOT {of_extension("pg_operator", "o.oid")}
    AND NOT EXISTS (SELECT FROM pg_operator AS p WHERE o.oid IN (p.oprcom, p.oprnegate))"""

# What it is, and how to name each.
NOT_DUMPED = {
    "operators added to a family of the server's or of an extension": f"""
        SELECT i.identity FROM pg_amop AS o, pg_identify_object('pg_amop'::regclass, o.oid, 0) AS i
        WHERE {ADDED_OPERATORS}""",
    "functions added to such a family": f"""
        SELECT i.identity FROM pg_amproc AS o, pg_identify_object('pg_amproc'::regclass, o.oid, 0) AS i
        WHERE {ADDED_FUNCTIONS}""",
    "text search configurations of the server's with other dictionaries": f"""
        SELECT o.oid::regconfig::text FROM pg_ts_config AS o WHERE {CHANGED_CONFIGURATION}""",
    "objects in the server's own schemas": IN_SYSTEM_SCHEMAS,
    "operators that were named and never made": SHELL_OPERATORS,
}
