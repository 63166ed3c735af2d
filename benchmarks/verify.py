# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long comparing all rows of two databases takes us, and how long pgcopydb compare data, on the same pair.

.build/venv/bin/python benchmarks/verify.py [--scale 20] [--small 200] [--runs 3] [--jobs 2] [--source 15] [--target 17]

The data is that of benchmarks/pair.py, copied once with pg_dump and pg_restore. The tools take turns, so that what
else goes on concerns all of them; compare the medians of one run. pgcopydb takes part where it is in PATH, or with
--pgcopydb. It compares a sum of 32-bit hashes of each table, we two sums of 64-bit hashes with different seeds; ours
is measured as people run it, with sequences and all definitions, and with the rows alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from pair import Pair, parser, show

OURS = "pg_verify"


class Tools:
    """What takes part, for a pair of servers."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.stages: dict[str, float] = {}

    def ours(self, **options: object) -> None:
        """pg_verify; it fails where something differs."""
        result = self.pair.module(OURS, jobs=self.pair.arguments.jobs, **options)
        [found] = result.databases
        if found["verdict"] != "equal":
            raise SystemExit(f"not equal: {found}")
        self.stages = {one["stage"]: one["seconds"] for one in found["stages"]}

    def pgcopydb(self) -> None:
        """pgcopydb compare data; it says what differs and succeeds."""
        work = self.pair.place / "pgcopydb"
        shutil.rmtree(work, ignore_errors=True)
        self.pair.run(None, self.pair.arguments.pgcopydb, "compare", "data", *self.pair.uris(), f"--dir={work}")

    def all(self) -> dict[str, Callable[[], None]]:
        """By the name in the table."""
        found = {OURS: self.ours, f"{OURS}, rows alone": lambda: self.ours(verify_tables=["*"])}
        program = self.pair.arguments.pgcopydb
        if not program:
            print("pgcopydb is not in PATH and does not take part")
            return found
        print(self.pair.run(None, program, "--version").partition("\n")[0])
        return {**found, "pgcopydb compare data": self.pgcopydb}


def main() -> None:
    """Make the servers and the data twice, let the tools take turns, and print the table."""
    options = parser(__doc__)
    options.add_argument("--pgcopydb", default=shutil.which("pgcopydb"))
    options.set_defaults(small=200, target=17)
    with Pair(options.parse_args()) as pair:
        pair.target.sql("postgres", "CREATE DATABASE data")
        pair.pipe(["-Fc", "-Z0"], ["pg_restore"])
        pair.target.sql("data", "VACUUM ANALYZE")
        tools = Tools(pair)
        show(pair.take_turns(tools.all(), moving=False), OURS)
        stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in tools.stages.items())
        print(f"\nour stages, last run: {stages}; peak memory of ours: {pair.memory} MiB")


if __name__ == "__main__":
    main()
