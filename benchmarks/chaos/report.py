# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed: a line for each job, and the table."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable

from benchmarks.chaos.cycle import Outcome

MEASURES = ("tried", "completed", "again", "refused", "violations")


def opening(arguments: argparse.Namespace) -> str:
    """What is about to be done."""
    who = "without a superuser on targets from 16 on" if arguments.non_superuser else "as superusers"
    pairs, lanes = " ".join(arguments.pairs), arguments.lanes
    return f"seed {arguments.seed}; {arguments.faults} faults; {pairs}; {who}; {lanes} lanes on {os.cpu_count()} cores"


def lines(outcome: Outcome, seed: int) -> Iterable[str]:
    """One for a job, and one for each violation."""
    if outcome.fault != "(end)":
        what = f"{outcome.fault} ({outcome.detail})" if outcome.detail else outcome.fault
        runs = f"{outcome.first}" + (f", {outcome.last} at run {outcome.runs}" if outcome.runs > 1 else "")
        yield (
            f"{seed}:{outcome.cycle:<4} {outcome.pair:<6} {outcome.job:<10} {what:<46} {runs:<32}"
            f"{outcome.seconds:5.1f} s  at {outcome.moment[:70]}"
        )
    for text in outcome.violations:
        yield f"{seed}:{outcome.cycle} VIOLATION {outcome.pair} {outcome.job} {outcome.fault} {outcome.detail}: {text}"
    if outcome.violations:
        yield f"    moment {outcome.moment}; it said: {outcome.said}"


def table(outcomes: list[Outcome], arguments: argparse.Namespace, seconds: float) -> str:
    """Kinds of faults by jobs: how many were tried; completed at once, or when run again; refused rightly; violated."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for one in outcomes:
        if one.fault == "(end)" and not one.violations:
            continue
        measures = ["tried"] if one.fault != "(end)" else []
        measures += ["violations"] if one.violations else []
        if one.fault != "(end)":
            last = {"completed": "completed" if one.runs == 1 else "again", "refused": "refused"}.get(one.last)
            measures += [last] if last and not one.violations else []
        for measure in measures:
            counts[one.fault, one.job, measure] += 1
    rows = sorted({key[:2] for key in counts})
    text = [f"\n| fault | job | {' | '.join(MEASURES)} |", "|---|---|" + "---|" * len(MEASURES)]
    text += [
        f"| {fault} | {job} | " + " | ".join(str(counts[fault, job, m]) for m in MEASURES) + " |" for fault, job in rows
    ]
    total = [sum(count for key, count in counts.items() if key[2] == measure) for measure in MEASURES]
    text.append("| all | | " + " | ".join(map(str, total)) + " |")
    cycles = sorted({one.cycle for one in outcomes if one.violations})
    text.append(
        f"\n{total[0]} faults in {seconds / 60:.1f} minutes, {seconds / max(1, total[0]):.1f} s each; "
        f"{len({one.cycle for one in outcomes})} cycles; violated: "
        + (", ".join(f"{arguments.seed}:{cycle}" for cycle in cycles) or "none")
    )
    if cycles:
        text.append(f"logs and data are in {arguments.keep}")
    return "\n".join(text)
