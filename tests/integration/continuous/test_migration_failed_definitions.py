"""Definitions that the target refuses, in a continuous migration: rows flow, and nothing is handed over unsaid."""

from __future__ import annotations

from cutovers import cut_over
from dumps import done, one, refused
from migrations import in_step, migrate
from support import create_database, run_module
from verifications import differing, verify

SCHEMA = """
    CREATE TABLE child (id int PRIMARY KEY, parent int); INSERT INTO child SELECT i, i FROM generate_series(1, 10) AS i;
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
    CREATE FUNCTION fourfold(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(twice($1)); END';
    CREATE INDEX by_fourfold ON child (fourfold(parent)); CREATE INDEX by_parent ON child (parent);
    CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter"""
FAILED = {"INDEX public.by_fourfold", "VIEW public.writes"}


def test_rows_flow_and_nothing_is_handed_over_unsaid(servers):
    source, target = servers(15), servers(17, "target")
    create_database(source, "odd")
    source.sql("odd", SCHEMA)
    result = refused(migrate(source, target), *FAILED, '"odd"', "leave_out")
    assert {failure["object"] for failure in result.failures} == FAILED
    source.sql("odd", "INSERT INTO child VALUES (11, 11)")
    refused(migrate(source, target), *FAILED)
    assert target.sql("odd", "SELECT count(*) FROM child") == [(11,)]
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["odd"]}
    status = one(run_module("pg_migration_info", ends))
    assert {failure["object"] for failure in status["failures"]} == FAILED
    gate = refused(cut_over(source, target, databases=["odd"], require_verification=False), *FAILED)
    assert "definitions" in [one["gate"] for one in gate.gates if not one["ok"]]
    different = differing(verify(source, target, databases=["odd"]))
    assert {text for text in different if "by_fourfold" in text or "writes" in text}, different

    files = target.sql("odd", "SELECT pg_relation_filenode('child')")
    for cluster in (source, target):
        cluster.sql(
            "odd", "CREATE OR REPLACE FUNCTION fourfold(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 4 * $1'"
        )
    assert one(migrate(source, target, check=True, leave_out=["VIEW public.writes"]))["changed"]
    found = in_step(source, target, leave_out=["VIEW public.writes"])
    assert (found["changed"], found["failures"]) == (True, [])
    assert target.sql("odd", "SELECT pg_relation_filenode('child'), to_regclass('by_fourfold') IS NOT NULL") == [
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
