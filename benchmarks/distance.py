# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What distance costs: each stage of a continuous migration, with every byte to source, target and pooler delayed.

.build/venv/bin/python benchmarks/distance.py [--places 0/0 20/20 60/1] [--tables 50 50 300] [--source 15] [--target 18]
                                              [--to-pooler MS] [--only preflight replicate ...] [--trips]

A place is "migrator to source / migrator to target" in milliseconds there and back; the servers reach one another as
far apart as migrator and source are. The stages are the playbooks; windows are those of cutover and rollback, with a
PgBouncer before the database whose console is --to-pooler away. Round trips are counted on the wire, by what source,
target and pooler answered: how many in all, and how many of the longest in a row.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import link_collection  # noqa: E402
from cutovers import USERS  # noqa: E402
from servers import Servers  # noqa: E402
from steps_of_windows import moments, watching_steps  # noqa: E402

from lab import builds  # noqa: E402
from lab.distance import Count, Distance  # noqa: E402
from lab.pooler import Pooler  # noqa: E402

MAKE = """
    DO $$ BEGIN FOR n IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE t_%1$s (id bigserial PRIMARY KEY, parent bigint REFERENCES t_%2$s,
                        name text UNIQUE, made timestamptz DEFAULT now())', n, greatest(n - 1, 1));
        EXECUTE format('INSERT INTO t_%s (parent, name) SELECT 1, ''name '' || i FROM generate_series(1, 100) AS i', n);
    END LOOP; END $$"""
TOGETHER = 100  # tables a transaction: each holds locks on itself and its indexes
STAGES = ("preflight", "replicate", "verify", "cutover", "rollback", "finish")


class Stage(NamedTuple):
    """What one took: ``seconds``, and round trips."""

    seconds: float
    count: Count


