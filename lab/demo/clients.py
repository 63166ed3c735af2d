# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses the database while it is handed over: clients of a bank (lab.bank) and of the sample's shop (lab.workload).

They go through PgBouncer, if this machine's apt brings it. Else they connect to the servers, and when the source says
that the database was handed over, they connect to the target.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from lab import bank
from lab.bank import Bank
from lab.builds import BuildError, state
from lab.cluster import Cluster
from lab.demo.stage import DEMO
from lab.pgbouncer import pgbouncer
from lab.pooler import Pooler
from lab.terminal import amount, good, line
from lab.workload import Workload
from lab.workload_process import HANDED_OVER, Failure

TRANSFERS, PURCHASES = 200, 40  # transactions a second
ROLE, PASSWORD = "store_app", "sample"


class Clients:
    """All clients of database ``dbname``, from entering to :meth:`stop`; ``pooler`` is None where there is none."""

    def __init__(self, source: Cluster, target: Cluster, dbname: str) -> None:
        self.target = target
        self.dbname = dbname
        self._open = contextlib.ExitStack()
        self.pooler = self._pooler(source)
        login = {"user": ROLE, "password": PASSWORD}
        first = (self.pooler or source).endpoint(dbname, **login)
        then = None if self.pooler else target.endpoint(dbname, **login)
        bank.create(source.connect, dbname, ROLE)
        self.bank = Bank(first, dbname, rate=TRANSFERS, then=then)
        self.shop = Workload(first, dbname, rate=PURCHASES, by_app=True, then=then)

    def __enter__(self) -> Clients:
        for load in (self.bank, self.shop):
            self._open.enter_context(load)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def _pooler(self, source: Cluster) -> Pooler | None:
        try:
            build = pgbouncer()
        except BuildError as error:
            line("clients", f"connect directly, for PgBouncer could not be fetched: {str(error).splitlines()[-1]}")
            return None
        pooler = Pooler(source, state(DEMO.name) / "pgbouncer", build=build, users={ROLE: PASSWORD})
        pooler.lead(self.dbname, source)
        self._open.enter_context(pooler)
        line("pooler", f"PgBouncer {build.version} on 127.0.0.1, port {pooler.port}")
        return pooler

    @property
    def number(self) -> int:
        """How many clients there are."""
        return sum(load.configuration["clients"] for load in (self.bank, self.shop))

    @property
    def committed(self) -> int:
        return self.bank.committed + self.shop.committed

    @property
    def failures(self) -> list[Failure]:
        return [*self.bank.failures, *self.shop.failures]

    @property
    def noticed(self) -> list[Failure]:
        """Failures that a handover must not cause. Without a pooler, clients have to be told once to go elsewhere."""
        return [failure for failure in self.failures if self.pooler or failure.sqlstate != HANDED_OVER]

    def stop(self) -> None:
        """They finish what is under way, and end."""
        for load in (self.bank, self.shop):
            load.stop()

    def tell(self, label: str = "clients") -> None:
        """How many transactions were committed so far, and refused."""
        line(label, f"{amount(self.committed, 'transactions')} committed so far, {self.refusals()}")

    def refusals(self) -> str:
        """What the clients were refused so far, by SQLSTATE."""
        if not self.failures:
            return good("none failed")
        if not self.noticed:
            return f"{good('none failed')} but for {len(self.failures)} that were told to connect to the new home"
        kinds = Counter(failure.sqlstate or "connection lost" for failure in self.failures)
        return f"{len(self.failures)} failed: " + ", ".join(f"{kind} {count} times" for kind, count in kinds.items())

    def problems(self) -> list[str]:
        """What the bank's clients miss on the target, once they have stopped."""
        connection: Any = self.target.connect(self.dbname)
        return self.bank.problems(connection)
