# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration's own record, in schema handover of the target database: what was begun, and what is complete."""

from __future__ import annotations

import contextlib
import itertools
import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import keep, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK, memory, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

# The comment is the record of whether the database was made for the migration, whichever method brought it.
COMMENT = f"{MARK} journal of the migration; removed when it is finished"
COMMENT_OF_MADE = f"{MARK} journal of the migration, which made this database; removed when it is finished"

TABLE = """
    CREATE TABLE handover.restore (
        dump_id text PRIMARY KEY,
        started timestamptz NOT NULL DEFAULT clock_timestamp(),
        completed timestamptz,
        undo text[] NOT NULL DEFAULT '{}',
        result json)"""

# Journals of older releases have no place for these: where it came from, and source_writes.py's count when complete.
SINCE = """
    ALTER TABLE handover.restore ADD COLUMN IF NOT EXISTS source jsonb, ADD COLUMN IF NOT EXISTS writes bigint"""

ROWS = """
    CREATE TABLE IF NOT EXISTS handover.restored_rows (
        schema text,
        name text,
        rows bigint NOT NULL,
        bytes bigint NOT NULL,
        PRIMARY KEY (schema, name))"""

RELATIONS = "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('handover') AND relkind = 'r'"

ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('handover.postgresql journals of this database', 0))"

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE if psycopg2 else None
LOOK = "handover_look"  # statements that sessions keep prepared
NUMBERS = itertools.count()

OCCUPANTS = """
    SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('handover')"""


GUARD = """
    SELECT 1 / count(*) FROM pg_namespace AS n WHERE n.nspname = 'handover' AND {strangers} = '{{}}'
    AND starts_with(obj_description(n.oid, 'pg_namespace'), '{mark}')"""

# What a verification found (parts/verification/record.py) is worth nothing without what it was about.
WITH_IT = ("verification", "verified_table")


def has_schema(connection) -> bool:
    """Whether this database has a schema handover. Raises HandoverError where that is not ours, or not ours alone."""
    return look(connection) is not None


def has_column(connection, table: str, column: str) -> bool:
    """Whether there is one with such a table in it; raises the same, also to whom the schema is closed."""
    return f"{table}.{column}" in (look(connection) or ())


def rows_of(connection, table: str, column: str, query: str, parameters=None) -> list[tuple] | None:
    """The rows of a query of a table in it, None where there is no such table, or it has no such column; raises the
    same. Nothing is read before it is sure that it is ours: where it was before, that is asked along with the query.
    """
    found = memory(connection)
    if (table, column) in found and connection.info.transaction_status == IDLE:
        keep(connection, _guard(connection))
        try:
            return rows(connection, query, parameters)
        except psycopg2.Error:  # it is gone, or not ours any more
            found.pop(GUARD, None)
    if not has_column(connection, table, column):
        return None
    found[table, column] = True
    return rows(connection, query, parameters)


def look(connection) -> list[str] | None:
    """The columns of the schema's tables, ``table.column`` each; None without the schema. Raises the same."""
    for comment, strangers, columns in _answer(connection):
        if not (comment or "").startswith(MARK):
            raise HandoverError(
                "The database has a schema handover that the collection did not make.",
                "Rename it while the migration lasts.",
            )
        trust.refuse(connection, strangers)
        return columns
    return None


def _answer(connection) -> list[tuple]:
    """What the server says of it. It is asked again and again, and to plan that takes longer than the answer."""
    prepared = memory(connection)
    if LOOK in prepared:
        return rows(connection, f"EXECUTE {prepared[LOOK]}")
    query = f"""
        SELECT obj_description(n.oid, 'pg_namespace'), {trust.query(connection)}, ARRAY(
            SELECT c.relname || '.' || a.attname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
            WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped)
        FROM pg_namespace AS n WHERE n.nspname = 'handover'"""
    name = f"{LOOK}_{next(NUMBERS)}"  # one that failed may be there all the same
    found = rows(connection, f"PREPARE {name} AS {query}; EXECUTE {name}")
    prepared[LOOK] = name
    return found


def _guard(connection) -> str:
    """What fails where there is no such schema of ours."""
    prepared = memory(connection)
    if GUARD in prepared:
        return f"EXECUTE {prepared[GUARD]}"
    prepared[GUARD] = f"{LOOK}_{next(NUMBERS)}"
    text = GUARD.format(strangers=trust.query(connection), mark=MARK)
    return f"PREPARE {prepared[GUARD]} AS {text}; EXECUTE {prepared[GUARD]}"


def wait_for_turn(cursor) -> None:
    """Until no other run makes a journal in this database, or drops one, and up to the end of the transaction: of
    several that begin at once, each would find that there is none yet.
    """
    cursor.execute(ALONE)


def make_schema(connection, made: bool = False) -> None:
    """Make it, unless it is there: after ``wait_for_turn``, where others may be at work in this database. ``made`` says
    that the database itself was made for the migration just now.
    """
    if not has_schema(connection):
        with connection.cursor() as cursor:
            comment = COMMENT_OF_MADE if made else COMMENT
            cursor.execute("CREATE SCHEMA handover; COMMENT ON SCHEMA handover IS %s", (comment,))


