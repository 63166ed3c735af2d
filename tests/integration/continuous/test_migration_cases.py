# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migration: what is refused, what is waited for, what joins later, and who may do it."""

from __future__ import annotations

import contextlib

import pytest
from dumps import done, look, one, refused
from faults import await_that, watching
from migrations import TABLES, assert_kept_up, in_step, migrate, start_migration, traces
from support import assert_same, create_database, run_module

CHANGES = """
    UPDATE keyed SET word = word || '!' WHERE id % 3 = 0; DELETE FROM child WHERE id % 5 = 0;
    INSERT INTO keyed (id, word) SELECT i, 'new' FROM generate_series(2001, 2100) AS i;
    INSERT INTO child (keyed) SELECT i FROM generate_series(2001, 2100) AS i; UPDATE big SET word = 'x' WHERE id < 50"""


@pytest.fixture
def pair(servers):
    """A source and a target, with a database to migrate."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql("yard", TABLES)
    return source, target


def test_tables_without_identity_are_refused_before_anything_is_made(pair):
    source, target = pair
    source.sql("yard", 'CREATE TABLE "no key" (i int); CREATE TABLE incomparable (i int, j json)')
    found = refused(migrate(source, target, databases=["yard"]), '"no key"', "public.incomparable")
    assert "no_identity" in found.remedy
    assert any("REPLICA IDENTITY FULL" in statement for statement in found.statements)
    refused(migrate(source, target, databases=["yard"], no_identity="full"), "public.incomparable")
    assert traces(source, "yard") == []
    assert not target.sql("postgres", "SELECT 1 FROM pg_database WHERE datname = 'yard'")


def test_a_target_that_cannot_reach_the_source_is_refused_before_the_copy(pair):
    source, target = pair
    replication = {"port": 1, "password": "never to be seen"}
    refused(migrate(source, target, databases=["yard"], replication=replication), "cannot subscribe")
    assert not source.sql("yard", "SELECT 1 FROM pg_publication")
    assert in_step(source, target, databases=["yard"])["changed"]


def test_a_long_transaction_is_named_and_waited_for(pair):
    source, target = pair
    with contextlib.closing(source.connect("yard", autocommit=False)) as session:
        session.cursor().execute("DELETE FROM child WHERE id = 1")
        found = migrate(source, target, databases=["yard"], slot_patience=1)
        refused(found, f"process {session.info.backend_pid}")
        assert len(found.blockers) == 1
        assert not source.sql("yard", "SELECT 1 FROM pg_replication_slots")
        running = start_migration(source, target, databases=["yard"])
        with watching(source) as watch:
            waits = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
            await_that(lambda: watch.ask(waits, session.info.backend_pid), "the slot to wait")
        source.sql("yard", "DROP TABLE big; CREATE TABLE big (id int PRIMARY KEY, word text)")
        session.rollback()
    refused(running.wait(), "dropped while the slot was made", "public.big")
    found = in_step(source, target, databases=["yard"])
    source.sql("yard", "INSERT INTO big VALUES (1, 'arrives')")
    assert not in_step(source, target, databases=["yard"])["changed"]
    assert_kept_up(source, target, "yard", found)


def test_two_runs_at_once(pair):
    source, target = pair
    with contextlib.closing(source.connect("yard", autocommit=False)) as session:
        session.cursor().execute("DELETE FROM child WHERE id = 1")
        first = start_migration(source, target, databases=["yard"])
        with watching(source) as watch:
            waits = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
            await_that(lambda: watch.ask(waits, session.info.backend_pid), "the first to wait")
        refused(migrate(source, target, databases=["yard"]), "Another run is working on")
        session.rollback()
    assert one(first.wait())["phase"] == "in_step"


def test_several_databases_and_waves(servers):
    source, target = servers(17), servers(18)
    names = ["Ünïcode\"' $(x)", "a b"]
    for name in names:
        create_database(source, name)
        source.sql(name, TABLES + "; CREATE TABLE apart (id int PRIMARY KEY REFERENCES big)")
    result = done(migrate(source, target, databases=names, waves=2, rename={"a b": "renamed"}))
    assert [len(found["waves"]) for found in result.databases] == [2, 2]
    assert [found["pending"] for found in result.databases] == [[], []]
    for name in names:
        source.sql(name, CHANGES)
        source.sql(name, "TRUNCATE big, apart; INSERT INTO big VALUES (7); INSERT INTO apart VALUES (7)")
    result = done(migrate(source, target, databases=names, waves=2, rename={"a b": "renamed"}))
    assert not result.changed
    assert_kept_up(source, target, names[0], result.databases[0])
    query = "SELECT * FROM keyed ORDER BY 1"
    assert target.sql("renamed", query) == source.sql("a b", query)


def test_pending_keys_that_are_there_or_gone_are_done(pair):
    """A run may be killed between the statement and its record."""
    source, target = pair
    in_step(source, target, databases=["yard"])
    target.sql("yard", "UPDATE pg_constraint SET convalidated = false WHERE conname = 'child_keyed_fkey'")
    pending = """
        SELECT jsonb_agg(jsonb_build_object('schema', 'public', 'table', 'child', 'name', name, 'statement', statement))
        FROM (VALUES ('child_keyed_fkey', 'ALTER TABLE public.child ADD CONSTRAINT child_keyed_fkey FOREIGN KEY (keyed)
                                REFERENCES public.keyed'),
                     ('gone', 'ALTER TABLE public.child VALIDATE CONSTRAINT gone'),
                     ('lost', 'ALTER TABLE public.lost VALIDATE CONSTRAINT lost'),
                     ('wrong', 'ALTER TABLE public.child ADD CONSTRAINT wrong FOREIGN KEY (id) REFERENCES public.big'))
        AS t (name, statement)"""
    source.sql("yard", "DELETE FROM big WHERE id = 1")
    target.sql("yard", f"UPDATE handover.migration SET pending = ({pending})")
    found = in_step(source, target, databases=["yard"])
    assert [one["name"] for one in found["pending"]] == ["wrong"]
    assert all(f"The foreign key {name} of child is gone" in str(found["notices"]) for name in ("gone", "lost"))
    assert target.sql("yard", "SELECT convalidated FROM pg_constraint WHERE conname = 'child_keyed_fkey'") == [(True,)]


def test_triggers_that_fire_always_do_nothing_twice(pair):
    """Their work is replicated; in the application's own sessions they fire on the target, too."""
    source, target = pair
    source.sql(
        "yard",
        """
        CREATE TABLE log (id int PRIMARY KEY, word text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO public.log VALUES (new.id, tg_name); RETURN NULL; END';
        CREATE TRIGGER always AFTER INSERT ON big FOR EACH ROW EXECUTE FUNCTION note();
        CREATE TRIGGER replica AFTER INSERT ON big FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE big ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica""",
    )
    in_step(source, target, databases=["yard"])
    source.sql("yard", "INSERT INTO big VALUES (-1)")
    found = in_step(source, target, databases=["yard"])
    assert_kept_up(source, target, "yard", found, ignore=[r"triggers/.*"])
    assert target.sql("yard", "SELECT * FROM log") == [(-1, "always")]
    target.sql("yard", "INSERT INTO big VALUES (-2)")
    assert target.sql("yard", "SELECT * FROM log WHERE id = -2") == [(-2, "always")]
    done(migrate(source, target, databases=["yard"], state="stopped"))
    done(migrate(source, target, databases=["yard"], state="finished", without_cutover=True))
    assert look(source, "yard")["triggers"] == look(target, "yard")["triggers"]


def test_an_error_of_apply_is_said_and_mended(pair):
    source, target = pair
    in_step(source, target, databases=["yard"])
    target.configure(wal_retrieve_retry_interval="100ms")
    target.sql("yard", "INSERT INTO keyed (id) VALUES (0)")
    source.sql("yard", "INSERT INTO keyed (id) VALUES (0)")
    refused(migrate(source, target, databases=["yard"]), "keeps failing to apply changes")
    target.sql("yard", "DELETE FROM keyed WHERE id = 0")
    found = in_step(source, target, databases=["yard"])
    target.configure(wal_retrieve_retry_interval="5s")
    assert_kept_up(source, target, "yard", found)


def test_a_restart_of_the_source_needs_nobody(new_cluster):
    source, target = new_cluster(15), new_cluster(18, settings={"wal_retrieve_retry_interval": "100ms"})
    create_database(source, "yard")
    source.sql("yard", TABLES)
    in_step(source, target, databases=["yard"])
    source.kill()
    source.start()
    source.sql("yard", CHANGES)
    found = in_step(source, target, databases=["yard"])
    assert not found["changed"]
    assert_kept_up(source, target, "yard", found)


def test_a_target_that_reaches_another_server_is_told_so(pair, servers):
    """What was copied by then is not copied again."""
    source, target = pair
    other = servers(17)
    create_database(other, "yard")
    away = {"port": other.port, "password": other.password}
    refused(migrate(source, target, databases=["yard"], replication=away), "no publication")
    source.sql("yard", CHANGES)
    found = in_step(source, target, databases=["yard"])
    assert len(found["waves"]) == 1
    assert_kept_up(source, target, "yard", found)


def test_a_slot_that_is_gone_is_said(pair):
    source, target = pair
    found = in_step(source, target, databases=["yard"])
    [wave] = found["waves"]
    assert not one(migrate(source, target, databases=["yard"], check=True))["changed"]
    target.sql("yard", f"ALTER SUBSCRIPTION {wave['name']} DISABLE")
    assert one(migrate(source, target, databases=["yard"], check=True))["changed"], "it would be enabled"
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active"
    await_that(lambda: source.sql("yard", drop), "the slot to be free")
    refused(migrate(source, target, databases=["yard"], check=True), wave["name"], "gone")
    refused(migrate(source, target, databases=["yard"]), wave["name"], "gone")


def test_check_mode_shows_what_would_be_done(pair):
    source, target = pair
    found = one(migrate(source, target, check=True, databases=["yard"], replication={"password": "never to be seen"}))
    assert found["changed"]
    assert any(statement.startswith("CREATE SUBSCRIPTION") for statement in found["statements"])
    assert not any("never to be seen" in statement for statement in found["statements"])
    assert traces(source, "yard") == traces(target, "postgres") == []


def test_a_role_that_is_no_superuser_from_16_on(servers):
    source, target = servers(15), servers(17)
    create_database(source, "yard")
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE yard_owner; CREATE ROLE other_owner")
    source.sql("yard", "ALTER DATABASE yard OWNER TO yard_owner;" + TABLES)
    source.sql(
        "yard",
        """
        ALTER TABLE keyed OWNER TO yard_owner; ALTER TABLE child OWNER TO yard_owner;
        ALTER TABLE big OWNER TO other_owner;
        ALTER TABLE big ENABLE ROW LEVEL SECURITY;
        CREATE TABLE keyless (i int); ALTER TABLE keyless OWNER TO yard_owner; INSERT INTO keyless VALUES (1), (1);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
        CREATE TRIGGER always BEFORE UPDATE ON big FOR EACH ROW EXECUTE FUNCTION note();
        ALTER TABLE big ENABLE ALWAYS TRIGGER always; ALTER FUNCTION note() OWNER TO yard_owner""",
    )
    admin = target.managed_admin(grants=["pg_create_subscription"])
    target.sql("postgres", "GRANT yard_owner, other_owner TO doadmin WITH ADMIN OPTION, INHERIT FALSE, SET FALSE")
    in_step(source, admin, databases=["yard"], no_identity="full")
    source.sql("yard", CHANGES + "; UPDATE keyless SET i = 2")
    found = in_step(source, admin, databases=["yard"], no_identity="full")
    assert not found["changed"]
    assert_kept_up(source, target, "yard", found, ignore=["triggers/.*"])
    pair = {"source": source.endpoint(), "target": admin, "databases": ["yard"]}
    done(run_module("pg_cutover", {**pair, "require_verification": False, "reverse": False}))
    done(migrate(source, admin, databases=["yard"], state="finished", lift_fence=True))
    assert traces(source, "yard") == traces(target, "yard") == []
    assert_same(look(source, "yard"), look(target, "yard"), [r"positions/.*"])


def test_a_role_that_may_not_publish_is_told_so(servers):
    source, target = servers(15), servers(17)
    create_database(source, "yard")
    source.sql("yard", TABLES)
    admin = source.managed_admin(attributes=["REPLICATION"], grants=["pg_read_all_data"])
    source.sql("yard", "GRANT CREATE ON DATABASE yard TO doadmin")
    refused(migrate({**admin, "dbname": "yard"}, target, databases=["yard"]), "must be owner of table")
    assert not source.sql("yard", "SELECT 1 FROM pg_replication_slots")


def test_a_role_that_may_not_subscribe_is_refused(servers):
    source, target = servers(15), servers(17)
    create_database(source, "yard")
    refused(migrate(source, target.managed_admin(), databases=["yard"]), "may not create subscriptions")


def test_a_table_that_its_owner_may_not_write_is_refused_where_apply_would_be_the_owner(servers):
    source, target = servers(15), servers(17)
    create_database(source, "yard")
    source.sql("yard", TABLES + "; CREATE ROLE yard_owner; ALTER TABLE big OWNER TO yard_owner")
    source.sql("yard", "ALTER TABLE big ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    admin = target.managed_admin(grants=["pg_create_subscription"])
    refused(migrate(source, admin, databases=["yard"]), "public.big")
    assert traces(source, "yard") == []
    target.sql("postgres", "CREATE ROLE yard_owner")
    found = in_step(source, target, databases=["yard"])  # a superuser's subscription works as its owner there
    source.sql("yard", CHANGES)
    found = in_step(source, target, databases=["yard"])
    assert_kept_up(source, target, "yard", found)


def test_into_a_database_that_is_there_and_empty(pair):
    source, target = pair
    create_database(target, "given")
    target.sql("given", "CREATE TABLE in_the_way (i int)")
    given = {"databases": ["yard"], "rename": {"yard": "given"}, "create": False}
    refused(migrate(source, target, **given), "in_the_way")
    target.sql("given", "DROP TABLE in_the_way")
    assert in_step(source, target, **given)["target_database"] == "given"
    again = one(migrate(source, target, **given, state="stopped"))
    assert again["changed"]
    refused(migrate(source, target, **given), "was stopped")
    found = in_step(source, target, **given, replace=True, replace_databases=["given"])
    source.sql("yard", CHANGES)
    assert not in_step(source, target, **given, replace=True, replace_databases=["given"])["changed"]
    assert len(found["waves"]) == 1
    query = "SELECT * FROM keyed ORDER BY id"
    assert target.sql("given", query) == source.sql("yard", query)


def test_no_password_in_any_log(new_cluster):
    everything = {"log_statement": "all", "log_min_duration_statement": "0", "log_replication_commands": "on"}
    source, target = new_cluster(15, settings=everything), new_cluster(18, settings=everything)
    create_database(source, "yard")
    source.sql("yard", TABLES)
    source.sql("postgres", "CREATE ROLE moving LOGIN REPLICATION PASSWORD 'never to be seen'")
    replication = {"user": "moving", "password": "never to be seen"}
    in_step(source, target, databases=["yard"], replication=replication)
    logs = source.log.read_text() + target.log.read_text()
    assert logs.count("never to be seen") == 1  # where this test made the role
    assert source.password not in logs
    assert target.password not in logs
    [(conninfo,)] = target.sql("yard", "SELECT subconninfo FROM pg_subscription")
    assert "user=moving" in conninfo
    shown = "SELECT query FROM pg_stat_activity WHERE query LIKE '%never%seen%' AND pid <> pg_backend_pid()"
    assert target.sql("yard", shown) == []


def test_tables_of_an_extension_that_is_left_out_stay_behind(pair):
    source, target = pair
    source.sql("yard", "CREATE EXTENSION citext; CREATE TABLE cased (id int PRIMARY KEY, word citext)")
    found = in_step(source, target, databases=["yard"], exclude_extensions=["citext"])
    assert any("public.cased stays behind" in text for text in found["notices"])
    source.sql("yard", CHANGES + "; INSERT INTO cased VALUES (1, 'x')")
    found = in_step(source, target, databases=["yard"], exclude_extensions=["citext"])
    assert found["drift"] == []
    assert not target.sql("yard", "SELECT 1 FROM pg_class WHERE relname = 'cased'")
    query = "SELECT * FROM keyed ORDER BY id"
    assert target.sql("yard", query) == source.sql("yard", query)
