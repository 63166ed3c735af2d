# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is published, there or for the way back, the application goes on changing it: asked of the servers."""

from __future__ import annotations

import contextlib

import pytest
from cutovers import await_step as await_window
from cutovers import cut_over, eventually_same, handed_over, hold_at, let_go, start_cutover
from dumps import refused
from faults import await_that, watching
from migrations import finished, in_step, migrate, start_migration, stopped, traces
from support import create_database, run_module

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import writable

ODD = 'lines "of" {0} %s'
# Keyed, by the user's FULL, without an identity, with a key and the user's FULL; all have generated columns.
TABLES = """
    CREATE TABLE keyed (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED);
    CREATE TABLE "lines ""of"" {{0}} %s" (n int, g int GENERATED ALWAYS AS (n * 2) STORED);
    ALTER TABLE "lines ""of"" {{0}} %s" REPLICA IDENTITY FULL;
    CREATE TABLE bare (n int, g int GENERATED ALWAYS AS (n * 2) {kind});
    CREATE TABLE plain (n int);
    CREATE TABLE keyed_full (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) {kind});
    ALTER TABLE keyed_full REPLICA IDENTITY FULL;
    CREATE TABLE part (n int, g int GENERATED ALWAYS AS (n * 2) {kind}) PARTITION BY RANGE (n);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000000);
    ALTER TABLE part_1 REPLICA IDENTITY FULL;
    INSERT INTO keyed SELECT i, i FROM generate_series(1, 20) AS i;
    INSERT INTO keyed_full SELECT i, i FROM generate_series(1, 20) AS i;
    INSERT INTO "lines ""of"" {{0}} %s" SELECT i FROM generate_series(1, 20) AS i;
    INSERT INTO bare SELECT i FROM generate_series(1, 20) AS i;
    INSERT INTO plain SELECT i FROM generate_series(1, 20) AS i;
    INSERT INTO part SELECT i FROM generate_series(1, 20) AS i"""
NAMES = ["keyed", ODD, "bare", "plain", "keyed_full", "part"]
FULL_NAMES = [f"public.{ODD}", "public.bare", "public.part_1"]


def make(source, kind="STORED", dbname="shop"):
    create_database(source, dbname)
    source.sql(dbname, TABLES.format(kind=kind))


def change(cluster, dbname="shop"):
    """What an application does, in every table."""
    for name in NAMES:
        quoted = '"' + name.replace('"', '""') + '"'
        cluster.sql(dbname, f"UPDATE {quoted} SET n = n + 100 WHERE n % 3 = 0; DELETE FROM {quoted} WHERE n % 5 = 0")


def contents(cluster, dbname="shop"):
    return {
        name: cluster.sql(dbname, 'SELECT n, g FROM "{}" ORDER BY 1'.format(name.replace('"', '""')))
        for name in NAMES
        if name != "plain"
    } | {"plain": cluster.sql(dbname, "SELECT n FROM plain ORDER BY 1")}


def identities(cluster, dbname="shop"):
    query = "SELECT relname, relreplident FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relname = ANY (%s)"
    return dict(cluster.sql(dbname, query, [[*NAMES, "part_1"]]))


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_18_publishes_no_table_with_full_and_a_generated_column(servers, kind):
    source, target = servers(18), servers(18, "target")
    make(source, kind)
    before = identities(source)
    found = refused(migrate(source, target, databases=["shop"]), "public.bare", "public.keyed_full", "public.part_1")
    assert {name for name in found.tables if "lines" in name}
    assert not any("IDENTITY FULL" in statement for statement in found.statements if "plain" not in statement)
    found = refused(migrate(source, target, databases=["shop"], no_identity="full"), "public.bare")
    assert "copy_at_cutover" in found.remedy
    assert not {"public.keyed_full", "public.plain"} & set(found.tables)
    assert traces(source, "shop") == []

    found = in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
    assert set(found["at_cutover"]) == {*FULL_NAMES, "public.keyed_full", "public.plain"}
    change(source)
    there = handed_over(cut_over(source, target))
    assert there["way_back"] and there["not_on_way_back"] == []
    assert contents(target) == contents(source)
    change(target)
    handed_over(cut_over(source, target, direction="back"))
    assert contents(target) == contents(source)
    change(source)
    finished(source, target, databases=["shop"])
    assert identities(source) == before


