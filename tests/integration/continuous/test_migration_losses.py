# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses of which logical replication says nothing: an end that goes back in time, or is altered behind our back."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import psycopg2
import pytest
from cutovers import cut_over, handed_over
from dumps import done, one, refused
from faults import await_that
from migrations import in_step, migrate
from support import create_database, run_module

FAST = {"wal_retrieve_retry_interval": "100ms"}
TABLES = """
    CREATE TABLE parent (id integer PRIMARY KEY, v text);
    INSERT INTO parent SELECT i, 'row ' || i FROM generate_series(1, 200) AS i;
    CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent, v text);
    INSERT INTO child SELECT i, i, 'row ' || i FROM generate_series(1, 200) AS i"""
ROWS = "SELECT 'parent', id, v FROM parent UNION ALL SELECT 'child', id, v FROM child ORDER BY 1, 2"


def begin(source, target):
    """In step, and found equal; the name of the stream."""
    create_database(source, "shop")
    source.sql("shop", TABLES)
    found = in_step(source, target, databases=["shop"])
    assert verify(source, target).databases[0]["verdict"] == "equal"
    assert not gates(source, target), "nothing is in the way"
    assert not one(migrate(source, target, databases=["shop"]))["changed"]
    return found["waves"][0]["name"]


def ends(source, target):
    return {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}


def verify(source, target, **more):
    return run_module("pg_verify", {**ends(source, target), **more})


def status(source, target):
    return done(run_module("pg_migration_info", ends(source, target))).databases[0]


def watched(source, target):
    """The level of the guard."""
    result = done(run_module("pg_migration_watch", ends(source, target)))
    [level] = [one["level"] for one in result.databases[0]["guards"] if one["guard"] == "continuity"]
    assert (level != "ok") == (result.tripped == ["shop"]), result.databases[0]["guards"]
    return level


def gates(source, target, **more):
    """Those that are closed, with what they say; verification is required."""
    result = cut_over(source, target, check=True, require_verification=True, **more)
    return {one["gate"]: one["problem"] for one in done(result).databases[0]["gates"] if not one["ok"]}


def insert(cluster, first, last):
    for table, columns in (("parent", "id, v"), ("child", "id, parent, v")):
        values = "i, 'later'" if table == "parent" else f"i, {first}, 'later'"
        cluster.sql(
            "shop", f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(%s, %s) AS i", (first, last)
        )


def applied(target, key):
    await_that(lambda: target.sql("shop", "SELECT 1 FROM child WHERE id = %s", (key,)), f"child {key}", 20)


def confirmed(source, target, key):
    """What was applied is on the target's disk, and the slot has gone on."""
    applied(target, key)
    [(position,)] = source.sql("postgres", "SELECT pg_current_wal_lsn()")
    query = "SELECT bool_and(confirmed_flush_lsn >= %s::pg_lsn) FROM pg_replication_slots WHERE slot_type = 'logical'"
    await_that(lambda: source.sql("shop", query, (position,)) == [(True,)], "the slot to go on")


def assert_broken(source, target, *words):
    """Everybody says so, and nobody goes on, not on the verification of before either."""
    found = status(source, target)
    assert found["continuity"], found
    assert all(word in " ".join(one["problem"] for one in found["continuity"]) for word in words), found["continuity"]
    assert {error["kind"] for error in found["errors"]} >= {"continuity"} and "errors" in found["next"]
    assert found["verified"]["outdated"], found["verified"]
    assert watched(source, target) == "warning"
    refused(migrate(source, target, databases=["shop"]), *words)
    refusal = refused(cut_over(source, target, require_verification=True), *words)
    closed = {one["gate"]: one["problem"] for one in refusal.gates if not one["ok"]}
    assert all(word in closed["continuity"] for word in words), closed
    assert "does not count any more" in closed["verification"]


def assert_whole(source, target):
    """Everything is as it should be, and can be handed over once it is verified."""
    assert watched(source, target) == "ok"
    assert verify(source, target).databases[0]["verdict"] == "equal"
    assert not gates(source, target)
    assert not one(migrate(source, target, databases=["shop"]))["changed"]
    keys = "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f'"
    assert source.sql("shop", ROWS) == target.sql("shop", ROWS) and target.sql("shop", keys)[0][1]


def copy_again(source, target):
    found = in_step(source, target, databases=["shop"], refresh=True)
    assert found["changed"] and any("copied again" in text for text in found["notices"]), found
    assert_whole(source, target)


@pytest.fixture
def pair(servers):
    """``pair(15, 17)`` are two ends with a quick apply."""

    def make(source_major, target_major):
        source, target = servers(source_major), servers(target_major, "target")
        for cluster in (source, target):
            cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
            cluster.sql("postgres", "SELECT pg_reload_conf()")
        return source, target

    return make


