# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short locks on tables in use: asked for again and again, never waited for long, so that nobody queues behind us."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

LOCK_TIMEOUT = 500  # milliseconds
PATIENCE = 120.0  # seconds
PAUSE = 0.5  # seconds
SHOO_GRACE = 500  # milliseconds that autovacuum has to go away

# What is being vacuumed or analyzed, quoted, and how a statement may call what is locked with it.
VACUUMED = """
    SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', s.nspname, t.relname),
           format('%s.%s', s.nspname, t.relname),
           format('"%s"."%s"', replace(s.nspname, '"', '""'), replace(t.relname, '"', '""'))
    FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL (
        SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)
        UNION SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid
        UNION SELECT conrelid FROM pg_constraint WHERE confrelid = c.oid
    ) AS locked (oid)
    JOIN pg_class AS t ON t.oid = locked.oid JOIN pg_namespace AS s ON s.oid = t.relnamespace
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
    Autovacuum is made to leave the tables of the statement that did not get its locks.

    ``work`` does its own transaction, or one statement. Raises HandoverError that names who may be in the way.
    """
    former = _set_lock_timeout(connection, str(lock_timeout))
    try:
        return _again(connection, work, patience)
    finally:
        if not connection.closed:
            _set_lock_timeout(connection, former)


def execute_patiently(connection, statement, patience: float = PATIENCE) -> None:
    """One statement that needs locks on tables in use. Raises HandoverError."""
    execute_briefly(connection, statement, patience, LOCK_TIMEOUT)


def execute_briefly(connection, statement, patience: float, lock_timeout: int) -> None:
    """The same with a lock_timeout (milliseconds) of its own, which goes there together with it."""
    text = statement if isinstance(statement, str) else statement.as_string(connection)

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {lock_timeout}; {text}")

    _again(connection, work, patience)


def _again(connection, work, patience: float):
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise _given_up(connection, patience, error) from None
            if not shoo_autovacuum(connection, _vacuumed(connection, error), deadline):  # else it would be back
                time.sleep(PAUSE)


def _vacuumed(connection, error) -> list[str]:
    """Tables, quoted, that may be in the way: the server says neither which lock was not to be had nor who has it, but
    the error's cursor knows the statement. Names are looked for here, as it may hold a secret.
    """
    asked = error.cursor.query if error.cursor else None
    text = asked.decode(errors="replace") if asked else str(error)
    return sorted({table for table, *names in rows(connection, VACUUMED) if any(name in text for name in names)})


def shoo_autovacuum(connection, tables: list[str], deadline: float) -> bool:
    """Wait for tables, quoted, that are being vacuumed or analyzed, long enough for the server to see that autovacuum
    is in the way and to end it (deadlock_timeout); whether there are any, and all were free then. No writer waits
    behind this mode, and a single lock makes no deadlock. ``deadline`` is time.monotonic's; no transaction is open,
    before or after.
    """
    # A VACUUM of somebody, or one against wraparound, stays. So does all on a table that this role may not lock.
    stays = (psycopg2.errors.LockNotAvailable, psycopg2.errors.UndefinedTable, psycopg2.errors.InsufficientPrivilege)
    freed = 0
    for table in tables:
        lock_timeout = deadlock_timeout(connection) + SHOO_GRACE
        if time.monotonic() + lock_timeout / 1000 > deadline:
            return False
        lock = f"SET LOCAL lock_timeout = {lock_timeout}; LOCK TABLE ONLY {table} IN SHARE UPDATE EXCLUSIVE MODE"
        with contextlib.suppress(*stays), connection.cursor() as cursor:
            cursor.execute(lock)
            freed += 1
    return 0 < len(tables) == freed


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
