# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long copying a database takes us, and how long the tools that people use for it, on the same two servers.

.build/venv/bin/python benchmarks/copy.py [--scale 20] [--small 500] [--runs 3] [--jobs 2] [--source 15] [--target 15]

The data: pgbench at that scale (100,000 narrow rows each), a wide table of 15,000 rows for each (text, jsonb, uuid,
numeric, timestamptz; a key and three indexes), and small tables with foreign keys. The tools take turns, so that what
else goes on concerns all of them; compare the medians of one run. CPU is that of both servers and of all client
processes. pgcopydb takes part where it is in PATH, or with --pgcopydb.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integration")]

import support  # noqa: E402

from lab import builds  # noqa: E402

SETTINGS = {
    "shared_buffers": "1GB", "max_wal_size": "8GB", "wal_level": "logical", "fsync": "on", "full_page_writes": "on",
    "checkpoint_timeout": "15min", "autovacuum": "off", "max_locks_per_transaction": 1024,
}  # fmt: skip
WIDE = """
    CREATE TABLE wide (id bigserial PRIMARY KEY, code uuid NOT NULL, title text, body text, details jsonb,
                       amount numeric(12, 2), made timestamptz NOT NULL, kind int REFERENCES pgbench_branches);
    INSERT INTO wide (code, title, body, details, amount, made, kind)
    SELECT gen_random_uuid(), 'title ' || i, repeat(md5(i::text), 12),
           jsonb_build_object('i', i, 'tags', ARRAY['a', 'b']), i / 7.0,
           timestamptz '2024-01-01' + i * interval '1 second', 1 + i % {scale}
    FROM generate_series(1, 15000 * {scale}) AS i;
    CREATE INDEX wide_code ON wide (code); CREATE INDEX wide_made ON wide (made, kind);
    CREATE INDEX wide_lower ON wide (lower(title))"""
SMALL = """
    DO $$ BEGIN FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, of int REFERENCES small_%s, name text UNIQUE)',
                       n, greatest(1, n - 1));
        EXECUTE format('INSERT INTO small_%s SELECT i, 1, ''name '' || i FROM generate_series(1, 20) AS i', n);
    END LOOP; END $$"""
