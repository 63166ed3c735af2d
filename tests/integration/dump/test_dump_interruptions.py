# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is killed at whatever point: nothing looks finished that is not, and running it again completes it."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from dumps import CLIENTS, JOURNAL, assert_nothing_of_ours, databases, done, export, look, refused, restore
from faults import await_end_of_family, await_that, brake, dies_at, watching
from psycopg2.errors import UndefinedTable
from support import Cluster, Contents, Running, assert_same, start_module

CLUSTER = """
    CREATE ROLE yard_owner; CREATE ROLE yard_reader LOGIN PASSWORD 'not a secret';
    GRANT yard_reader TO yard_owner; ALTER ROLE yard_reader SET work_mem = '5MB'"""
DATABASE = """
    CREATE SCHEMA yard AUTHORIZATION yard_owner;
    SET ROLE yard_owner; SET search_path = yard;
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE bulk (id int, word text);
    CREATE TABLE keyed (id int PRIMARY KEY, mood mood);
    CREATE TABLE guarded (id int);
    CREATE TABLE plain (id serial, word text);
    CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
    CREATE TRIGGER same BEFORE UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION same();
    INSERT INTO bulk SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 60000) AS i;
    INSERT INTO keyed SELECT i, 'good' FROM generate_series(1, 1000) AS i;
    INSERT INTO guarded SELECT id FROM keyed;
    INSERT INTO plain (word) SELECT 'word ' || id FROM keyed;
    SELECT setval('plain_id_seq', 1000); -- else a server that recovers from a crash goes on up to 32 further
    CREATE MATERIALIZED VIEW counted AS SELECT mood, count(*) FROM keyed GROUP BY mood;
    SELECT lo_from_bytea(4711, 'large');
    GRANT USAGE ON SCHEMA yard TO yard_reader; GRANT SELECT ON ALL TABLES IN SCHEMA yard TO yard_reader;
    RESET ROLE; COMMENT ON DATABASE yard IS 'with some of everything'; ALTER DATABASE yard SET work_mem = '7MB'"""


@pytest.fixture(scope="module")
def source(all_servers, run_directory):
    """A server that these tests share, as none of them changes what is in it."""
    cluster = all_servers.make(15, run_directory / "yard")
    cluster.start()
    cluster.sql("postgres", CLUSTER)
    cluster.sql("postgres", "CREATE DATABASE yard OWNER yard_owner")
    cluster.sql("yard", DATABASE)
    yield cluster
    cluster.destroy()


@pytest.fixture(scope="module")
def dump(source, tmp_path_factory) -> Path:
    """A complete dump of it."""
    place = tmp_path_factory.mktemp("dump")
    done(export(source, place))
    return place


@pytest.fixture(scope="module")
def before(source):
    """What is in it."""
    return look(source, "yard")


def start_export(source: Cluster, place: Path, env: dict | None = None, **options: object) -> Running:
    given = {"source": source.endpoint(), "dump_directory": str(place), "client_directory": CLIENTS, **options}
    return start_module("pg_dump_export", given, env=env)


def start_import(target, place: Path, **options: object) -> Running:
    endpoint = target.endpoint() if isinstance(target, Cluster) else target
    given = {"target": endpoint, "dump_directory": str(place), "client_directory": CLIENTS, **options}
    return start_module("pg_restore_import", given)


def end(running: Running, how: str) -> None:
    """End a module and see its children end."""
    running.process.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    running.process.wait(60)
    await_end_of_family(running)


def end_with_sessions(running: Running, server: Cluster) -> None:
    """Kill a module and what the server does for it, as if it had been killed just before the statement."""
    end(running, "SIGKILL")
    with watching(server) as watch:
        watch.end_sessions()


def programs(running: Running, name: str) -> list[int]:
    """Process ids of a child program, its leader first."""
    return sorted(pid for pid, command in running.family().items() if Path(command.split(" ")[0]).name == name)


def dump_folders(place: Path) -> set[str]:
    """What is in the folder of the databases' dumps; the locks stay for good."""
    return {name for name in os.listdir(place / "databases") if not name.endswith(".lock")}


def assert_complete_dump(source: Cluster, place: Path) -> None:
    """Nothing else is in the dump directory, and every file is as its manifest says, or the dump would be refused."""
    assert dump_folders(place) == {"yard"}
    assert sorted(os.listdir(place / "databases" / "yard")) == ["archive", "manifest.json"]
    assert not done(export(source, place)).changed


def assert_complete_import(before: Contents, target: Cluster, place: Path) -> None:
    """An import leaves what was dumped, and nothing of its own but the journal."""
    done(restore(target, place))
    assert databases(target) == {"yard"}
    assert_same(before, look(target, "yard"), ignore=(*JOURNAL, ".* on handover[.]restore"))
    assert_nothing_of_ours(target)


