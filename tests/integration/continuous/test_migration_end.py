# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of migrations: stopped and finished, and with one end out of reach."""

from __future__ import annotations

import contextlib

import pytest
from cutovers import cut_over, handed_over, homes, make_bank
from dumps import done, refused
from faults import await_that, watching
from migrations import in_step, migrate, start_migration
from support import create_database, run_module

from lab import catalogs

TABLES = """
    CREATE TABLE kept (id serial PRIMARY KEY, v text);
    INSERT INTO kept (v) SELECT 'row ' || i FROM generate_series(1, 500) AS i;
    CREATE TABLE plain (v text);
    CREATE TABLE chosen (v text NOT NULL UNIQUE);
    ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_v_key"""


@pytest.fixture
def begun(servers):
    """``begun(15, 17)``: source and target in step, with what the catalogs said before."""

    def make(source_major, target_major, *names):
        source, target = servers(source_major), servers(target_major, "target")
        for name in names or ("shop",):
            create_database(source, name)
            source.sql(name, TABLES)
        before = everything(source), catalogs.of_server(target)
        for name in names or ("shop",):
            in_step(source, target, databases=[name], no_identity="full")
        return source, target, before

    return make


def everything(cluster, dbname="shop"):
    return {**catalogs.of_server(cluster), **catalogs.of_database(cluster, dbname)}


def options(source, target):
    return {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}


def end(state, source, target, **more):
    """What the run says of the only database."""
    [found] = done(migrate(source, target, databases=["shop"], state=state, **more)).databases
    return found


def assert_as_before(source, target, before):
    """Nothing of ours is anywhere; on the target there is one database more, which holds what came from the source."""
    assert catalogs.changes(before[0], everything(source)) == []
    new = catalogs.changes(before[1], catalogs.of_server(target))
    assert len(new) == 1 and new[0].startswith("+ databases: ('shop'"), new
    assert catalogs.traces(everything(target)) == []


def run_left(cluster, statements, dbname="shop"):
    """Do by hand what was left."""
    assert statements
    for statement in statements:
        cluster.sql(dbname, statement)


def test_stopped_and_finished(begun):
    source, target, before = begun(15, 17)
    plan = end("stopped", source, target, check=True)
    assert catalogs.changes(before[0], everything(source)), "check mode changes nothing"
    found = end("stopped", source, target)
    assert found["changed"] and found["statements"] == plan["statements"]
    assert any("'REPLICA IDENTITY DEFAULT'" in one for one in found["statements"]["source"])
    assert found["left"] == {"source": [], "target": []}
    assert catalogs.changes(before[0], everything(source)) == [], "the source is free at once"
    assert target.sql("shop", "SELECT count(*) FROM kept") == [(500,)]
    assert not end("stopped", source, target)["changed"]

    refused(migrate(source, target, databases=["shop"], state="finished"), "sequences", "without_cutover")
    end("finished", source, target, without_cutover=True)
    assert_as_before(source, target, before)
    assert not end("finished", source, target)["changed"]


def test_identities_are_put_back_whatever_the_tables_are_called_by_then(servers):
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    source.sql(
        "shop",
        """
        CREATE TABLE plain (v text); CREATE TABLE nothing (v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
        CREATE TABLE kept (i int, g int GENERATED ALWAYS AS (i) STORED NOT NULL CONSTRAINT kept_key UNIQUE);
        CREATE TABLE lost (LIKE kept INCLUDING GENERATED, CONSTRAINT lost_key UNIQUE (g));
        ALTER TABLE kept REPLICA IDENTITY USING INDEX kept_key;
        ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_key""",
    )
    in_step(source, target, databases=["shop"], no_identity="full")
    query = "SELECT relname, relreplident FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    assert {kind for _name, kind in source.sql("shop", query)} == {"f"}
    source.sql(
        "shop",
        """
        ALTER TABLE plain RENAME TO "Was 'it' $$"; CREATE TABLE plain (v text); DROP TABLE nothing;
        CREATE TABLE nothing (v text); ALTER TABLE plain REPLICA IDENTITY FULL;
        ALTER INDEX kept_key RENAME TO "An index"; ALTER TABLE lost DROP CONSTRAINT lost_key""",
    )
    end("stopped", source, target)
    assert dict(source.sql("shop", query)) == {
        "plain": "f",
        "Was 'it' $$": "d",
        "nothing": "d",
        "kept": "i",
        "lost": "d",
    }


def test_begun_anew_after_it_was_stopped(begun):
    """What the target holds by then is the operator's: it is replaced when they name it, and not before."""
    source, target, before = begun(15, 17)
    end("stopped", source, target)
    source.sql("shop", "INSERT INTO kept (v) VALUES ('later')")
    assert "replace" in refused(migrate(source, target, databases=["shop"], no_identity="full")).msg
    anew = {"databases": ["shop"], "no_identity": "full", "replace": True, "replace_databases": ["shop"]}
    [plan] = done(migrate(source, target, check=True, **anew)).databases
    assert plan["changed"] and any("CREATE SUBSCRIPTION" in one for one in plan["statements"])
    assert 'database "shop" of the target would be replaced' in plan["notices"][0]
    found = in_step(source, target, **anew)
    assert found["changed"]
    for cluster in (source, target):
        assert cluster.sql("shop", "SELECT count(*) FROM kept WHERE v = 'later'") == [(1,)]
    end("stopped", source, target)
    end("finished", source, target, without_cutover=True)
    assert_as_before(source, target, before)


