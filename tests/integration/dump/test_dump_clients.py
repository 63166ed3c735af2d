"""Client programs of every major: what they write is read exactly, and what only some of them do is made up for."""

from __future__ import annotations

import os
import subprocess

import pytest
from dumps import assert_nothing_of_ours, done, export, finish, look, one, refused, restore
from support import assert_same, create_database, environment, run_module

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from lab import builds, every_class, sample

PROGRAMS = {
    **{major: builds.build(major).bin for major in builds.SUITES},
    **({16: builds.embedded()[16].bin} if builds.embedded() else {}),
}


def client(major):
    """What makes a module use the client programs of one major."""
    return {"client_directory": [str(PROGRAMS[major])]}


# --- the table of contents -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "major"),
    [(every_class, major) for major in sorted(PROGRAMS)] + [(sample, major) for major in (13, 16, 19)],
    ids=lambda value: value if isinstance(value, int) else value.__name__,
)
def test_contents_are_what_pg_restore_lists(servers, tmp_path, major, made):
    source = servers(major)
    made.create(source.connect, "of it", **({"scale": 0.01} if made is sample else {}))
    archive = tmp_path / "archive"
    run_client(source, major, "pg_dump", "--format=directory", "--file", archive, "--dbname", "dbname='of it'")
    contents = Contents.read(str(archive))
    assert contents.to_bytes() == (archive / "toc.dat").read_bytes()
    lines = run_client(source, major, "pg_restore", "--list", "--create", archive).split("\n")
    listed = [line for line in lines if line and not line.startswith(";")]
    unlisted = {"ENCODING", "STDSTRINGS", "SEARCHPATH"}
    assert listed == [line_of(entry) for entry in contents.entries if entry.desc not in unlisted]


def line_of(entry):
    names = (entry.desc, entry.namespace or "-", entry.tag, entry.owner or "")
    text = " ".join(name.replace("\n", " ") for name in names)
    return f"{entry.dump_id}; {entry.catalog_oid} {entry.oid} {text}"


def run_client(server, major, program, *arguments):
    variables = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "postgres", "PGPASSWORD": server.password}
    command = [PROGRAMS[major] / program, *arguments]
    done = subprocess.run(command, env=environment(variables), capture_output=True, check=True)
    return done.stdout.decode()


# --- what only some clients know -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(15, 18), (17, 18), (15, 17)])
def test_pg_attver_is_taken_out_again(servers, tmp_path, old, new):
    """15.20 and 17.12 store it, and 18.6 does not know that it is theirs."""
    source, target = servers(old), servers(new, "target")
    sample.create(source.connect, "shop", scale=0.01)
    [(marked,)] = source.sql("shop", "SELECT count(*) FROM pg_attribute WHERE attoptions::text LIKE '%pg_attver%'")
    assert marked > 100
    before = look(source, "shop")
    exported = one(export(source, tmp_path, **client(18), unlogged_table_data=True))
    assert len(exported["notices"]) == 1
    assert "pg_attver" in exported["notices"][0]
    imported = one(restore(target, tmp_path, **client(18)))
    [edit] = imported["edits"]
    tables = [relation for relation in before["relations"].values() if relation["relkind"] in "rpm"]
    assert edit["edit"] == "pg_attver"
    assert 10 < edit["objects"] <= len(tables)
    finish(target, "shop")
    assert_same(before, look(target, "shop"))
    assert b"pg_attver" in (archive(tmp_path, "shop") / "toc.dat").read_bytes(), "the dump is as it was"


def test_a_client_that_knows_pg_attver_is_preferred(servers, tmp_path):
    source = servers(15)
    source.sql(create_database(source, "a"), "CREATE TABLE t (i int)")
    exported = one(export(source, tmp_path, databases=["a"], target_version=18))
    assert exported["client"] == builds.build(17).version
    assert exported["notices"] == []
    assert b"pg_attver" not in (archive(tmp_path, "a") / "toc.dat").read_bytes()


@pytest.mark.parametrize("new", [13, 15])
def test_transaction_timeout_is_no_error_on_an_older_target(servers, tmp_path, new):
    source, target = servers(13), servers(new, "target")
    sample.create(source.connect, "shop", scale=0.01)
    before = look(source, "shop")
    done(export(source, tmp_path, **client(18), unlogged_table_data=True))
    imported = one(restore(target, tmp_path, **client(18)))
    assert {entry["class"] for entry in imported["skipped"]} == {"STATISTICS DATA"}, "which 18 and later can take"
    assert imported["edits"] == []
    finish(target, "shop")
    assert_same(before, look(target, "shop"))


