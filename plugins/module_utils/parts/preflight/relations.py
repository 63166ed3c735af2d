# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of relations whose rows do not simply move: unlogged, foreign, derived, split, or kept outside of tables."""

from __future__ import annotations

import shlex

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, size, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.facts.columns import columns_made_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

CONTINUOUS = ("continuous",)
MANY_LARGE_OBJECTS = 1_000_000  # pg_dump before 17 keeps an entry in memory for each

NAME = "format('%I.%I', n.nspname, c.relname)"


@database_check("unlogged_tables", "No table is unlogged.")
def unlogged_tables(database: Database):
    """Their rows are not in WAL, so they are copied at the cutover, not replicated; a dump has them if told to."""
    tables = [table for table in database.tables if table.persistence == "u"]
    names = [table.name for table in tables]
    consequences = {
        "dump": "They arrive empty, unless unlogged_table_data is true.",
        "continuous": "They are not replicated; the cutover copies them while writers wait.",
    }
    for method, consequence in consequences.items() if tables else ():
        yield Finding(
            "info" if all(table.is_empty for table in tables) else "warning",
            f"{counted(len(tables), 'unlogged table')} of {size(sum(table.bytes for table in tables))}: {some(names)}.",
            consequence,
            script([f"ALTER TABLE {name} SET LOGGED; -- rewrites it" for name in names]),
            names,
            methods=(method,),
        )


