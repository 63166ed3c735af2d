# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are far from the migrator and from one another: each way between them is delayed and counted.

with Distance(source, target, rtt=(0.06, 0.001), poolers=[front]) as far:
    run_module("pg_cutover", {**far.ends(), ...})
    far.count()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from lab.cluster import Cluster
from lab.pooler import Pooler
from lab.proxy import Proxy, Trip, chain

ON_THE_SPOT = 1e-9  # seconds: where nothing is far, each trip weighs the same
SLACK = 0.001  # seconds by which two processes disagree about a moment


class Count(NamedTuple):
    """Round trips of the migrator with ``source``, ``target`` and ``poolers``; ``chain`` is how many of the longest
    came one after the other.
    """

    source: int
    target: int
    poolers: int
    chain: float

    def __str__(self) -> str:
        return f"{self.source} + {self.target} + {self.poolers}, {self.chain:.1f} in a row"


class Distance:
    """``rtt`` are the seconds from the migrator to source and target and back; between the two servers it is as far as
    to the source, and the poolers' consoles are ``to_poolers`` away.
    """

    def __init__(
        self,
        source: Cluster,
        target: Cluster,
        rtt: tuple[float, float] = (0.0, 0.0),
        poolers: Iterable[Pooler] = (),
        to_poolers: float = 0.0,
    ) -> None:
        self.source, self.target, self.poolers = source, target, list(poolers)
        self._rtt = (*rtt, *[to_poolers] * len(self.poolers))
        self._ways = [Proxy(one.port) for one in (source, target, *self.poolers)]
        self._links = [Proxy(source.port), Proxy(target.port)]
        self._trips: list[list[Trip]] = [[] for _way in self._ways]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Distance:
        with contextlib.ExitStack() as stack:
            for way, rtt in zip((*self._ways, *self._links), (*self._rtt, self._rtt[0], self._rtt[0])):
                stack.enter_context(way).delay(rtt / 2)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def ends(self) -> dict[str, dict[str, Any]]:
        """``source`` and ``target`` as the migrator reaches them, and ``replication`` and ``reverse_replication``, by
        which they reach one another.
        """
        ends = {"source": self.source.endpoint(), "target": self.target.endpoint()}
        found = {name: {**end, "port": way.port} for (name, end), way in zip(ends.items(), self._ways)}
        for name, link in zip(("replication", "reverse_replication"), self._links):
            found[name] = {"host": "127.0.0.1", "port": link.port}
        return found

    def consoles(self) -> list[dict[str, Any]]:
        """The poolers' consoles as the migrator reaches them."""
        return [{**one.console_endpoint(), "port": way.port} for one, way in zip(self.poolers, self._ways[2:])]

    def forget(self) -> None:
        """Count from now on."""
        for way in self._ways:
            way.trips()
        self._trips = [[] for _way in self._ways]

    def trips(self, since: float = float("-inf"), until: float = float("inf")) -> list[list[Trip]]:
        """Those with source, target and each pooler, within these times (time.monotonic)."""
        for known, way in zip(self._trips, self._ways):
            known += way.trips()
        since, until = since - SLACK, until + SLACK
        return [[one for one in known if since <= one.asked and one.answered <= until] for known in self._trips]

    def count(self, since: float = float("-inf"), until: float = float("inf")) -> Count:
        """How many there were."""
        found = self.trips(since, until)
        longest = max(self._rtt) or ON_THE_SPOT
        weighed = [
            (trip, (rtt or (0 if max(self._rtt) else ON_THE_SPOT)) / longest)
            for trips, rtt in zip(found, self._rtt)
            for trip in trips
        ]
        source, target, *poolers = map(len, found)
        return Count(source, target, sum(poolers), chain(weighed))