@pytest.mark.parametrize("by", [17, 19])
def test_clients_that_reach_a_server_of_19(servers, tmp_path, by):
    """pg_restore of 17 names a setting that 19 does not have, on its own account; the one of 18 does not connect."""
    source, target = servers(15), servers(19, "target")
    source.sql(create_database(source, "a"), "CREATE TABLE t AS SELECT 1 AS i")
    done(export(source, tmp_path / "18", **client(18)))
    refused(restore(target, tmp_path / "18", **client(18)), "connects to a server of PostgreSQL 19", "18.6")
    done(export(source, tmp_path, **client(by)))
    imported = one(restore(target, tmp_path, **client(by)))
    assert imported["skipped"] == [] and imported["rows_compared"] == 1


@pytest.mark.parametrize(("old", "new"), [(17, 18), (15, 17), (18, 19)])
def test_extended_statistics_arrive_where_they_can(servers, tmp_path, old, new):
    """pg_dump of 19 writes their values, which servers before do not take; these are analyzed instead."""
    source, target = servers(old), servers(new, "target")
    source.sql(
        create_database(source, "a"),
        """
        CREATE TABLE t AS SELECT i, i % 10 AS j FROM generate_series(1, 100) AS i;
        CREATE STATISTICS es (ndistinct) ON i, j FROM t; ANALYZE t""",
    )
    exported = one(export(source, tmp_path, **client(19)))
    assert exported["client"].startswith("19")
    imported = one(restore(target, tmp_path, **client(19)))
    left = {"STATISTICS DATA": 18, "EXTENDED STATISTICS DATA": 19}
    assert {entry["class"] for entry in imported["skipped"]} == {name for name, since in left.items() if new < since}
    assert target.sql("a", "SELECT count(*) FROM pg_stats_ext") == [(1,)]


@pytest.mark.parametrize("major", [13, 15, 17, 18])
def test_everybody_may_create_in_public_as_before(servers, tmp_path, major):
    """15 took CREATE on schema public from everybody; each pg_dump says something else about that."""
    source, target = servers(13), servers(17, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the app'")
    source.sql(create_database(source, "open"), "SELECT 1")
    source.sql(create_database(source, "closed"), "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    source.sql(create_database(source, "changed"), "GRANT USAGE ON SCHEMA public TO app")
    done(export(source, tmp_path, **client(major)))
    done(restore(target, tmp_path))
    may = "SELECT has_schema_privilege('app', 'public', 'CREATE'), has_schema_privilege('app', 'public', 'USAGE')"
    for name in ("open", "closed", "changed"):
        assert target.sql(name, may) == [(name != "closed", True)]
        finish(target, name)
        owner = ["objects/schema public"] if major == 13 else []  # pg_dump 13 does not write who owns it
        assert_same(look(source, name), look(target, name), ignore=owner)
    target.sql("open", "CREATE TABLE t (i int)", user="app", password="of the app")


# --- no client fits --------------------------------------------------------------------------------------------------


def test_clients_that_do_not_fit_are_refused(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    source.sql(create_database(source, "a"), "CREATE TABLE t (i int)")
    result = export(source, tmp_path, **client(13))
    refused(result, "No pg_dump of PostgreSQL 15 or later", "(found: 13.", str(PROGRAMS[13]), "client_directory")
    refused(export(source, tmp_path, client_directory=[str(tmp_path)]), str(tmp_path), "found: none")
    assert not os.listdir(tmp_path / "databases")
    done(export(source, tmp_path, **client(18)))
    refused(restore(target, tmp_path, **client(15)), "No pg_restore of PostgreSQL 18 or later", "15.")
    assert_nothing_of_ours(source, target)


def test_clients_are_found_on_the_path(servers, tmp_path):
    source, target = servers(16), servers(18, "target")
    source.sql(create_database(source, "a"), "CREATE TABLE t (i int)")
    arguments = {"source": source.endpoint(), "dump_directory": str(tmp_path), "target_version": 18}
    assert one(run_module("pg_dump_export", arguments))["client"].startswith("18.")
    arguments = {"target": target.endpoint(), "dump_directory": str(tmp_path)}
    assert one(run_module("pg_restore_import", arguments))["client"].startswith("18.")
    assert target.sql("a", "SELECT count(*) FROM t") == [(0,)]


def archive(directory, dbname):
    return directory / "databases" / dbname / "archive"
