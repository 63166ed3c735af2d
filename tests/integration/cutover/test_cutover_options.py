# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a handover brings besides replicated tables, what it refuses, and what operators may choose."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import replace

import psycopg2
import pytest
from cutovers import (
    CLERK,
    USERS,
    await_commits,
    await_step,
    cut_over,
    eventually_same,
    handed_over,
    hold_at,
    homes,
    let_go,
    make_bank,
    options,
    refusal,
    start_cutover,
)
from dumps import JOURNAL, look
from faults import await_that
from migrations import copy_roles, in_step
from support import assert_same, run_module

from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from lab import sample
from lab.bank import Bank

OURS = (*JOURNAL, r"[\w ]+/(publication |subscription )?handover.*", r".*handover_fence.*")


def test_everything_is_brought_there_and_back(servers, tmp_path):
    """Tables without identity, unlogged, partitioned, with constraints that rows do not fulfil; large objects;
    sequences of every kind."""
    source, target = servers(16), servers(18)
    sample.create(source.connect, "shop", scale=0.01)
    copy_roles(source, target, tmp_path)
    in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
    there = handed_over(cut_over(source, target, sequence_margin=0))
    assert there["copied_rows"] and there["large_objects"] and there["sequences"]
    assert there["to_enable"]["disabled_triggers"] == ["off_duty on shop.product"]
    assert_same(look(source, "shop"), look(target, "shop"), OURS)

    target.sql("shop", "DELETE FROM shop.review WHERE ctid IN (SELECT ctid FROM shop.review LIMIT 3) RETURNING 1")
    target.sql("shop", "INSERT INTO shop.category (name) VALUES ('made there') RETURNING 1")
    target.sql("shop", "SELECT lo_from_bytea(0, 'made there'), setval('shop.never_called', 77)")
    handed_over(cut_over(source, target, sequence_margin=0, direction="back"))
    assert source.sql("shop", "SELECT count(*) FROM shop.category WHERE name = 'made there'") == [(1,)]
    assert_same(look(target, "shop"), look(source, "shop"), OURS)


def test_a_way_back_for_all_or_nothing_begins(servers, new_cluster):
    """The source has one apply worker for two databases, so the second would be left without a way back."""
    source = new_cluster(15, settings={"wal_level": "logical", "max_logical_replication_workers": 1})
    target = servers(18)
    make_bank(source, target, "shop", "depot")
    both = {"databases": ["shop", "depot"]}
    for result in (cut_over(source, target, **both), cut_over(source, target, together=True, **both)):
        assert result.failed and not result.changed, result
        assert "max_logical_replication_workers of the source is 1, and 0 are in use." in result.msg
        assert "max_logical_replication_workers of the source to 2 or more" in result.msg
    forecast = cut_over(source, target, check=True, **both).databases
    assert [one["ready"] for one in forecast] == [False, False]
    assert all("source" in homes(source, target, name) for name in both["databases"])
    assert handed_over(cut_over(source, target, reverse=True))["way_back"]
    full = handed_over(cut_over(source, target, databases=["depot"]))
    assert full["obstacles_to_way_back"] == ["max_logical_replication_workers of the source is 1, and 1 are in use."]


def test_ways_back_are_proven_beside_the_windows_of_others(servers, new_cluster, tmp_path):
    """One that does not work is said of its database, also where another's window fails; and before 16, where workers
    start once in an interval, nobody waits for them.
    """
    names, source, target = ["shop", "depot", "annex"], servers(15), new_cluster(15)
    make_bank(source, target, *names)
    target.sql("postgres", "CREATE ROLE returner SUPERUSER LOGIN PASSWORD 'comes back'")
    given = {"databases": names, "reverse_replication": {"user": "returner", "password": "comes back"}}

    env = hold_at(tmp_path / "hold", "commit", after=1)
    running = start_cutover(source, target, env=env, deadline="4s", **given)
    await_step(tmp_path / "hold", running)
    target.sql("postgres", "ALTER ROLE returner NOLOGIN")  # the worker of the first has logged in
    with contextlib.closing(source.connect("annex", autocommit=False)) as session:
        session.cursor().execute("LOCK TABLE bank.account IN SHARE MODE")
        let_go(tmp_path / "hold")
        failed = running.wait()
    assert failed.failed and failed.msg.startswith('Database "annex": '), failed.msg
    assert "Handed over in this run: shop, depot." in failed.msg
    assert 'Database "depot": The handover succeeded, but some follow-up steps failed: The way back' in failed.msg
    assert [bool(one["problems"]) for one in failed.databases] == [False, True], failed.databases
    assert [homes(source, target, name) for name in names[:2]] == [["target"]] * 2 and refusal(source, "annex") == ""

    target.sql("postgres", "ALTER ROLE returner LOGIN")
    done = cut_over(source, target, **given)
    assert not done.failed and all("way_back_seconds" in one for one in done.databases), done

    target.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '8s'")
    target.sql("postgres", "SELECT pg_reload_conf()")
    done = cut_over(source, target, direction="back", databases=names)
    assert not done.failed and all("way_back_seconds" in one for one in done.databases), done
    started = """
        SELECT backend_start FROM pg_stat_activity JOIN pg_stat_subscription USING (pid) WHERE datname = 'depot'"""
    ((last,),) = target.sql("annex", "SELECT rolled_back FROM handover.migration")
    assert last < target.sql("postgres", started)[0][0], "the last window was over before the second's worker started"

    target.sql("postgres", "ALTER SYSTEM RESET ALL")
    target.configure(max_connections=6)  # room for one database, and not for a second beside it
    target.restart()
    done = cut_over(source, target, **given)
    assert not done.failed and all(one["handed_over"] and one["changed"] for one in done.databases), done