# --- export ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_snapshot(source: Cluster, place: Path, **options: object):
    """An export that waits for its snapshot, which a serializable transaction keeps from it."""
    with contextlib.closing(source.connect(autocommit=False)) as session, watching(source) as watch:
        session.set_session(isolation_level="SERIALIZABLE")
        session.cursor().execute("SELECT 1")
        running = start_export(source, place, **options)
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SafeSnapshot'"
        await_that(lambda: watch.ask(waits), "the wait for a safe snapshot")
        yield running


@contextlib.contextmanager
def in_pg_dump(source: Cluster, place: Path, **options: object):
    """An export whose pg_dump copies rows."""
    with watching(source) as watch:
        running = start_export(source, place, **options)
        watch.await_query("^COPY")
        yield running


@contextlib.contextmanager
def in_row_counts(source: Cluster, place: Path, **options: object):
    """An export that counts rows: another session waited for a lock that pg_dump held, and has it now."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(in_pg_dump(source, place, jobs=1, **options))
        watch = stack.enter_context(watching(source))
        session = stack.enter_context(contextlib.closing(source.connect("yard", autocommit=False)))
        session.cursor().execute("LOCK TABLE yard.plain")
        assert "count(*)" in watch.await_blocked(session)
        yield running


EXPORT_STAGES = {"snapshot": in_snapshot, "pg_dump": in_pg_dump, "row counts": in_row_counts}


@pytest.mark.parametrize(("stage", "how"), [*((stage, "SIGKILL") for stage in EXPORT_STAGES), ("snapshot", "SIGTERM")])
def test_export_ended(source, before, servers, tmp_path, stage, how):
    with EXPORT_STAGES[stage](source, tmp_path) as running:
        end(running, how)
    assert "yard" not in dump_folders(tmp_path)
    if how == "SIGTERM":
        assert dump_folders(tmp_path) == set()
    assert done(export(source, tmp_path)).changed
    assert_complete_dump(source, tmp_path)
    if how == "SIGKILL":
        assert_complete_import(before, servers(18), tmp_path)


@pytest.mark.parametrize(
    ("event", "words", "stands", "force"),
    [
        ("open", ".yard.partial/manifest.json", True, False),
        ("os.rename", "databases/yard', ", True, False),
        ("os.rename", ".yard.partial", False, False),
        ("os.rename", ".yard.partial", False, True),
        ("shutil.rmtree", ".yard.former", True, False),
    ],
)
def test_export_killed_while_it_replaces_a_dump(source, tmp_path, event, words, stands, force):
    """The former dump stands until the new one does; there is no moment after which a rerun finds neither."""
    place = tmp_path / "dump"
    former = done(export(source, place)).databases[0]["dump_id"]
    env = dies_at(tmp_path / "kill", event, words)
    running = start_export(source, place, env, force=True)
    assert running.process.wait(60) == -signal.SIGKILL
    assert os.path.exists(place / "databases" / "yard" / "manifest.json") is stands
    again = done(export(source, place, force=force)).databases[0]
    assert again["changed"] or not force
    assert force or again["dump_id"] == former or event == "shutil.rmtree"
    assert_complete_dump(source, place)


@pytest.mark.parametrize("whom", [0, -1])
def test_pg_dump_killed(source, tmp_path, whom):
    """The leader or a worker of it."""
    with in_pg_dump(source, tmp_path, jobs=2) as running:
        os.kill(programs(running, "pg_dump")[whom], signal.SIGKILL)
        refused(running.wait(60), "pg_dump", "yard")
    assert dump_folders(tmp_path) == set()
    await_end_of_family(running)
    done(export(source, tmp_path))
    assert_complete_dump(source, tmp_path)


def test_source_restarted(source, tmp_path):
    with in_pg_dump(source, tmp_path) as running:
        source.stop("immediate")
    try:
        refused(running.wait(60), "pg_dump", "yard")
    finally:
        source.start()
    assert dump_folders(tmp_path) == set()
    done(export(source, tmp_path))
    assert_complete_dump(source, tmp_path)


def test_second_export_is_told_of_the_first(source, tmp_path):
    with in_snapshot(source, tmp_path) as first:
        refused(export(source, tmp_path), "Another run is working on", "databases/yard")
    done(first.wait())
    assert not done(export(source, tmp_path)).changed


# --- import ----------------------------------------------------------------------------------------------------------


def working_database(target: Cluster) -> str:
    """The database that is being filled."""
    [name] = [name for name in databases(target) if name.startswith("handover_restore_")] or ["yard"]
    return name


@contextlib.contextmanager
def at_statement(catalog: str, words: str, target: Cluster, place: Path, endpoint: dict | None = None, **options):
    """An import that is about to write to a shared catalog in a statement with these words."""
    with brake(target, catalog) as stop:
        running = start_import(endpoint or target, place, **options)
        stop.until(words)
        yield running, stop


@contextlib.contextmanager
def at_lock(words: str, query: str, target: Cluster, place: Path, **options: object):
    """An import that meets a lock, which the test takes in the database right after the statement with the words."""
    with at_statement("pg_shdepend", words, target, place, **options) as (running, stop), watching(target) as watch:
        dbname = working_database(target)
        with contextlib.closing(target.connect(dbname, autocommit=False)) as session:
            stop.release()
            await_that(lambda: locked(session, query), "the table", pause=0.001)
            watch.await_blocked(session)
            yield running, stop


def locked(session, query: str) -> bool:
    """Whether the table is there by now; many are made in one transaction."""
    try:
        session.cursor().execute(query)
    except UndefinedTable:
        session.rollback()
        return False
    return True


# The first of many that go to the server as one; it shows the beginning.
TABLES = 'CREATE TYPE "yard"."mood"'
GRANTS = 'GRANT USAGE ON SCHEMA "yard"'
IMPORT_STAGES = {
    "roles": partial(at_statement, "pg_authid", "CREATE ROLE"),
    "creation": partial(at_statement, "pg_database", "CREATE DATABASE"),
    "schemas": partial(at_statement, "pg_shdepend", 'CREATE SCHEMA "yard"'),
    "definitions": partial(at_statement, "pg_shdepend", TABLES),
    "data": partial(at_lock, TABLES, "LOCK TABLE yard.keyed IN EXCLUSIVE MODE"),
    "indexes and keys": partial(at_lock, TABLES, "LOCK TABLE yard.keyed IN ROW EXCLUSIVE MODE"),
    "rest": partial(at_lock, TABLES, "LOCK TABLE yard.guarded IN ROW EXCLUSIVE MODE"),
    "privileges": partial(at_statement, "pg_shdepend", GRANTS),
    "analyze": partial(at_lock, GRANTS, "LOCK TABLE yard.plain IN SHARE UPDATE EXCLUSIVE MODE", analyze="full"),
    "materialized views": partial(at_lock, GRANTS, "EXPLAIN SELECT FROM yard.counted"),
    "renaming": partial(at_statement, "pg_database", "RENAME TO"),
}


@pytest.mark.parametrize("stage", IMPORT_STAGES)
def test_import_killed(dump, before, servers, stage):
    target = servers(18)
    with watching(target) as watch:
        with IMPORT_STAGES[stage](target, dump) as (running, _stop):
            end(running, "SIGKILL")
            assert "yard" not in databases(target)
            if stage == "creation":  # the server goes on with the statement, and holds the run's lock until it is done
                refused(restore(target, dump), "Another run is importing")
        if stage in ("creation", "renaming"):
            watch.await_silence()
    assert_complete_import(before, target, dump)


@pytest.mark.parametrize("stage", ["definitions", "materialized views"])
def test_import_terminated(dump, before, servers, stage):
    target = servers(18)
    with IMPORT_STAGES[stage](target, dump) as (running, stop):
        running.process.terminate()
        stop.release()
        assert running.process.wait(60) == 128 + signal.SIGTERM
        await_end_of_family(running)
    assert databases(target) == set()
    assert_nothing_of_ours(target)
    assert_complete_import(before, target, dump)


def test_complete_import_without_its_name_gets_it(dump, servers):
    target = servers(18)
    with IMPORT_STAGES["renaming"](target, dump) as (running, _stop):
        end_with_sessions(running, target)
        oid = target.sql("postgres", "SELECT oid FROM pg_database WHERE datname ~ '^handover_restore_'")
    assert done(restore(target, dump)).changed
    assert target.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'yard'") == oid


def test_complete_import_of_an_older_dump_is_not_taken(source, before, servers, tmp_path):
    target = servers(18)
    done(export(source, tmp_path))
    with IMPORT_STAGES["renaming"](target, tmp_path) as (running, _stop):
        end_with_sessions(running, target)
    [newer] = done(export(source, tmp_path, force=True)).databases
    assert_complete_import(before, target, tmp_path)
    assert target.sql("yard", "SELECT dump_id FROM handover.restore") == [(newer["dump_id"],)]


def test_import_killed_between_drop_and_renaming(dump, before, servers):
    target = servers(18)
    target.sql("postgres", "CREATE DATABASE yard")
    target.sql("yard", "CREATE TABLE former ()")
    replace = {"replace": True, "replace_databases": ["yard"]}
    with IMPORT_STAGES["renaming"](target, dump, **replace) as (running, _stop):
        end_with_sessions(running, target)
        assert "yard" not in databases(target)
    assert_complete_import(before, target, dump)


def test_replaced_database_stands_until_the_new_one_is_complete(dump, before, servers):
    target = servers(18)
    target.sql("postgres", "CREATE DATABASE yard")
    target.sql("yard", "CREATE TABLE former ()")
    replace = {"replace": True, "replace_databases": ["yard"]}
    with IMPORT_STAGES["data"](target, dump, **replace) as (running, _stop):
        end(running, "SIGKILL")
        assert target.sql("yard", "SELECT relname FROM pg_class WHERE oid >= 16384") == [("former",)]
    refused(restore(target, dump), 'already has a database "yard"')
    done(restore(target, dump, **replace))
    assert_complete_import(before, target, dump)


def test_rest_of_an_interrupted_drop_is_no_obstacle(dump, before, servers):
    """A server that stops while it drops a database leaves one to which nobody can connect (datconnlimit -2)."""
    target = servers(18)
    with IMPORT_STAGES["data"](target, dump) as (running, _stop):
        end(running, "SIGKILL")
    target.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname ~ '^handover_restore_'")
    assert_complete_import(before, target, dump)


@pytest.mark.parametrize("how", ["ended by hand", "server stopped"])
def test_session_lost_while_the_schema_is_restored(dump, before, servers, how):
    target = servers(18)
    with IMPORT_STAGES["definitions"](target, dump) as (running, stop), watching(target) as watch:
        if how == "server stopped":
            target.stop("immediate")
        else:
            watch.end_sessions()
            stop.release()
        refused(running.wait(60), "session with the target ended", "yard")
    target.start()
    assert_complete_import(before, target, dump)


@pytest.mark.parametrize(("stage", "whom"), [("data", 0), ("indexes and keys", -1)])
def test_pg_restore_killed(dump, before, servers, stage, whom):
    """The leader, or the last of its workers where there are any."""
    target = servers(18)
    with IMPORT_STAGES[stage](target, dump, jobs=2) as (running, stop):
        os.kill(programs(running, "pg_restore")[whom], signal.SIGKILL)
        stop.release()
        result = running.wait(60)
    refused(result, "pg_restore", "yard")
    await_end_of_family(running)
    assert_nothing_of_ours(target)
    assert_complete_import(before, target, dump)


@pytest.mark.parametrize("stage", ["data", "renaming"])
def test_target_restarted(dump, before, servers, stage):
    target = servers(18)
    with IMPORT_STAGES[stage](target, dump) as (running, _stop):
        target.stop("immediate")
    refused(running.wait(60))
    target.start()
    assert_complete_import(before, target, dump)


def test_second_import_is_told_of_the_first(dump, before, servers):
    target = servers(18)
    with IMPORT_STAGES["data"](target, dump) as (first, _stop):
        refused(restore(target, dump), "Another run is importing", "yard")
    done(first.wait())
    assert_complete_import(before, target, dump)


def helping_roles(target: Cluster) -> list:
    """Roles that lend an administrator the ownership of what is restored."""
    return target.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname ~ '^handover_owners_'")


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_managed_import_ended(dump, servers, how):
    """An administrator who is not superuser gives back what was borrowed, at the latest in the next run."""
    target = servers(18)
    admin = target.managed_admin()
    with at_lock(TABLES, "LOCK TABLE yard.keyed IN EXCLUSIVE MODE", target, dump, endpoint=admin) as (running, _stop):
        assert helping_roles(target)
        end(running, how)
        assert bool(helping_roles(target)) is (how == "SIGKILL")
    done(restore(admin, dump))
    assert databases(target) == {"yard"}
    assert_nothing_of_ours(target)


def test_import_into_existing_database_killed(dump, servers):
    """It is incomplete under its name, and its journal says so; nobody keeps the rights that the import gave."""
    target = servers(18)
    admin = target.managed_admin()
    target.sql("postgres", "CREATE DATABASE yard OWNER doadmin")
    rights = """
        SELECT has_schema_privilege('public', 'public', 'CREATE'), has_database_privilege('public', 'yard', 'CREATE'),
               has_database_privilege('public', 'yard', 'CONNECT')"""
    assert target.sql("yard", rights) == [(False, False, True)]
    with IMPORT_STAGES["data"](target, dump, endpoint=admin, create=False) as (running, _stop):
        end(running, "SIGKILL")
        assert target.sql("yard", rights) == [(True, True, True)]
    refused(restore(admin, None, state="finished", databases=["yard"]), "not complete")
    refused(restore(admin, dump), 'already has a database "yard"')
    done(restore(admin, dump, create=False))
    assert target.sql("yard", rights) == [(False, False, True)]
    assert_nothing_of_ours(target)
    assert not done(restore(admin, dump, create=False)).changed