def main() -> None:
    """Every place in turn, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", nargs="+", default=["0/0", "20/20", "0/0", "60/1"])
    parser.add_argument("--tables", nargs="+", type=int, default=[50, 50, 300, 300])
    parser.add_argument("--source", type=int, default=15)
    parser.add_argument("--target", type=int, default=18)
    parser.add_argument("--to-pooler", type=float, default=0, help="milliseconds to the console of PgBouncer")
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, default=STAGES, help="stages; those after replicate need it"
    )
    parser.add_argument("--trips", action="store_true", help="show what was said on each trip of a window, and most")
    arguments = parser.parse_args()
    link_collection()
    found: dict[tuple[str, int], dict[str, Stage]] = {}
    for place, tables in zip(arguments.places, arguments.tables):
        found[place, tables] = measure(arguments, place, tables)
    print(render(found))


def measure(arguments: argparse.Namespace, place: str, tables: int) -> dict[str, Stage]:
    """All stages at one place."""
    here = builds.state() / f"benchmark-distance-{os.getpid()}"
    servers = Servers(here)
    try:
        source, target = servers(arguments.source, "source"), servers(arguments.target, "target")
        make(source, target, tables)
        rtt = tuple(float(number) / 1000 for number in place.split("/"))
        front = Pooler(source, here / "pooler", users=USERS)
        with front, Distance(source, target, rtt, [front], arguments.to_pooler / 1000) as far:
            return run(far, here, f"{place} ms, {tables} tables", arguments)
    finally:
        servers.destroy()
        shutil.rmtree(here, ignore_errors=True)


def make(source: support.Cluster, target: support.Cluster, tables: int) -> None:
    """The database, and servers that start workers as soon as they are asked to."""
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
        cluster.sql("postgres", "SELECT pg_reload_conf()")
    source.sql("postgres", "CREATE DATABASE shop")
    for first in range(1, tables + 1, TOGETHER):
        source.sql("shop", MAKE.format(first=first, last=min(first + TOGETHER - 1, tables)))
    source.sql("shop", "VACUUM ANALYZE")


def run(far: Distance, here: Path, title: str, arguments: argparse.Namespace) -> dict[str, Stage]:
    """The playbooks one after the other, and what each took."""
    found: dict[str, Stage] = {}
    given = inventory(far, here)
    front = far.poolers[0]
    watch = watching_steps(here / "steps")
    for name in [stage for stage in STAGES if stage in arguments.only]:
        if name in ("cutover", "rollback"):
            front.lead("shop", far.target if name == "cutover" else far.source)
        far.forget()
        began = time.monotonic()
        result = support.run_playbook(f"handover.postgresql.{name}", given, env=watch, warnings=True)
        seconds = time.monotonic() - began
        if result.failed:
            raise SystemExit(f"{name} failed: {result.failures}")
        found[name] = Stage(seconds, far.count())
        print(f"{title}: {name}: {seconds:.1f} s, {found[name].count}; load {os.getloadavg()[0]:.1f}", flush=True)
        if arguments.trips:
            show_most(far)
        if name in ("cutover", "rollback"):
            found[f"window of the {name}"] = window(far, here, result, arguments.trips)
    return found


def inventory(far: Distance, here: Path) -> dict[str, Any]:
    """One pair."""
    ends = {f"handover_{name}": value for name, value in far.ends().items()}
    password = here / "replication_password"
    password.write_text(far.source.password)
    variables = {
        **ends,
        "ansible_connection": "local",
        "handover_databases": ["shop"],
        "handover_dump_directory": str(here / "dumps"),
        "handover_client_directory": [str(builds.build(builds.CLIENT_MAJOR).bin), str(builds.build(18).bin)],
        "handover_replication_role": "postgres",
        "handover_replication_password_file": str(password),
        "handover_poolers": far.consoles(),
        "handover_reverse": True,
        "handover_fail_on": "`false`",
        "handover_without_cutover": True,
    }
    return {"all": {"hosts": {"lab": variables}}}


def window(far: Distance, here: Path, result: support.PlaybookResult, shows_trips: bool) -> Stage:
    """From pausing to letting go on, as the module measured it, and the trips in it."""
    (database,) = [one for call in result.results("handover.postgresql.pg_cutover")[-1:] for one in call.databases]
    seconds = database["window_ms"] / 1000
    began = moments(here / "steps")[0]
    stage = Stage(seconds, far.count(began, began + seconds))
    print(f"  window: {seconds * 1000:.0f} ms, {stage.count}", flush=True)
    if shows_trips:
        for step in database["timeline"]:
            print(f"    {step}")
        show_all(far, began, began + seconds)
    return stage


def show_all(far: Distance, since: float, until: float) -> None:
    """Each trip, in order."""
    names = ("source", "target", *(f"pooler {number}" for number in range(len(far.poolers))))
    each = [(trip, name) for name, trips in zip(names, far.trips(since, until)) for trip in trips]
    for trip, name in sorted(each):
        begun, ended = (round((moment - since) * 1000, 1) for moment in trip[:2])
        print(f"    {begun:8} {ended:8} {name:8} {trip.connection:4} {said(trip.said)}")


def show_most(far: Distance) -> None:
    """What was said most often."""
    for name, trips in zip(("source", "target", "pooler"), far.trips()):
        counted = collections.Counter(re.sub(r"\d+", "N", said(trip.said))[:70] for trip in trips)
        for text, number in counted.most_common(8):
            print(f"    {name} {number:5} {text}")


def said(text: str) -> str:
    """What is readable of a message."""
    return " ".join(re.sub(r"[^ -~]+", " ", text).split())


def render(found: dict[tuple[str, int], dict[str, Stage]]) -> str:
    """Seconds and trips of each stage, and the ratio to no distance with as many tables."""
    lines = ["", f"| | {' | '.join(f'{place} ms, {tables} tables' for place, tables in found)} |"]
    lines.append("|---" * (len(found) + 1) + "|")
    for name in next(iter(found.values())):
        cells = []
        for (_place, tables), stages in found.items():
            near = found.get(("0/0", tables), stages)[name].seconds
            one = stages[name]
            cells.append(f"{one.seconds:.2f} s ({one.seconds / near:.1f}x); {one.count}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
