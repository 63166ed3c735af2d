# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How migrations are doing, and the guards that watch over them."""

from __future__ import annotations

import contextlib
import time

import pytest
from dumps import done, refused
from migrations import in_step, migrate, start_migration
from support import create_database, run_module

from lab import builds

TABLES = """
    CREATE TABLE kept (id integer PRIMARY KEY, v text);
    INSERT INTO kept SELECT i, 'row ' || i FROM generate_series(1, 500) AS i;
    CREATE TABLE plain (v text);
    INSERT INTO plain VALUES ('one')"""


def ends(source, target):
    return {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}


def info(source, target, **more):
    """The status of the only database; it may be unknown."""
    result = done(run_module("pg_migration_info", {**ends(source, target), **more}))
    assert not result.changed
    return result.databases[0]


def watch(source, target, check=False, **more):
    result = done(run_module("pg_migration_watch", {**ends(source, target), **more}, check=check))
    return result, {guard["guard"]: guard["level"] for guard in result.databases[0]["guards"]}


def names(cluster, dbname="shop"):
    """What a migration has made on a server: slots, subscriptions, publications, the schema."""
    query = """
        SELECT 'slot' FROM pg_replication_slots WHERE slot_name LIKE 'handover%'
        UNION ALL SELECT 'subscription' FROM pg_subscription WHERE subname LIKE 'handover%'
        UNION ALL SELECT 'publication' FROM pg_publication UNION ALL
        SELECT 'schema' FROM pg_namespace WHERE nspname = 'handover'"""
    return sorted(name for (name,) in cluster.sql(dbname, query))


