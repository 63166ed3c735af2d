# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a window that does not end as it began: killed, too late, in the way, or with the other end gone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import psycopg2
import pytest
from cutovers import (
    CLERK,
    USERS,
    await_commits,
    await_step,
    cut_over,
    handed_over,
    hold_at,
    homes,
    let_go,
    make_bank,
    start_cutover,
)
from faults import await_that
from support import COLLECTIONS, create_database

from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import slot
from lab.bank import Bank

BEFORE = ["pause", "lock", "beacon", "apply", "sequences", "large_objects", "commit"]
AFTER = ["open", "reload", "resume"]
LOCKED = "SELECT 1 FROM pg_locks WHERE mode = 'ShareRowExclusiveLock'"


@pytest.fixture
def pair(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    return source, target


def test_killed_before_the_commit(pair, pooler, tmp_path):
    """Clients notice nothing: what is left behind lets them go on where they are; the next run hands over."""
    source, target = pair
    front = pooler(source, users=USERS)
    with Bank(front.endpoint(**CLERK), rate=100) as load:
        for step in BEFORE:
            kill_at(step, tmp_path, source, target, front)
            await_commits(load)
            assert "source" in homes(source, target), step
        handed_over(cut_over(source, target, front))
        await_commits(load)
    assert homes(source, target) == ["target"]
    assert load.failures == [] and load.problems(target.connect("shop")) == []


def test_killed_after_the_commit(pair, pooler, tmp_path):
    """Clients notice nothing: what is left behind lets them go on at the new home; the next run does the rest."""
    source, target = pair
    front = pooler(source, users=USERS)
    with Bank(front.endpoint(**CLERK), rate=100) as load:
        for step, direction, home in zip(AFTER, ("forward", "back", "forward"), ("target", "source", "target")):
            kill_at(step, tmp_path, source, target, front, direction=direction)
            await_commits(load)
            assert homes(source, target) == [home], step
            other = "back" if direction == "forward" else "forward"
            assert "begun and not completed" in cut_over(source, target, direction=other).msg
            assert homes(source, target) == [home], step
            assert handed_over(cut_over(source, target, front, direction=direction))["way_back"]
        await_commits(load)
    assert load.failures == [] and load.problems(target.connect("shop")) == []


def test_killed_together_with_what_would_finish(pair, pooler, tmp_path):
    """As a migrator that loses power: a pooler stays paused until the next run, even one that is refused."""
    source, target = pair
    front = pooler(source, users=USERS)
    with Bank(front.endpoint(**CLERK), rate=100) as load:
        running = start_cutover(source, target, front, env=hold_at(tmp_path / "hold", "apply"))
        await_step(tmp_path / "hold", running)
        for pid in running.family():
            os.kill(pid, signal.SIGSTOP)
            shown = [Path(f"/proc/{pid}/{what}").read_text() for what in ("cmdline", "environ")]
            assert not any(each.password in text for each in (source, target, front) for text in shown), shown
        running.kill_family()
        await_that(lambda: not source.sql("shop", LOCKED), "the end of the locks")
        assert any(pool["paused"] for pool in front.console("SHOW DATABASES"))
        assert cut_over(source, target, front, require_verification=True).failed
        await_commits(load)
        handed_over(cut_over(source, target, front))
        await_commits(load)
    assert load.failures == [] and load.problems(target.connect("shop")) == []


def test_a_signal_ends_what_other_threads_do(pair, pooler, tmp_path):
    """The thread that closes the fence goes on for a moment when the main thread has left."""
    source, target = pair
    front = pooler(source, users=USERS)
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_AT_FENCE)
    with Bank(front.endpoint(**CLERK), rate=100) as load:
        running = start_cutover(source, target, front, env={"PYTHONPATH": f"{tmp_path}:{COLLECTIONS}"})
        running.process.wait()
        await_commits(load)
        assert "source" in homes(source, target)
        await_that(lambda: not target.sql("shop", "SELECT 1 FROM pg_replication_slots"), "the end of the slot")
        handed_over(cut_over(source, target, front))
        await_commits(load)
    assert load.failures == [] and load.problems(target.connect("shop")) == []


