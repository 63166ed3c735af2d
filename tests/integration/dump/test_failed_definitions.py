# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions that the target refuses: all else is there, and all of them are named at once."""

from __future__ import annotations

import re

import pytest
from copies import copy
from dumps import databases, done, export, one, refused, restore
from support import Cluster, Result, create_database
from verifications import differing, verify

from lab import builds

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
    CREATE VIEW more AS SELECT buffers_backend AS buffers FROM writes; CREATE VIEW also AS SELECT 1 AS one;
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
    found = {failure["object"]: failure for failure in result.failures}
    needs = {name: failure["needs"] for name, failure in found.items()}
    assert {name for name, needed in needs.items() if not needed} == set(TRIED)
    assert {name: needed for name, needed in needs.items() if needed} == FOR_WANT
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


# As workers mix it that complain at the same time, only always: lines of one kind after each other.
MIXING = """#!/bin/sh
case " $* " in *" --jobs="*) ;; *) exec {0} "$@" ;; esac
said=$({0} "$@" 2>&1)
code=$?
echo "$said" | sort >&2
exit $code
"""


def test_what_several_workers_refuse_at_once_is_told_apart(servers, tmp_path):
    """Each key is broken by a row of its own, which the message has to name."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "odd")
    for number in range(4):
        source.sql(
            "odd",
            f"""
            CREATE TABLE parent{number} (id int PRIMARY KEY);
            CREATE TABLE child{number} (parent int REFERENCES parent{number});
            SET session_replication_role = replica; INSERT INTO child{number} VALUES ({1000 + number})""",
        )
    (clients := tmp_path / "clients").mkdir()
    real = builds.build(17).bin
    (clients / "pg_dump").symlink_to(real / "pg_dump")
    (clients / "pg_restore").write_text(MIXING.format(real / "pg_restore"))
    (clients / "pg_restore").chmod(0o755)
    done(export(source, tmp_path / "dump", target_version=17))
    result = restore(target, tmp_path / "dump", jobs=4, client_directory=[str(clients)])
    found = {failure["object"]: failure["message"] for failure in result.failures}
    assert set(found) == {f"FK CONSTRAINT public.child{number} child{number}_parent_fkey" for number in range(4)}, (
        result
    )
    for number in range(4):
        assert f"({1000 + number})" in found[f"FK CONSTRAINT public.child{number} child{number}_parent_fkey"]


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
        assert {failure["object"] for failure in result.failures} >= {"VIEW public.writes", "TABLE public.kept"}


FIX = """
    DELETE FROM child WHERE parent > 8;
    CREATE OR REPLACE FUNCTION fourfold(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 4 * $1; END'"""
OWNERS = "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
LEFT_OUT = ["VIEW public.writes", "public.quotient"]
# What a comparison says of what was left out, and of keys that rows break.
LACKING = {
    "views public.writes": "the migration left it behind: it is in leave_out",
    "columns public.writes.buffers_backend": "it is in leave_out",
    "owners view public.more": "the migration left it behind: needs VIEW public.writes",
    "indexes public.by_fourfold": "it is in leave_out",
    "constraints pet_owner_fkey on public.pet": "NOT VALID",
}


def place_of(result: Result) -> str:
    """The database of the target that the remedy names."""
    return re.search(r'in database "([^"]+)" of the target', result.remedy)[1]


@pytest.mark.parametrize(("way", "managed"), [("files", True), ("direct", False), ("direct", True)])
def test_a_rerun_makes_what_is_pending(ends, tmp_path, way, managed):
    """And nothing else: rows that are there stay, whatever has become of them."""
    source, target = ends
    as_role = target.managed_admin() if managed else target
    if way == "files":
        done(export(source, tmp_path, target_version=17))

    def run(check: bool = False, **options) -> Result:
        return (
            restore(as_role, tmp_path, check, **options) if way == "files" else copy(source, as_role, check, **options)
        )

    first = run()
    assert_all_named(first)
    place = place_of(first)
    assert "odd" not in databases(target)
    queries = {failure["object"]: failure["query"] for failure in first.failures if failure["query"]}
    orphans = target.sql(place, queries["FK CONSTRAINT public.child child_parent_fkey"])
    assert orphans == [(9, 9), (10, 10)]
    target.sql(place, FIX)
    assert not managed or target.sql(place, OWNERS) == [("doadmin",)]
    planned = one(run(check=True))
    assert (planned["changed"], len(planned["failures"])) == (True, 7)
    second = refused(run(), "3 definitions", "pet_owner_fkey", "VIEW public.writes", "quotient")
    assert "by_fourfold" not in second.msg
    target.sql(place, "CREATE VIEW writes AS SELECT 0::bigint AS buffers_backend; GRANT SELECT ON writes TO PUBLIC")
    refused(run(leave_out=LEFT_OUT[1:]), "1 definition ", "pet_owner_fkey")
    complete = one(run(leave_out=LEFT_OUT[1:], unchecked_foreign_keys=True))
    assert place == "odd" or place not in databases(target)
    [key] = complete["unchecked"]
    assert key["object"] == "FK CONSTRAINT public.pet pet_owner_fkey"
    assert target.sql("odd", "SELECT conname FROM pg_constraint WHERE NOT convalidated") == [("pet_owner_fkey",)]
    assert len(target.sql("odd", key["query"])) == 2
    target.sql("odd", "DELETE FROM pet WHERE owner > 8;" + key["statement"])
    assert target.sql("odd", "SELECT count(*) FROM child") == [(8,)]
    assert target.sql(
        "odd", "SELECT relispopulated FROM pg_class WHERE relname IN ('a_top', 'quotient') ORDER BY 1"
    ) == [
        (False,),
        (True,),
    ]
    assert target.sql("odd", "SELECT count(*) FROM more") == [(1,)]
    comment = "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'child_parent_fkey'"
    assert target.sql("odd", comment) == [("needs the key",)]
    again = one(run())
    assert not again["changed"]
    assert (again["failures"], again["restored"]["TABLE"]) == ([], 3)


@pytest.mark.parametrize("way", ["files", "direct"])
def test_what_is_left_out_from_the_start(ends, tmp_path, way):
    """With what needs it; keys that rows break are there unchecked."""
    source, target = ends
    options = {"leave_out": ["INDEX public.by_fourfold", *LEFT_OUT], "unchecked_foreign_keys": True}
    if way == "files":
        done(export(source, tmp_path, target_version=17))
        result = one(restore(target, tmp_path, **options))
    else:
        result = one(copy(source, target, **options))
    skipped = {entry["object"]: entry["reason"] for entry in result["skipped"]}
    assert skipped["INDEX public.by_fourfold"] == "it is in leave_out"
    assert skipped["VIEW public.more"] == "needs VIEW public.writes"
    assert sorted(key["object"] for key in result["unchecked"]) == sorted(name for name in TRIED if "FK" in name)
    assert target.sql("odd", "SELECT count(*) FROM child") == [(10,)]
    compared = one(verify(source, target, databases=["odd"]))
    reasons = {f"{left['class']} {left['object']}": left["reason"] for left in compared["left_out"]}
    assert compared["verdict"] == "equal", compared["different"]
    for name, words in LACKING.items():
        assert words in reasons[name], reasons
    target.sql("odd", "DROP INDEX by_parent; DROP VIEW also")
    assert {"indexes public.by_parent", "views public.also"} <= differing(verify(source, target, databases=["odd"]))