def test_not_over_yet(begun):
    source, target, _before = begun(16, 18)
    refused(migrate(source, target, databases=["shop"], state="finished", without_cutover=True), "in_step")
    key = f"handover.postgresql migration {end('stopped', source, target, check=True)['id']}"
    with contextlib.closing(source.connect("shop")) as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
        refused(migrate(source, target, databases=["shop"], state="stopped"), "Another run is working on", "process")
        [status] = done(run_module("pg_migration_info", options(source, target))).databases
        assert f"process {session.info.backend_pid}" in status["running"][0] and "Wait" in status["next"]
    assert end("stopped", source, target)["changed"]


def test_stopped_while_the_target_is_away(begun):
    source, target, before = begun(15, 17)
    [(key,)] = source.sql("shop", "SELECT id FROM handover.migration")
    way_back = f"handover_{key}_back"  # as a cutover leaves it that was aborted
    target.sql("shop", f"CREATE PUBLICATION {way_back} FOR TABLE kept")
    target.sql("shop", f"SELECT pg_create_logical_replication_slot('{way_back}', 'pgoutput')")
    target.stop()
    found = end("stopped", source, target)
    assert catalogs.changes(before[0], everything(source)) == []
    assert found["left"]["source"] == [] and any("target" in notice for notice in found["notices"])
    again = end("stopped", source, target)
    assert not again["changed"] and again["left"]["target"] is None, "what is there is unknown by now"
    refused(migrate(source, target, databases=["shop"], state="finished"), "cannot be reached")

    target.start()
    run_left(target, found["left"]["target"])
    assert catalogs.of_server(target)["subscriptions"] == catalogs.of_server(target)["origins"] == []
    assert not target.sql("shop", "SELECT slot_name FROM pg_replication_slots UNION SELECT pubname FROM pg_publication")
    assert end("stopped", source, target)["changed"], "the journal learns of it"
    end("finished", source, target, without_cutover=True)
    assert_as_before(source, target, before)


def test_a_target_that_refuses_does_not_keep_the_source_from_being_freed(begun):
    source, target, before = begun(17, 18)
    admin = target.managed_admin(dbname="shop")
    for grant in ("USAGE ON SCHEMA handover", "SELECT ON ALL TABLES IN SCHEMA handover"):
        target.sql("shop", f"GRANT {grant} TO doadmin")
    found = end("stopped", source, admin)
    assert any("permission denied" in notice or "must be owner" in notice for notice in found["notices"])
    assert catalogs.changes(before[0], everything(source)) == []
    run_left(target, found["left"]["target"])
    assert end("stopped", source, target)["changed"]


def test_a_target_under_another_address_is_not_taken_for_it(begun):
    source, target, _before = begun(15, 17)
    other = {**target.endpoint(), "port": 1}
    refused(migrate(source, other, databases=["shop"], state="stopped"), f"127.0.0.1:{target.port}")
    assert catalogs.of_server(source)["slots"] != []


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by another run"])
def test_stopped_while_the_source_is_away(begun, by_hand):
    source, target, before = begun(13, 18)
    source.stop()
    found = end("stopped", source, target)
    assert found["changed"] and found["left"]["target"] == []
    assert catalogs.of_server(target)["subscriptions"] == []
    assert end("stopped", source, target)["left"] == found["left"], "it is said again"
    source.start()
    if by_hand:
        run_left(source, found["left"]["source"])
    else:
        watched = done(run_module("pg_migration_watch", {**options(source, target), "max_retained_wal": "0"}))
        assert watched.tripped == ["shop"], "what is left there holds back WAL"
    assert end("stopped", source, target)["changed"] != by_hand
    assert catalogs.changes(before[0], everything(source)) == []
    end("finished", source, target, without_cutover=True)
    assert_as_before(source, target, before)


def test_one_of_several_migrations_of_a_database(begun):
    """A replica identity stays as long as another migration publishes the table, and then is what it was."""
    source, target, before = begun(15, 17)
    for name in ("second", "third"):
        in_step(source, target, databases=["shop"], no_identity="full", rename={"shop": name})
    source.stop()
    left = end("stopped", source, target)["left"]["source"]
    source.start()
    run_left(source, left)
    source.sql("shop", "UPDATE plain SET v = 'the application goes on'")
    assert end("stopped", source, target, rename={"shop": "third"})["changed"]
    source.sql("shop", "UPDATE plain SET v = 'the application goes on'")
    end("stopped", source, target, rename={"shop": "second"})
    assert catalogs.changes(before[0], everything(source)) == []