def test_all_together_or_none(servers, pooler):
    source, target = servers(15), servers(18)
    make_bank(source, target, "shop", "depot")
    front = pooler(source, users=USERS)
    both = {"databases": ["shop", "depot"], "together": True}
    refused = cut_over(source, target, front, databases=both["databases"])
    assert refused.failed and "together: true" in refused.msg
    with Bank(front.endpoint(**CLERK), "shop", rate=60) as one, Bank(front.endpoint(**CLERK), "depot", rate=60) as two:
        with contextlib.closing(source.connect("depot", autocommit=False)) as session:
            session.cursor().execute("LOCK TABLE bank.account IN SHARE MODE")
            result = cut_over(source, target, front, deadline="2s", **both)
            assert result.failed and str(session.info.backend_pid) in result.msg, result.msg
        for name in both["databases"]:
            assert "source" in homes(source, target, name)
        await_commits(one)
        result = cut_over(source, target, front, fence_roles=["clerk"], **both)
        assert not result.failed and [found["handed_over"] for found in result.databases] == [True, True], result
        assert [found["fenced_roles"] for found in result.databases] == [["clerk"], ["clerk"]]
        await_commits(two)
    with pytest.raises(psycopg2.OperationalError, match="not permitted to log in"):
        source.connect("depot", **CLERK)
    for load, name in ((one, "shop"), (two, "depot")):
        assert homes(source, target, name) == ["target"]
        assert load.failures == [] and load.problems(target.connect(name)) == []


def test_what_fails_in_one_database_ends_what_another_waits_for(servers, pooler, tmp_path):
    """And is what is told: that the other one was given up follows from it."""
    source, target = servers(15), servers(18)
    make_bank(source, target, "shop", "depot")
    front = pooler(source, users=USERS)
    both = {"databases": ["shop", "depot"], "together": True}
    running = start_cutover(source, target, front, env=hold_at(tmp_path / "hold", "pause"), deadline="60s", **both)
    await_step(tmp_path / "hold", running)
    with contextlib.closing(target.connect("shop", autocommit=False)) as session:
        session.cursor().execute("LOCK TABLE bank.account")  # so that this does not arrive
        source.sql("shop", "UPDATE bank.account SET balance = balance WHERE id = 1")
        ours = "application_name = 'handover' AND datname = 'depot'"
        source.sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
        began = time.monotonic()
        let_go(tmp_path / "hold")
        result = running.wait(timeout=90)
        took = time.monotonic() - began
    assert result.failed and result.msg.startswith('Database "depot": '), result.msg
    assert took < 30, "less than the deadline"
    for name in both["databases"]:
        assert homes(source, target, name) == ["source"]
    done = cut_over(source, target, front, **both)
    assert not done.failed and [one["handed_over"] for one in done.databases] == [True, True], done


def test_all_together_killed_between_the_commits(servers, pooler, tmp_path):
    """The first database is taken back, with its roles, as nobody can have written at its new home; not while another
    run goes on with it, which would let it in there."""
    source, target = servers(15), servers(18)
    make_bank(source, target, "shop", "depot")
    front = pooler(source, users=USERS)
    both = {"databases": ["shop", "depot"], "together": True}
    with Bank(front.endpoint(**CLERK), "shop", rate=60) as load:
        env = hold_at(tmp_path / "hold", "commit", after=1)
        running = start_cutover(source, target, front, env=env, fence_roles=["clerk"], **both)
        await_step(tmp_path / "hold", running)
        assert homes(source, target, "shop") == []
        with turn_of_another_run(source, target, running.kill):
            time.sleep(0.5)
            assert homes(source, target, "shop") == []
        await_commits(load)
        for name in both["databases"]:
            assert "source" in homes(source, target, name)
            source.connect(name, **CLERK).close()
    assert load.failures == [] and load.problems(source.connect("shop")) == []


