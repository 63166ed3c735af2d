# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of snapshots of the two ends that can be compared: at one and the same instant while both are live, or of
databases that nobody writes to.

The instant of a live pair is made by keeping writers out of the replicated tables for a moment: what committed before
is carried by the beacon's turn, what comes after is in neither snapshot.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    Snapshot,
    export_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing.table_locks import (
    lock_tables,
    patience_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon

PAUSE = 1.0  # seconds between attempts that failed because the changes took too long to arrive


@dataclass(frozen=True)
class DatabaseAddress:
    """Where a database is: on which server, under which name."""

    endpoint: Endpoint
    dbname: str

    def connect(self, read_only: bool = False) -> Connection:
        """A session in it."""
        return self.endpoint.connect(self.dbname, read_only=read_only)


@dataclass(frozen=True)
class Instant:
    """``snapshots`` by side (source, target), valid while the block runs that opened them. ``live``: whether they
    show one and the same instant of the replicated tables. ``waited_ms``: how long writers were kept out, at most;
    ``attempts`` to do so.
    """

    snapshots: dict[str, Snapshot]
    live: bool = False
    waited_ms: float = 0.0
    attempts: int = 0

    def as_result(self) -> dict[str, Any]:
        """JSON types; the times are those of the servers."""
        sides = {side: {"time": one.time, "lsn": one.lsn} for side, one in self.snapshots.items()}
        return {"live": self.live, "waited_ms": round(self.waited_ms, 1), "attempts": self.attempts, **sides}


@contextlib.contextmanager
def quiet(source: DatabaseAddress, target: DatabaseAddress) -> Iterator[Instant]:
    """Yields an Instant of two ends that nobody writes to: each as it is now."""
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(contextlib.closing(end.connect(read_only=True))) for end in (source, target)]
        yield Instant(dict(zip(("source", "target"), [export_snapshot(one, False) for one in holders])))


@contextlib.contextmanager
def live(
    publisher: DatabaseAddress,
    subscriber: DatabaseAddress,
    names: list[str],
    tables: list[tuple[str, str]],
    lock_timeout: int,
    timeout: float,
) -> Iterator[Instant]:
    """Yields an Instant of ``tables`` (schema, name), which the publications ``names`` carry to the subscriber.

    Writers wait for the locks at most ``lock_timeout`` ms at a time, and as long again for the changes to arrive;
    ``timeout`` is in seconds. Raises HandoverError, with everything as it was, if there is no such moment within it.
    """
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:

        def session(end: DatabaseAddress, read_only: bool = False) -> Connection:
            return stack.enter_context(contextlib.closing(end.connect(read_only)))

        locker, writer, watcher, *holding = together(
            lambda: session(publisher),
            lambda: session(publisher),
            lambda: session(subscriber, True),
            *(lambda one=end: session(one, True) for end in (publisher, subscriber)),
        )
        holders = dict(zip((publisher.endpoint.side, subscriber.endpoint.side), holding))
        number = beacon.advance(writer, names)
        if not beacon.await_(watcher, names, number, deadline):
            raise _not_in_step(subscriber, timeout)
        attempts, longest, patience = 0, 0.0, patience_of(locker, lock_timeout)
        while True:
            locked = lock_tables(locker, tables, "SHARE", patience, deadline)
            attempts += locked.attempts
            snapshots = _at_this_moment(locker, writer, watcher, holders, names, lock_timeout / 1000)
            longest = max(longest, locked.longest_ms, (time.monotonic() - locked.since) * 1000)
            if snapshots:
                break
            if time.monotonic() + PAUSE > deadline:
                raise _not_in_step(subscriber, timeout)
            time.sleep(PAUSE)
        locker.close()
        yield Instant({side: snapshots[side] for side in ("source", "target")}, True, longest, attempts)


def _at_this_moment(
    locker: Connection,
    writer: Connection,
    watcher: Connection,
    holders: dict[str, Connection],
    names: list[str],
    patience: float,
) -> dict[str, Snapshot] | None:
    """The snapshots of both, or None if what was written before did not arrive within ``patience`` seconds. The locks
    are gone afterwards.
    """
    publishing, subscribing = holders
    try:
        number = beacon.advance(writer, names)
        snapshots = {publishing: export_snapshot(holders[publishing], False)}
        if beacon.await_(watcher, names, number, time.monotonic() + patience):
            return {**snapshots, subscribing: export_snapshot(holders[subscribing], False)}
    finally:
        _execute(locker, "ROLLBACK")
    _execute(holders[publishing], "ROLLBACK")
    return None


def _execute(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _not_in_step(subscriber: DatabaseAddress, timeout: float) -> HandoverError:
    return HandoverError(
        f"Changes do not reach {subscriber.endpoint.describe(subscriber.dbname)} fast enough to compare both ends "
        f"at one instant; this was tried for {timeout:.0f} s.",
        "Check with pg_migration_info how far behind it is, and why. Wait until it is in step, or raise lock_timeout.",
    )
