# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks that move a whole database share: two servers, the data, taking turns, and the table.

The data: pgbench at some scale (100,000 narrow rows each), a wide table of 15,000 rows for each (text, jsonb, uuid,
numeric, timestamptz; a key and three indexes), and small tables with foreign keys. CPU is that of both servers and of
all client processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import link_collection  # noqa: E402

from lab import builds  # noqa: E402

SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "wal_level": "logical",
    "fsync": "on",
    "full_page_writes": "on",
    "checkpoint_timeout": "15min",
    "autovacuum": "off",
    "max_locks_per_transaction": 1024,
}
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
# 2 to 8 kB of words each, which compress to about a third: out of line, as documents of applications are.
DOCUMENTS = """
    CREATE TABLE document (id bigserial PRIMARY KEY, kind int NOT NULL, body jsonb NOT NULL, words text NOT NULL);
    INSERT INTO document (kind, body, words)
    SELECT i % 20, jsonb_build_object('number', i, 'author', md5(i::text), 'lines', lines.list), lines.text
    FROM generate_series({first}, {last}) AS i, LATERAL (
        SELECT jsonb_agg(line) AS list, string_agg(line, ' ') AS text FROM (
            SELECT format('line %s of %s says %s about %s', j, i, left(md5((i * 131 + j)::text), 10), i % 97)
            FROM generate_series(1, 40 + i % 120) AS j) AS l (line)) AS lines;
    CREATE INDEX ON document (kind)"""
SMALL = """
    DO $$ BEGIN FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, of int REFERENCES small_%s, name text UNIQUE)',
                       n, greatest(1, n - 1));
        EXECUTE format('INSERT INTO small_%s SELECT i, 1, ''name '' || i FROM generate_series(1, 20) AS i', n);
    END LOOP; END $$"""