def test_a_target_that_was_restored(servers, new_cluster):
    """To before the last look: what it shows is less than what it has shown; then to after it, which only cutover's
    demand for a verification of afterwards sees.
    """
    source, target = servers(15), new_cluster(17, settings=FAST)
    begin(source, target)
    target.save()
    insert(source, 1001, 1100)
    confirmed(source, target, 1100)
    assert status(source, target)["continuity"] == [], "which was started anew, and is as it was"
    assert watched(source, target) == "ok"
    target.go_back()
    insert(source, 2001, 2100)
    applied(target, 2100)
    assert len(source.sql("shop", ROWS)) - len(target.sql("shop", ROWS)) == 200, "are lost"
    assert_broken(source, target, "target", "restored")
    found = verify(source, target)
    assert found.failed and {one["object"] for one in found.databases[0]["different"]} == {
        "public.parent",
        "public.child",
    }
    copy_again(source, target)

    target.save()
    insert(source, 3001, 3100)
    confirmed(source, target, 3100)
    target.go_back()
    insert(source, 4001, 4100)
    applied(target, 4100)
    assert "was restarted" in gates(source, target)["verification"]
    assert any("was restarted" in text for text in status(source, target)["verified"]["outdated"])


@pytest.mark.parametrize("behind", [True, False], ids=["behind", "not-behind"])
def test_a_target_that_failed_over(servers, new_cluster, run_directory, behind):
    """Where nothing was lost, a verification says so, and all is well."""
    source, target = servers(18), new_cluster(18, settings=FAST)
    begin(source, target)
    standby = target.standby(run_directory / f"standby-{behind}")
    try:
        if behind:
            standby.stop()
        insert(source, 1001, 1100)
        confirmed(source, target, 1100)
        if not behind:
            [(position,)] = target.sql("postgres", "SELECT pg_current_wal_lsn()")
            replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            await_that(lambda: standby.sql("postgres", replayed, (position,)) == [(True,)], "the standby")
        standby.take_the_place_of(target)
        insert(source, 2001, 2100)
        applied(standby, 2100)
        assert_broken(source, standby, "target")
        if behind:
            assert verify(source, standby).failed
            copy_again(source, standby)
        else:
            assert verify(source, standby).databases[0]["verdict"] == "equal"
            assert_whole(source, standby)
    finally:
        standby.destroy()


