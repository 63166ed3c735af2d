# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that remember what was acknowledged to them, and whether it is where it should be.

Two processes of the bank's clients, one behind the pooler and one that turns to the other end when it is told to; and
here, behind the pooler, one that keeps documents as large objects, and throws some away.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from typing import Any

import psycopg2

from benchmarks.chaos.stage import PASSING, STILL, Stage
from lab.bank import LOST, Bank
from lab.workload_process import CONNECTION

RATE = 40  # transactions a second of each process
PAUSE = 0.15  # seconds between two documents
KEEP = "INSERT INTO bank.scan SELECT %(number)s, lo_from_bytea(0, convert_to('scan ' || %(number)s, 'UTF8'))"
THROW = """
WITH gone AS (DELETE FROM bank.scan WHERE number = %(number)s RETURNING document)
SELECT lo_unlink(document) FROM gone"""
FOUND = """
SELECT number, CASE WHEN m.oid IS NOT NULL THEN convert_from(lo_get(document), 'UTF8') END
FROM bank.scan LEFT JOIN pg_largeobject_metadata AS m ON m.oid = document"""
ORPHANS = """
SELECT oid FROM pg_largeobject_metadata
WHERE oid NOT BETWEEN 7001 AND 7003 AND oid NOT IN (SELECT document FROM bank.scan)"""


class Scans:
    """The client with large objects. Of each number it knows what has to be: ``there``, ``gone`` or ``unknown``."""

    def __init__(self, endpoint: dict[str, Any], dbname: str) -> None:
        self.endpoint = {**CONNECTION, **endpoint, "dbname": dbname}
        self.states: dict[int, str] = {}
        self.failures: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way."""
        self._stopping.set()
        self._thread.join(20)

    def _work(self) -> None:
        number = 0
        while not self._stopping.wait(PAUSE):
            number += 1
            self._do(number, KEEP, "there", "")
            old = [one for one, state in self.states.items() if state == "there"]
            if number % 3 == 0 and len(old) > 2:
                self._do(old[0], THROW, "gone", "there")
        self._forget()

    def _do(self, number: int, statement: str, wanted: str, before: str) -> None:
        """What is refused was not done, unless the connection is lost."""
        self.states[number] = "unknown"
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(**self.endpoint)
                self._connection.autocommit = True
        except psycopg2.Error:
            self.states[number] = before
            return
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, {"number": number})
            self.states[number] = wanted
        except psycopg2.Error as error:
            self.failures[error.pgcode or ""] += 1
            if self._connection.closed or (error.pgcode or LOST[0]).startswith(LOST):
                self._forget()
            else:
                self.states[number] = before

    def _forget(self) -> None:
        with contextlib.suppress(psycopg2.Error):
            if self._connection is not None:
                self._connection.close()
        self._connection = None

    def problems(self, connection: Any) -> list[str]:
        """What is not as this client was told."""
        known = dict(self.states)
        connection.set_session(isolation_level="REPEATABLE READ", autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(FOUND)
            there = dict(cursor.fetchall())
            cursor.execute(ORPHANS)
            orphans = [oid for (oid,) in cursor.fetchall()]
        changed = {number for number, state in known.items() if self.states[number] != state}
        lost = [n for n, s in known.items() if s == "there" and there.get(n) != f"scan {n}" and n not in changed]
        back = [n for n, s in known.items() if s in ("gone", "") and n in there and n not in changed]
        hollow = [number for number, text in there.items() if text != f"scan {number}"]
        what = {
            "lost or changed": lost,
            "back though thrown away": back,
            "without its content": hollow,
            "left without a row (oids)": orphans,
        }
        return [f"documents {text}: {numbers[:10]}" for text, numbers in what.items() if numbers]


class Ledger:
    """All clients of one cycle."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.has_crashed = False  # then unlogged tables may be empty
        self.banks = {
            "pooler": Bank(stage.through_pooler(), rate=RATE, transferring=2, appending=1, seed=seed),
            "direct": Bank(
                stage.direct("source"),
                rate=RATE,
                transferring=1,
                appending=1,
                seed=seed + 1,
                then=stage.direct("target"),
            ),
        }
        for load in self.banks.values():
            load.start()
        self.scans = Scans(stage.through_pooler(), "shop")

    def progress(self, timeout: float, more: int = 3) -> str:
        """Wait until all clients have got further; who has not in time, and why."""
        wanted = {name: load.committed + more for name, load in self.banks.items()}
        deadline = time.monotonic() + timeout
        while True:
            behind = [name for name, load in self.banks.items() if load.committed < wanted[name]]
            if not behind:
                return ""
            if time.monotonic() > deadline:
                last = [f"{one.sqlstate} {one.message}" for name in behind for one in self.banks[name].failures[-2:]]
                return f"clients by way of {' and '.join(behind)} do not get on: {last}"
            time.sleep(0.02)

    def problems(self, side: str) -> list[str]:
        """What is lost, there twice, or otherwise wrong at the home."""
        found = []
        for name, load in self.banks.items():
            texts = load.problems(self.stage.connect(side))
            accounts = [text for text in texts if text.startswith("account ")]
            found += [f"{name}: {text}" for text in (*accounts[:2], *texts[len(accounts) :])]
            twice = [one.message for one in load.failures if one.sqlstate == "23505"]
            found += [f"{name}: a value was given twice: {message}" for message in twice[:3]]
        with contextlib.closing(self.stage.connect(side)) as session:
            found += self.scans.problems(session)
        if (still := self.stage.sql(side, STILL)) != self.stage.still:
            found.append(f"rows that nobody changes differ: {[r for r in still if r not in self.stage.still]}")
        if not self.has_crashed and self.stage.sql(side, PASSING) != [(200,)]:
            found.append(f"unlogged rows: {self.stage.sql(side, PASSING)}")
        return found

    @property
    def acknowledged(self) -> int:
        """Transactions so far."""
        kept = sum(state == "there" for state in self.scans.states.values())
        return sum(load.committed for load in self.banks.values()) + kept

    def stop(self) -> None:
        """Let them finish."""
        self.scans.stop()
        for load in self.banks.values():
            load.stop()