@contextlib.contextmanager
def turn_of_another_run(source, target, end):
    """It waits for its turn with the database shop, and gets it with the ``end`` of the first."""
    ((identifier,),) = target.sql("shop", "SELECT id FROM handover.migration")
    with contextlib.closing(source.connect("shop")) as session:
        wait = "SELECT pg_advisory_lock(hashtextextended('handover.postgresql migration ' || %s, 0))"
        waiting = threading.Thread(target=session.cursor().execute, args=[wait, [identifier]])
        waiting.start()
        waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await_that(lambda: source.sql("shop", waits), "the other run to wait")
        end()
        waiting.join()
        yield


def test_without_a_pooler(servers):
    """Roles, sessions and a command of the operator's; a rollback gives the role its LOGIN back."""
    source, target = servers(13), servers(17)
    make_bank(source, target, "shop", "depot")
    refuses_roles_that_log_in_for_us(source, target)
    command = [sys.executable, "-c", "import sys; sys.exit('no such record')"]
    with contextlib.closing(source.connect("shop", **CLERK)) as session:
        result = cut_over(source, target, fence_roles=["clerk"], terminate_sessions=True, switch_command=command)
        with pytest.raises(psycopg2.OperationalError):
            session.cursor().execute("SELECT 1")
    assert result.failed and result["handed_over"] and "no such record" in result.msg
    assert homes(source, target) == ["target"]
    with pytest.raises(psycopg2.OperationalError, match="not permitted to log in"):
        source.connect("shop", **CLERK)
    target.connect("shop", **CLERK).close()
    one_of_two_comes_back_with_its_roles(source, target)
    source.sql("postgres", "ALTER ROLE clerk NOLOGIN")
    handed_over(cut_over(source, target, direction="back", switch_command=[sys.executable, "-c", ""]))
    source.connect("shop", **CLERK).close()
    assert homes(source, target) == ["source"]

    with contextlib.closing(source.connect("shop")) as session:  # a run that ended while it opened the fence
        half_open = replace(fence.read(session), roles=("clerk", "dropped meanwhile"))
        session.cursor().execute("ALTER ROLE clerk NOLOGIN")
        session.cursor().execute(fence.define(half_open, ""))
        ours = half_open.migration
        assert not fence.open_(session, "another") and fence.open_(session, ours) and not fence.open_(session, ours)
    source.connect("shop", **CLERK).close()


def one_of_two_comes_back_with_its_roles(source, target):
    """Though the other one's window took LOGIN; a role that had none before gets none, and a database that cannot be
    asked why is named."""
    source.sql("postgres", "CREATE ROLE staff NOLOGIN")
    source.sql("postgres", "CREATE DATABASE attic ALLOW_CONNECTIONS false")
    there = handed_over(cut_over(source, target, databases=["depot"], fence_roles=["staff", "clerk"]))
    assert there["fenced_roles"] == ["clerk"], there
    assert "staff had no LOGIN before. It is unknown whether a handover of attic took it" in str(there["notices"])
    handed_over(cut_over(source, target, databases=["depot"], direction="back"))
    logins = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname IN ('clerk', 'staff')"
    assert source.sql("depot", logins) == [("clerk",)]
    source.connect("depot", **CLERK).close()
    assert (homes(source, target), homes(source, target, "depot")) == (["target"], ["source"])


def refuses_roles_that_log_in_for_us(source, target):
    """Ours, that of the stream, and that of the stream after a rollback; with --check, too."""
    carrier = {"user": "carrier", "password": "a carrier's password"}
    source.sql("postgres", "CREATE ROLE carrier SUPERUSER LOGIN PASSWORD %s", (carrier["password"],))
    conninfo = psycopg2.extensions.make_dsn(**source.endpoint("shop", **carrier))
    ours = "SELECT subname FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid WHERE datname = 'shop'"
    ((name,),) = target.sql("shop", ours)
    target.sql("shop", f"ALTER SUBSCRIPTION {name} CONNECTION %s", (conninfo,))
    await_that(lambda: source.sql("shop", "SELECT 1 FROM pg_stat_replication WHERE usename = 'carrier'"), "the carrier")
    cases = ("postgres", {"check": True}), ("postgres", {}), ("carrier", {"check": True})
    for role, more in (*cases, ("clerk", {"check": True, "replication": CLERK})):
        refused = cut_over(source, target, fence_roles=[role], **more)
        assert refused.failed and f"fence_roles names {role}" in refused.msg, refused
    assert "source" in homes(source, target)


