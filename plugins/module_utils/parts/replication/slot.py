# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical slots, and the snapshots that they export (PostgreSQL documentation, 53.4)."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    SESSION_SETTINGS_SINCE,
    Connection,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import Snapshot

PAUSE = 0.2  # seconds between two looks at who is in the way
DROP_PATIENCE = 30.0  # seconds for the reader of a slot to go

NOW = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""

# Who keeps a slot from being made: it waits for the end of each transaction that was open when it began.
BLOCKERS = """
    SELECT DISTINCT CASE WHEN b.pid = 0 THEN 'a prepared transaction (see pg_prepared_xacts)'
        ELSE format('process %%s (role %%s, database %%s, application "%%s", transaction since %%s)', b.pid,
                    a.usename, a.datname, a.application_name, date_trunc('second', a.xact_start)) END
    FROM unnest(pg_blocking_pids(%s)) AS b (pid) LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid"""


@dataclass
class Slot:
    """A slot that was just made. ``lsn``: changes from here on are sent. ``snapshot`` shows what came before, as long
    as ``connection`` is open; nothing may be run on that.
    """

    name: str
    lsn: str
    snapshot: Snapshot
    connection: Connection

    def close(self) -> None:
        """Let the snapshot go. The slot stays."""
        self.connection.close()


def create(replication: Connection, name: str, connection, patience: float = 60.0) -> Slot:
    """Make a slot over a replication connection, which is its own from then on, waiting up to ``patience`` seconds for
    open transactions to end.

    ``connection`` is an ordinary session, for asking who is in the way. Raises HandoverError, with ``blockers``.
    """
    try:
        _disable_timeouts(replication)
        made = _create_in_time(replication, name, connection, patience)
        try:
            [(now,)] = rows(connection, NOW)
        except psycopg2.Error:  # who ended our session, to free the source, may have looked before there was the slot
            drop(replication, name)
            raise
        return Slot(name, made[1], Snapshot(made[2], "repeatable read, read only", made[1], now), replication)
    except BaseException:
        replication.close()
        raise


def command(name: str) -> str:
    """What is sent over the replication connection."""
    return f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput EXPORT_SNAPSHOT'


def maker(name: str) -> str:
    """A comment of SQL, before what makes a slot as soon as something else has happened."""
    return f"/* makes {name} */ "


# By name; the comment is not in this statement itself. What a run has begun that was killed goes on without it.
THERE = """
    SELECT (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE strpos(query, '/* makes ' || %(name)s || ' */') > 0 AND state = 'active' AND usename = current_user
            AND pid <> pg_backend_pid() AND datname = current_database()) > 0,
           slot_name IS NOT NULL, active_pid
    FROM (SELECT) AS one LEFT JOIN pg_replication_slots ON slot_name = %(name)s"""


def drop(connection, name: str) -> bool:
    """Drop a slot of ours, ending its reader, and who is about to make it; whether it was there. Raises HandoverError
    if its reader does not go.
    """
    deadline = time.monotonic() + DROP_PATIENCE
    while True:
        [(is_awaited, is_there, *found)] = rows(connection, THERE, {"name": name})
        if is_awaited and time.monotonic() < deadline:
            time.sleep(PAUSE)
            continue
        if not is_there:
            return False
        try:
            if found[0]:
                with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):  # its reader may go by itself
                    rows(connection, "SELECT pg_terminate_backend(%s)", found)
            rows(connection, "SELECT pg_drop_replication_slot(%s)", (name,))
            return True
        except (psycopg2.errors.ObjectInUse, psycopg2.errors.UndefinedObject) as error:
            if time.monotonic() > deadline:
                raise HandoverError(
                    f"The reader of replication slot {name} does not release it: {one_line(error)}.",
                    f"End process {found[0]} on that server, then run this again.",
                ) from None
            time.sleep(PAUSE)


def read(connection, names: list[str]) -> dict[str, dict]:
    """State of slots by name; those that are not there are left out.

    Each: ``active``, ``wal_status`` (reserved, extended, unreserved, lost), ``retained_bytes`` (of WAL),
    ``lag_bytes`` (of WAL that its reader has not confirmed).
    """
    query = """
        SELECT slot_name::text, json_build_object(
            'active', active, 'wal_status', wal_status,
            'retained_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn),
            'lag_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn))
        FROM pg_replication_slots WHERE slot_name = ANY (%s)"""
    return dict(rows(connection, query, (names,)))


def _disable_timeouts(replication) -> None:
    """The connection is idle in a transaction for as long as the copy takes."""
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"]
    for since, settings in SESSION_SETTINGS_SINCE.items():
        if replication.info.server_version >= since:
            names += settings
    made = ", ".join(f"pg_catalog.set_config('{name}', '0', false)" for name in names)
    with replication.cursor() as cursor:
        cursor.execute(f"SELECT {made}")  # one statement: before 15 such a session takes no more at once


def _create_in_time(replication, name: str, connection, patience: float) -> tuple:
    """The row that CREATE_REPLICATION_SLOT returns; it is cancelled when it takes too long."""
    outcome = {}

    def work():
        try:
            with replication.cursor() as cursor:
                cursor.execute(command(name))
                outcome["row"] = cursor.fetchone()
        except Exception as error:  # pylint: disable=broad-except
            outcome["error"] = error  # raised below, in the thread of the caller

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + patience
    blockers = []
    while thread.is_alive():
        thread.join(PAUSE)
        if thread.is_alive():
            try:
                blockers = [text for (text,) in rows(connection, BLOCKERS, (replication.info.backend_pid,))] or blockers
            except psycopg2.Error:  # our session was ended, and so is this
                deadline = 0.0
        if time.monotonic() > deadline:
            with contextlib.suppress(psycopg2.Error):
                replication.cancel()
            thread.join(PAUSE * 10)
            break
    if "row" in outcome:
        return outcome["row"]
    raise _refusal(outcome.get("error"), patience, blockers)


def _refusal(error, patience: float, blockers: list[str]) -> Exception:
    if error is not None and not isinstance(error, psycopg2.errors.QueryCanceled):
        if not isinstance(error, psycopg2.Error):
            return error
        return HandoverError(
            f"The source refuses to make a replication slot: {one_line(error)}.",
            "The preflight says what a source needs for a continuous migration; prepare_source does it.",
        )
    return HandoverError(
        f"The source has not made the replication slot within {patience:.0f} s. It waits until these transactions end: "
        f"{'; '.join(blockers) or 'unknown, because this role may not see them'}.",
        "Let them end, or end them with pg_terminate_backend(process), then run this again.",
        blockers=blockers,
    )
