# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of amounts: rows too long, tables too large for their share, counters near their end, statistics missing."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, size, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK, OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import jobs_for
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.target_database import exists
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.database_tables import DatabaseTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

CONTINUOUS = ("continuous",)
COPY_LIMIT = 2**30 - 1  # bytes of one row as text: MaxAllocSize
EXPANSION = 512  # bytes of text from one that is stored, at most: compressed by lz4, and bytea written in two digits
MEASURED = 2**28  # bytes of tables; of values out of line only the lengths are read
LARGE = 2**30  # bytes of a table; below, nobody waits for it
NEAR_END = 0.8  # of what a sequence, or the column that it feeds, counts to


@database_check("long_rows", "No row of the measured tables is too long for COPY.")
def long_rows(database: Database):
    """COPY writes a row as at most 1 GB of text, and bytea takes twice its length there. The check measures tables with
    many large (TOAST) values, small ones first, up to a limit: text and bytea by their length, other types as stored.
    """
    suspects = [table for table in database.tables if table.toast_bytes * EXPANSION > COPY_LIMIT // 2]
    rest, unmeasured, found = MEASURED, {}, {"blocker": {}, "warning": {}}
    for table in sorted(suspects, key=lambda table: table.heap_bytes):
        rest -= table.heap_bytes
        length = _row_length(database, table)
        if rest < 0:
            unmeasured[table.name] = length
            continue
        longest = database.value(f"SELECT coalesce(max({length}), 0)::bigint FROM ONLY {table.name}")
        if longest > COPY_LIMIT // 2:
            found["blocker" if longest > COPY_LIMIT else "warning"][table.name] = (longest, length)
    for level, tables in found.items():
        if tables:
            rows = [f"{size(longest)} of text in {name}" for name, (longest, _length) in tables.items()]
            yield Finding(
                level,
                f"Rows of up to {some(rows)}.",
                "COPY cannot write such a row: the dump fails." if level == "blocker" else "COPY ends at 1 GB.",
                script([_longest(name, length) for name, (_longest_row, length) in tables.items()]),
                list(tables),
            )
    if unmeasured:
        yield Finding(
            "info",
            f"{counted(len(unmeasured), 'table')} with many large (TOAST) values not measured: "
            f"{some(list(unmeasured))}.",
            "A row of more than 1 GB as text cannot be copied.",
            script([_longest(name, length) for name, length in unmeasured.items()]),
            list(unmeasured),
        )


def _longest(table: str, length: str) -> str:
    return f"SELECT ctid, {length} AS bytes FROM ONLY {table} ORDER BY bytes DESC LIMIT 5;"


def _row_length(database: Database, table: DatabaseTable) -> str:
    """SQL for the bytes of a row as text, as far as they are known without reading values."""
    query = """
        SELECT string_agg(format(CASE WHEN type.base = 'bytea'::regtype
                                 THEN '2::bigint * coalesce(octet_length(%%1$I), 0)'
                                 WHEN type.base IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
                                 THEN 'coalesce(octet_length(%%1$I), 0)' ELSE 'coalesce(pg_column_size(%%1$I), 0)' END,
                                 a.attname), ' + ')
        FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid,
        LATERAL (SELECT coalesce(nullif(t.typbasetype, 0), t.oid) AS base) AS type
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1"""
    return database.value(query, (table.oid,))


@database_check("largest_table", "No table is larger than a job's fair share.", ("dump",))
def largest_table(database: Database):
    """pg_dump and pg_restore give a table to one job: the last works alone when the others have long finished."""
    tables = [table for table in database.tables if table.kind == "r"]
    total, jobs = sum(table.bytes for table in tables), jobs_for(database.pair.options.jobs, len(tables))
    large = sorted(
        (table for table in tables if table.bytes > max(total / jobs, LARGE)), key=lambda table: -table.bytes
    )
    if large and jobs > 1:
        listed = some([f"{table.name} ({size(table.bytes)})" for table in large])
        yield Finding(
            "info",
            f"With {jobs} jobs a fair share of {size(total)} is {size(total // jobs)}; larger: {listed}.",
            "A dump and its restore take at least as long as one job needs for such a table.",
            "",
            [table.name for table in large],
        )


@database_check("table_statistics", "Every table has been analyzed.")
def table_statistics(database: Database):
    """Estimates of rows, and with them of time, are the planner's."""
    names = [table.name for table in database.tables if table.rows is None and not table.is_empty]
    if names:
        seen = f"{counted(len(names), 'table')} never analyzed: {some(names)}."
        consequence = "The numbers of their rows and changes are unknown."
        yield Finding("info", seen, consequence, script([f"ANALYZE {name};" for name in names]), names)


@database_check("sequences", "There are no sequences.", CONTINUOUS)
def sequences(database: Database):
    """Logical replication carries the values that sequences gave, not the sequences themselves."""
    query = f"""
        SELECT format('%I.%I', n.nspname, c.relname), EXISTS (
            SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0)
        FROM {OWN_RELATIONS} AND c.relkind = 'S' ORDER BY 1"""
    found = database.rows(query)
    if found:
        alone = [name for name, owned in found if not owned]
        yield Finding(
            "info",
            f"{counted(len(found), 'sequence')}" + (f", {len(alone)} of no column: {some(alone)}." if alone else "."),
            "They are not replicated: the cutover sets their values before the application writes to the target.",
            "",
            [name for name, _owned in found],
        )


@database_check("sequence_ends", "No sequence is near its end, nor that of the column that it feeds.")
def sequence_ends(database: Database):
    """A value added for safety at the cutover may go over the end, and an integer column ends at 2,147,483,647."""
    query = f"""
        WITH links AS (
            SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number FROM pg_depend AS d
            WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
            AND d.deptype IN ('a', 'i')
            UNION SELECT d.refobjid, f.adrelid, f.adnum FROM pg_depend AS d JOIN pg_attrdef AS f ON f.oid = d.objid
            WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0),
        fed AS (
            SELECT links.sequence,
                   min(CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END) AS most
            FROM links JOIN pg_attribute AS a ON a.attrelid = links.relation AND a.attnum = links.number
            GROUP BY links.sequence),
        counted AS (
            SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, least(s.seqmax, fed.most) AS most,
                   has_sequence_privilege(c.oid, 'USAGE, SELECT') AS visible,
                   CASE WHEN has_sequence_privilege(c.oid, 'USAGE, SELECT')
                        THEN pg_sequence_last_value(c.oid) END AS last
            FROM pg_sequence AS s LEFT JOIN fed ON fed.sequence = s.seqrelid, {OWN_RELATIONS} AND c.oid = s.seqrelid
            AND s.seqincrement > 0 AND NOT s.seqcycle)
        SELECT name, last, most, ARRAY(
            SELECT a.attrelid::regclass::text || '.' || quote_ident(a.attname)
            FROM links JOIN pg_attribute AS a ON a.attrelid = links.relation AND a.attnum = links.number
            WHERE links.sequence = counted.oid ORDER BY 1)
        FROM counted WHERE NOT visible OR last > {NEAR_END} * most ORDER BY name"""
    rows = database.rows(query)
    hidden = [name for name, last, _most, _columns in rows if last is None]
    if hidden:
        seen = f"{counted(len(hidden), 'sequence')} whose value the role may not see: {some(hidden)}."
        role = database.value("SELECT quote_ident(current_user)")
        remedy = script([f"GRANT SELECT ON SEQUENCE {name} TO {role};" for name in hidden])
        yield Finding("unknown", seen, "They may be near their end.", remedy, hidden)
    found = [row for row in rows if row[1] is not None]
    if found:
        listed = [f"{name} is at {last} of {most}" for name, last, most, _columns in found]
        yield Finding(
            "warning",
            f"{counted(len(found), 'sequence')} near the end: {some(listed)}.",
            "When the end is reached, the application fails, on either server.",
            script([_widen(name, most, columns) for name, _last, most, columns in found]),
            [name for name, *_more in found],
        )


def _widen(sequence: str, most: int, columns: list[str]) -> str:
    """What makes room: bigint for the sequence, and for columns, of which the tables are written anew."""
    if most == 2**63 - 1:
        return f"-- {sequence} counts as far as bigint does"
    tables = [column.rpartition(".") for column in columns]
    altered = [f"ALTER TABLE {table} ALTER COLUMN {column} TYPE bigint;" for table, _dot, column in tables]
    return " ".join([*altered, f"ALTER SEQUENCE {sequence} AS bigint NO MAXVALUE;"])


@database_check("handover_schema", "Nobody else uses the schema name handover.")
def handover_schema(database: Database):
    """The journal of a migration, and its beacon, live in a schema of this name on both ends. It counts as the
    collection's only if nobody else may write to it, because statements in it are run.
    """
    yield from _not_ours(database.connection, "source")
    target = database.target
    if target and exists(target.connection, database.name):
        with contextlib.closing(target.endpoint.connect(database.name, read_only=True)) as connection:
            yield from _not_ours(connection, "target")


def _not_ours(connection, side: str):
    query = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = 'handover'"
    foreign = [comment for (comment,) in rows(connection, query) if not comment.startswith(MARK)]
    strangers = trust.strangers(connection)
    if foreign or strangers:
        yield Finding(
            "blocker",
            f"The database has a schema handover on the {side} that "
            + ("the collection did not make." if foreign else f"others may have written to: {some(strangers)}."),
            "Neither method can begin: its contents would be mixed up with the journal, whose statements are run.",
            "ALTER SCHEMA handover RENAME TO handover_of_ours;"
            + ("" if foreign else " -- if another administrator began a migration: go on as that role"),
            ["handover"],
        )