def eventually(condition, seconds=60):
    """Wait for what the servers do by themselves."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def applied(target, key):
    eventually(lambda: target.sql("shop", "SELECT 1 FROM kept WHERE id = %s", [key]))


@contextlib.contextmanager
def suspended(target):
    """Nothing is applied to the table meanwhile."""
    with contextlib.closing(target.connect("shop", autocommit=False)) as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE kept")
        yield


@pytest.fixture
def pair(servers):
    """``pair(15, 17)`` are a source and a target that is in step; a table without an identity has one meanwhile."""

    def make(source_major, target_major):
        source, target = servers(source_major), servers(target_major, "target")
        create_database(source, "shop")
        source.sql("shop", TABLES)
        done(migrate(source, target, databases=["shop"], no_identity="full"))
        return source, target

    return make


def heartbeats(source):
    """How often the beacon was written."""
    [(beacon,)] = source.sql("shop", "SELECT tablename FROM pg_tables WHERE tablename LIKE 'beacon%'")
    return source.sql("shop", f"SELECT n FROM handover.{beacon}")[0][0]


def check_mode_writes_nothing(source, target):
    samples = "SELECT count(*) FROM handover.sample"
    before = heartbeats(source), target.sql("shop", samples)
    target.sql("shop", "UPDATE handover.sample SET at = at - interval '1 min'")
    result, _levels = watch(source, target, check=True, max_duration="0s", stop_on=["age"])
    assert (heartbeats(source), target.sql("shop", samples)) == before
    statements = result.databases[0]["stopped"]["statements"]
    assert f'DROP SUBSCRIPTION "handover_{result.databases[0]["id"]}_w1"' in statements["target"]
    assert names(source) == ["publication", "schema", "slot"] and names(target) == ["schema", "subscription"]


def test_in_step(pair):
    source, target = pair(15, 17)
    source.sql("shop", "INSERT INTO kept VALUES (1000, 'new')")
    applied(target, 1000)
    eventually(lambda: info(source, target)["lag"]["bytes"] == 0)
    found = info(source, target, samples=10)
    assert found["phase"] == "in_step" and found["problems"] == [] and found["errors"] == [] and found["drift"] == []
    assert found["tables"]["indexed"] == 2 and found["bytes"]["copied"] == found["bytes"]["total"] > 0
    assert found["lag"]["bytes"] == 0 and 0 <= found["lag"]["seconds"] < 5
    assert found["wal"]["server"] == "source" and found["wal"]["max_slot_wal_keep_bytes"] is None
    assert 0 <= found["wal"]["retained_bytes"] < 16 << 20
    assert 0 < found["age_seconds"] < 60 and found["running"] == []
    assert "cutover" in found["next"]
    [stream] = found["streams"]
    assert stream["name"] == f"handover_{found['id']}_w1" and stream["direction"] == "forward"
    assert stream["subscription"]["enabled"] and stream["subscription"]["worker_pid"] and stream["slot"]["active"]
    assert [sample["lag_bytes"] for sample in found["samples"]], "one was recorded by the first look"
    assert len(found["samples"]) == 1, "and not another within 10 s"

    before = heartbeats(source)
    result, levels = watch(source, target)
    assert result.tripped == [] and not result.changed and heartbeats(source) == before + 1
    assert levels == {
        "retained_wal": "not_watched",
        "free_space": "not_watched",
        "age": "ok",
        "slot": "ok",
        "apply_errors": "ok",
        "continuity": "ok",
        "drift": "ok",
        "lag": "ok",
    }
    assert result.databases[0]["status"]["lag"]["seconds"] < 5, "measured by a heartbeat"
    check_mode_writes_nothing(source, target)

    create_database(source, "other")
    wrong = {"databases": ["other"], "rename": {"other": "shop"}}
    result, levels = watch(source, target, **wrong, max_retained_wal="0", stop_on=["slot", "retained_wal"])
    assert levels["slot"] == levels["retained_wal"] == "unknown" and not result.changed
    assert 'comes from another source: database "shop"' in result.databases[0]["status"]["problems"][0]


def test_each_guard(pair):
    """Each trips by what it watches, and by nothing else."""
    source, target = pair(15, 17)
    assert watch(source, target, max_retained_wal="0")[1]["retained_wal"] == "warning"
    assert watch(source, target, max_retained_wal="1GB")[1]["retained_wal"] == "ok"
    eventually(lambda: watch(source, target, max_duration="1s")[1]["age"] == "warning")
    assert watch(source, target, min_free_space="2GB", free_space="1GB")[1]["free_space"] == "warning"
    assert watch(source, target, min_free_space="1GB", free_space="2GB")[1]["free_space"] == "ok"
    assert watch(source, target, min_free_space="1GB")[1]["free_space"] == "unknown", "nobody told it"
    with suspended(target):
        source.sql("shop", "INSERT INTO kept VALUES (2000, 'waits')")
        result, levels = watch(source, target, max_lag="2s")
    assert levels["lag"] == "warning" and levels["apply_errors"] == "ok"
    assert 2 < result.databases[0]["status"]["lag"]["seconds"] < 100
    applied(target, 2000)
    assert watch(source, target, max_lag="2s")[1]["lag"] == "ok"

    source.sql("shop", "ALTER TABLE kept ADD COLUMN more integer; CREATE TABLE late (i integer PRIMARY KEY)")
    result, levels = watch(source, target)
    assert [name for name, level in levels.items() if level == "warning"] == ["drift"]
    drift = {(one["table"], one["change"], *one["columns"]) for one in result.databases[0]["status"]["drift"]}
    assert drift == {("public.kept", "columns", "more"), ("public.late", "new")}

    result, levels = watch(source, target, stop_on=["drift"])
    assert levels["drift"] == "stop" and result.changed
    assert names(source) == [] and names(target) == ["schema"]
    assert source.sql("shop", "SELECT relreplident FROM pg_class WHERE relname = 'plain'") == [("d",)]
    assert target.sql("shop", "SELECT count(*) FROM kept") == [(501,)], "the data stays"
    result, levels = watch(source, target, stop_on=["drift"])
    assert not result.changed and result.tripped == [] and levels == {}
    assert info(source, target)["phase"] == "stopped"


def test_a_run_that_copies_is_ended_where_a_limit_says_so(servers):
    """All WAL is kept meanwhile: the source is free at once, and nothing comes back."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    source.sql(
        "shop",
        TABLES
        + """; CREATE TABLE big (i integer PRIMARY KEY, v text);
        INSERT INTO big SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) AS i""",
    )
    running = start_migration(source, target, databases=["shop"], no_identity="full", max_rate="500kB")
    copies = "SELECT 1 FROM pg_stat_progress_copy WHERE datname = 'shop' AND bytes_processed > 0"
    eventually(lambda: target.sql("postgres", copies))
    source.sql("shop", "INSERT INTO kept SELECT i, repeat('x', 900) FROM generate_series(10000, 12000) AS i")
    result, levels = watch(source, target, max_retained_wal="1MB", stop_on=["retained_wal"])
    assert levels["retained_wal"] == "stop" and result.changed and names(source) == []
    assert "process" in result.databases[0]["stopped"]["notices"][0]
    refused(running.wait(), "session on the source ended")
    assert names(source) == [] and names(target) == ["schema"]
    assert info(source, target)["phase"] == "stopped"


