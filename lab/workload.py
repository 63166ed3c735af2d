# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that use the sample application (lab.sample) while something is done with its database.

    with Workload(source.endpoint(), "shop", rate=100) as load:
        ...
    assert not load.failures and load.committed > 0

They change rows in every way there is (lab.workload_changes), in transactions of every shape. A lost connection is
made anew; a refusal is recorded and the client goes on with something else. A change that does not find the row that
it counts on is a refusal, too, of SQLSTATE P0002.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg2

from lab.workload_changes import CHANGES, NOT_BY_OWNER, NOT_REPLICATED, WITHOUT_IDENTITY, shared_out
from lab.workload_process import Client, Load, Process

__all__ = ["CHANGES", "NOT_BY_OWNER", "NOT_REPLICATED", "WITHOUT_IDENTITY", "Workload"]


class Workload(Load):
    """``clients`` clients that together make ``rate`` transactions a second, if the server lets them.

    ``only`` and ``without`` choose among the names of CHANGES; ``by_app`` leaves out those that the application's own
    role (shop_app) may not make. ``pause`` is how long, in seconds, a transaction stays idle that does so, on average.
    """

    module = "lab.workload"

    def __init__(
        self,
        endpoint: Mapping[str, Any],
        dbname: str = "shop",
        rate: float = 50,
        clients: int = 2,
        seed: int = 1,
        only: Iterable[str] = (),
        without: Iterable[str] = (),
        by_app: bool = False,
        pause: float = 0.1,
        then: Mapping[str, Any] | None = None,
    ) -> None:
        chosen = [
            name
            for name, change in CHANGES.items()
            if (not only or name in only) and name not in without and (change.by_app or not by_app)
        ]
        super().__init__(
            endpoint, dbname, then, rate=rate, clients=clients, seed=seed, chosen=chosen, by_app=by_app, pause=pause
        )


class Missing(psycopg2.Error):
    """A row was not there that had to be."""

    pgcode = "P0002"  # no_data_found


class Shopper(Client):
    """A client of the sample application. What follows ``transact`` is for its changes."""

    def __init__(self, process: Process, number: int) -> None:
        super().__init__(process, number)
        self.by_app = process.configuration["by_app"]
        self.keys: dict[str, list] = {}  # of rows that only this client changes
        self._made: list[tuple[str, Any]] = []
        self._numbers = itertools.count((int(time.time() * 1000) % 10**9 * 100 + number) * 10**5)

    def connected(self) -> None:
        if not self.keys:
            self.keys = {"orders": [], "values": [], **shared_out(self)}
            self.connection.rollback()

    def transact(self) -> None:
        major = self.connection.server_version // 10000
        changes = {name: CHANGES[name] for name in self.process.configuration["chosen"] if CHANGES[name].first <= major}
        [self.doing] = self.random.choices(list(changes), [change.weight for change in changes.values()])
        self._made.clear()
        changes[self.doing].make(self)
        self.commit()

    def run(self, query: str, params: Any = None) -> list[tuple]:
        """The rows that a statement returns, if any."""
        with self.connection.cursor() as cursor:
            cursor.execute(query, params)
            return cursor.fetchall() if cursor.description is not None else []

    def one(self, query: str, params: Any = None) -> tuple:
        """What a statement returns that has to change exactly one row."""
        with self.connection.cursor() as cursor:
            cursor.execute(query, params)
            if cursor.rowcount != 1:
                raise Missing(f"{cursor.rowcount} rows instead of one: {cursor.query.decode()[:200]}")
            return cursor.fetchone() if cursor.description is not None else ()

    def commit(self) -> None:
        self.connection.commit()
        for name, key in self._made:
            self.keys[name].append(key)
        self._made.clear()

    def keep(self, name: str, key: Any) -> None:
        """Once this is committed, a row with this key is this client's."""
        self._made.append((name, key))

    def pick(self, name: str) -> Any:
        """The key of some row of this client, or None."""
        return self.random.choice(self.keys[name]) if self.keys[name] else None

    def number_of_its_own(self) -> int:
        """A number that neither another client uses nor another run of the clients."""
        return next(self._numbers)

    def word(self) -> str:
        return f"w{self.number_of_its_own()}"


if __name__ == "__main__":
    sys.exit(Process(Shopper).serve())
