# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it takes to follow the schema of a database with many tables: a look that finds nothing, and one that finds a
column. The bounds are 2 s and two round trips for the former, 10 s for the latter.

.build/venv/bin/python benchmarks/following.py [--tables 2000] [--source 15] [--target 18] [--runs 5]

Seconds depend on what else the machine does: so each look is held against pg_dump --schema-only of the source, which
takes its turn before it. Round trips are counted on the wire.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import COLLECTIONS, link_collection  # noqa: E402
from migrations import in_step  # noqa: E402
from servers import Servers  # noqa: E402

from lab import builds  # noqa: E402
from lab.distance import Distance  # noqa: E402

MAKE = """
    DO $$ BEGIN FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE "table %s" (id serial PRIMARY KEY, parent bigint, name text UNIQUE, details jsonb,
                        made timestamptz DEFAULT now() CHECK (made > timestamptz ''2000-01-01+00''))', n);
    END LOOP; END $$"""
TOGETHER = 100  # tables a transaction: each holds locks on itself and its indexes
DATABASE = "shop"


def main() -> None:
    """Make the servers and the tables, replicate, and look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--source", type=int, default=15)
    parser.add_argument("--target", type=int, default=18)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    link_collection()
    sys.path.insert(0, str(COLLECTIONS))
    place = builds.state() / f"benchmark-following-{os.getpid()}"
    servers = Servers(place)
    try:
        source, target = servers(arguments.source, "source"), servers(arguments.target, "target")
        for cluster in (source, target):
            cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
            cluster.sql("postgres", "SELECT pg_reload_conf()")
        source.sql("postgres", f"CREATE DATABASE {DATABASE}")
        for first in range(1, arguments.tables + 1, TOGETHER):
            source.sql(DATABASE, MAKE.format(first=first, last=min(first + TOGETHER - 1, arguments.tables)))
        source.sql(DATABASE, "VACUUM ANALYZE")
        with Distance(source, target) as far:
            Benchmark(far, arguments.runs).run()
    finally:
        servers.destroy()
        shutil.rmtree(place, ignore_errors=True)


class Benchmark:
    """All measurements of one pair."""

    def __init__(self, far: Distance, runs: int) -> None:
        self.far, self.runs, self.columns = far, runs, 0
        self.count = far.count()  # of the last run

    def run(self) -> None:
        """First in step, then each in turn."""
        ends = self.far.ends()
        self.both = {side: ends[side] for side in ("source", "target")}
        self.given = {"databases": [DATABASE], "replication": ends["replication"], "follow_schema": True}
        began = time.monotonic()
        in_step(*self.both.values(), **self.given, timeout=600)
        in_step(*self.both.values(), **self.given)  # what it finds out once
        print(f"in step after {time.monotonic() - began:.1f} s", flush=True)
        self.measure("a look that finds nothing", self.look)
        self.measure("watch, nothing changed", self.watch)
        self.measure("watch, a column added", self.watch, self.add_column)
        self.measure("replicate, nothing changed", self.replicate)
        self.measure("replicate, a column added", self.replicate, self.add_column)

    def measure(self, what: str, work: Callable[[], float], before: Callable[[], None] = lambda: None) -> None:
        """Print the median, how it compares with pg_dump, and the round trips of the last run."""
        seconds, others = [], []
        for _run in range(self.runs):
            others.append(self.dump())
            before()
            seconds.append(work())
        ratio = statistics.median(one / other for one, other in zip(seconds, others))
        print(
            f"{what}: {statistics.median(seconds):.2f} s, {ratio:.2f} of pg_dump --schema-only; trips: "
            f"{self.count}; load of this machine {os.getloadavg()[0]:.1f}",
            flush=True,
        )

    def add_column(self) -> None:
        """A release, with a row of the new definition."""
        self.columns += 1
        statement = f'ALTER TABLE "table 7" ADD c{self.columns} int DEFAULT 1; INSERT INTO "table 7" DEFAULT VALUES'
        self.far.source.sql(DATABASE, statement)

    def dump(self) -> float:
        """The seconds of pg_dump."""
        program = builds.build(builds.CLIENT_MAJOR).program("pg_dump")
        end = self.far.source.endpoint()
        login = {
            "PGHOST": end["host"],
            "PGPORT": str(end["port"]),
            "PGUSER": end["user"],
            "PGPASSWORD": end["password"],
        }
        began = time.monotonic()
        subprocess.run(
            [program, "--schema-only", "--format=custom", DATABASE],
            env=support.environment(login),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - began

    def look(self) -> float:
        """The look alone, over sessions that are there, as a run has them."""
        from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
        from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import follow_alone, joining

        ends = [Endpoint.from_options(side, end) for side, end in self.both.items()]
        with follow_alone.visit(*ends, DATABASE, DATABASE) as job:
            job.may_copy = True  # everything is looked at then, not tables alone
            job.read()
            self.far.forget()
            began = time.monotonic()
            found = joining.look(job)
            seconds = time.monotonic() - began
            self.count = self.far.count()
            if found or job.followed:
                raise SystemExit(f"it is not quiet: {found}, {job.followed}")
        return seconds

    def watch(self) -> float:
        """The module."""
        return self._module("pg_migration_watch", {"databases": [DATABASE], "follow_schema": True})

    def replicate(self) -> float:
        """The module."""
        clients = [str(builds.build(major).bin) for major in (builds.CLIENT_MAJOR, builds.MAJORS[-1])]
        return self._module("pg_logical_migrate", {**self.given, "client_directory": clients})

    def _module(self, name: str, given: dict[str, Any]) -> float:
        self.far.forget()
        began = time.monotonic()
        result = support.run_module(name, {**self.both, **given})
        seconds, self.count = time.monotonic() - began, self.far.count()
        [database] = result.databases or [{}]
        if result.failed or database.get("not_followed"):
            raise SystemExit(result.msg or database["not_followed"])
        return seconds


if __name__ == "__main__":
    main()
