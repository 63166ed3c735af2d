# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long copying a database takes us, and how long the tools that people use for it, on the same two servers.

.build/venv/bin/python benchmarks/direct_copy.py [--scale 20] [--small 500] [--runs 3] [--jobs 2]
                                                 [--source 15] [--target 15] [--growth 20 100 400]

The data is that of benchmarks/pair.py. The tools take turns, so that what else goes on concerns all of them; compare
the medians of one run. pgcopydb takes part where it is in PATH, or with --pgcopydb. All leave the target analyzed.

With --growth, ours alone copies data of these scales, one after the other: seconds a GB, and who needs them. All of the
data grows: --small is how many small tables there are at scale 100.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Callable

from pair import GB, Pair, parser, show

OURS = "pg_direct_copy"
# What can make pgcopydb faster, as far as its release has it.
VARIANTS = (("--use-copy-binary",), ("--split-tables-larger-than", "200MB"))


class Tools:
    """What takes part, for a pair of servers."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.stages: dict[str, float] = {}
        self.jobs = pair.arguments.jobs

    def ours(self) -> None:
        """pg_direct_copy, by itself."""
        result = self.pair.module(OURS, jobs=self.jobs)
        self.stages = {one["stage"]: one["seconds"] for one in result.databases[0]["stages"]}

    def directory(self, *options: str) -> None:
        """pg_dump into a directory, then pg_restore, then ANALYZE."""
        place = self.pair.place / "dump"
        shutil.rmtree(place, ignore_errors=True)
        jobs = f"--jobs={self.jobs}"
        self.pair.run(self.pair.source, "pg_dump", "-Fd", jobs, *options, f"--file={place}", "data")
        self._create()
        self.pair.run(self.pair.target, "pg_restore", jobs, "--dbname=data", str(place))
        self.pair.target.sql("data", "ANALYZE")

    def pipe(self) -> None:
        """pg_dump piped into pg_restore, then ANALYZE."""
        self._create()
        self.pair.pipe(["-Fc", "-Z0"], ["pg_restore"])
        self.pair.target.sql("data", "ANALYZE")

    def pgcopydb(self, *options: str) -> None:
        """pgcopydb clone; it vacuums and analyzes by itself."""
        self._create()
        work = self.pair.place / "pgcopydb"
        shutil.rmtree(work, ignore_errors=True)
        jobs = [f"--table-jobs={self.jobs}", f"--index-jobs={self.jobs}", f"--dir={work}"]
        self.pair.run(None, self.pair.arguments.pgcopydb, "clone", *self.pair.uris(), *jobs, *options)

    def _create(self) -> None:
        self.pair.target.sql("postgres", "CREATE DATABASE data")

    def all(self) -> dict[str, Callable[[], None]]:
        """By the name in the table."""
        jobs = self.jobs
        return {
            OURS: self.ours,
            f"pg_dump -Fd -j{jobs}, pg_restore -j{jobs}": self.directory,
            f"pg_dump -Fd -Z0 -j{jobs}, pg_restore -j{jobs}": lambda: self.directory("-Z0"),
            "pg_dump -Fc -Z0 | pg_restore": self.pipe,
            **self._pgcopydb(),
        }

    def _pgcopydb(self) -> dict[str, Callable[[], None]]:
        program = self.pair.arguments.pgcopydb
        if not program:
            print("pgcopydb is not in PATH and does not take part")
            return {}
        print(self.pair.run(None, program, "--version").partition("\n")[0])
        known = self.pair.run(None, program, "clone", "--help")
        fitting = [(), *(variant for variant in VARIANTS if variant[0] in known)]
        return {" ".join(["pgcopydb clone", *variant]): lambda v=variant: self.pgcopydb(*v) for variant in fitting}


def main() -> None:
    """Make the servers and the data, let the tools take turns, and print the table."""
    options = parser(__doc__)
    options.add_argument("--pgcopydb", default=shutil.which("pgcopydb"))
    options.add_argument("--growth", nargs="+", type=int, metavar="SCALE")
    arguments = options.parse_args()
    if arguments.growth:
        print(HEAD, flush=True)
        before = (0.0, 0.0)
        for scale in arguments.growth:
            before = grow(arguments, scale, before)
        return
    with Pair(arguments) as pair:
        tools = Tools(pair)
        show(pair.take_turns(tools.all()), OURS)
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tools.stages.items())
        print(f"\nour stages, last run: {stages}; peak memory of ours: {pair.memory} MiB")


HEAD = """
| scale | small tables | GB | seconds | a GB | of each further GB | CPU seconds a GB: source | target | migrator |
|---|---|---|---|---|---|---|---|---|"""


def grow(arguments: argparse.Namespace, scale: int, before: tuple[float, float]) -> tuple[float, float]:
    """Print a row of the table: ours alone, with data of this scale. ``before`` are the GB and seconds of the last
    row, as what is returned are those of this one.
    """
    small = arguments.small * scale // 100
    with Pair(argparse.Namespace(**{**vars(arguments), "scale": scale, "small": small, "only": [OURS]})) as pair:
        runs = pair.take_turns({OURS: Tools(pair).ours})[OURS]
        size, seconds = pair.size / GB, statistics.median(wall for wall, _cpu, _wal in runs)
        shares = " | ".join(f"{used / size:.1f}" for used in pair.shares.values())
    further = f"{(seconds - before[1]) / (size - before[0]):.1f}" if before[0] else ""
    took = f"{seconds:.1f} | {seconds / size:.1f} | {further}"
    print(f"| {scale} | {small} | {size:.2f} | {took} | {shares} |", flush=True)
    return size, seconds


if __name__ == "__main__":
    main()
