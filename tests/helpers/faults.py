# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults made on purpose, at a moment of the test's choosing, without a hook in the collection."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support import COLLECTIONS, Cluster, Running

Found = Any


def await_that(ask: Callable[[], Found], what: str, timeout: float = 60, pause: float = 0.02) -> Found:
    """The first answer that is true; a busy machine takes its time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := ask():
            return found
        time.sleep(pause)
    raise AssertionError(f"not within {timeout} s: {what}")


def await_end_of_family(running: Running) -> None:
    """Child programs end soon after the module, whatever ended it."""
    await_that(lambda: not running.family(), f"the end of {running.family()}")


# --- stopping what a server does -------------------------------------------------------------------------------------

BLOCKED = """
    SELECT query FROM pg_stat_activity WHERE application_name = 'handover' AND wait_event_type = 'Lock'
    AND %s = ANY (pg_blocking_pids(pid))"""

# The transaction as the lock's own entry names it: pg_stat_activity may still show the session's transaction before.
ATTEMPTS = "SELECT virtualtransaction FROM pg_locks WHERE NOT granted AND %s = ANY (pg_blocking_pids(pid))"

RUNNING = """
    SELECT pid FROM pg_stat_activity WHERE application_name = 'handover' AND state = 'active' AND query ~ %s"""

OURS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'handover'"


class Watch:
    """One session that asks a server what it does, again and again."""

    def __init__(self, cluster: Cluster) -> None:
        self.session = cluster.connect()

    def ask(self, query: str, *params: object) -> list[str]:
        with self.session.cursor() as cursor:
            cursor.execute(query, params)
            return [value for (value,) in cursor.fetchall()]

    def await_blocked(self, blocker: Any) -> str:
        """The statement of a session of ours that waits for a lock which the session ``blocker`` holds."""
        pid = blocker.info.backend_pid
        return await_that(lambda: self.ask(BLOCKED, pid), "a session that waits for a lock")[0]

    def await_attempts(self, blocker: Any, number: int = 2) -> None:
        """Until that many transactions, one after the other, have waited for a lock of the session ``blocker``."""
        pid, seen = blocker.info.backend_pid, set()
        await_that(lambda: len(seen.update(self.ask(ATTEMPTS, pid)) or seen) >= number, f"{number} attempts", pause=0)

    def await_query(self, pattern: str) -> None:
        """Until a session of ours runs such a statement."""
        await_that(lambda: self.ask(RUNNING, pattern), f"a statement like {pattern}", pause=0)

    def await_silence(self) -> None:
        """Until no session of ours is left: a server finishes its statement before it notices that a client is gone."""
        await_that(lambda: not self.ask(OURS), "the end of all sessions of ours")

    def end_sessions(self) -> None:
        """End all sessions of ours with what they are about."""
        for pid in self.ask(OURS):
            self.ask("SELECT pg_terminate_backend(%s)", pid)
        self.await_silence()


@contextlib.contextmanager
def watching(cluster: Cluster) -> Iterator[Watch]:
    watch = Watch(cluster)
    try:
        yield watch
    finally:
        watch.session.close()


class Brake:
    """Stops whoever is about to write to a catalog that all databases of a server share, as often as told.

    Creating, granting and giving away write to ``pg_shdepend``; creating, renaming and dropping databases to
    ``pg_database``. A second session queues up behind the one that is stopped, so that nobody slips through.
    """

    def __init__(self, cluster: Cluster, catalog: str) -> None:
        self.lock = f"LOCK TABLE pg_catalog.{catalog} IN SHARE MODE"
        self.watch = Watch(cluster)
        self.holder, self.next = (cluster.connect(autocommit=False) for _i in range(2))
        self._lock(self.holder)

    def _lock(self, session: Any) -> None:
        with session.cursor() as cursor:
            cursor.execute(self.lock)

    def step(self) -> None:
        """Let the one that is stopped go on, up to the next time."""
        successor = threading.Thread(target=self._lock, args=[self.next], daemon=True)
        successor.start()
        waits = "SELECT pid FROM pg_locks WHERE NOT granted AND pid = %s"
        await_that(lambda: self.watch.ask(waits, self.next.info.backend_pid), "the successor in the queue", pause=0.003)
        self.holder.rollback()
        successor.join()
        self.holder, self.next = self.next, self.holder

    def until(self, words: str) -> None:
        """Stop at a statement that contains these words."""
        while words not in self.watch.await_blocked(self.holder):
            self.step()

    def release(self) -> None:
        for session in (self.holder, self.next, self.watch.session):
            session.close()


@contextlib.contextmanager
def brake(cluster: Cluster, catalog: str = "pg_shdepend") -> Iterator[Brake]:
    made = Brake(cluster, catalog)
    try:
        yield made
    finally:
        made.release()


# --- ending a module at a call of the operating system ---------------------------------------------------------------

DIE_AT = """
import os, signal, sys

def die(event, arguments):
    if event == {event!r} and {words!r} in str(arguments):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
"""


def dies_at(place: Path, event: str, words: str) -> dict[str, str]:
    """The environment of a Python that is killed when it is about to do this (Python's table of audit events)."""
    place.mkdir()
    (place / "sitecustomize.py").write_text(DIE_AT.format(event=event, words=words))
    return {"PYTHONPATH": f"{place}:{COLLECTIONS}"}


# --- a server that refuses once --------------------------------------------------------------------------------------

REFUSE_ONCE = """
import builtins, sys

imported, calls = builtins.__import__, []

def watched(name, *more, **named):
    found = imported(name, *more, **named)
    module = sys.modules.get({module!r})
    if module is not None and hasattr(module, {function!r}) and not calls:
        calls.append(0)
        function = getattr(module, {function!r})
        setattr(module, {function!r}, lambda *given: refused(function, given))
    return found

def refused(function, given):
    calls[0] += 1
    if calls[0] == {number}:
        import psycopg2
        raise getattr(psycopg2.errors, {error!r})("for this once")
    return function(*given)

builtins.__import__ = watched
"""


def refuses_once(place: Path, function: str, number: int, error: str) -> dict[str, str]:
    """The environment of a Python in which the server refuses what ``MODULE.FUNCTION`` of the collection's module_utils
    asks when it is called for the ``number``th time, with an error of psycopg2.errors.
    """
    module, _dot, name = function.rpartition(".")
    full = f"ansible_collections.handover.postgresql.plugins.module_utils.{module}"
    place.mkdir()
    text = REFUSE_ONCE.format(module=full, function=name, number=number, error=error)
    (place / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": f"{place}:{COLLECTIONS}"}
