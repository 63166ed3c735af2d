# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A continuous migration that is killed, or whose servers go, at random points: a rerun goes on, nothing is lost."""

from __future__ import annotations

import random
import time

import psycopg2
import pytest
from migrations import assert_kept_up, copy_roles, finished, in_step, start_migration, stopped, traces

from lab import sample
from lab.workload import Workload

WAYS = ["kill"] * 5 + ["terminate", "stop source", "stop target", "crash source", "crash target"]

# How far a run has come, asked of the journal. %s is how many tables were finished when it began.
MILESTONES = {
    "wave": "SELECT 1 FROM handover.wave WHERE state = 'copying' AND lsn IS NULL AND %s IS NOT NULL",
    "slot": "SELECT 1 FROM handover.wave WHERE state = 'copying' AND lsn IS NOT NULL AND %s IS NOT NULL",
    "copying": "SELECT 1 FROM handover.wave_table WHERE state = 'copying' AND %s IS NOT NULL LIMIT 1",
    "more finished": "SELECT 1 FROM handover.wave_table WHERE state = 'indexed' HAVING count(*) > %s",
    "subscribed": "SELECT 1 FROM handover.wave WHERE state = 'subscribed' HAVING count(*) > 0 AND %s IS NOT NULL",
}
POINTS = ["start", "wave", "slot", "copying", "more finished"] * 4
FINISHED = "SELECT count(*) FROM handover.wave_table WHERE state = 'indexed'"


def ask(target, query: str, *params):
    """What the journal says, or nothing if there is none."""
    try:
        return target.sql("shop", query, params or None)
    except psycopg2.Error:
        return []


def await_point(running, target, point: str, before: int) -> None:
    """Until a run has come that far, or has ended."""
    deadline = time.monotonic() + 5
    if point == "start":
        await_end(running, 0.5)
    while point in MILESTONES and running.process.poll() is None and time.monotonic() < deadline:
        if ask(target, MILESTONES[point], before):
            return
        time.sleep(0.01)


def strike(how: str, running, source, target) -> None:
    """One of the ways in which a run is interrupted."""
    if how == "kill":
        running.kill_family()
    elif how == "terminate":
        running.process.terminate()
        await_end(running, 20)
        assert running.process.poll() is not None
    else:
        server = source if "source" in how else target
        server.kill() if "crash" in how else server.stop()
        server.start()
        await_end(running, 3)  # unless it had not begun with that server
    running.kill_family()


def await_end(running, seconds: float) -> None:
    """Until a run has ended, or so many seconds are over."""
    deadline = time.monotonic() + seconds
    while running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize("seed", [4711])
def test_interruptions(new_cluster, tmp_path, seed):
    source, target = new_cluster(15), new_cluster(18)
    dice = random.Random(seed)
    sample.create(source.connect, "shop", scale=0.3)
    copy_roles(source, target, tmp_path)
    given = {"databases": ["shop"], "no_identity": "full", "max_rate": "800kB"}
    with Workload(source.endpoint(), "shop", rate=60, clients=2) as clients:
        for point in dice.sample(POINTS, len(POINTS)):
            [(before,)] = ask(target, FINISHED) or [(0,)]
            running = start_migration(source, target, **given)
            await_point(running, target, point, before)
            time.sleep(dice.uniform(0, 0.4))
            strike(dice.choice(WAYS), running, source, target)
        begun = in_step(source, target, **{**given, "max_rate": None})
    unexpected = [one for one in clients.failures if not (one.sqlstate or "57P01").startswith(("57P", "08"))]
    assert not unexpected
    found = in_step(source, target, **given)
    assert found["waves"] == begun["waves"]
    assert found["pending"] == []
    assert ask(target, "SELECT 1 FROM handover.event WHERE kind = 'interrupted'")
    assert_kept_up(source, target, "shop", found)
    stopped(source, target, databases=["shop"])
    finished(source, target, databases=["shop"])
    assert traces(source, "shop") == traces(target, "shop") == []