def test_a_source_that_failed_over_and_a_slot_made_by_hand(servers, new_cluster, run_directory):
    source, target = new_cluster(15, settings=FAST), servers(17, "target")
    name = begin(source, target)
    standby = source.standby(run_directory / "standby-of-source")
    try:
        standby.stop()
        insert(source, 1001, 1100)
        applied(target, 1100)
        standby.take_the_place_of(source)
        await_that(lambda: standby.sql("postgres", "SELECT NOT pg_is_in_recovery()") == [(True,)], "promotion")
        found = status(standby, target)
        assert {error["kind"] for error in found["errors"]} >= {"slot", "continuity"}
        refused(migrate(standby, target, databases=["shop"]), "source")
        standby.sql("shop", "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        insert(standby, 2001, 2100)
        assert_broken(standby, target, "source")
        copy_again(standby, target)
    finally:
        standby.destroy()


def test_a_source_that_failed_over_with_its_slots(servers, new_cluster, run_directory):
    """The standby had what was sent: it is accepted, and a new verification is all that is asked for."""
    source, target = new_cluster(18, settings=FAST), servers(18, "target")
    name = begin(source, target)
    source.sql("postgres", "SELECT pg_create_physical_replication_slot('standby', true)")
    standby = source.standby(
        run_directory / "standby-with-slots",
        primary_slot_name="standby",
        sync_replication_slots="on",
        hot_standby_feedback="on",
    )
    try:
        source.configure(synchronized_standby_slots="standby")
        source.reload()
        target.sql("shop", f"ALTER SUBSCRIPTION {name} DISABLE")
        idle = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s"
        await_that(lambda: source.sql("postgres", idle, (name,)) == [(True,)], "the slot to be free")
        session = target.connect("shop")
        session.cursor().execute(f"ALTER SUBSCRIPTION {name} SET (failover = true)")
        session.cursor().execute(f"ALTER SUBSCRIPTION {name} ENABLE")
        session.close()
        insert(source, 1001, 1100)
        applied(target, 1100)
        assert watched(source, target) == "ok" and "altered" in gates(source, target)["verification"]
        synced = "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = %s"
        await_that(lambda: standby.sql("postgres", synced, (name,)) == [(True,)], "the slot on the standby")
        assert verify(source, target).databases[0]["verdict"] == "equal"
        assert not gates(source, target)
        standby.take_the_place_of(source)
        insert_when_promoted(standby)
        applied(target, 2100)
        assert "was replaced since" in gates(standby, target)["verification"]
        found = in_step(standby, target, databases=["shop"])
        assert any("it has everything that was sent" in text for text in found["notices"])
        assert_whole(standby, target)
    finally:
        standby.destroy()


def insert_when_promoted(standby):
    await_that(lambda: standby.sql("postgres", "SELECT NOT pg_is_in_recovery()") == [(True,)], "promotion")
    insert(standby, 2001, 2100)


def test_what_is_altered_behind_our_back(pair):
    """Each is seen, also when it was put back; what was lost is copied again, and what was not is verified."""
    source, target = pair(15, 17)
    name = begin(source, target)

    target.sql("shop", "INSERT INTO parent VALUES (1001, 'in the way')")
    insert(source, 1001, 1010)
    failing = await_that(lambda: failing_transaction(target, name), "the transaction in the log")
    target.sql("shop", f"ALTER SUBSCRIPTION {name} SKIP (lsn = '{failing}')")
    applied(target, 1010)
    assert len(source.sql("shop", ROWS)) - len(target.sql("shop", ROWS)) == 9, "were skipped"
    assert_broken(source, target, "altered by somebody", "SKIP")
    copy_again(source, target)

    [(name,)] = source.sql("shop", "SELECT pubname FROM pg_publication")
    source.sql("shop", f"ALTER PUBLICATION {name} DROP TABLE child")
    insert(source, 2001, 2100)
    await_that(lambda: target.sql("shop", "SELECT 1 FROM parent WHERE id = 2100"), "parent")
    assert_broken(source, target, "public.child")
    source.sql("shop", f"ALTER PUBLICATION {name} ADD TABLE child")
    assert watched(source, target) == "warning", "which does not bring back what was lost"
    copy_again(source, target)

    [name] = [one for (one,) in source.sql("shop", "SELECT pubname FROM pg_publication") if child_of(source, one)]
    every = "insert, update, delete, truncate"
    for end, kind, altered, as_before, word in (
        (source, "PUBLICATION", "SET (publish = 'insert')", f"SET (publish = '{every}')", "TRUNCATE"),
        (target, "SUBSCRIPTION", f"SET PUBLICATION {name}, more", f"SET PUBLICATION {name}", "other publications"),
    ):
        options = " WITH (refresh = false)" if kind == "SUBSCRIPTION" else ""
        end.sql("shop", f"ALTER {kind} {name} {altered}{options}")
        assert word in gates(source, target)["continuity"]
        end.sql("shop", f"ALTER {kind} {name} {as_before}{options}")
    make_slot_anew(source, target, name)
    assert_broken(source, target, "The publication", "The subscription", "Somebody made the slot")
    assert verify(source, target).databases[0]["verdict"] == "equal"
    assert_whole(source, target)


def test_a_server_that_crashed_counts_anew(pair):
    """As after kill -9 of any of its processes: its counters are gone, and the slot is the one that it was."""
    source, target = pair(15, 17)
    name = begin(source, target)
    for key in (1001, 1002, 1003):
        insert(source, key, key)
    confirmed(source, target, 1003)
    in_step(source, target, databases=["shop"])
    counted = "SELECT total_txns FROM pg_stat_replication_slots WHERE slot_name = %s"
    await_that(lambda: source.sql("postgres", counted, (name,))[0][0] > 3, "the counter")
    assert watched(source, target) == "ok"
    [(walsender,)] = source.sql("postgres", "SELECT pid FROM pg_stat_replication WHERE application_name = %s", (name,))
    os.kill(walsender, signal.SIGKILL)
    await_that(lambda: crashed(source, walsender), "the server to be back")
    insert(source, 2001, 2001)
    confirmed(source, target, 2001)
    [(count,)] = source.sql("postgres", counted, (name,))
    assert count < 4 and watched(source, target) == "ok"
    assert_whole(source, target)


def crashed(server, pid):
    with contextlib.suppress(psycopg2.Error):
        return server.sql("postgres", "SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)) == []
    return False


def make_slot_anew(source, target, name):
    target.sql("shop", f"ALTER SUBSCRIPTION {name} DISABLE")
    idle = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s"
    await_that(lambda: source.sql("postgres", idle, (name,)) == [(True,)], "the slot to be free")
    source.sql("shop", "SELECT pg_drop_replication_slot(%s)", (name,))
    source.sql("shop", "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    target.sql("shop", f"ALTER SUBSCRIPTION {name} ENABLE")


def child_of(source, publication):
    query = "SELECT 1 FROM pg_publication_tables WHERE pubname = %s AND tablename = 'child'"
    return source.sql("shop", query, (publication,))


def failing_transaction(target, name):
    """Where the transaction ends that cannot be applied, as the log says."""
    [(oid,)] = target.sql("shop", "SELECT oid FROM pg_subscription WHERE subname = %s", (name,))
    found = re.findall(rf'replication origin "pg_{oid}" .*finished at ([0-9A-F/]+)', target.log.read_text())
    return found[-1] if found else None


def test_the_way_back_is_watched_over_too(pair):
    source, target = pair(15, 17)
    begin(source, target)
    handed_over(cut_over(source, target, require_verification=True))
    assert watched(source, target) == "ok"
    [(name,)] = target.sql("shop", "SELECT pubname FROM pg_publication")
    target.sql("shop", f"ALTER PUBLICATION {name} DROP TABLE child")
    insert(target, 1001, 1100)
    target.sql("shop", f"ALTER PUBLICATION {name} ADD TABLE child")
    found = status(source, target)
    assert found["continuity"] and "no way back without loss" in found["errors"][0]["remedy"]
    assert watched(source, target) == "warning"
    refused(cut_over(source, target, direction="back"), "altered by somebody")