def test_a_slot_that_a_killed_run_is_about_to_make(servers):
    """Its server does not notice that nobody listens any more, and would make it when the next run has looked."""
    server, name = servers(15), "handover_0123456789_back"
    create_database(server, "shop")
    with contextlib.closing(server.connect("shop")) as left, contextlib.closing(server.connect("shop")) as next_run:

        def work():
            with contextlib.suppress(psycopg2.OperationalError), left.cursor() as cursor:
                make = f"SELECT pg_sleep(2); SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
                cursor.execute(slot.maker(name) + make)

        thread = threading.Thread(target=work)
        thread.start()
        await_that(lambda: server.sql("shop", "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), "it")
        assert slot.drop(next_run, name) is False
        thread.join()
        assert server.sql("shop", "SELECT slot_name FROM pg_replication_slots") == []


SIGNAL_AT_FENCE = """
import os, signal, sys, time

def look(event, arguments):
    if event == "handover.step" and arguments[0] == "lock":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
    if event == "handover.step" and arguments[0] == "resume":
        time.sleep(1)

sys.addaudithook(look)
"""


def kill_at(step, tmp_path, *ends, **more):
    """Run up to a step, and kill -9 the module there."""
    running = start_cutover(*ends, env=hold_at(tmp_path / step, step), **more)
    await_step(tmp_path / step, running)
    running.kill()


def test_a_long_transaction_is_named_and_left_alone(pair, pooler):
    source, target = pair
    front = pooler(source, users=USERS)
    with contextlib.closing(source.connect("shop", autocommit=False)) as session:
        session.cursor().execute("UPDATE bank.account SET balance = balance WHERE id = 7")
        result = cut_over(source, target, front, deadline="2s")
        assert result.failed and f"process {session.info.backend_pid} " in result.msg, result.msg
        assert "source" in homes(source, target)
        session.commit()
    assert not front.console("SHOW DATABASES")[0]["paused"]
    handed_over(cut_over(source, target, front))


def test_a_transaction_through_the_pooler_makes_pausing_late(pair, pooler):
    source, target = pair
    front = pooler(source, users=USERS)
    with contextlib.closing(source.connect("shop", port=front.port, autocommit=False, **CLERK)) as session:
        session.cursor().execute("SELECT count(*) FROM bank.account")
        result = cut_over(source, target, front, deadline="1s")
        assert result.failed and "did not pause shop in time" in result.msg, result.msg
        session.commit()
    with Bank(front.endpoint(**CLERK), rate=50) as load:
        await_commits(load, 5)
    assert load.failures == []
    assert not source.sql("shop", LOCKED)
    assert not target.sql("shop", "SELECT 1 FROM pg_replication_slots")


def test_the_deadline_ends_the_window_whatever_it_waits_for(pair, pooler, tmp_path):
    """Apply is held up by a lock on the target: the source goes on."""
    source, target = pair
    front = pooler(source, users=USERS)
    with Bank(front.endpoint(**CLERK), rate=100) as load:
        running = start_cutover(source, target, front, deadline="1s", env=hold_at(tmp_path / "hold", "lock"))
        await_step(tmp_path / "hold", running)
        with contextlib.closing(target.connect("shop", autocommit=False)) as session:
            session.cursor().execute("LOCK TABLE handover.migration, bank.account IN ACCESS EXCLUSIVE MODE")
            source.sql("shop", "UPDATE bank.account SET balance = balance WHERE id = 1")
            let_go(tmp_path / "hold")
            result = running.wait()
            assert result.failed and ("in time" in result.msg or "its deadline" in result.msg), result.msg
        await_commits(load)
    assert "source" in homes(source, target)
    assert load.failures == [] and load.problems(source.connect("shop")) == []


@pytest.mark.parametrize(
    ("side", "step"),
    [
        ("source", "commit"),
        ("target", "lock"),
        ("target", "commit"),
        ("target", "open"),
    ],
)
def test_a_server_is_killed(new_cluster, pooler, tmp_path, side, step):
    source, target = new_cluster(15), new_cluster(18)
    make_bank(source, target)
    front = pooler(source, users=USERS)
    running = start_cutover(source, target, front, deadline="3s", env=hold_at(tmp_path / "hold", step))
    await_step(tmp_path / "hold", running)
    killed = source if side == "source" else target
    killed.kill()
    let_go(tmp_path / "hold")
    time.sleep(0.5)
    killed.start()
    result = running.wait()
    assert result.failed, result
    await_that(lambda: len(homes(source, target)) == 1, "one side that takes writes")
    assert homes(source, target) == (["target"] if step == "open" else ["source"])
    if step != "open":
        await_that(lambda: not target.sql("shop", "SELECT 1 FROM pg_replication_slots"), "the end of the slot")
    for pool in front.console("SHOW DATABASES"):
        assert not pool["paused"]
    handed_over(cut_over(source, target, front))
    assert homes(source, target) == ["target"]


def test_both_servers_crash_after_the_commit(new_cluster, tmp_path):
    """What the window did is on disk on both ends, also where the application does without that."""
    source, target = new_cluster(15), new_cluster(18)
    make_bank(source, target)
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER DATABASE shop SET synchronous_commit = off")
        cluster.sql("postgres", "ALTER SYSTEM SET wal_writer_delay = '10s'")
        cluster.sql("postgres", "SELECT pg_reload_conf()")
    ((beacon,),) = target.sql("shop", "SELECT relname FROM pg_class WHERE relname ~ '^beacon_.*[0-9]$'")
    running = start_cutover(source, target, reverse=False, env=hold_at(tmp_path / "hold", "open"))
    await_step(tmp_path / "hold", running)
    seen = target.sql("shop", f"SELECT n FROM handover.{beacon}")
    source.kill()
    target.kill()
    running.kill_family()
    source.start()
    target.start()
    assert target.sql("shop", f"SELECT n FROM handover.{beacon}") == seen
    assert homes(source, target) == []
    handed_over(cut_over(source, target, reverse=False))
    assert homes(source, target) == ["target"]


def test_the_pooler_is_killed(pair, pooler, tmp_path):
    source, target = pair
    front = pooler(source, users=USERS)
    running = start_cutover(source, target, front, env=hold_at(tmp_path / "hold", "reload"))
    await_step(tmp_path / "hold", running)
    front.stop()
    let_go(tmp_path / "hold")
    time.sleep(0.3)
    front.start()
    result = running.wait()
    assert homes(source, target) == ["target"]
    assert result.failed and result["handed_over"], result
    handed_over(cut_over(source, target, front))
    with Bank(front.endpoint(**CLERK), rate=50) as load:
        await_commits(load, 5)
    assert load.failures == [] and not load.problems(target.connect("shop"))


@pytest.mark.parametrize(
    ("side", "step", "home"),
    [
        ("source", "beacon", "source"),
        ("source", "commit", ""),
        ("target", "open", "target"),
    ],
)
def test_an_end_does_not_answer(new_cluster, tmp_path, side, step, home):
    """As with a network that is cut. The module ends, and says what it knows; there is one home when it is mended."""
    source, target = new_cluster(15), new_cluster(18)
    make_bank(source, target)
    running = start_cutover(source, target, deadline="2s", env=hold_at(tmp_path / "hold", step))
    await_step(tmp_path / "hold", running)
    with frozen(source if side == "source" else target):
        let_go(tmp_path / "hold")
        result = running.wait(timeout=90)
    assert result.failed, result
    if (side, step) == ("source", "commit"):
        assert result["unknown"] and "It is unknown" in result.msg, result.msg
    await_that(lambda: len(homes(source, target)) == 1, "one home", timeout=40)
    assert home in homes(source, target)[0]
    handed_over(cut_over(source, target))
    assert homes(source, target) == ["target"]


@pytest.mark.parametrize("step", ["beacon", "lock"])
def test_an_end_does_not_answer_when_the_other_has_ended_our_sessions(new_cluster, tmp_path, step):
    """So that going back does not come from the deadline, whose end cuts all sessions off."""
    source, target = new_cluster(15), new_cluster(18)
    make_bank(source, target)
    running = start_cutover(source, target, deadline="30s", env=hold_at(tmp_path / "hold", step))
    await_step(tmp_path / "hold", running)
    with frozen(source):
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'handover'"
        target.sql("postgres", ended)
        let_go(tmp_path / "hold")
        result = running.wait(timeout=25)
    assert result.failed, result
    await_that(lambda: len(homes(source, target)) == 1, "one home", timeout=40)
    assert homes(source, target) == ["source"]
    handed_over(cut_over(source, target))
    assert homes(source, target) == ["target"]


def children(pid):
    """The processes of a server."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def frozen(cluster):
    """A server none of whose processes does anything."""
    processes = [cluster.pid, *children(cluster.pid)]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
