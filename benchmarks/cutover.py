# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the window of a handover is, and what clients notice of it.

.build/venv/bin/python benchmarks/cutover.py [--tables 10] [--runs 20] [--rate 1000] [--source 15] [--target 18]
                                             [--json FILE]

Clients of a bank write through PgBouncer in transaction mode, and remember what was acknowledged to them. Meanwhile the
database is handed over and back, again and again, always with a way back. In the end every acknowledged transaction
has to be there once. The clients' worst wait is the longest that ended between the beginning of a handover and that of
the next one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import link_collection  # noqa: E402
from cutovers import CLERK, USERS, cut_over, handed_over, make_bank  # noqa: E402

from lab import builds  # noqa: E402
from lab.bank import Bank  # noqa: E402
from lab.pooler import Pooler  # noqa: E402

SETTINGS = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "logical",
    "fsync": "on",
    "full_page_writes": "on",
    "max_connections": 100,
    "max_locks_per_transaction": 1024,
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
}
BANK_TABLES = 3


def main() -> int:
    """Make the pair, let clients write, hand over there and back, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--source", type=int, default=15)
    parser.add_argument("--target", type=int, default=18)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    link_collection()
    place = builds.state() / f"benchmark-cutover-{os.getpid()}"
    try:
        found = measure(arguments, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(render(arguments, found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 1 if found["problems"] or found["failures"] else 0


def measure(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    """The windows, and what the clients say."""
    source, target = (
        make_cluster(major, place / name)
        for major, name in ((arguments.source, "source"), (arguments.target, "target"))
    )
    front = Pooler(source, place / "pooler", users=USERS, default_pool_size=20)
    try:
        for each in (source, target, front):
            each.start()
        make_bank(source, target, tables=arguments.tables - BANK_TABLES)
        windows = []
        with Bank(front.endpoint(**CLERK), "shop", rate=arguments.rate, transferring=6, appending=6) as load:
            time.sleep(3)
            began, before = time.time(), load.committed
            for number in range(arguments.runs):
                windows.append(one_window(source, target, front, number))
                print(f"{windows[-1]['direction']:<8} {windows[-1]['ms']:7.1f} ms", flush=True)
            time.sleep(3)  # for whoever still waits
            rate = (load.committed - before) / (time.time() - began)
        home = target if arguments.runs % 2 else source
        return {
            "windows": windows,
            "rate": rate,
            "acknowledged": load.acknowledged,
            "failures": len(load.failures),
            "problems": load.problems(home.connect("shop")),
            "worst": worst_waits(load, windows),
            "versions": [source.build.version, target.build.version],
        }
    finally:
        for each in (front, source, target):
            each.destroy()


def make_cluster(major: int, place: Path) -> support.Cluster:
    place.mkdir(parents=True)
    return support.Cluster(builds.build(major), place, settings=SETTINGS)


def one_window(source: support.Cluster, target: support.Cluster, front: Pooler, number: int) -> dict[str, Any]:
    """Hand over, there and back in turns; when it began, by time.time(), and its steps."""
    direction = "back" if number % 2 else "forward"
    began = time.time()
    found = handed_over(cut_over(source, target, front, direction=direction, reverse=True))
    return {"direction": direction, "ms": found["window_ms"], "began": began, "timeline": found["timeline"]}


def worst_waits(load: Bank, windows: list[dict[str, Any]]) -> list[float]:
    """The longest wait that ended after each handover had begun, in milliseconds, as far as clients remember it."""
    ends = [*(one["began"] for one in windows[1:]), math.inf]
    waits = [[ms for at, ms in load.slowest if one["began"] <= at < end] for one, end in zip(windows, ends)]
    return [max(found) for found in waits if found]


def render(arguments: argparse.Namespace, found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"PostgreSQL {' and '.join(found['versions'])}; {os.cpu_count()} cores for both servers, PgBouncer and clients",
        f"{arguments.tables} tables; {found['rate']:.0f} transactions a second",
        f"{'':<28}{'median':>9}{'90%':>9}{'worst':>9}",
        _line("window, ms", [one["ms"] for one in found["windows"]]),
        *(_line(f"  {name}, ms", times) for name, times in steps(found["windows"]).items()),
        _line("clients' worst wait, ms", found["worst"]),
        f"acknowledged {found['acknowledged']}, failed {found['failures']}, lost or twice {len(found['problems'])}",
    ]
    return "\n".join(lines)


def steps(windows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Milliseconds of each step of all windows."""
    found: dict[str, list[float]] = {}
    for one in windows:
        for step in one["timeline"]:
            found.setdefault(step["step"], []).append(step["ms"])
    return found


def _line(name: str, values: list[float]) -> str:
    ordered = sorted(values) or [float("nan")]
    at = [statistics.median(ordered), ordered[int(len(ordered) * 0.9) if len(ordered) > 1 else 0], ordered[-1]]
    return f"{name:<28}" + "".join(f"{value:9.1f}" for value in at)


if __name__ == "__main__":
    sys.exit(main())
