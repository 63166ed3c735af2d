# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long many databases of one server take, playbook by playbook, beside one database of the same kind.

.build/venv/bin/python benchmarks/fleet.py [--databases 30] [--tables 5] [--only preflight status]
                                           [--without-rehearsal] [--source 15] [--target 18]

First one database goes all the way, then the others do, each with a few tables of 200 rows. The last column is what
the others took, held against that one database as many times: 1.00 is one after the other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import link_collection  # noqa: E402
from pair import cpu_of  # noqa: E402

from lab import builds  # noqa: E402

TABLES = """
    DO $$ BEGIN FOR n IN 1..{tables} LOOP
        EXECUTE format('CREATE TABLE item_%s (id bigserial PRIMARY KEY, words text, made timestamptz DEFAULT now())',
            n);
        EXECUTE format('INSERT INTO item_%s (words) SELECT ''words '' || i FROM generate_series(1, 200) AS i', n);
        EXECUTE format('CREATE INDEX ON item_%s (words)', n);
    END LOOP; END $$"""
PLAYBOOKS = ("preflight", "replicate", "status", "verify", "cutover", "rollback", "stop")


class Fleet:
    """Both servers, with room for all databases."""

    def __init__(self, arguments: argparse.Namespace, place: Path) -> None:
        link_collection()
        room = 4 * arguments.databases + 20
        settings = {
            "wal_level": "logical",
            "fsync": "on",
            "max_connections": 2 * room,
            "max_replication_slots": room,
            "max_wal_senders": room,
            "max_worker_processes": room,
            "max_logical_replication_workers": room,
        }
        self.arguments, self.place = arguments, place
        self.source, self.target = (
            support.Cluster(
                builds.build(major),
                _directory(place / name),
                settings=settings | ({"max_active_replication_origins": room} if major >= 18 else {}),
            )
            for major, name in ((arguments.source, "source"), (arguments.target, "target"))
        )

    def __enter__(self) -> Fleet:
        self.source.start()
        self.target.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self.source.destroy()
        self.target.destroy()

    def make(self, names: list[str]) -> None:
        """Databases on the source."""
        support.create_database(self.source, names[0])
        self.source.sql(names[0], TABLES.format(tables=self.arguments.tables))
        for name in names[1:]:
            self.source.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {names[0]}")

    def run(self, playbook: str, names: list[str]) -> tuple[float, float]:
        """Seconds, and CPU seconds of both servers and of Ansible with all that it starts.

        :raises SystemExit: when it fails.
        """
        variables = {
            "ansible_connection": "local",
            "handover_source": self.source.endpoint(),
            "handover_target": self.target.endpoint(),
            "handover_databases": names,
            "handover_dump_directory": str(self.place / "dumps"),
            "handover_rehearse": not self.arguments.without_rehearsal,
        }
        inventory = {"handover_pairs": {"hosts": {"fleet": variables}}}
        started, cpu = time.monotonic(), self._cpu()
        result = support.start_playbook(f"handover.postgresql.{playbook}", inventory, warnings=True).wait(3600)
        if result.failed:
            raise SystemExit(f"{playbook} failed:\n{result.stdout[-3000:]}")
        return time.monotonic() - started, self._cpu() - cpu

    def _cpu(self) -> float:
        return cpu_of(self.source.pid) + cpu_of(self.target.pid) + sum(os.times()[2:4])


def _directory(place: Path) -> Path:
    place.mkdir(mode=0o755, parents=True)
    return place


def measure(fleet: Fleet) -> list[str]:
    """The rows of the table."""
    count = fleet.arguments.databases
    names = [f"one_{number}" for number in range(count + 1)]
    fleet.make(names)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in fleet.arguments.only}
    for chosen in (names[:1], names[1:]):
        for playbook in fleet.arguments.only:
            found[playbook].append(fleet.run(playbook, chosen))
            wall, cpu = found[playbook][-1]
            print(f"{len(chosen)}: {playbook} {wall:.1f} s, CPU {cpu:.1f} s; load {os.getloadavg()[0]:.1f}", flush=True)
    return [_row(playbook, count, *times) for playbook, times in found.items()]


def _row(playbook: str, count: int, one: tuple[float, float], all_: tuple[float, float]) -> str:
    cells = [one[0], one[1], all_[0], all_[1], (all_[0] - one[0]) / (count - 1)]
    return f"| {playbook} | {' | '.join(f'{cell:.1f}' for cell in cells)} | {all_[0] / one[0] / count:.2f} |"


def main() -> None:
    """Make the servers and their databases, run the playbooks, and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--databases", type=int, default=30)
    options.add_argument("--tables", type=int, default=5)
    options.add_argument("--only", nargs="+", default=PLAYBOOKS, choices=PLAYBOOKS, help="playbooks, in this order")
    options.add_argument("--without-rehearsal", action="store_true")
    options.add_argument("--source", type=int, default=15)
    options.add_argument("--target", type=int, default=18)
    arguments = options.parse_args()
    place = builds.state() / f"benchmark-fleet-{os.getpid()}"
    try:
        with Fleet(arguments, place) as fleet:
            rows = measure(fleet)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    count = arguments.databases
    print(f"\n| playbook | one, s | CPU, s | {count}, s | CPU, s | each further, s | {count} / {count} times one |")
    print("|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
