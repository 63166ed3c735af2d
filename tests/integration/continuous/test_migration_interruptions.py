# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A continuous migration that is killed, or whose servers go, at random points: a rerun goes on, nothing is lost."""

from __future__ import annotations

import random
import time

import psycopg2
import pytest
from faults import brake
from migrations import assert_kept_up, copy_roles, finished, in_step, start_migration, stopped, traces
from support import create_database

from lab import sample
from lab.workload import Workload

WAYS = ["kill"] * 5 + ["terminate", "stop source", "stop target", "crash source", "crash target"]

# How far a run has come, asked of the journal. %s is when it was started.
MILESTONES = {
    "wave": "SELECT 1 FROM handover.wave WHERE state = 'copying' AND started > %s",
    "slot": "SELECT 1 FROM handover.wave WHERE state = 'copying' AND lsn IS NOT NULL AND started > %s",
    "copying": "SELECT 1 FROM handover.wave_table WHERE started > %s LIMIT 1",
    "finished": "SELECT 1 FROM handover.wave_table WHERE copied > %s LIMIT 1",
}
POINTS = ["start", *MILESTONES] * 4


def ask(target, query: str, *params):
    """What the journal says, or nothing if there is none."""
    try:
        return target.sql("shop", query, params or None)
    except psycopg2.Error:
        return []


def await_point(running, target, point: str, began) -> None:
    """Until a run has come that far, or has ended."""
    deadline = time.monotonic() + 5
    if point == "start":
        await_end(running, 0.5)
    while point in MILESTONES and running.process.poll() is None and time.monotonic() < deadline:
        if ask(target, MILESTONES[point], began):
            return
        time.sleep(0.01)


def strike(how: str, running, source, target) -> None:
    """One of the ways in which a run is interrupted."""
    if how == "kill":
        running.kill_family()
    elif how == "terminate":
        running.process.terminate()
        await_end(running, 60)
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
            [(began,)] = target.sql("postgres", "SELECT clock_timestamp()")
            running = start_migration(source, target, **given)
            await_point(running, target, point, began)
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


def test_an_interruption_after_the_last_row(servers):
    """What comes after the rows is made by the next run, though no table waits for a wave."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE yard_reader")
    source.sql(
        "yard",
        """
        CREATE TABLE keyed (id int PRIMARY KEY); INSERT INTO keyed SELECT generate_series(1, 100);
        CREATE TABLE child (id int PRIMARY KEY REFERENCES keyed); INSERT INTO child SELECT id FROM keyed;
        CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER same BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION same();
        ALTER TABLE child ENABLE ALWAYS TRIGGER same;
        ALTER TABLE child ENABLE ROW LEVEL SECURITY; GRANT SELECT ON keyed TO yard_reader;
        ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO yard_reader""",
    )
    running = start_migration(source, target, databases=["yard"])
    with brake(target) as stop:
        stop.until("ALTER DEFAULT PRIVILEGES")  # all else is granted before the rows come
        running.kill_family()
    states = "SELECT DISTINCT state FROM handover.wave_table"
    assert target.sql("yard", states) == [("indexed",)]
    source.sql("yard", "UPDATE child SET id = id WHERE id < 10; DELETE FROM child WHERE id = 50")
    found = in_step(source, target, databases=["yard"])
    assert len(found["waves"]) == 1
    assert_kept_up(source, target, "yard", found, ignore=["triggers/same on public.child"])
    state = "SELECT tgenabled FROM pg_trigger WHERE tgname = 'same'"
    assert target.sql("yard", state) == [("O",)]  # so that it does not fire for what is replicated
