# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lanes: processes side by side that run cycle after cycle; what they tell is printed here."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.chaos import jobs, report
from benchmarks.chaos.cycle import Cycle, Outcome
from benchmarks.chaos.stage import Stage
from lab import builds

STAY = 4  # cycles with the same pair of servers
GIVES_UP = 3  # cycles in which the program itself failed
KEPT = 12  # cycles whose logs and data are kept


class Lane:
    """Every so many cycles, with servers of its own."""

    def __init__(self, arguments: argparse.Namespace, number: int, place: Path, outcomes: Any) -> None:
        self.arguments, self.number, self.place, self.outcomes = arguments, number, place, outcomes
        self.faults = 0
        self.stage: Stage | None = None
        self.nursery: jobs.Nursery | None = None
        self.made = 0
        self.broken = 0  # cycles in which this program itself failed

    def run(self) -> None:
        """Cycles until there were enough faults."""
        wanted = -(-self.arguments.faults // self.arguments.lanes)
        cycle = self.number
        try:
            if self.arguments.replay:
                self._one(self.arguments.cycle)
                return
            while self.faults < wanted and self.broken < GIVES_UP:
                self._one(cycle)
                cycle += self.arguments.lanes
        finally:
            self._close()
            self.outcomes.put(None)

    def _one(self, cycle: int) -> None:
        violated: list[str] = []

        def tell(outcome: Outcome) -> None:
            self.faults += outcome.fault not in ("(end)",)
            violated.extend(outcome.violations)
            self.outcomes.put(outcome)

        try:
            self._make(cycle)
            Cycle(self.stage, self.nursery, self.arguments.seed, cycle, self.arguments.only, tell).run()
        except Exception:
            self.broken += 1
            violated.append("")
            self.outcomes.put(Outcome(cycle, "", "(program)", "(end)", violations=[traceback.format_exc()]))
        if violated:
            self._close(cycle)
        elif self.nursery:
            self.nursery.forget()

    def _make(self, cycle: int) -> None:
        """The stage for this cycle, unless it is there."""
        pairs = self.arguments.pairs
        majors = tuple(map(int, pairs[cycle // (STAY * self.arguments.lanes) % len(pairs)].split(":")))
        if self.stage and self.stage.majors == majors:
            return
        self._close()
        self.made += 1
        place = self.place / f"lane-{self.number}-{self.made}"
        superuser = not (self.arguments.non_superuser and majors[1] >= 16)
        self.stage = Stage(place, majors, superuser)
        self.nursery = jobs.Nursery(place / "jobs")

    def _close(self, cycle: int | None = None) -> None:
        """End the servers; keep what they wrote where a cycle was violated."""
        keep = None
        if cycle is not None and self.arguments.keep and len(list(self.arguments.keep.glob("*-*"))) < KEPT:
            keep = self.arguments.keep / f"{self.arguments.seed}-{cycle}"
        if self.nursery:
            self.nursery.close()
        if self.stage:
            self.stage.close(keep)
        self.stage = self.nursery = None


def _end_in_order(*_signal: Any) -> None:
    raise SystemExit(143)


def _lane(arguments: argparse.Namespace, number: int, place: Path, outcomes: Any) -> None:
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    Lane(arguments, number, place, outcomes).run()


def _end_with_parent(parent: int) -> None:
    """Servers and all: they are tied to us."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def run(arguments: argparse.Namespace) -> int:
    """All lanes; prints what they tell, and the table. The program's exit status."""
    signal.signal(signal.SIGTERM, _end_in_order)
    jobs.link_collection()
    _sweep()
    place = builds.state() / f"chaos-{os.getpid()}"
    place.mkdir(mode=0o755)
    arguments.keep = arguments.keep or builds.state() / f"chaos-kept-{os.getpid()}"
    builds.builds({int(major) for pair in arguments.pairs for major in pair.split(":")})
    count = 1 if arguments.replay else arguments.lanes
    arguments.lanes = arguments.lanes if arguments.replay else count
    outcomes: Any = multiprocessing.Queue()
    lanes = [
        multiprocessing.Process(target=_lane, args=(arguments, number, place, outcomes)) for number in range(count)
    ]
    print(report.opening(arguments), flush=True)
    began, told, ended = time.monotonic(), [], 0
    try:
        for lane in lanes:
            lane.start()
        while ended < count:
            outcome = outcomes.get()
            if outcome is None:
                ended += 1
                continue
            told.append(outcome)
            for line in report.lines(outcome, arguments.seed):
                print(line, flush=True)
    finally:
        for lane in lanes:
            if lane.is_alive() and ended < count:
                lane.terminate()
            lane.join(60)
        _remove(place)
    print(report.table(told, arguments, time.monotonic() - began), flush=True)
    return 1 if any(outcome.violations for outcome in told) else 0


def _sweep() -> None:
    """What runs have left that were killed."""
    for left in builds.state().glob("chaos-[0-9]*"):
        if not Path(f"/proc/{left.name.partition('-')[2]}").exists():
            _remove(left)


def _remove(place: Path) -> None:
    with contextlib.suppress(OSError):
        for mounted in [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]:
            if Path(mounted).is_relative_to(place):
                subprocess.run(["umount", "--lazy", mounted], check=False)
    shutil.rmtree(place, ignore_errors=True)
