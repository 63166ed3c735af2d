# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes until a subscriber is in step, us and the server's own initial synchronization; then how far behind
it falls while writers get faster.

.build/venv/bin/python benchmarks/continuous.py [--scale 20] [--small 500] [--runs 3] [--jobs 2] [--seconds 15]
                                                [--rates 500 1000 2000 4000 0] [--source 15] [--target 15]

The data is that of benchmarks/pair.py, and nobody writes until all are done. The server's own way: the schema by
pg_dump | psql, then CREATE SUBSCRIPTION, until every table is ready; keys and indexes before, as its documentation has
it, or afterwards. It leaves the target without statistics, ours does not.

Then pgbench -N (UPDATE, SELECT, INSERT in a transaction) writes at each rate, 0 for as fast as it can. Beside it a row
is written and looked for on the target, again and again: the delay is from after its commit until it is there, or until
the writers end. "Caught up" is the delay of a row that is written then.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Callable

from pair import Pair, parser, show

OURS = "pg_logical_migrate"
MIGRATION = {"state": "replicating", "wait_for": "in_step", "no_identity": "full"}  # pgbench_history has none
WRITERS = 8
PATIENCE = 600  # seconds
LAUNCHER_PAUSE = 6  # seconds; up to 15, no worker starts within wal_retrieve_retry_interval (5 s) of another
PULSE = "CREATE TABLE pulse (at timestamptz PRIMARY KEY)"
BEHIND = """
    SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)) FROM pg_replication_slots
    WHERE database = 'data'"""


class Streams:
    """The ways to get a subscriber, for a pair of servers."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def ours(self) -> None:
        """pg_logical_migrate until in step."""
        self.pair.module(OURS, **MIGRATION, jobs=self.pair.arguments.jobs)

    def native(self, workers: int, indexes_first: bool) -> None:
        """CREATE SUBSCRIPTION with copy_data, until every table is ready."""
        source, target = self.pair.source, self.pair.target
        target.sql("postgres", "CREATE DATABASE data")
        target.sql("postgres", f"ALTER SYSTEM SET max_sync_workers_per_subscription = {workers}")
        target.sql("postgres", "SELECT pg_reload_conf()")
        self._schema("--schema-only" if indexes_first else "--section=pre-data")
        source.sql("data", "CREATE PUBLICATION native FOR ALL TABLES")
        end = source.endpoint("data")
        conninfo = " ".join(f"{key}={end[key]}" for key in ("host", "port", "user", "password"))
        target.sql("data", f"CREATE SUBSCRIPTION native CONNECTION '{conninfo} dbname=data' PUBLICATION native")
        with target.connect("data") as session, session.cursor() as cursor:
            while True:
                cursor.execute("SELECT count(*) FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')")
                if cursor.fetchone() == (0,):
                    break
                time.sleep(0.05)
        if not indexes_first:
            self._schema("--section=post-data")

    def _schema(self, part: str) -> None:
        self.pair.pipe([part, "--no-publications"], ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"])

    def end(self) -> None:
        """Leave no stream, and none that the next one would have to wait for."""
        if self.pair.target.sql("data", "SELECT oid FROM pg_subscription WHERE subname = 'native'"):
            self.pair.target.sql("data", "DROP SUBSCRIPTION native")
            self.pair.source.sql("data", "DROP PUBLICATION native")
        else:
            self.pair.module(OURS, state="stopped")
        time.sleep(LAUNCHER_PAUSE)

    def all(self) -> dict[str, Callable[[], None]]:
        """By the name in the table."""
        return {
            OURS: self.ours,
            "native, 2 workers, indexes before": lambda: self.native(2, True),
            "native, 4 workers, indexes before": lambda: self.native(4, True),
            "native, 4 workers, indexes afterwards": lambda: self.native(4, False),
        }


class Load:
    """Writers on the source, and how far behind the target is meanwhile."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.here, self.there = (cluster.connect("data").cursor() for cluster in (pair.source, pair.target))

    def delay(self, over: Callable[[], bool] = lambda: False) -> float:
        """Seconds from after a commit on the source until its row is on the target, or all is ``over``.

        :raises SystemExit: when that takes more than PATIENCE.
        """
        self.here.execute("INSERT INTO pulse VALUES (clock_timestamp()) RETURNING at")
        written, row = time.monotonic(), self.here.fetchone()
        while (passed := time.monotonic() - written) < PATIENCE:
            self.there.execute("SELECT FROM pulse WHERE at = %s", row)
            if self.there.rowcount or over():
                return passed
            time.sleep(0.005)
        raise SystemExit("changes do not arrive")

    def step(self, rate: int) -> str:
        """A row of the table: pgbench at so many transactions a second, 0 for as many as it can."""
        limit = [f"--rate={rate}"] if rate else []
        command = [
            self.pair.clients / "pgbench",
            "-n",
            "-N",
            f"--client={WRITERS}",
            "--jobs=2",
            f"--time={self.pair.arguments.seconds}",
            *limit,
            "data",
        ]
        environment = self.pair.environment(self.pair.source)
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writers:
            delays = []
            while writers.poll() is None:
                delays.append(self.delay(lambda: writers.poll() is not None))
                time.sleep(0.2)
            self.here.execute(BEHIND)
            behind = float(self.here.fetchone()[0]) / 2**20
            caught_up = self.delay()
            reached = float(re.search(r"^tps = ([\d.]+)", writers.stdout.read(), re.MULTILINE)[1])
        typical, worst = statistics.median(delays), max(delays)
        asked = rate or "no limit"
        return f"| {asked} | {reached:.0f} | {typical:.2f} | {worst:.2f} | {behind:.1f} | {caught_up:.2f} |"


def main() -> None:
    """Make the servers and the data, let the streams take turns, then write faster and faster."""
    options = parser(__doc__)
    options.add_argument("--rates", type=int, nargs="*", default=[500, 1000, 2000, 4000, 0])
    options.add_argument("--seconds", type=int, default=15, help="how long each rate lasts")
    with Pair(options.parse_args()) as pair:
        pair.source.sql("data", PULSE)
        streams = Streams(pair)
        show(pair.take_turns(streams.all(), after=streams.end), OURS)
        print(f"\npeak memory of ours: {pair.memory} MiB")
        pair.target.sql("postgres", "DROP DATABASE data")
        streams.ours()
        load = Load(pair)
        print(f"\n{WRITERS} writers, {pair.arguments.seconds} s each; delays in seconds\n")
        print("| asked TPS | reached TPS | delay, median | worst | MiB behind at the end | caught up |")
        print("|---|---|---|---|---|---|")
        for rate in pair.arguments.rates:
            print(load.step(rate), flush=True)
        streams.end()


if __name__ == "__main__":
    main()