@pytest.mark.parametrize("majors", [(13, 14), (17, 18)], ids="to {0[1]}".format)
def test_a_row_that_is_in_the_way(pair, majors):
    """Its worker ends, and is started again and again."""
    source, target = pair(*majors)
    target.sql("shop", "INSERT INTO kept VALUES (3000, 'mine')")
    source.sql("shop", "INSERT INTO kept VALUES (3000, 'theirs')")
    eventually(lambda: (None,) in target.sql("shop", "SELECT pid FROM pg_stat_subscription"))
    result, levels = watch(source, target)
    assert [name for name, level in levels.items() if level == "warning"] == ["apply_errors"]
    [error] = result.databases[0]["status"]["errors"]
    assert error["kind"] == "apply" and "log of the target" in error["remedy"]
    with suspended(target):  # as if it took long to come to the row
        eventually(lambda: (None,) not in target.sql("shop", "SELECT pid FROM pg_stat_subscription"))
        assert watch(source, target)[1]["apply_errors"] == "unknown"
    target.sql("shop", "DELETE FROM kept WHERE id = 3000")
    target.sql("shop", 'ALTER SUBSCRIPTION "{}" ENABLE'.format(error["stream"]))
    applied(target, 3000)
    assert watch(source, target)[1]["apply_errors"] == "ok"