def test_what_stands_in_the_way_is_said(servers, tmp_path):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    unverified = cut_over(source, target, require_verification=True)
    assert unverified.failed and "were not verified" in unverified.msg
    source.sql("shop", "ALTER TABLE bank.account ADD note text; ALTER TABLE bank.account DROP note")
    source.sql("shop", "ALTER TABLE bank.ledger ADD note text")
    with contextlib.closing(target.connect("shop", autocommit=False)) as session:
        session.cursor().execute("DELETE FROM bank.ledger WHERE false")
        refused = cut_over(source, target, check=True)
        closed = {gate["gate"]: gate["problem"] for gate in refused.databases[0]["gates"] if not gate["ok"]}
        assert set(closed) == {"drift", "writers"} and not refused.databases[0]["ready"]
        assert "column note was added" in closed["drift"] and str(session.info.backend_pid) in closed["writers"]
    source.sql("shop", "ALTER TABLE bank.ledger DROP note")
    running = start_cutover(source, target, env=hold_at(tmp_path / "hold", "lock"))
    await_step(tmp_path / "hold", running)
    source.sql("shop", "ALTER TABLE bank.ledger ADD late text")
    let_go(tmp_path / "hold")
    result = running.wait()
    assert result.failed and "just now" in result.msg and "late was added" in result.msg, result
    assert "source" in homes(source, target)
    source.sql("shop", "ALTER TABLE bank.ledger DROP late")
    handed_over(cut_over(source, target))


def test_a_pooler_that_leads_elsewhere(servers, pooler):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    front = pooler(source, users=USERS)

    def lead(home):
        front.lead("shop", home)
        front.console("RELOAD")
        home.sql("shop", "SELECT 1", port=front.port, **CLERK)

    lead(target)
    refused = run_module("pg_cutover", options(source, target, front))
    assert refused.failed and "points at another server than the source" in refused.msg, refused.msg
    assert "source" in homes(source, target)

    lead(source)
    forgotten = run_module("pg_cutover", options(source, target, front))
    assert forgotten.failed and forgotten["handed_over"] and "does not point at the new home" in forgotten.msg, (
        forgotten
    )
    source.sql("shop", "SELECT 1", port=front.port, **CLERK)
    front.lead("shop", target)
    again = run_module("pg_cutover", options(source, target, front))
    assert again.changed and handed_over(again)["poolers"][0]["leads_to_new"] is not False, again
    target.sql("shop", "SELECT 1", port=front.port, **CLERK)
    once_more = run_module("pg_cutover", options(source, target, front))
    assert not once_more.changed and handed_over(once_more)["poolers"][0]["leads_to_new"], once_more


def test_the_verification_of_the_collection_opens_the_gate(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    assert not run_module("pg_verify", ends).failed
    handed_over(cut_over(source, target, require_verification=True))


def test_no_way_back(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    wrong = {"reverse_replication": {"port": 1, "host": "127.0.0.1"}}
    refused = cut_over(source, target, reverse=True, **wrong)
    assert refused.failed and "The way back needs a subscription from the source to the target" in refused.msg, (
        refused.msg
    )
    assert homes(source, target) == ["source", "target"]
    found = handed_over(cut_over(source, target, **wrong))
    assert not found["way_back"] and found["obstacles_to_way_back"]
    assert homes(source, target) == ["target"]
    back = cut_over(source, target, direction="back")
    assert back.failed and "no longer flow" in back.msg, back.msg


def test_a_transaction_that_holds_apply_up_makes_the_handover_wait(servers, tmp_path):
    """Nothing is missing where the target was behind when the window was opened."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    running = start_cutover(source, target, env=hold_at(tmp_path / "hold", "lock"))
    await_step(tmp_path / "hold", running)
    with contextlib.closing(target.connect("shop", autocommit=False)) as session:
        session.cursor().execute("LOCK TABLE bank.ledger IN SHARE MODE")
        source.sql(
            "shop",
            "INSERT INTO bank.ledger (run, client, number, words)"
            " SELECT 1, 1, n, repeat('x', 500) FROM generate_series(1, 20000) AS n",
        )
        let_go(tmp_path / "hold")
        time.sleep(0.5)
        assert running.process.poll() is None
    handed_over(running.wait())
    assert target.sql("shop", "SELECT count(*) FROM bank.ledger") == [(20000,)]
    eventually_same(lambda: source.sql("shop", "SELECT count(*) FROM bank.ledger"), [(20000,)])
