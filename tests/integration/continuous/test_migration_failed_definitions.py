"""Definitions that the target refuses, in a continuous migration: rows flow, and nothing is handed over unsaid."""

from __future__ import annotations

import pytest
from cutovers import cut_over
from dumps import done, one, refused
from migrations import in_step, migrate, traces
from support import create_database, run_module
from verifications import differing, verify

SCHEMA = """
    CREATE TABLE child (id int PRIMARY KEY, parent int); INSERT INTO child SELECT i, i FROM generate_series(1, 10) AS i;
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
    CREATE FUNCTION fourfold(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(twice($1)); END';
    CREATE INDEX by_fourfold ON child (fourfold(parent)); CREATE INDEX by_parent ON child (parent);
    CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter"""
ORPHANS = """
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
    INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT i, i FROM generate_series(1, 10) AS i;
    SET session_replication_role = replica; DELETE FROM parent WHERE id > 8"""
# Rows with the same key, as after damage; and what says so.
DAMAGED = """
    CREATE TABLE t (id int, word text, CONSTRAINT t_pkey PRIMARY KEY (id)); CREATE TABLE other (id int PRIMARY KEY);
    INSERT INTO t SELECT i, 'x' FROM generate_series(1, 10) AS i; INSERT INTO other VALUES (1);
    UPDATE pg_index SET indisready = false WHERE indexrelid = 't_pkey'::regclass; INSERT INTO t VALUES (7, 'twice');
    UPDATE pg_index SET indisready = true WHERE indexrelid = 't_pkey'::regclass"""
WITHOUT_KEY = "The replica identity of public.t is lacking on the target"
FAILED = {"INDEX public.by_fourfold", "VIEW public.writes"}


@pytest.mark.parametrize("managed", [False, True], ids=["superuser", "managed"])
def test_rows_flow_and_nothing_is_handed_over_unsaid(servers, managed):
    source, server = servers(15), servers(17, "target")
    target = server
    create_database(source, "odd")
    source.sql("odd", SCHEMA)
    if managed:
        source.sql("odd", "CREATE ROLE owner; ALTER TABLE child OWNER TO owner; GRANT CREATE ON SCHEMA public TO owner")
        server.sql("postgres", "CREATE ROLE owner")
        target = server.managed_admin("doadmin", ("CREATEDB", "CREATEROLE", "REPLICATION"), ["pg_create_subscription"])
        server.sql("postgres", "GRANT owner TO doadmin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    result = refused(migrate(source, target), *FAILED, '"odd"', "leave_out")
    assert {failure["object"] for failure in result.failures} == FAILED
    source.sql("odd", "INSERT INTO child VALUES (11, 11)")
    refused(migrate(source, target), *FAILED)
    assert server.sql("odd", "SELECT count(*) FROM child") == [(11,)]
    ends = {"source": source.endpoint(), "target": target if managed else target.endpoint(), "databases": ["odd"]}
    status = one(run_module("pg_migration_info", ends))
    assert {failure["object"] for failure in status["failures"]} == FAILED
    gate = refused(cut_over(source, target, databases=["odd"], require_verification=False), *FAILED)
    assert "definitions" in [one["gate"] for one in gate.gates if not one["ok"]]
    different = differing(verify(source, target, databases=["odd"]))
    assert {text for text in different if "by_fourfold" in text or "writes" in text}, different

    files = server.sql("odd", "SELECT pg_relation_filenode('child')")
    for cluster in (source, server):
        cluster.sql(
            "odd", "CREATE OR REPLACE FUNCTION fourfold(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 4 * $1'"
        )
    assert one(migrate(source, target, check=True, leave_out=["VIEW public.writes"]))["changed"]
    found = in_step(source, target, leave_out=["VIEW public.writes"])
    assert (found["changed"], found["failures"]) == (True, [])
    assert server.sql("odd", "SELECT pg_relation_filenode('child'), to_regclass('by_fourfold') IS NOT NULL") == [
        (*files[0], True)
    ]
    assert not in_step(source, target, leave_out=["VIEW public.writes"])["changed"]
    assert not in_step(source, target)["changed"]
    compared = one(verify(source, target, databases=["odd"]))  # which knows, and need not be told again
    reasons = {left["object"]: left["reason"] for left in compared["left_out"]}
    assert (compared["verdict"], reasons["public.writes"]) == (
        "equal",
        "the migration left it behind: it is in leave_out",
    )
    done(cut_over(source, target, databases=["odd"], require_verification=True))


def test_a_table_without_its_key_on_the_target(servers):
    """Changes of it would stop everything: that is said, and nobody can ask for it."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "odd")
    source.sql("odd", DAMAGED)
    for name in ("CONSTRAINT public.t t_pkey", "public.t t_pkey"):
        refused(migrate(source, target, leave_out=[name]), "leave_out names the replica identity of public.t")
    assert traces(source, "odd") == []
    first = refused(migrate(source, target), "CONSTRAINT public.t t_pkey", "is duplicated", WITHOUT_KEY)
    assert "begin anew" in first.remedy
    source.sql("odd", "UPDATE t SET word = 'changed' WHERE id = 3; INSERT INTO other VALUES (2)")
    refused(migrate(source, target), "keeps failing to apply", WITHOUT_KEY)
    done(migrate(source, target, state="stopped"))
    source.sql("odd", "DELETE FROM t WHERE word = 'twice'; REINDEX TABLE t")
    in_step(source, target, replace=True, replace_databases=["odd"])
    assert done(verify(source, target, databases=["odd"])).databases[0]["verdict"] == "equal"


def test_rows_that_break_a_foreign_key(servers):
    """The key waits, with a query that shows them; once they are gone, nothing is said of it any more."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "odd")
    source.sql("odd", ORPHANS)
    [key] = in_step(source, target)["pending"]
    again = in_step(source, target)
    assert any("child_parent_fkey" in text and key["query"] in text for text in again["notices"]), again["notices"]
    assert target.sql("odd", key["query"]) == source.sql("odd", key["query"]) == [(9, 9), (10, 10)]
    assert differing(verify(source, target, databases=["odd"])) == {"constraints child_parent_fkey on public.child"}
    source.sql("odd", "DELETE FROM child WHERE parent > 8")
    found = in_step(source, target)
    assert (found["pending"], found["notices"]) == ([], [])
    assert one(verify(source, target, databases=["odd"]))["verdict"] == "equal"
