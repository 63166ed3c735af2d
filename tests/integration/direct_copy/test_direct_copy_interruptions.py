"""pg_direct_copy killed, or left by a server: running it again completes it, and keeps what it may."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from copies import copy, start_copy
from dumps import JOURNAL, assert_nothing_of_ours, databases, done, look, one, refused
from faults import await_end_of_family, await_that, watching
from support import assert_same, create_database

from lab.cluster import Cluster

TABLES = """
    CREATE TABLE first (id int PRIMARY KEY, filler text);
    INSERT INTO first SELECT i, repeat('f', 500) FROM generate_series(1, 4000) AS i;
    CREATE TABLE second (id int PRIMARY KEY, first int REFERENCES first, filler text);
    INSERT INTO second SELECT i, i, repeat('s', 500) FROM generate_series(1, 3000) AS i;
    CREATE INDEX by_first ON second (first);
    CREATE TABLE third (id serial PRIMARY KEY, filler text);
    INSERT INTO third (filler) SELECT repeat('t', 100) FROM generate_series(1, 100) AS i;
    SELECT setval('third_id_seq', 100);
    CREATE VIEW seen AS SELECT second.id FROM second JOIN first ON first.id = second.first;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM seen;
    SELECT lo_from_bytea(1, 'large')"""
FIRST_IS_THERE = "SELECT 1 FROM handover.restored_rows WHERE name = 'first'"
SLOWLY = {"max_rate": "2MB", "jobs": 1}  # biggest first, one after the other


@pytest.fixture(scope="module")
def source(all_servers, run_directory) -> Cluster:
    """A server that these tests share; what a test writes there, it takes back."""
    cluster = all_servers.make(15, run_directory / "copied")
    cluster.start()
    create_database(cluster, "yard")
    cluster.sql("yard", TABLES)
    cluster.sql("postgres", "CHECKPOINT")
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="module")
def before(source):
    return look(source, "yard")


def working(target: Cluster) -> str | None:
    """The database that is being filled."""
    return next((name for name in databases(target) if name.startswith("handover_restore_")), None)


def interrupted(source: Cluster, target: Cluster, login: dict | None = None, **options: object):
    """A copy whose first table is complete, and others are not; as a superuser unless there is another ``login``."""

    def first_is_there() -> bool:
        try:
            return bool(working(target) and target.sql(working(target), FIRST_IS_THERE))
        except Exception:  # it is just being made
            return False

    running = start_copy(source, login or target, **SLOWLY, **options)
    await_that(first_is_there, "the first table")
    return running


def assert_complete(before, target: Cluster) -> None:
    assert_same(before, look(target, "yard"), ignore=(*JOURNAL, ".* on handover[.]restore.*"))
    assert_nothing_of_ours(target)


@pytest.mark.parametrize("quiet", [True, False])
def test_killed(source, before, servers, quiet):
    target = servers(18)
    interrupted(source, target, source_is_quiet=quiet).kill_family()
    copied = one(copy(source, target, source_is_quiet=quiet))
    said = " ".join(copied["notices"])
    assert ("had copied 1 table, which this run kept" in said) is quiet, said
    assert ("started over: nobody had said that the source is quiet" in said) is not quiet, said
    assert copied["rows"] == 7100
    assert_complete(before, target)


def test_killed_and_source_written_to(source, before, servers):
    target = servers(18)
    interrupted(source, target, source_is_quiet=True).kill_family()
    source.sql("yard", "TRUNCATE third")  # of which the statistics of rows say nothing
    copied = one(copy(source, target, source_is_quiet=True))
    assert "started over: somebody wrote to the source since then" in " ".join(copied["notices"])
    assert target.sql("yard", "SELECT count(*) FROM third") == [(0,)]
    source.sql("yard", "INSERT INTO third SELECT i, repeat('t', 100) FROM generate_series(1, 100) AS i")


def test_killed_when_keys_referred_to_unlogged_tables(source, servers):
    """They have to be emptied, which their keys forbid."""
    target = servers(18)
    interrupted(source, target, source_is_quiet=True).kill_family()
    target.sql(working(target), "CREATE UNLOGGED TABLE a (a int PRIMARY KEY)")
    target.sql(working(target), "CREATE UNLOGGED TABLE b (a int CONSTRAINT key_to_a REFERENCES a)")
    copied = one(copy(source, target, source_is_quiet=True))
    assert "foreign keys refer to them (key_to_a)" in " ".join(copied["notices"])
    assert target.sql("yard", "SELECT to_regclass('a')::text, count(*) FROM first") == [(None, 4000)]


def test_killed_and_source_redefined(source, servers):
    target = servers(18)
    interrupted(source, target, source_is_quiet=True).kill_family()
    source.sql("yard", "ALTER TABLE third ADD COLUMN more int")
    copied = one(copy(source, target, source_is_quiet=True))
    assert "started over: the source's schema was changed since then" in " ".join(copied["notices"])
    assert target.sql("yard", "SELECT count(more) FROM third") == [(0,)]
    source.sql("yard", "ALTER TABLE third DROP COLUMN more")


def test_what_a_killed_run_opened_is_closed_by_the_next(source, servers):
    """Owners to be need CREATE on a schema while one who is no superuser gives them objects; PUBLIC has it so long."""
    target = servers(18)
    admin = target.managed_admin()
    opened = "SELECT has_schema_privilege('public', 'public', 'CREATE')"
    interrupted(source, target, login=admin, source_is_quiet=True).kill_family()
    assert target.sql(working(target), opened) == [(True,)]
    copied = one(copy(source, admin, source_is_quiet=True))
    assert "had copied 1 table, which this run kept" in " ".join(copied["notices"])
    assert target.sql("yard", opened) == [(False,)]


def test_terminated(source, servers):
    target = servers(18)
    running = interrupted(source, target)
    running.process.terminate()
    assert running.process.wait(60) == 128 + signal.SIGTERM
    await_end_of_family(running)
    assert databases(target) == set()
    assert_nothing_of_ours(target, source)


@pytest.mark.parametrize("side", ["source", "target"])
def test_server_restarted(source, before, servers, side):
    target = servers(18)
    server = {"source": source, "target": target}[side]
    source.sql("yard", "CREATE UNLOGGED TABLE fleeting AS SELECT i, repeat('u', 500) FROM generate_series(1, 4200) i")
    options = {"source_is_quiet": True, "unlogged_table_data": True}
    running = interrupted(source, target, **options)
    assert target.sql(working(target), "SELECT 1 FROM handover.restored_rows WHERE name = 'fleeting'")
    target.sql("postgres", "CHECKPOINT")
    server.stop("immediate")
    result = running.wait(60)
    server.start()
    refused(result, "yard", side)
    time.sleep(0.5)
    said = " ".join(one(copy(source, target, **options))["notices"])
    assert ("its counters were reset, as by a crash" in said) is (side == "source"), said
    assert ("which this run kept" in said) is (side == "target"), said
    counts = "SELECT (SELECT count(*) FROM second), (SELECT count(*) FROM fleeting)"
    assert target.sql("yard", counts) == [(3000, 0 if side == "source" else 4200)], "a crash empties unlogged tables"
    source.sql("yard", "DROP TABLE fleeting")


def test_killed_again_and_again(source, servers):
    """At moments of a fixed seed, anywhere in the run."""
    target, chance = servers(17), random.Random(17)
    expected = look(source, "yard")
    for _attempt in range(4):
        running = start_copy(source, target, source_is_quiet=True, max_rate="4MB")
        time.sleep(chance.uniform(0.2, 2.5))
        running.kill_family()
        if "yard" not in databases(target):
            assert working(target) in (None, *databases(target))
    with watching(target) as watch:
        watch.await_silence()
    done(copy(source, target, source_is_quiet=True))
    assert_complete(expected, target)


def test_second_run_is_told_of_the_first(source, servers):
    target = servers(18)
    running = interrupted(source, target)
    os.kill(running.pid, signal.SIGSTOP)  # however slow the second is to begin
    refused(copy(source, target), "Another run is importing", "yard")
    os.kill(running.pid, signal.SIGCONT)
    done(running.wait())