def test_stopped_while_a_run_waits_for_its_slot(servers):
    """That run ends, and nothing that it was about to make appears afterwards."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    source.sql("shop", TABLES)
    before = everything(source)
    key = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    waits = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    for stop in (lambda: end("stopped", source, target), lambda: source.sql("shop", key)):
        with contextlib.closing(source.connect("shop", autocommit=False)) as session:
            session.cursor().execute("INSERT INTO kept (v) VALUES ('open')")
            running = start_migration(
                source, target, databases=["shop"], no_identity="full", replace=True, replace_databases=["shop"]
            )
            with watching(source) as watch:
                await_that(lambda: watch.ask(waits, session.info.backend_pid), "the slot to wait")
            found = stop()
            refused(running.wait(), "session on the source ended")
            session.rollback()
        if isinstance(found, dict):
            assert "was ended" in found["notices"][0] and catalogs.changes(before, everything(source)) == []
    assert catalogs.of_server(source)["slots"] == []


def test_one_that_cannot_be_ended_does_not_keep_the_others(begun):
    source, target, _before = begun(17, 18, "shop", "blog")
    end("stopped", source, target)
    result = migrate(source, target, databases=["blog", "shop"], state="finished", without_cutover=True)
    refused(result, 'Database "blog"', "in_step")
    assert result.changed and [one["database"] for one in result.databases] == ["shop"]
    assert catalogs.traces(catalogs.of_database(target, "shop")) == []
    assert len(catalogs.of_server(source)["slots"]) == 1


@pytest.fixture
def bank(servers):
    """A source and a target, to which a bank was handed over."""
    source, target = servers(15), servers(17, "target")
    make_bank(source, target)
    handed_over(cut_over(source, target))
    return source, target


def test_finished_after_a_cutover(bank):
    """The way back is removed; the fence stays, so that nobody writes to the source, until it is to be lifted."""
    source, target = bank
    refused(migrate(source, target, databases=["shop"], state="stopped"), "handed over")
    [status] = done(run_module("pg_migration_info", options(source, target))).databases
    assert [stream["direction"] for stream in status["streams"]] == ["back"] and status["errors"] == []
    assert status["wal"]["server"] == "target" and status["phase"] == "handed_over" and "finish" in status["next"]

    source.stop()
    found = end("finished", source, target)
    source.start()
    run_left(source, found["left"]["source"])
    assert catalogs.traces(catalogs.of_server(source)) == [], "nor the subscription that leads back"
    found = end("finished", source, target)
    assert any("fence on the source stays" in notice for notice in found["notices"])
    assert homes(source, target) == ["target"]
    assert catalogs.traces(catalogs.of_server(source)) == catalogs.traces(everything(target)) == []
    assert not end("finished", source, target)["changed"]

    end("finished", source, target, lift_fence=True)
    assert catalogs.traces(everything(source)) == []
    assert homes(source, target) == ["source", "target"]


def test_finished_without_a_journal(bank):
    """The fence says that it was handed over, where finish did without the source before, or the database is gone."""
    source, target = bank
    [(key,)] = source.sql("shop", "SELECT id FROM handover.migration")
    source.sql("shop", "UPDATE handover.migration SET undo = ARRAY['CREATE TABLE public.put_back ()']")
    source.stop()
    assert end("finished", source, target)["left"]["source"]
    source.start()
    found = end("finished", source, target)
    assert found["changed"] and any("fence on the source stays" in notice for notice in found["notices"])
    assert catalogs.traces(catalogs.of_server(source)) == [] and homes(source, target) == ["target"]
    assert source.sql("shop", "SELECT * FROM put_back") == []
    assert not end("finished", source, target)["changed"]

    way_back = f"CREATE SUBSCRIPTION handover_{key}_back CONNECTION '' PUBLICATION p"
    source.sql("shop", f"{way_back} WITH (connect = false, slot_name = NONE)")
    target.sql("postgres", "DROP DATABASE shop WITH (FORCE)")
    assert end("finished", source, target)["changed"]
    assert catalogs.traces(catalogs.of_server(source)) == []
    end("finished", source, target, lift_fence=True)
    assert catalogs.traces(everything(source)) == []


def test_stopped_after_a_rollback(bank):
    """The source is the primary again and is freed; now the target's fence stays."""
    source, target = bank
    handed_over(cut_over(source, target, direction="back"))
    result = done(run_module("pg_migration_watch", options(source, target)))
    assert result.tripped == [] and "cutover, to hand over again" in result.databases[0]["status"]["next"]
    found = end("stopped", source, target)
    assert any("fence on the target stays" in notice for notice in found["notices"])
    assert catalogs.traces(everything(source)) == []
    assert homes(source, target) == ["source"]
    end("finished", source, target, without_cutover=True)
    end("finished", source, target, lift_fence=True)
    assert catalogs.traces(everything(target)) == []