TOGETHER = 200
TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """Both servers with the data, and the tools that carry it."""

    def __init__(self, arguments: argparse.Namespace, place: Path) -> None:
        self.arguments = arguments
        self.place = place
        self.memory = 0
        self.stages = {}
        self.source, self.target = (
            support.Cluster(builds.build(major), self._directory(name), settings=SETTINGS)
            for major, name in ((arguments.source, "source"), (arguments.target, "target"))
        )
        self.clients = builds.build(max(arguments.target, arguments.source)).bin

    def _directory(self, name: str) -> Path:
        (self.place / name).mkdir(parents=True)
        return self.place / name

    def fill(self) -> None:
        """Make the data set in database "data" of the source."""
        self.source.sql("postgres", "CREATE DATABASE data")
        scale = self.arguments.scale
        if scale:
            self.run(self.source, "pgbench", "-i", "-q", "-s", str(scale), "--foreign-keys", "data")
            self.source.sql("data", WIDE.format(scale=scale))
        for first in range(1, self.arguments.small + 1, TOGETHER):
            last = min(first + TOGETHER - 1, self.arguments.small)
            self.source.sql("data", SMALL.format(first=first, last=last))
        self.source.sql("data", "VACUUM ANALYZE")
        self.source.sql("postgres", "CHECKPOINT")

    def run(self, cluster: support.Cluster, program: str, *arguments: str) -> None:
        """A client program against a server, without a word unless it fails."""
        environment = {**os.environ, **libpq(cluster)}
        command = [str(self.clients / program), *arguments]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stderr}")

    # The tools

    def ours(self) -> None:
        """pg_direct_copy, by itself."""
        ends = {"source": self.source.endpoint(), "target": self.target.endpoint()}
        options = {"databases": ["data"], "jobs": self.arguments.jobs, "client_directory": [str(self.clients)]}
        running = support.start_module("pg_direct_copy", {**ends, **options})
        while running.process.poll() is None:
            self.memory = max(self.memory, peak_of(running.pid))
            time.sleep(0.1)
        result = running.wait()
        if result.failed:
            raise SystemExit(result.msg)
        self.stages = {one["stage"]: one["seconds"] for one in result.databases[0]["stages"]}

    def directory(self, *options: str) -> None:
        """pg_dump into a directory, then pg_restore, and vacuumdb --analyze-only, as people run them."""
        place = self.place / "dump"
        shutil.rmtree(place, ignore_errors=True)
        jobs = f"--jobs={self.arguments.jobs}"
        self.run(self.source, "pg_dump", "-Fd", jobs, *options, f"--file={place}", "data")
        self.target.sql("postgres", "CREATE DATABASE data")
        self.run(self.target, "pg_restore", jobs, "--dbname=data", str(place))
        self.target.sql("data", "ANALYZE")

    def pipe(self, *options: str) -> None:
        """pg_dump piped into pg_restore, then ANALYZE."""
        self.target.sql("postgres", "CREATE DATABASE data")
        writer = subprocess.Popen(
            [self.clients / "pg_dump", "-Fc", *options, "data"],
            env={**os.environ, **libpq(self.source)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        subprocess.run(
            [self.clients / "pg_restore", "--dbname=data"],
            env={**os.environ, **libpq(self.target)}, stdin=writer.stdout, check=True,
        )  # fmt: skip
        writer.stdout.close()
        if writer.wait():
            raise SystemExit("pg_dump failed")
        self.target.sql("data", "ANALYZE")

    def pgcopydb(self, *options: str) -> None:
        """pgcopydb clone; it vacuums and analyzes itself."""
        self.target.sql("postgres", "CREATE DATABASE data")
        work = self.place / "pgcopydb"
        shutil.rmtree(work, ignore_errors=True)
        uris = [f"--{name}={uri(end)}" for name, end in (("source", self.source), ("target", self.target))]
        jobs = [f"--table-jobs={self.arguments.jobs}", f"--index-jobs={self.arguments.jobs}"]
        command = [self.arguments.pgcopydb, "clone", *uris, *jobs, f"--dir={work}", *options]
        environment = {**os.environ, "PATH": f"{self.clients}:{os.environ['PATH']}"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"pgcopydb failed:\n{done.stderr[-3000:]}")

    def tools(self) -> dict[str, Callable[[], None]]:
        """What takes part, by the name in the table."""
        jobs = self.arguments.jobs
        found = {
            "pg_direct_copy": self.ours,
            f"pg_dump -Fd -j{jobs}, pg_restore -j{jobs}": self.directory,
            f"pg_dump -Fd -Z0 -j{jobs}, pg_restore -j{jobs}": lambda: self.directory("-Z0"),
            "pg_dump -Fc -Z0 | pg_restore": lambda: self.pipe("-Z0"),
        }
        if self.arguments.pgcopydb:
            found["pgcopydb clone"] = self.pgcopydb
        wanted = self.arguments.only
        return {name: tool for name, tool in found.items() if not wanted or any(one in name for one in wanted)}

    def measure(self, tool: Callable[[], None]) -> tuple[float, float]:
        """(seconds, CPU seconds) of one run into a target without the database."""
        self.target.sql("postgres", "DROP DATABASE IF EXISTS data")
        for cluster in (self.source, self.target):
            cluster.sql("postgres", "CHECKPOINT")
        started, cpu = time.monotonic(), self.cpu()
        tool()
        seconds = time.monotonic() - started
        assert self.target.sql("data", COUNT) == self.source.sql("data", COUNT), "something is missing"
        return seconds, self.cpu() - cpu

    def cpu(self) -> float:
        """CPU seconds so far of both servers and of the programs that ended."""
        return sum(cpu_of(cluster.pid) for cluster in (self.source, self.target)) + sum(os.times()[2:4])


COUNT = """
    SELECT count(*), sum((xpath('/row/c/text()', query_to_xml(
        'SELECT count(*) AS c FROM ' || oid::regclass, false, true, '')))[1]::text::bigint)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""


def cpu_of(pid: int) -> float:
    """CPU seconds of a postmaster, of its children that ended, and of those that run."""
    total = 0
    for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15] if one == pid else fields[11:13]))
    return total / TICKS


def peak_of(pid: int) -> int:
    """Peak memory of a process in MiB, as far as it is still there."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), default=0)


def libpq(cluster: support.Cluster) -> dict[str, str]:
    """Environment variables with which libpq finds a server."""
    end = cluster.endpoint()
    return {"PGHOST": end["host"], "PGPORT": str(end["port"]), "PGUSER": end["user"], "PGPASSWORD": end["password"]}


def uri(cluster: support.Cluster) -> str:
    """The same as a connection URI to database "data"."""
    end = cluster.endpoint()
    return f"postgresql://{end['user']}:{end['password']}@{end['host']}:{end['port']}/data"


def main() -> None:
    """Make the servers and the data, let the tools take turns, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--small", type=int, default=500, help="small tables")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--source", type=int, default=15)
    parser.add_argument("--target", type=int, default=15)
    parser.add_argument("--pgcopydb", default=shutil.which("pgcopydb"))
    parser.add_argument("--only", nargs="*", help="tools with one of these words in their names")
    arguments = parser.parse_args()
    support.link_collection()
    place = builds.state() / f"benchmark-copy-{os.getpid()}"
    place.mkdir(mode=0o755)
    bench = Bench(arguments, place)
    try:
        bench.source.start()
        bench.target.start()
        bench.fill()
        size = bench.source.sql("postgres", "SELECT pg_size_pretty(pg_database_size('data'))")[0][0]
        print(f"{size}, scale {arguments.scale}, {arguments.small} small tables; PostgreSQL {arguments.source} to")
        print(f"{arguments.target}, {arguments.jobs} jobs, {os.cpu_count()} cores; {json.dumps(SETTINGS)}")
        results = {name: [] for name in bench.tools()}
        for number in range(arguments.runs):
            for name, tool in bench.tools().items():
                results[name].append(bench.measure(tool))
                wall, cpu = results[name][-1]
                print(
                    f"run {number + 1}: {name}: {wall:.1f} s, CPU {cpu:.1f} s; load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
        show(results)
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in bench.stages.items())
        print(f"\nour stages, last run: {stages}; peak memory of ours: {bench.memory} MiB")
    finally:
        bench.source.destroy()
        bench.target.destroy()
        shutil.rmtree(place, ignore_errors=True)


def show(results: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and the ratio of ours to each."""
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in results.items()}
    ours = medians.get("pg_direct_copy", [None, None])
    print("\n| tool | seconds | CPU seconds | ours / it | ours / it, CPU |\n|---|---|---|---|---|")
    for name, (wall, cpu) in medians.items():
        ratios = [f"{one / other:.2f}" if one else "" for one, other in zip(ours, (wall, cpu))]
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