COUNT = """
    SELECT count(*), sum((xpath('/row/c/text()', query_to_xml(
        'SELECT count(*) AS c FROM ' || oid::regclass, false, true, '')))[1]::text::bigint)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""
TOGETHER = 200
TICKS = os.sysconf("SC_CLK_TCK")

Tools = Mapping[str, Callable[[], None]]
Results = dict[str, list[tuple[float, float, float]]]
GB = 1 << 30


def parser(description: str) -> argparse.ArgumentParser:
    """The options that these benchmarks have in common."""
    found = argparse.ArgumentParser(
        description=description.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    found.add_argument("--scale", type=int, default=20)
    found.add_argument("--small", type=int, default=500, help="small tables")
    found.add_argument("--documents", type=int, default=0, help="rows with values out of line, 2 to 8 kB each")
    found.add_argument("--runs", type=int, default=3)
    found.add_argument("--rest", type=float, default=0, help="seconds before each, in which disks come to rest")
    found.add_argument("--jobs", type=int, default=2)
    found.add_argument("--source", type=int, default=15)
    found.add_argument("--target", type=int, default=15)
    found.add_argument("--only", nargs="*", help="tools with one of these words in their names")
    return found


class Pair:
    """Both servers while the context lasts, the source with the data in database "data"."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        link_collection()
        self.arguments = arguments
        self.place = builds.state() / f"benchmark-{os.getpid()}"
        self.memory = 0
        self.shares: dict[str, float] = {}  # CPU seconds of the last run
        self.source, self.target = (
            support.Cluster(builds.build(major), self._directory(name), settings=SETTINGS)
            for major, name in ((arguments.source, "source"), (arguments.target, "target"))
        )
        self.clients = builds.build(max(arguments.target, arguments.source)).bin

    def _directory(self, name: str) -> Path:
        self.place.mkdir(mode=0o755, exist_ok=True)
        (self.place / name).mkdir()
        return self.place / name

    def __enter__(self) -> Pair:
        try:
            self.source.start()
            self.target.start()
            self._write_passwords()
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_raised: object) -> None:
        self.source.destroy()
        self.target.destroy()
        shutil.rmtree(self.place, ignore_errors=True)

    def _write_passwords(self) -> None:
        ends = [cluster.endpoint() for cluster in (self.source, self.target)]
        file = self.place / "pgpass"
        file.touch(mode=0o600)
        file.write_text("".join(f"{e['host']}:{e['port']}:*:{e['user']}:{e['password']}\n" for e in ends))

    def _fill(self) -> None:
        self.source.sql("postgres", "CREATE DATABASE data")
        scale, small = self.arguments.scale, self.arguments.small
        if scale:
            self.run(self.source, "pgbench", "-i", "-q", "-s", str(scale), "--foreign-keys", "data")
            self.source.sql("data", WIDE.format(scale=scale))
        if self.arguments.documents:
            self.source.sql("data", DOCUMENTS.format(first=1, last=self.arguments.documents))
        for first in range(1, small + 1, TOGETHER):
            self.source.sql("data", SMALL.format(first=first, last=min(first + TOGETHER - 1, small)))
        self.source.sql("data", "VACUUM ANALYZE")
        [(self.size, size)] = self.source.sql("data", "SELECT s, pg_size_pretty(s) FROM pg_database_size('data') AS s")
        ours = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
        versions = [cluster.build.version for cluster in (self.source, self.target)]
        print(f"{size}: scale {scale}, {small} small tables, {self.arguments.documents} documents;")
        print(f"PostgreSQL {versions[0]} to {versions[1]}; this {ours};")
        print(f"{os.cpu_count()} cores for both servers and the clients; {json.dumps(SETTINGS)}", flush=True)

    # Programs and modules

    def environment(self, cluster: support.Cluster | None = None) -> dict[str, str]:
        """The environment in which client programs find one another, the passwords, and a server."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        found |= {"PATH": f"{self.clients}:{os.environ['PATH']}", "PGPASSFILE": str(self.place / "pgpass")}
        if cluster:
            end = cluster.endpoint()
            found |= {"PGHOST": end["host"], "PGPORT": str(end["port"]), "PGUSER": end["user"]}
        return found

    def run(self, cluster: support.Cluster | None, program: str, *arguments: str) -> str:
        """What a client program prints, errors last.

        :raises SystemExit: when it fails.
        """
        command = [shutil.which(program, path=self.environment()["PATH"]) or program, *arguments]
        done = subprocess.run(command, env=self.environment(cluster), check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stderr[-3000:]}")
        return done.stdout + done.stderr

    def uris(self) -> list[str]:
        """Both ends as pgcopydb takes them; the passwords are in the environment's file."""
        ends = {"source": self.source.endpoint(), "target": self.target.endpoint()}
        return [f"--{side}=postgresql://{e['user']}@{e['host']}:{e['port']}/data" for side, e in ends.items()]

    def pipe(self, dump: list[str], restore: list[str]) -> None:
        """A dump of the source's database, piped into a program of the target.

        :raises SystemExit: when one of both fails.
        """
        writer = subprocess.Popen(
            [self.clients / "pg_dump", *dump, "data"], env=self.environment(self.source), stdout=subprocess.PIPE
        )
        reader = subprocess.run(
            [self.clients / restore[0], *restore[1:], "--dbname=data"],
            env=self.environment(self.target),
            stdin=writer.stdout,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        writer.stdout.close()
        if writer.wait() or reader.returncode:
            raise SystemExit(f"pg_dump {dump} | {restore} failed")

    def module(self, name: str, **options: Any) -> support.Result:
        """The result of a module of this collection, for database "data"; remembers its peak memory.

        :raises SystemExit: when it fails.
        """
        ends = {"source": self.source.endpoint(), "target": self.target.endpoint()}
        given = {**ends, "databases": ["data"], "client_directory": [str(self.clients)], **options}
        running = support.start_module(name, given)
        while running.process.poll() is None:
            self.memory = max(self.memory, peak_of(running.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):  # its end is not noticed late: others' is not, either
                running.process.wait(timeout=0.1)
        result = running.wait()
        if result.failed:
            raise SystemExit(result.msg)
        return result

    # Measuring

    def take_turns(self, tools: Tools, after: Callable[[], None] = lambda: None, moving: bool = True) -> Results:
        """(seconds, CPU seconds, GB of WAL on the target) of every run of every tool; each begins a round in turn. What
        comes first to warm up is not measured, nor is ``after``. ``moving``: whether the tools make the target's
        database.
        """
        wanted = self.arguments.only
        names = [name for name in tools if not wanted or any(word in name for word in wanted)]
        results: Results = {name: [] for name in names}
        self._measure(tools[names[0]], moving)  # files of the servers' own, WAL above all, are made once
        after()
        for number in range(self.arguments.runs):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                load = os.getloadavg()[0]  # of others, as far as it can be told
                wall, cpu, wal = self._measure(tools[name], moving)
                after()
                results[name].append((wall, cpu, wal))
                print(f"run {number + 1}: {name}: {wall:.1f} s, CPU {cpu:.1f} s; load before {load:.1f}", flush=True)
        return results

    def _measure(self, tool: Callable[[], None], moving: bool) -> tuple[float, float, float]:
        if moving:
            self.target.sql("postgres", "DROP DATABASE IF EXISTS data")
        for cluster in (self.source, self.target):
            cluster.sql("postgres", "CHECKPOINT")
        os.sync()  # else the disk is still busy with what the tool before has left
        time.sleep(self.arguments.rest)
        started, cpu, wal = time.monotonic(), self._cpu(), self._wal()
        tool()
        seconds = time.monotonic() - started
        self.shares = {name: used - cpu[name] for name, used in self._cpu().items()}
        wal = self._wal() - wal
        if moving and self.target.sql("data", COUNT) != self.source.sql("data", COUNT):
            raise SystemExit("rows are missing")
        return seconds, sum(self.shares.values()), wal

    def _cpu(self) -> dict[str, float]:
        ends = {"source": self.source, "target": self.target}
        return {**{name: cpu_of(end.pid) for name, end in ends.items()}, "clients": sum(os.times()[2:4])}

    def _wal(self) -> float:
        return float(self.target.sql("postgres", "SELECT pg_current_wal_lsn() - '0/0'")[0][0]) / GB


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


def show(results: Results, ours: str) -> None:
    """Medians, how busy the cores were, and the ratio of ours to each."""
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in results.items()}
    mine = medians.get(ours, [None, None])
    print("\n| tool | seconds | CPU seconds | cores busy | GB of WAL | ours / it | ours / it, CPU |")
    print("|---|---|---|---|---|---|---|")
    for name, (wall, cpu, wal) in medians.items():
        ratios = [f"{one / other:.2f}" if one else "" for one, other in zip(mine, (wall, cpu))]
        busy = cpu / wall / (os.cpu_count() or 1)
        in_cell = name.replace("|", "\\|")
        print(f"| {in_cell} | {wall:.1f} | {cpu:.1f} | {busy:.0%} | {wal:.2f} | {' | '.join(ratios)} |")
