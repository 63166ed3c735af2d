# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a database in a process of their own: they go on whatever the process that started them does.

The two talk in lines of JSON. On its standard input the process gets its configuration, then commands; the end of it
means: finish what is under way, and stop. So clients end with the process that started them, however it went.
On its standard output it says what happens: ``ready``, ``failure``, ``counts``, ``look``, ``end``.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2

from lab.builds import CHECKOUT

PATIENCE = 30  # seconds for clients to connect, and to finish what is under way
BACKOFF = 0.02  # seconds before the next attempt, after a refusal
HANDED_OVER = "25006"  # read_only_sql_transaction
# A client that waits for an answer of a host that is gone gives up after ten seconds.
CONNECTION = {"application_name": "application", "connect_timeout": 5, "tcp_user_timeout": 10_000}


class LoadError(Exception):
    """The clients could not start, or their process broke down."""


@dataclass(frozen=True)
class Failure:
    """Something that a client was refused: ``at`` is time.time(), ``sqlstate`` is empty for a lost connection."""

    at: float
    client: int
    what: str
    sqlstate: str
    message: str


class Load:
    """The clients of one process, seen from the process that started them; a context manager.

    They connect and go on connecting by ``endpoint``, libpq's parameters, in database ``dbname``. When a server tells
    them that the database was handed over (SQLSTATE 25006), they turn to ``then``, and from there back to ``endpoint``.
    """

    module = ""  # what the process runs: python3 -m MODULE

    def __init__(
        self, endpoint: Mapping[str, Any], dbname: str, then: Mapping[str, Any] | None = None, **configuration: Any
    ) -> None:
        then = {**then, "dbname": dbname} if then else None
        self.configuration = {"endpoint": {**endpoint, "dbname": dbname}, "then": then, **configuration}
        self.failures: list[Failure] = []
        self.counts: dict[str, int] = {}  # transactions committed so far, by kind
        self.result: dict[str, Any] = {}
        self._ready = threading.Event()
        self._looks: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process: subprocess.Popen | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def committed(self) -> int:
        """Transactions committed so far; it is up to 0.2 seconds old."""
        return sum(self.counts.values())

    def start(self) -> Load:
        """Start the clients and wait until each of them has committed something.

        :raises LoadError: when they cannot.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            cwd=CHECKOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self._say(self.configuration)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or self._process.poll() is not None:
            self._process.kill()
            raise LoadError(f"the clients do not start: {self.failures[-3:]}")
        return self

    def switch(self, endpoint: Mapping[str, Any]) -> None:
        """From now on clients connect here, as after a change of DNS; connections that are open stay as they are."""
        self._say({"endpoint": {**endpoint, "dbname": self.configuration["endpoint"]["dbname"]}})

    def look(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """What ``result`` will be, as of now; the clients go on.

        :raises LoadError: when their process does not answer.
        """
        self._say({"look": True})
        try:
            return self._looks.get(timeout=timeout)
        except queue.Empty:
            raise LoadError("the clients' process does not answer") from None

    def stop(self) -> Load:
        """Let the clients finish what is under way, and end.

        :raises LoadError: when their process breaks down, or does not end in time.
        """
        if self._process is None:
            return self
        process, self._process = self._process, None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise LoadError("the clients do not end") from None
        self._reader.join()
        process.stdout.close()
        if process.returncode or not self.result:
            raise LoadError(f"the clients' process ended with exit status {process.returncode}")
        if stuck := self.result["stuck"]:
            raise LoadError(f"{stuck} clients still wait for the server")
        return self

    def _say(self, words: Mapping[str, Any]) -> None:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout:
            event = json.loads(line)
            kind = event.pop("event")
            if kind == "ready":
                self._ready.set()
            elif kind == "failure":
                self.failures.append(Failure(**event))
            elif kind == "counts":
                self.counts = event
            elif kind == "look":
                self._looks.put(event)
            else:
                self.result = event
        self._ready.set()


# --- in the process --------------------------------------------------------------------------------------------------


class Client:
    """One client, in a thread of its own. The database may be gone for a while at any time.

    ``counts`` are its committed transactions by kind, ``doing`` is the kind of the one under way.
    """

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number
        self.random = random.Random(f"{process.configuration['seed']} {number}")
        self.connection: Any = None
        self.endpoint: dict[str, Any] = {}  # of the connection
        self.counts: Counter[str] = Counter()
        self.doing = ""

    def transact(self) -> None:
        """Do one thing and say in ``doing`` which. psycopg2.Error: it was refused, and was not committed."""
        raise NotImplementedError

    def connected(self) -> None:
        """What there is to do with a new connection."""

    def work(self) -> None:
        """One transaction after the other, as fast as was asked for, until the process is to stop."""
        interval = self.process.clients / self.process.configuration["rate"]
        due = time.monotonic() + interval * self.number / self.process.clients
        while not self.process.stopping.wait(max(0, due - time.monotonic())):
            try:
                if self.connect():
                    self.transact()
                    self.counts[self.doing] += 1
                    self.process.committed(self.number)
            except psycopg2.Error as error:
                self.refused(error)
                due = time.monotonic() + BACKOFF
                continue
            due = max(due + interval, time.monotonic())  # what was missed is not made up for
        self.forget()

    def connect(self) -> bool:
        """Make a connection, unless there is one: again and again until the process is to stop.

        Of a series of refusals only the first is reported.
        """
        refused = False
        while self.connection is None:
            try:
                self.endpoint = self.process.configuration["endpoint"]
                self.connection = psycopg2.connect(**{**CONNECTION, **self.endpoint})
                self.connected()
            except psycopg2.Error as error:
                self.forget()
                if not refused:
                    self.process.failed(self.number, "connect", error)
                refused = True
                if self.process.stopping.wait(BACKOFF):
                    return False
        return True

    def refused(self, error: psycopg2.Error) -> None:
        """Report it, and be ready for the next transaction."""
        self.process.failed(self.number, self.doing, error)
        if error.pgcode == HANDED_OVER and self.process.turn_from(self.endpoint):
            self.forget()
            return
        with contextlib.suppress(psycopg2.Error):
            if not self.connection.closed:
                self.roll_back()
                return
        self.forget()

    def roll_back(self) -> None:
        self.connection.rollback()

    def forget(self) -> None:
        """Let go of the connection."""
        with contextlib.suppress(psycopg2.Error):
            if self.connection is not None:
                self.connection.close()
        self.connection = None


class Process:
    """All clients of this process, and what they report."""

    def __init__(self, make: Callable[[Process, int], Client]) -> None:
        self.configuration: dict[str, Any] = json.loads(sys.stdin.readline())
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._waited_for = set(range(self.clients))
        self._all = [make(self, number) for number in range(self.clients)]

    @property
    def clients(self) -> int:
        return self.configuration["clients"]

    def serve(self, result: Callable[[list[Any]], Mapping[str, Any]] = lambda clients: {}) -> int:
        """Let the clients work until standard input ends; ``result`` of them is told at the end."""
        sys.setswitchinterval(0.001)  # clients are to wait for the server, not for each other
        threads = [threading.Thread(target=client.work, daemon=True) for client in self._all]
        for thread in (threading.Thread(target=self._listen, args=[result], daemon=True), *threads):
            thread.start()
        while not self.stopping.wait(0.2):
            self._tell_counts()
        deadline = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
        self._tell_counts()
        self._tell(event="end", stuck=sum(thread.is_alive() for thread in threads), **result(self._all))
        return 0

    def _listen(self, result: Callable[[list[Any]], Mapping[str, Any]]) -> None:
        for line in sys.stdin:
            words = json.loads(line)
            if words.pop("look", False):
                self._tell(event="look", **result(self._all))
            self.configuration.update(words)
        self.stopping.set()

    def turn_from(self, endpoint: dict[str, Any]) -> bool:
        """The database is not there any more, a client was told. False: the clients know no other place."""
        with self._lock:
            if self.configuration["then"] and endpoint == self.configuration["endpoint"]:
                self.configuration.update(endpoint=self.configuration["then"], then=endpoint)
            return bool(self.configuration["then"])

    def committed(self, number: int) -> None:
        """A client has committed something. When all have, whoever started the process is told."""
        if number in self._waited_for:
            self._waited_for.discard(number)
            if not self._waited_for:
                self._tell(event="ready")

    def failed(self, client: int, what: str, error: psycopg2.Error) -> None:
        """Tell what a client was refused."""
        message = str(error).strip().replace("\n", " ")
        state = error.pgcode or ""
        self._tell(event="failure", at=time.time(), client=client, what=what, sqlstate=state, message=message)

    def _tell_counts(self) -> None:
        self._tell(event="counts", **sum((Counter(client.counts) for client in self._all), Counter()))

    def _tell(self, **words: Any) -> None:
        with self._lock:
            print(json.dumps(words), flush=True)