def test_18_takes_an_index_where_full_would_not_do(servers):
    source, target = servers(18), servers(18, "target")
    create_database(source, "shop")
    source.sql(
        "shop",
        """
        CREATE TABLE keyed_full (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n * 2) STORED);
        ALTER TABLE keyed_full REPLICA IDENTITY FULL;
        CREATE TABLE "by {index}" (id int NOT NULL, n int, g int GENERATED ALWAYS AS (n * 2) STORED);
        CREATE UNIQUE INDEX "a {} %s" ON "by {index}" (id); ALTER TABLE "by {index}" REPLICA IDENTITY NOTHING;
        CREATE TABLE plain (n int)""",
    )
    query = "SELECT relname, relreplident FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND relnamespace = 2200"
    before = sorted(source.sql("shop", query))
    found = in_step(source, target, databases=["shop"], no_identity="full")
    assert found["at_cutover"] == []
    assert sorted(source.sql("shop", query)) == [("by {index}", "i"), ("keyed_full", "d"), ("plain", "f")]
    source.sql(
        "shop",
        """
        INSERT INTO keyed_full VALUES (1, 1), (2, 2); UPDATE keyed_full SET n = 3; DELETE FROM keyed_full WHERE id = 2;
        INSERT INTO "by {index}" VALUES (1, 1), (2, 2); UPDATE "by {index}" SET n = 3;
        DELETE FROM "by {index}" WHERE id = 2""",
    )
    assert not in_step(source, target, databases=["shop"], no_identity="full")["changed"]
    for name in ("keyed_full", "by {index}"):
        assert target.sql("shop", f'SELECT * FROM "{name}"') == [(1, 3, 6)]
    stopped(source, target, databases=["shop"])
    assert sorted(source.sql("shop", query)) == before
    finished(source, target, databases=["shop"])
    assert sorted(target.sql("shop", query)) == before


@pytest.mark.parametrize("admin", [False, True])
def test_a_new_home_of_18_takes_every_change(servers, admin):
    """Those tables that it cannot publish come back in the window of the rollback, and follow again afterwards."""
    source, target = servers(15), servers(18)
    make(source)
    there = target.endpoint()
    if admin:
        attributes = ["CREATEDB", "CREATEROLE", "REPLICATION"]
        there = target.managed_admin(attributes=attributes, grants=["pg_create_subscription"])
    ends = {"source": source.endpoint(), "target": there, "databases": ["shop"]}
    handover = {**ends, "require_verification": False}
    assert in_step(source, there, databases=["shop"], no_identity="full")["at_cutover"] == []
    change(source)
    forecast = run_module("pg_cutover", handover, check=True).databases[0]
    assert sum("is not on the way back" in text for text in forecast["notices"]) == 3
    found = handed_over(run_module("pg_cutover", handover))
    assert found["way_back"] and set(found["not_on_way_back"]) == set(FULL_NAMES)
    assert sum("is not on the way back" in text for text in found["notices"]) == 3
    assert contents(target) == contents(source)
    change(target)
    target.sql("shop", "INSERT INTO bare VALUES (7777)")
    verified = run_module("pg_verify", ends)
    assert not verified.failed, verified.msg
    handed_over(run_module("pg_cutover", {**handover, "direction": "back"}))
    assert contents(target) == contents(source)
    assert source.sql("shop", "SELECT n, g FROM bare WHERE n = 7777") == [(7777, 15554)]
    change(source)
    expected = contents(source)
    eventually_same(lambda: contents(target), expected)
    found = handed_over(run_module("pg_cutover", handover))
    assert set(found["not_on_way_back"]) == set(FULL_NAMES)
    change(target)
    finished(source, there, databases=["shop"])


