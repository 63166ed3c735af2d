# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child program that outlives us for a moment, and finishes a window in which we were killed.

PgBouncer keeps a database paused after the session that asked for it is gone, and a handover that was committed has to
be let in on the other side. So the guardian is started before the window, and told at the end that all is well. When
it is not told, it looks whether the fence is closed: then it opens the new home and lets the poolers load their
configuration; in any case it lets them go on. What it needs to know comes through a pipe, never in its arguments or
its environment; the kernel closes the pipe whatever ends us.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import resume_recorded
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import slot, turn

PATIENCE = 300.0  # seconds during which what cannot be reached is tried again
PAUSE = 0.1  # seconds between two attempts
DOUBT = 10.0  # seconds that clients wait for it to be known which side they belong to
DONE, READY = "done", "ready"


class Guardian:
    """The child program, for one window after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._is_needed = False

    def watch(self, databases: list[dict], poolers: list[dict]) -> None:
        """A window is about to begin.

        ``databases``: ``{"old", "new"}`` are ``{"parameters": libpq's, "dbname"}``, ``source`` says which of them is
        the source, ``migration`` is its id, ``slot`` the name of that which the window makes on new, ``margin`` the
        sequences'; ``poolers`` are Poolers.as_records().
        """
        if self._process is None or self._process.poll() is not None:  # it was killed since
            self._process = self._start()
        self._is_needed = True
        self._tell(json.dumps({"databases": databases, "poolers": poolers, "directory": os.getcwd()}))
        if self._process.stdout.readline().strip() != READY:
            raise HandoverError(
                "The helper that completes the cutover if this module is killed could not be started.",
                "Nothing was done. Make sure that Python can start itself on this host, then run this again.",
            )

    def dismiss(self) -> None:
        """All is well with this window, or as well as we could make it."""
        self._tell(DONE)
        self._is_needed = False

    def end(self) -> None:
        """It ends, or sets to work if it was not dismissed, and we do not wait for it."""
        process, self._process = self._process, None
        if process:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()
            if not self._is_needed:
                process.wait()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",  # nothing is imported from wherever we are
            start_new_session=True,  # signals for our process group are not for it
            text=True,
        )

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is gone: then we are alone responsible
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def main() -> None:
    """Wait for the end of our parent, and do what it could not do any more."""
    told = None
    for line in map(str.strip, sys.stdin):
        told = None if line == DONE else json.loads(line)
        if told:
            os.chdir(told["directory"])  # files of certificates may be given relative to it
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()
    if told:
        _finish(told["databases"], told["poolers"])


def _finish(databases: list[dict], poolers: list[dict]) -> None:
    """Clients go on as soon as it is known to which side, and in the end in any case; to the new home only when all
    databases were handed over, because a pooler loads all of its entries."""
    decided, began = None, time.monotonic()
    while (decided is None or poolers) and time.monotonic() < began + PATIENCE:
        if decided is None:
            decided = _decide(databases)
        if decided is not None or time.monotonic() > began + DOUBT:
            poolers = [one for one in poolers if not _resumed(one, bool(decided))]
        time.sleep(PAUSE if decided is None or poolers else 0)


def _decide(databases: list[dict]) -> bool | None:
    """Open all at their new homes if all were handed over, else those that were at their old ones: nobody has written
    at the new ones yet. Returns which, and None as long as it is not known, or another run is at work.
    """
    try:
        with contextlib.ExitStack() as stack:
            old = [stack.enter_context(contextlib.closing(_connect("old", one))) for one in databases]
            new = [stack.enter_context(contextlib.closing(_connect("new", one))) for one in databases]
            for one, *sessions in zip(databases, old, new):
                stack.enter_context(turn.taken(sessions[one["source"] == "new"], one["migration"]))
                for session in sessions if one["source"] == "old" else sessions[::-1]:
                    stack.enter_context(turn.home(session, "run that was killed"))
            if any(_is_under_way(session) for session in old):
                return None
            handed_over = [_is_handed_over(session, one["migration"]) for session, one in zip(old, databases)]
            if all(handed_over):
                for one, before, after in zip(databases, old, new):
                    journal = after if one["source"] == "old" else before
                    left_out = migration_journal.sequences_left_out(journal, one["migration"])
                    _overtake(before, after, one["margin"], left_out)
                    fence.open_(after, one["migration"])
                return True
            for before, after, one in zip(old, new, databases):
                standby = fence.read(after)
                if standby and standby.closed:
                    fence.open_(before, one["migration"])
                    slot.drop(after, one["slot"])
            return False
    except (HandoverError, psycopg2.Error):
        return None


def _overtake(before, after, margin: int, left_out: set) -> None:
    """As cargo.overtake_sequences does; clients do not wait for what fails."""
    standby = fence.read(after)
    if standby and standby.closed:
        with contextlib.suppress(HandoverError, psycopg2.Error):
            moved = [one for one in sequences.read(before) if one.key not in left_out]
            sequences.apply(after, moved, margin)


def _is_handed_over(connection, migration: str) -> bool:
    found = fence.read(connection)
    return bool(found and found.closed and found.handed_over and found.migration == migration)


def _is_under_way(connection) -> bool:
    """Whether the transaction with the locks has not ended yet: the server has not noticed that we are gone."""
    query = """
        SELECT FROM pg_locks WHERE locktype = 'relation' AND mode = 'ShareRowExclusiveLock' AND pid IN (
            SELECT pid FROM pg_stat_activity WHERE application_name = 'handover' AND datname = current_database())"""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.rowcount > 0


def _connect(side: str, database: dict):
    return Endpoint(side, database[side]["parameters"]).connect(database[side]["dbname"])


def _resumed(pooler: dict, reload: bool) -> bool:
    try:
        resume_recorded(pooler, reload)
    except (HandoverError, psycopg2.Error):
        return False
    return True
