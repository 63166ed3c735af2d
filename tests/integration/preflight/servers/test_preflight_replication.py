# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what logical replication needs of the servers, of the WAL that it holds back, and of what is there."""

from __future__ import annotations

import contextlib
import threading

import psycopg2
import pytest
from faults import await_that
from preflights import look, mend, run_script
from support import create_database

CAPACITY = ("wal_level", "replication_slots", "wal_senders", "apply_workers", "origins", "way_back")
HERE = (*CAPACITY, "output_plugins", "replication_timeouts", "slot_limits")
IN_PLACE = ("idle_slots", "consumers", "source_subscriptions", "standbys")
TIGHT = {
    "wal_level": "replica",
    "max_replication_slots": 1,
    "max_wal_senders": 1,
    "max_logical_replication_workers": 1,
    "max_worker_processes": 2,
}


@pytest.mark.parametrize(("old", "new"), [(13, 15), (17, 19), (19, 19)])
def test_servers_with_room(servers, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in (*HERE, *IN_PLACE):
        assert report.levels(check) == {"ok"}, report.of(check)
    assert report.levels("publications", dbname) == {"ok"}
    assert report.levels("wal_disk") == {"unknown"} and "a day" in report.of("wal_disk")[0]["seen"]


@pytest.mark.parametrize(("old", "setting"), [(15, "force_parallel_mode"), (17, "debug_parallel_query")])
def test_workers_of_a_query_are_not_in_the_way(servers, new_cluster, old, setting):
    """They are gone in a moment; a query of ours may have some, too."""
    source, target = new_cluster(old, settings={"max_worker_processes": 4}), servers(18, "target")
    source.sql("postgres", "CREATE DATABASE one")

    def workers():
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker'"
        return source.sql("postgres", query)

    with contextlib.ExitStack() as stack:
        for _number in range(3):
            session = stack.enter_context(contextlib.closing(source.connect()))
            session.cursor().execute(f"SET {setting} = on")
            threading.Thread(target=sleep, args=[session], daemon=True).start()
        await_that(lambda: len(workers()) == 3, "the workers")
        report = look(source.endpoint(), target.endpoint(), ["one"])
        assert len(workers()) == 3
        source.sql(
            "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        )
    assert "source.max_worker_processes" not in report.objects("way_back")


def sleep(session):
    with contextlib.suppress(psycopg2.Error):
        session.cursor().execute("SELECT pg_sleep(60)")


@pytest.mark.parametrize(("old", "new"), [(15, 17), (13, 18)])
def test_servers_without_room(new_cluster, old, new):
    tight = {**TIGHT, **({"max_active_replication_origins": 1} if new == 18 else {})}
    source, target = new_cluster(old, settings=TIGHT), new_cluster(new, settings=tight)
    for name in ("one", "two"):
        source.sql("postgres", f"CREATE DATABASE {name}")
    names = {"apply_workers": {"max_logical_replication_workers", "max_worker_processes"}}
    names["origins"] = {"max_active_replication_origins" if new == 18 else "max_replication_slots"}
    report = look(source.endpoint(), target.endpoint(), ["one", "two"])
    for check in ("wal_level", "replication_slots", "wal_senders", "apply_workers", "origins"):
        assert report.levels(check) == {"blocker"}, check
        assert report.objects(check, "blocker") == names.get(check, report.objects(check))
        assert all(one["methods"] == ["continuous"] for one in report.of(check))
    assert report.levels("way_back") == {"warning"}
    assert report.objects("way_back") >= {
        "target.wal_level",
        "target.max_replication_slots",
        "target.max_wal_senders",
        "source.max_replication_slots",
        "source.max_logical_replication_workers",
        "source.max_worker_processes",
    }
    assert [one["feasible_methods"] for one in report.report["databases"]] == [["dump"], ["dump"]]

    for check in CAPACITY:
        for one in report.of(check):
            server = target if check in ("apply_workers", "origins") or "target." in str(one["objects"]) else source
            mend(server, "postgres", [one])
    for server in (source, target):
        server.restart()
    report = look(source.endpoint(), target.endpoint(), ["one", "two"])
    for check in CAPACITY:
        assert report.levels(check) == {"ok"}, report.of(check)


def test_one_slot_for_each_database_is_enough_but_no_more(new_cluster):
    source = new_cluster(15, settings={"max_replication_slots": 1, "max_wal_senders": 1})
    source.sql("postgres", "CREATE DATABASE one")
    report = look(source.endpoint(), None, ["one"])
    assert report.levels("replication_slots") == report.levels("wal_senders") == {"info"}
    assert report.levels("apply_workers") == report.levels("origins") == report.levels("way_back") == {"unknown"}


def test_settings_that_lose_a_slot(servers):
    source, target = servers(18), servers(18, "target")
    dbname = create_database(source)
    for setting in (
        "wal_sender_timeout = '3s'",
        "max_slot_wal_keep_size = '64MB'",
        "idle_replication_slot_timeout = '1h'",
        "output_plugin_libraries = 'test_decoding'",
    ):
        source.sql("postgres", f"ALTER SYSTEM SET {setting}")
    target.sql("postgres", "ALTER SYSTEM SET wal_receiver_timeout = 0")
    for server in (source, target):
        server.sql("postgres", "SELECT pg_reload_conf()")
    source.sql(dbname, "CREATE TABLE t AS SELECT generate_series(1, 100000) AS i")
    report = look(source.endpoint(), target.endpoint(), [dbname])
    assert report.objects("replication_timeouts", "warning") == {
        "source.wal_sender_timeout",
        "target.wal_receiver_timeout",
    }
    assert report.objects("slot_limits", "warning") == {"max_slot_wal_keep_size", "idle_replication_slot_timeout"}
    assert "64 MB" in report.about("slot_limits", "max_slot_wal_keep_size")["seen"]
    assert "as of late, " in report.about("slot_limits", "max_slot_wal_keep_size")["seen"]
    assert report.levels("wal_disk") == {"ok"}
    assert report.of("output_plugins", "blocker")

    for finding in report.of("replication_timeouts") + report.of("slot_limits") + report.of("output_plugins"):
        mend(target if "target" in str(finding["objects"]) else source, "postgres", [finding])
    source.reload()
    target.reload()
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in ("replication_timeouts", "slot_limits", "output_plugins"):
        assert report.levels(check) == {"ok"}, report.of(check)
    admin = look(source.managed_admin(), target.endpoint(), [dbname])
    assert admin.levels("output_plugins") == {"unknown"}


def test_slots_that_nobody_reads_from(new_cluster):
    source = new_cluster(15, settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB", "max_wal_size": "32MB"})
    source.sql("postgres", "CREATE DATABASE shop")
    source.sql("shop", "SELECT pg_create_logical_replication_slot('lost', 'pgoutput')")
    source.sql("shop", "CREATE TABLE t (i int)")
    for _i in range(3):
        source.sql("shop", "INSERT INTO t SELECT generate_series(1, 200000)")
        source.sql("shop", "SELECT pg_switch_wal()")
        source.sql("shop", "CHECKPOINT")
    source.sql("shop", "SELECT pg_create_physical_replication_slot('left', true)")
    source.sql("shop", "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')")
    report = look(source.endpoint(), None, ["shop"])
    assert "without the WAL needed" in report.about("idle_slots", "lost")["seen"]
    assert set(report.of("idle_slots")[1]["objects"]) == {"left", "cdc"}
    assert report.objects("consumers", "warning") == {"lost", "cdc"}
    assert "cdc (test_decoding, database shop)" in report.of("consumers")[0]["seen"]
    mend(source, "shop", report.of("idle_slots"))
    report = look(source.endpoint(), None, ["shop"])
    assert report.levels("idle_slots") == report.levels("consumers") == {"ok"}


def test_a_source_that_publishes_and_subscribes(servers):
    source, other = servers(16), servers(15, "other")
    dbname, elsewhere = create_database(source), create_database(other)
    other.sql(elsewhere, "CREATE TABLE t (i int PRIMARY KEY)")
    other.sql(elsewhere, "CREATE PUBLICATION p FOR TABLE t")
    other.sql(elsewhere, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    source.sql(dbname, "CREATE TABLE t (i int PRIMARY KEY)")
    source.sql(dbname, 'CREATE PUBLICATION "all" FOR ALL TABLES')
    source.sql(dbname, "CREATE PUBLICATION handover_ours")
    connection = f"host=127.0.0.1 port={other.port} user=postgres password={other.password} dbname={elsewhere}"
    source.sql(
        dbname,
        f"CREATE SUBSCRIPTION \"S\" CONNECTION '{connection}' PUBLICATION p"
        " WITH (create_slot = false, slot_name = s, copy_data = false)",
    )
    report = look(source.endpoint(), None, [dbname])
    [finding] = report.of("source_subscriptions", "warning")
    assert f'{dbname}: "S"' in finding["seen"] and finding["objects"] == ["S"]
    assert report.objects("publications", "info") == {'"all"'}
    run_script(source, dbname, finding["remedy"])
    assert look(source.endpoint(), None, [dbname]).levels("source_subscriptions") == {"info"}


def test_standbys(new_cluster, run_directory):
    primary = new_cluster(17)
    primary.sql("postgres", "CREATE DATABASE shop")
    standby = primary.standby(run_directory / "standby-17")
    try:
        primary.sql("postgres", "ALTER SYSTEM SET synchronized_standby_slots = 'gone'")
        primary.sql("postgres", "SELECT pg_reload_conf()")
        streaming = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
        await_that(lambda: primary.sql("postgres", streaming), "the standby to stream")
        report = look(primary.endpoint(), None, ["shop"])
        assert report.objects("standbys", "info") == {"walreceiver"}
        [warning] = report.of("standbys", "warning")
        assert warning["objects"] == ["gone"] and warning["methods"] == ["continuous"]
        mend(primary, "postgres", [warning])
    finally:
        with contextlib.suppress(OSError):
            standby.destroy()
    primary.reload()
    await_that(lambda: not primary.sql("postgres", "SELECT 1 FROM pg_stat_replication"), "the end of the stream")
    assert look(primary.endpoint(), None, ["shop"]).levels("standbys") == {"ok"}