def test_13_to_17_is_as_it_was(servers):
    source, target = servers(13), servers(17)
    make(source)
    assert in_step(source, target, databases=["shop"], no_identity="full")["at_cutover"] == []
    change(source)
    there = handed_over(cut_over(source, target))
    assert there["way_back"] and there["not_on_way_back"] == []
    change(target)
    expected = contents(target)
    eventually_same(lambda: contents(source), expected)
    handed_over(cut_over(source, target, direction="back"))
    change(source)
    expected = contents(source)
    eventually_same(lambda: contents(target), expected)


def test_a_generated_column_that_is_added_later(servers):
    source, target = servers(18), servers(18, "target")
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE bare (n int); INSERT INTO bare VALUES (1); CREATE TABLE other (n int)")
    options = {"databases": ["shop"], "no_identity": "full"}
    assert in_step(source, target, **options)["at_cutover"] == []
    for cluster in (source, target):
        cluster.sql("shop", "ALTER TABLE bare ADD COLUMN g int GENERATED ALWAYS AS (n * 2) STORED")
    refused(migrate(source, target, **options), "public.bare", "unpublished generated columns")
    found = in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
    assert found["at_cutover"] == ["public.bare"]
    source.sql("shop", "UPDATE bare SET n = 2; UPDATE other SET n = 2")
    handed_over(cut_over(source, target))
    assert target.sql("shop", "SELECT n, g FROM bare") == [(2, 4)]
    target.sql("shop", "UPDATE bare SET n = 3")


def test_what_waits_for_its_wave_is_proven_when_that_begins(servers):
    """The slot of the first wave waits for a transaction, and meanwhile a table of the second one is altered."""
    source, target = servers(18), servers(18, "target")
    create_database(source, "shop")
    source.sql(
        "shop",
        """
        CREATE TABLE first (id int PRIMARY KEY); INSERT INTO first SELECT generate_series(1, 5000);
        CREATE TABLE bare (n int); INSERT INTO bare VALUES (1)""",
    )
    with contextlib.closing(source.connect("shop", autocommit=False)) as session:
        session.cursor().execute("DELETE FROM first WHERE id = 1")
        running = start_migration(source, target, databases=["shop"], no_identity="full", waves=2)
        with watching(source) as watch:
            waits = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
            await_that(lambda: watch.ask(waits, session.info.backend_pid), "the slot to wait")
        source.sql("shop", "ALTER TABLE bare ADD COLUMN g int GENERATED ALWAYS AS (n * 2) STORED")
        session.rollback()
    refused(running.wait(), "public.bare", "unpublished generated columns", "copy_at_cutover")
    source.sql("shop", "UPDATE bare SET n = 2; UPDATE first SET id = -id; DELETE FROM bare")


def test_what_is_altered_on_the_new_home_is_proven_again_in_the_window(servers, tmp_path):
    source, target = servers(15), servers(18)
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE bare (n int); INSERT INTO bare VALUES (1)")
    in_step(source, target, databases=["shop"], no_identity="full")
    running = start_cutover(source, target, env=hold_at(tmp_path / "hold", "lock"))
    await_window(tmp_path / "hold", running)
    target.sql("shop", "ALTER TABLE bare ADD COLUMN g int GENERATED ALWAYS AS (n * 2) STORED")
    let_go(tmp_path / "hold")
    result = running.wait()
    assert result.failed and not result.handed_over and "public.bare" in result.msg, result.msg
    assert "Nothing was handed over" in result.remedy
    source.sql("shop", "UPDATE bare SET n = 2")


def proven(cluster, tables, **more):
    endpoint = Endpoint.from_options("source", cluster.endpoint(**more.pop("role", {})))
    with contextlib.closing(endpoint.connect("shop")) as session:
        found = writable.refused(session, "handover_x_trial", [("public", name) for name in tables], **more)
    return {each.key[1]: each.why for each in found}