def is_made(connection) -> bool:
    """Whether the database was made for a migration whose journal is still there: nothing of it was there before."""
    query = "SELECT obj_description(to_regnamespace('handover'), 'pg_namespace') = %s"
    return has_schema(connection) and rows(connection, query, (COMMENT_OF_MADE,))[0][0]


def drop_tables(connection, tables: list[str]) -> None:
    """Drop these tables of the schema handover, what was verified, and the schema if it is empty then: all, or
    nothing.
    """
    if not has_schema(connection):
        return
    with transaction(connection) as cursor:
        wait_for_turn(cursor)
        there = [name for (name,) in rows(connection, RELATIONS) if name in {*tables, *WITH_IT}]
        for name in there:
            cursor.execute(sql.SQL("DROP TABLE handover.{}").format(sql.Identifier(name)))
        if not rows(connection, OCCUPANTS):
            cursor.execute("DROP SCHEMA handover")


def is_present(connection) -> bool:
    """Whether this database has a journal of an import. Raises HandoverError for a schema handover that is not ours."""
    return has_column(connection, "restore", "dump_id")


def begin(connection, dump_id: str, source: dict) -> None:
    """Record that the import of this dump of the source's database has begun, in a journal made for it."""
    with transaction(connection) as cursor:
        wait_for_turn(cursor)
        make_schema(connection)
        if not is_present(connection):
            cursor.execute(TABLE + trust.CLOSED)
        cursor.execute(SINCE)
        cursor.execute(
            "INSERT INTO handover.restore (dump_id, source) VALUES (%s, %s) ON CONFLICT (dump_id) DO UPDATE"
            " SET started = clock_timestamp(), completed = NULL",
            (dump_id, json.dumps(source)),
        )


def record_undo(connection, statements: list[str]) -> None:
    """Record what takes back something that is about to be done for the time of the import."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE handover.restore SET undo = %s WHERE completed IS NULL", (statements,))


def undo(connection) -> None:
    """Take it back, also for a run that was killed. What this role may not take back, it could not do either."""
    query = "SELECT unnest(undo) FROM handover.restore WHERE completed IS NULL"
    found = rows_of(connection, "restore", "undo", query)
    for (statement,) in found or ():
        with contextlib.suppress(psycopg2.errors.InsufficientPrivilege), connection.cursor() as cursor:
            cursor.execute(statement)
    if found:
        record_undo(connection, [])


def record_facts(connection, facts: dict) -> None:
    """Record what has to be known before an interrupted import may be continued; the result takes its place."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE handover.restore SET result = %s WHERE completed IS NULL", (json.dumps(facts),))
        cursor.execute(ROWS + trust.CLOSED)


def record_rows(connection, tables: list[tuple[str, str, int, int]]) -> None:
    """Record that all rows of these tables are there: (schema, name, rows, bytes)."""
    columns = list(zip(*tables))
    statement = """
        INSERT INTO handover.restored_rows
        SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) ON CONFLICT DO NOTHING"""
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(column) for column in columns])


def restored_rows(connection) -> dict[tuple[str, str], tuple[int, int]]:
    """(rows, bytes) of each table that is there, by (schema, name)."""
    query = "SELECT schema, name, rows, bytes FROM handover.restored_rows"
    found = rows_of(connection, "restored_rows", "rows", query) or []
    return {(schema, name): (count, size) for schema, name, count, size in found}


def keep_pending(connection, result: dict) -> None:
    """Record that all rows are there, and which definitions are not: ``failures`` of the result."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE handover.restore SET result = %s WHERE completed IS NULL", (json.dumps(result),))


def complete(connection, result: dict, writes: int | None) -> None:
    """Record that everything is there, and how much databases/source_writes.py counted then."""
    statement = """
        UPDATE handover.restore SET completed = clock_timestamp(), result = %s, writes = %s WHERE completed IS NULL"""
    with connection.cursor() as cursor:
        cursor.execute(statement, (json.dumps(result), writes))


def read(connection) -> dict | None:
    """The last import: ``dump_id``, ``completed`` (ISO time or None), ``made`` (whether the database was made for it),
    ``source`` and ``writes`` (None if unknown), ``result``; None without one.
    """
    query = """
        SELECT json_build_object(
            'dump_id', dump_id, 'completed', completed, 'source', to_jsonb(r) -> 'source',
            'writes', to_jsonb(r) -> 'writes', 'result', result)
        FROM handover.restore AS r ORDER BY started DESC LIMIT 1"""
    found = rows_of(connection, "restore", "dump_id", query)
    return {**found[0][0], "made": is_made(connection)} if found else None


def remove(connection) -> bool:
    """Drop the journal; whether there was one."""
    if not is_present(connection):
        return False
    drop_tables(connection, ["restore", "restored_rows"])
    return True
