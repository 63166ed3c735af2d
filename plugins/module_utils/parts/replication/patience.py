# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short locks on tables in use: asked for again and again, never waited for long, so that nobody queues behind us."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

LOCK_TIMEOUT = 500  # milliseconds
PATIENCE = 120.0  # seconds
PAUSE = 0.5  # seconds
SHOO_GRACE = 500  # milliseconds that autovacuum has to go away

VACUUMED = """
    SELECT DISTINCT format('%%I.%%I', n.nspname, c.relname)
    FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN ROWS FROM (unnest(%s), unnest(%s)) AS t (schema, name) ON (t.schema, t.name) = (n.nspname, c.relname)
    WHERE l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

# Not what they run, which may hold a secret.
HOLDERS = """
    SELECT format('process %s (role %s, application "%s", transaction since %s)', pid, usename, application_name,
                  date_trunc('second', xact_start)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '1 s'
    AND application_name <> 'handover' ORDER BY xact_start LIMIT 5"""


def patiently(connection, work, patience: float = PATIENCE, lock_timeout: int = LOCK_TIMEOUT):
    """``work()`` under a short lock_timeout (milliseconds) on the connection, again for up to ``patience`` seconds.

    ``work`` does its own transaction, or one statement. Raises HandoverError that names who may be in the way.
    """
    deadline = time.monotonic() + patience
    former = _set_lock_timeout(connection, str(lock_timeout))
    try:
        while True:
            try:
                return work()
            except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
                if time.monotonic() > deadline:
                    raise _given_up(connection, patience, error) from None
                time.sleep(PAUSE)
    finally:
        if not connection.closed:
            _set_lock_timeout(connection, former)


def execute_patiently(
    connection, statement, patience: float = PATIENCE, tables: Iterable[tuple[str, str]] = ()
) -> None:
    """One statement that needs locks on ``tables`` in use, (schema, name) each: autovacuum is made to leave them.

    Raises HandoverError.
    """
    execute_briefly(connection, statement, patience, LOCK_TIMEOUT, tables)


def execute_briefly(
    connection, statement, patience: float, lock_timeout: int, tables: Iterable[tuple[str, str]] = ()
) -> None:
    """The same with a lock_timeout (milliseconds) of its own, which goes there together with it."""
    deadline = time.monotonic() + patience
    text = statement if isinstance(statement, str) else statement.as_string(connection)
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {lock_timeout}; {text}")
            return
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise _given_up(connection, patience, error) from None
            schemas, names = [schema for schema, _name in tables], [name for _schema, name in tables]
            vacuumed = rows(connection, VACUUMED, (schemas, names)) if names else []
            shoo_autovacuum(connection, [table for (table,) in vacuumed], deadline)
            time.sleep(PAUSE)


def shoo_autovacuum(connection, tables: Iterable[str], deadline: float) -> None:
    """Wait for tables, quoted, that are being vacuumed or analyzed, long enough for the server to see that autovacuum
    is in the way and to end it (deadlock_timeout). No writer waits behind this mode, and a single lock makes no
    deadlock. ``deadline`` is time.monotonic's; no transaction is open, before or after.
    """
    for table in tables:
        lock_timeout = deadlock_timeout(connection) + SHOO_GRACE
        if time.monotonic() + lock_timeout / 1000 > deadline:
            return
        # A VACUUM of somebody, or one against wraparound, stays. So does all on a table that this role may not lock.
        stays = (
            psycopg2.errors.LockNotAvailable, psycopg2.errors.UndefinedTable, psycopg2.errors.InsufficientPrivilege,
        )  # fmt: skip
        lock = f"SET LOCAL lock_timeout = {lock_timeout}; LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE"
        with contextlib.suppress(*stays), connection.cursor() as cursor:
            cursor.execute(lock)


def deadlock_timeout(connection) -> int:
    """Milliseconds after which the server looks who is in whose way."""
    return value(connection, "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'")


def _set_lock_timeout(connection, wanted: str) -> str:
    query = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, false)"
    return rows(connection, query, (wanted,))[0][0]


def _given_up(connection, patience: float, error) -> HandoverError:
    holders = [text for (text,) in rows(connection, HOLDERS)]
    return HandoverError(
        f"Could not get a lock within {patience:.0f} s: {one_line(error)}."
        + (f" Open transactions: {'; '.join(holders)}." if holders else ""),
        "Let them end, then run this again.",
    )