def test_every_reason_for_which_a_server_refuses_is_found_at_once(servers):
    """Whatever the role may do with its tables; nothing of the trial stays, and nothing of the application is run."""
    cluster = servers(18)
    create_database(cluster, "shop")
    cluster.sql(
        "shop",
        """
        CREATE TABLE fine (id int PRIMARY KEY); CREATE TABLE bare (n int); CREATE TABLE given (n int);
        CREATE TABLE "full" (n int, g int GENERATED ALWAYS AS (n) STORED); ALTER TABLE "full" REPLICA IDENTITY FULL;
        CREATE TABLE keyed (n int, g int GENERATED ALWAYS AS (n) STORED PRIMARY KEY);
        CREATE TABLE later (id int PRIMARY KEY DEFERRABLE); CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
        CREATE TABLE ruled (n int); CREATE RULE a AS ON UPDATE TO ruled DO INSTEAD NOTHING;
        CREATE RULE b AS ON DELETE TO ruled DO INSTEAD NOTHING;
        CREATE TABLE computed (g int GENERATED ALWAYS AS (1) STORED); CREATE TABLE empty ();
        CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY);
        CREATE TABLE own (n int); CREATE PUBLICATION own FOR TABLE own;
        CREATE TABLE policies (n int); ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
        ALTER TABLE policies FORCE ROW LEVEL SECURITY;
        CREATE TABLE called (n int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO called VALUES (1); RETURN NULL; END $$;
        CREATE TRIGGER note BEFORE UPDATE OR DELETE ON fine FOR EACH STATEMENT EXECUTE FUNCTION note();
        CREATE ROLE plain LOGIN PASSWORD 'plain'; GRANT CREATE ON DATABASE shop TO plain;
        GRANT CREATE ON SCHEMA public TO plain;
        DO $$ DECLARE one regclass; BEGIN
            FOR one IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO plain', one);
            END LOOP; END $$;
        REVOKE ALL ON bare, fine FROM plain""",
    )
    tables = [
        "fine", "bare", "given", "full", "keyed", "later", "unlogged", "ruled", "computed", "empty", "always", "own",
        "policies", "gone",
    ]  # fmt: skip
    wanted = set(tables) - {"fine", "given", "own", "gone"}
    before = cluster.sql("shop", "SELECT relname, relacl::text, relreplident FROM pg_class ORDER BY oid")
    for role in ({}, {"user": "plain", "password": "plain"}):
        found = proven(cluster, tables, role=role, identities={("public", "given"): "FULL"})
        assert set(found) == wanted
        assert "unpublished generated columns" in found["full"] and "replica identity" in found["later"]
    with pytest.raises(AssertionError):
        assert set(proven(cluster, tables)) == wanted
    assert cluster.sql("shop", "SELECT * FROM called") == []
    assert cluster.sql("shop", "SELECT pubname FROM pg_publication") == [("own",)]
    assert cluster.sql("shop", "SELECT relname, relacl::text, relreplident FROM pg_class ORDER BY oid") == before
    cluster.sql("shop", "CREATE PUBLICATION handover_x_w1 FOR TABLE bare")
    assert set(proven(cluster, ["bare", "own"])) == {"bare"}


def test_a_table_that_is_locked_is_waited_for_without_a_queue(servers):
    cluster = servers(15)
    create_database(cluster, "shop")
    cluster.sql("shop", "CREATE TABLE held (n int); CREATE TABLE bare (n int)")
    with contextlib.closing(cluster.connect("shop", autocommit=False)) as session:
        session.cursor().execute("LOCK TABLE held IN SHARE MODE")
        with pytest.raises(HandoverError, match=f"held.*process {session.info.backend_pid}"):
            proven(cluster, ["held", "bare"], patience=1.2)
    assert set(proven(cluster, ["held", "bare"])) == {"held", "bare"}