@database_check("temporary_tables", "No session has temporary tables now.")
def temporary_tables(database: Database):
    """They belong to sessions, which end with the cutover."""
    query = f"""
        SELECT {NAME} FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relpersistence = 't' AND c.relkind IN ('r', 'p') ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names:
        consequence = "They are not carried over: after it has reconnected, an application has to make its own again."
        yield Finding("info", f"{counted(len(names), 'temporary table')}: {some(names)}.", consequence, "", names)


@database_check("foreign_tables", "No rows live on foreign servers.")
def foreign_tables(database: Database):
    """Definitions are carried over, rows are not; the target has to reach the foreign servers by the same options."""
    query = f"""
        SELECT quote_ident(s.srvname), w.fdwname::text, coalesce(array_agg({NAME}) FILTER (WHERE c.oid > 0), '{{}}'),
               ARRAY(SELECT option_name || '=' || option_value FROM pg_options_to_table(s.srvoptions)
                     WHERE option_name IN ('host', 'hostaddr', 'port', 'dbname', 'dbserver', 'address', 'servername'))
        FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
        LEFT JOIN (pg_foreign_table AS f JOIN pg_class AS c ON c.oid = f.ftrelid
                   JOIN pg_namespace AS n ON n.oid = c.relnamespace) ON f.ftserver = s.oid
        GROUP BY s.oid, s.srvname, s.srvoptions, w.fdwname ORDER BY 1"""
    for server, wrapper, tables, place in database.rows(query):
        where = f" at {' '.join(place)}" if place else ""
        tables.sort()
        yield Finding(
            "warning" if tables else "info",
            f"Foreign server {server} ({wrapper}{where}) with {counted(len(tables), 'foreign table')}"
            + (f": {some(tables)}." if tables else "."),
            "Their rows stay where they are. The target reads them from there, so it has to reach that server and "
            "be let in.",
            f"ALTER SERVER {server} OPTIONS (SET host '...'); -- on the target, where it goes by another name"
            if any(option.startswith("host=") for option in place)
            else f"Try a query on a foreign table of {server} on the target before the cutover.",
            tables or [server],
        )


@database_check("materialized_views", "There are no materialized views.")
def materialized_views(database: Database):
    """Their contents are not copied but computed anew; this takes the time of their queries."""
    views = database.rows(f"""
        WITH RECURSIVE below (view, relation) AS (
            SELECT c.oid, c.oid FROM {OWN_RELATIONS} AND c.relkind = 'm'
            UNION SELECT below.view, d.refobjid
            FROM below JOIN pg_rewrite AS r ON r.ev_class = below.relation
            JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                 AND d.refclassid = 'pg_class'::regclass)
        SELECT {NAME}, c.relispopulated, c.relpages * current_setting('block_size')::bigint,
               EXISTS (SELECT FROM below JOIN pg_class AS f ON f.oid = below.relation
                       WHERE below.view = c.oid AND f.relkind = 'f')
        FROM {OWN_RELATIONS} AND c.relkind = 'm' ORDER BY 1""")
    names = [name for name, *_more in views]
    if views:
        empty = [name for name, populated, *_more in views if not populated]
        more = f" Never populated: {some(empty)}." if empty else ""
        yield Finding(
            "info",
            f"{counted(len(views), 'materialized view')} of about {size(sum(row[2] for row in views))}: "
            f"{some(names)}.{more}",
            "The target refreshes them one after the other, after the tables are loaded.",
            "\\timing and REFRESH MATERIALIZED VIEW in psql, where there is a copy, show how long one takes.",
            names,
        )
    far = [name for name, _populated, _size, foreign in views if foreign]
    if far:
        consequence = "Their refresh reads foreign servers, and fails if the target cannot reach them."
        remedy = (
            "Refresh them by hand, with refresh_materialized_views: false, or make sure that the target reaches "
            "these servers."
        )
        yield Finding("warning", f"On foreign tables: {some(far)}.", consequence, remedy, far)


@database_check("large_objects", "There are no large objects.")
def large_objects(database: Database):
    """They live in a system catalog, which logical replication leaves out; a dump and the cutover bring them over."""
    count = database.value("SELECT count(*)::bigint FROM pg_largeobject_metadata")
    if not count:
        return
    seen = f"{counted(count, 'large object')} of {size(database.value('SELECT pg_table_size(2613)::bigint'))} in all."
    orphans = f"vacuumlo --dry-run --verbose {shlex.quote(database.name)} shows the ones that no column refers to."
    many = count > MANY_LARGE_OBJECTS
    yield Finding(
        "warning" if many else "info",
        seen,
        "pg_dump before 17 keeps an entry in memory for each of them; this needs gigabytes."
        if many
        else "They are dumped.",
        orphans,
        methods=("dump",),
    )
    yield Finding(
        "warning",
        seen,
        "They are not replicated; the cutover copies them while writers wait.",
        f"Remove the ones that nobody needs: {orphans}",
        methods=CONTINUOUS,
    )


@database_check("inherited_tables", "No table inherits from another.")
def inherited_tables(database: Database):
    """Inheritance without partitioning: rows of the parent and of its children are different tables' rows."""
    query = f"""
        SELECT DISTINCT {NAME} FROM {OWN_RELATIONS} AND c.relkind = 'r' AND NOT c.relispartition
        AND c.oid IN (SELECT inhparent FROM pg_inherits) ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names:
        consequence = "Each table is copied, published and compared by itself, parents without the rows of children."
        yield Finding("info", f"{counted(len(names), 'table')} with children: {some(names)}.", consequence, "", names)


@database_check("pending_detachments", "No partition is half detached.")
def pending_detachments(database: Database):
    """An interrupted DETACH PARTITION ... CONCURRENTLY: the parent shows no rows of the partition, though it is
    attached.
    """
    if database.server.major < 14:
        return
    query = """
        SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits WHERE inhdetachpending ORDER BY 1"""
    found = database.rows(query)
    if found:
        names = [child for child, _parent in found]
        yield Finding(
            "warning",
            f"{counted(len(found), 'partition')} with an interrupted detachment: {some(names)}.",
            "On the target they are attached again, and the parent shows their rows again.",
            script([f"ALTER TABLE {parent} DETACH PARTITION {child} FINALIZE;" for child, parent in found]),
            names,
        )


@database_check("hash_partitions", "Hash partitions hold the same rows on every server.")
def hash_partitions(database: Database):
    """The hash of an enumerated value is that of its oid, and under a nondeterministic collation it is ICU's."""
    enums = {(column.table_oid, column.name) for column in columns_made_of(database, "t.typtype = 'e'")}
    query = f"""
        SELECT {NAME}, c.oid::bigint, quote_ident(a.attname), NOT coalesce(l.collisdeterministic, true)
        FROM pg_partitioned_table AS p JOIN pg_attribute AS a
             ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation, {OWN_RELATIONS} AND c.oid = p.partrelid
        AND p.partstrat = 'h' ORDER BY 1"""
    rows = database.rows(query)
    names = sorted({name for name, oid, column, unstable in rows if unstable or (oid, column) in enums})
    if names:
        yield Finding(
            "warning",
            f"{counted(len(names), 'table')} partitioned by a hash that differs between servers: {some(names)}.",
            "On the target, rows belong to other partitions: pg_dump loads them through the parent, and "
            "publications need publish_via_partition_root.",
            "Compare such tables as a whole, not by partition.",
            names,
        )