def test_a_slot_that_was_lost(pair):
    source, target = pair(16, 18)
    id_ = info(source, target)["id"]
    target.sql("shop", f'ALTER SUBSCRIPTION "handover_{id_}_w1" DISABLE')
    eventually(lambda: source.sql("shop", "SELECT 1 FROM pg_replication_slots WHERE NOT active"))
    source.sql("postgres", "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    source.sql("postgres", "SELECT pg_reload_conf()")
    eventually(lambda: info(source, target)["wal"]["max_slot_wal_keep_bytes"] == 16 << 20)
    source.sql("shop", "INSERT INTO kept SELECT i, repeat('x', 900) FROM generate_series(10000, 26000) AS i")
    assert watch(source, target)[1]["retained_wal"] == "warning", "80 % of what the server keeps are past"
    for _i in range(3):
        source.sql("shop", "SELECT pg_switch_wal()")
        source.sql("shop", "INSERT INTO kept SELECT -max(id), 'x' FROM kept HAVING min(id) > 0")
    source.sql("postgres", "CHECKPOINT")
    result, levels = watch(source, target)
    assert levels["slot"] == "warning" and "is lost" in result.databases[0]["status"]["errors"][0]["problem"]
    assert result.databases[0]["status"]["lag"]["seconds"] is None
    assert watch(source, target, stop_on=["slot"])[0].changed
    assert names(source) == []


def test_an_end_that_cannot_be_reached(pair):
    """It is unknown, the other end is reported, and the source is freed where a limit says so."""
    source, target = pair(15, 17)
    known = info(source, target)
    source.stop()
    found = info(source, target, databases=[])
    assert (found["database"], found["id"], found["phase"]) == ("shop", known["id"], "in_step")
    assert found["wal"]["retained_bytes"] is None and found["lag"] == {"bytes": None, "seconds": None}
    assert found["drift"] is None and found["running"] is None and found["streams"][0]["slot"] is None
    assert found["streams"][0]["subscription"]["present"] and "source" in found["problems"][0]
    result, levels = watch(source, target, stop_on=["retained_wal", "slot", "drift", "lag"])
    assert result.tripped == ["shop"] and not result.changed, "what is unknown stops nothing"
    unknown = {name for name, level in levels.items() if level == "unknown"}
    assert unknown == {"retained_wal", "slot", "continuity", "drift", "lag"}
    assert levels["apply_errors"] == "warning", "the worker cannot reach the source either"

    source.start()
    target.stop()
    found = info(source, target)
    assert found["phase"] is None and found["id"] == known["id"] and found["tables"] is None
    assert found["wal"]["retained_bytes"] >= 0 and found["streams"][0]["subscription"] is None
    assert found["age_seconds"] > 0, "the source has a record, too"
    result, levels = watch(source, target, max_retained_wal="0", stop_on=["retained_wal"])
    assert levels["retained_wal"] == "stop" and levels["apply_errors"] == "unknown" and result.changed
    assert names(source) == []
    assert any("DROP SUBSCRIPTION" in one for one in result.databases[0]["stopped"]["left"]["target"])
    target.start()
    result = run_module("pg_migration_info", {**ends(source, target), "databases": ["shopp"]})
    assert result.failed and "shopp" in result.msg


def test_a_role_that_may_not_see_it_all(pair):
    """What is hidden is unknown, and never fine."""
    source, target = pair(builds.MAJORS[0], builds.MAJORS[-1])
    reader = {
        "source": source.managed_admin("reader", attributes=()),
        "target": target.managed_admin("reader", attributes=()),
    }
    result = done(run_module("pg_migration_info", {**reader, "databases": ["shop"]}))
    found = result.databases[0]
    assert found["phase"] is None and len(found["problems"]) == 2, found["problems"]
    assert all("permission denied" in problem for problem in found["problems"])
    assert found["wal"]["data_directory"] is None and found["wal"]["retained_bytes"] >= 0
    assert found["drift"] is None and found["tables"] is None

    journal = "GRANT USAGE ON SCHEMA handover TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA handover TO reader"
    target.sql("shop", f"{journal}; REVOKE SELECT (subenabled) ON pg_subscription FROM PUBLIC")
    [(name,)] = target.sql("shop", "SELECT subname FROM pg_subscription")
    target.sql("shop", f"ALTER SUBSCRIPTION {name} DISABLE")
    eventually(lambda: target.sql("shop", "SELECT 1 FROM pg_stat_subscription WHERE pid IS NULL"))
    found = done(run_module("pg_migration_info", {**reader, "databases": ["shop"]})).databases[0]
    [error] = found["errors"]
    assert found["continuity"] is None, "nor whether anything was lost"
    assert error["kind"] == "apply", "that nothing is applied is seen, though not why"


def test_labels_of_enums_are_drift(servers):
    """A value that the target's type does not have stops apply; the statement that it lacks is said."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql(
        "yard",
        """
        CREATE TYPE "mo'od" AS ENUM ('b', 'd'); CREATE DOMAIN moods AS "mo'od"[];
        CREATE TABLE felt (id int PRIMARY KEY, one "mo'od", many moods)""",
    )
    in_step(source, target, databases=["yard"])
    source.sql("yard", "ALTER TYPE \"mo'od\" ADD VALUE 'a''\\' BEFORE 'b'")
    source.sql("yard", "ALTER TYPE \"mo'od\" ADD VALUE 'c' BEFORE 'd'")
    source.sql("yard", "INSERT INTO felt VALUES (1, 'c', ARRAY['c']::moods)")
    [seen] = info(source, target, databases=["yard"])["drift"]
    assert (seen["table"], seen["change"]) == ("public.felt", "enums")
    told = refused(migrate(source, target, databases=["yard"]), "public.felt", "the labels of an enum changed")
    statements = seen["detail"].partition("(")[2].rpartition(")")[0]
    assert statements in told.msg and "ADD VALUE IF NOT EXISTS 'c' AFTER 'b';" in statements
    for statement in statements.split("; "):
        target.sql("yard", statement)
    assert in_step(source, target, databases=["yard"])["drift"] == []
    labels = "SELECT enumlabel FROM pg_enum ORDER BY enumsortorder"
    assert target.sql("yard", labels) == source.sql("yard", labels)
    assert target.sql("yard", "SELECT one::text FROM felt") == [("c",)]


def clock(cluster):
    return cluster.sql("postgres", "SELECT clock_timestamp()")[0][0]


def test_how_far_a_copy_is(servers):
    """Right in the midst of the largest table, too; the time to go is told from the first fifth on."""
    source, target = servers(18), servers(13, "target")  # 13 has no pg_stat_progress_copy
    create_database(source, "shop")
    source.sql("shop", TABLES)
    source.sql(
        "shop",
        """
        CREATE TABLE narrow (id int PRIMARY KEY, word text);
        INSERT INTO narrow SELECT i, repeat('x', i % 40) FROM generate_series(1, 700000) AS i; ANALYZE narrow""",
    )
    running = start_migration(source, target, databases=["shop"], no_identity="full", max_rate="1MB")
    seen = []
    while running.process.poll() is None:
        before, found, after = clock(target), info(source, target), clock(target)
        if found["phase"] == "copying":
            seen.append((before, after, found["bytes"], found["eta_seconds"]))
    done(running.wait())
    [(size,)] = source.sql("shop", "SELECT pg_table_size('narrow')")
    [(end,)] = target.sql("shop", "SELECT copied FROM handover.wave_table WHERE name = 'narrow'")
    [(total,)] = target.sql("shop", "SELECT sum(bytes) FROM handover.wave_table")
    assert {amounts["total"] for _before, _after, amounts, _eta in seen} <= {0, total}, "0 before it is planned"
    midway = [one for one in seen if 0.2 * size < one[2]["copied"] < 0.9 * size]
    assert midway, seen
    for before, after, amounts, eta in midway:
        most, least = (end - before).total_seconds(), (end - after).total_seconds()
        assert least / 1.5 - 1 < eta < most * 1.5 + 1, (amounts, eta, least, most)
