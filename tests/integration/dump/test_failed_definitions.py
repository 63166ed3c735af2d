"""Definitions that the target refuses: all else is there, and all of them are named at once."""

from __future__ import annotations

import pytest
from copies import copy
from dumps import done, export, refused, restore
from support import Cluster, Result, create_database

# Since 17 there is no such column; what a function finds by a bare name is not found when an index is built.
SCHEMA = """
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
    COMMENT ON CONSTRAINT child_parent_fkey ON child IS 'needs the key';
    CREATE TABLE pet (id int PRIMARY KEY, owner int REFERENCES parent);
    INSERT INTO parent SELECT generate_series(1, 10); INSERT INTO child SELECT i, i FROM generate_series(1, 10) AS i;
    INSERT INTO pet SELECT i, i FROM generate_series(1, 10) AS i;
    SET session_replication_role = replica; DELETE FROM parent WHERE id > 8; RESET session_replication_role;
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
    CREATE FUNCTION fourfold(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(twice($1)); END';
    CREATE INDEX by_fourfold ON child (fourfold(parent)); CREATE INDEX by_parent ON child (parent);
    CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter;
    CREATE VIEW more AS SELECT buffers_backend AS buffers FROM writes;
    CREATE MATERIALIZED VIEW z_base AS SELECT count(*) AS total FROM parent;
    CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN (SELECT total FROM public.z_base); END';
    CREATE MATERIALIZED VIEW a_top AS SELECT 2 * total() AS twice;
    CREATE MATERIALIZED VIEW quotient AS SELECT 1 / count(*) FILTER (WHERE current_setting('server_version_num')::int
        < 160000) AS result FROM parent"""
TRIED = {
    "FK CONSTRAINT public.child child_parent_fkey": "violates foreign key constraint",
    "FK CONSTRAINT public.pet pet_owner_fkey": "violates foreign key constraint",
    "INDEX public.by_fourfold": "function twice(integer) does not exist",
    "VIEW public.writes": "column pg_stat_bgwriter.buffers_backend does not exist",
    "MATERIALIZED VIEW DATA public.quotient": "division by zero",
}
FOR_WANT = {
    'COMMENT public.CONSTRAINT "child_parent_fkey" ON "child"': "FK CONSTRAINT public.child child_parent_fkey",
    "VIEW public.more": "VIEW public.writes",
}


@pytest.fixture
def ends(servers) -> tuple[Cluster, Cluster]:
    source, target = servers(15), servers(17, "target")
    create_database(source, "odd")
    source.sql("odd", SCHEMA)
    return source, target


def assert_all_named(result: Result) -> None:
    refused(result, "All rows are there", *TRIED)
    found = {one["object"]: one for one in result.failures}
    assert {name for name, one in found.items() if not one["needs"]} == set(TRIED)
    assert {name: one["needs"] for name, one in found.items() if one["needs"]} == FOR_WANT
    for name, words in TRIED.items():
        assert words in found[name]["message"]
    assert found["INDEX public.by_fourfold"]["statement"].startswith("CREATE INDEX ")
    assert found["MATERIALIZED VIEW DATA public.quotient"]["sqlstate"] == "22012"


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_are_named_by_an_import(ends, tmp_path, jobs):
    source, target = ends
    done(export(source, tmp_path, target_version=17))
    assert_all_named(restore(target, tmp_path, jobs=jobs))


def test_all_are_named_by_a_copy(ends):
    assert_all_named(copy(*ends))


def test_what_rows_need_ends_it_before_they_are_copied(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    create_database(source, "typed")
    source.sql(
        "typed",
        """CREATE TABLE seen (buffers bigint); CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter;
        CREATE TABLE kept (id int, what writes); INSERT INTO kept VALUES (1, NULL)""",
    )
    done(export(source, tmp_path, target_version=17))
    for result in (restore(target, tmp_path), copy(source, target)):
        refused(result, "public.kept", "VIEW public.writes", "buffers_backend does not exist", "on the source")
        assert {one["object"] for one in result.failures} >= {"VIEW public.writes", "TABLE public.kept"}
