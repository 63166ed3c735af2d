# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on many tables at once that keep writers out for a moment, taken so that it is always us who give way.

Whoever waits for a lock makes others wait behind. So a lock that does not come soon is given up with all that came
before it, and tried again later; and as nobody waits for us as long as deadlock_timeout, no deadlock with us ever
ends a session of the application.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import (
    deadlock_timeout,
    shoo_autovacuum,
)

# What each mode has to wait for (PostgreSQL documentation, 13.3.1).
WRITERS = ["RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareRowExclusiveLock", "ExclusiveLock"]
CONFLICTS = {
    "SHARE": [*WRITERS, "AccessExclusiveLock"],
    "SHARE ROW EXCLUSIVE": [*WRITERS, "ShareLock", "AccessExclusiveLock"],
}
PER_TABLE = 0.2  # milliseconds that locking a table may take where nobody is in the way; it takes a hundredth
NOTHING = sql.SQL("SELECT") if sql else None


@dataclass(frozen=True)
class Locked:
    """What it took: ``attempts``, ``waited_ms`` from the first attempt until all locks were there,
    ``since`` (time.monotonic) from when on writers may be waiting for us, and ``longest_ms``, the longest that one of
    the attempts that were given up may have kept writers waiting; and what the last of the statements under the locks
    ``answered``.
    """

    attempts: int
    waited_ms: float
    since: float
    longest_ms: float
    answered: list


def patience_of(connection, lock_timeout: int) -> int:
    """Milliseconds that a lock is waited for: held to half of the server's deadlock_timeout."""
    return max(1, min(lock_timeout, deadlock_timeout(connection) // 2))


def lock_tables(
    connection, tables: list[tuple[str, str]], mode: str, patience: int, deadline: float, then=NOTHING
) -> Locked:
    """Open a transaction on a connection in autocommit mode and lock ``tables`` (schema, name; leaves, each by itself)
    in it; ``mode`` is ``SHARE`` or ``SHARE ROW EXCLUSIVE``, both keep writers out and let readers in. What is to be
    done ``then``, SQL of which the last statement has an answer, goes there together with it.

    ``patience`` is what ``patience_of`` says; ``deadline`` is time.monotonic's. The caller ends the transaction. Raises
    HandoverError, with no transaction open, naming who was in the way (``blockers``) when the deadline has passed.
    """
    started, longest, attempts, blockers = time.monotonic(), 0.0, 0, []
    message = _message(connection, tables, mode, patience, then)
    while True:
        attempts, begun = attempts + 1, time.monotonic()
        answered = _locked(connection, message, mode)
        if answered is not None:
            now = time.monotonic()
            return Locked(attempts, (now - started) * 1000, begun, longest * 1000, answered)
        longest = max(longest, time.monotonic() - begun)
        found = _blockers(connection, tables, mode)
        blockers = found or blockers
        vacuumed = {one["table"] for one in found if one["lock"] == "ShareUpdateExclusiveLock"}
        if shoo_autovacuum(connection, sorted(vacuumed), deadline):  # it would be back; who waited behind us had time
            continue
        pause = max(0.1, 2 * patience / 1000)  # those who waited behind us go first
        if time.monotonic() + pause >= deadline:
            raise _too_late(mode, attempts, time.monotonic() - started, blockers)
        time.sleep(pause)


def _message(connection, tables: list[tuple[str, str]], mode: str, patience: int, then) -> str:
    """All of it as one string. LOCK TABLE as a whole is limited as well, because lock_timeout is for each lock anew."""
    limit = int(patience + len(tables) * PER_TABLE) + 100
    names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables)
    statements = [
        sql.SQL(f"BEGIN; SET LOCAL lock_timeout = {patience}; SET LOCAL statement_timeout = {limit}"),
        *([sql.SQL("LOCK TABLE {} IN " + mode + " MODE").format(names)] if tables else []),
        sql.SQL("SET LOCAL statement_timeout = 0"),
        then,
    ]
    return sql.SQL("; ").join(statements).as_string(connection)


def _locked(connection, message: str, mode: str) -> list | None:
    """What was answered under the locks; None if these did not come, and then none is held any more."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(message)
            return cursor.fetchall()
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled, psycopg2.errors.DeadlockDetected):
        _roll_back(connection)
        return None
    except psycopg2.Error as error:
        _roll_back(connection)
        raise _refusal(error, mode) from None


def _roll_back(connection) -> None:
    if not connection.closed:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")


def _refusal(error, mode: str) -> Exception:
    """What the user can mend, as an error of ours; the rest as it is."""
    text = one_line(error)
    remedies = {
        psycopg2.errors.InsufficientPrivilege: "Grant the connecting role UPDATE on it, or connect as its owner.",
        psycopg2.errors.OutOfMemory: "Raise max_locks_per_transaction on that server; this needs a restart.",
        psycopg2.errors.UndefinedTable: "It was dropped or renamed meanwhile: run this again.",
        psycopg2.errors.InvalidSchemaName: "It was dropped or renamed meanwhile: run this again.",
    }
    for kind, remedy in remedies.items():
        if isinstance(error, kind):
            return HandoverError(f"A table cannot be locked in {mode} mode: {text}.", remedy, sqlstate=error.pgcode)
    return error


def _blockers(connection, tables: list[tuple[str, str]], mode: str) -> list[dict]:
    """Who holds, or waits for, what keeps us out: ``{"pid", "table", "lock", "granted", "user", "application",
    "since"}``, the last being when its transaction began. What this role may not see of other sessions is None; what
    they run is not shown, as it may hold secrets.
    """
    query = """
        SELECT json_build_object(
            'pid', l.pid, 'table', format('%%I.%%I', n.nspname, c.relname), 'lock', l.mode, 'granted', l.granted,
            'user', a.usename, 'application', a.application_name, 'since', date_trunc('second', a.xact_start)::text)
        FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN ROWS FROM (unnest(%s), unnest(%s)) AS t (schema, name) ON (t.schema, t.name) = (n.nspname, c.relname)
        LEFT JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'relation' AND l.mode = ANY (%s) AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY l.granted DESC, l.pid LIMIT 20"""
    schemas, names = [schema for schema, _name in tables], [name for _schema, name in tables]
    return [found for (found,) in rows(connection, query, (schemas, names, CONFLICTS[mode]))]


def _too_late(mode: str, attempts: int, seconds: float, blockers: list[dict]) -> HandoverError:
    named = [
        f'process {one["pid"]} ({one["user"]}, "{one["application"]}") on {one["table"]}, since {one["since"]}'
        for one in blockers[:5]
    ]
    return HandoverError(
        f"Could not lock the tables in {mode} mode within {seconds:.1f} s ({counted(attempts, 'attempt')})"
        + (
            f". In the way: {'; '.join(named)}."
            if named
            else "; whoever was in the way was gone by the time of looking."
        ),
        "Wait until these have ended, or end them, and run this again; or allow more time.",
        blockers=blockers,
    )
