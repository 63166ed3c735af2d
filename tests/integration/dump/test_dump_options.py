"""pg_dump_export: what its options change, what it refuses, and what its dump directory is worth."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from dumps import (
    assert_nothing_of_ours,
    databases,
    done,
    export,
    finish,
    look,
    look_at_roles,
    manifest_of,
    one,
    refused,
    restore,
    small,
)
from psycopg2 import sql
from support import assert_same, create_database

from lab import builds

NAMES = ["x; drop", "a b", "-d", "host=evil", "Ünïcode\"'", ".hidden", "100%", "back\\slash", "a/b", "postgres2 "]


# --- which databases -------------------------------------------------------------------------------------------------


def test_names_of_every_kind(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    for name in NAMES:
        source.sql("postgres", sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        create_database(source, name, sql.SQL("OWNER {}").format(sql.Identifier(name)).as_string(source.connect()))
        statement = sql.SQL("CREATE TABLE {0} AS SELECT {1}::text AS {0}; ALTER TABLE {0} OWNER TO {0}")
        source.sql(name, statement.format(sql.Identifier(name), sql.Literal(name)))
    exported = done(export(source, tmp_path, target_version=18))
    assert exported.selected_databases == sorted(NAMES, key=str.encode)
    units = [name for name in os.listdir(tmp_path / "databases") if not name.startswith(".")]
    assert len(units) == len(NAMES)
    imported = done(restore(target, tmp_path))
    assert {database["database"] for database in imported.databases} == databases(target) == set(NAMES)
    assert not done(export(source, tmp_path, target_version=18)).changed
    assert not done(restore(target, tmp_path)).changed
    assert set(done(finish(target, *NAMES)).finished_databases) == set(NAMES)
    for name in NAMES:
        assert_same(look(source, name), look(target, name))
    assert_same(look_at_roles(source), look_at_roles(target))
    assert_nothing_of_ours(source, target)


def test_forty_databases_in_one_run(new_cluster, tmp_path):
    """On servers of its own, which are gone sooner than their databases could be dropped."""
    source, target = new_cluster(16), new_cluster(18)
    names = [small(source, f"db{number:03}", number) for number in range(40)]
    exported = done(export(source, tmp_path, target_version=18))
    assert [database["rows"] for database in exported.databases] == list(range(40))
    imported = done(restore(target, tmp_path))
    assert [database["rows_compared"] for database in imported.databases] == list(range(40))
    assert databases(target) == set(names)
    assert all(target.sql(name, "SELECT count(*) FROM t") == [(int(name[2:]),)] for name in names)
    assert not done(restore(target, tmp_path)).changed
    assert_nothing_of_ours(source, target)


def test_databases_are_chosen(servers, tmp_path):
    source = servers(17)
    for name in ("a", "b", "c"):
        small(source, name)
    create_database(source, "half dropped")
    source.sql("postgres", "ALTER DATABASE c ALLOW_CONNECTIONS false")
    source.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half dropped'")
    assert done(export(source, tmp_path, check=True)).selected_databases == ["a", "b"]
    assert done(export(source, tmp_path, check=True, ignore_databases=["a"])).selected_databases == ["b"]
    assert done(export(source, tmp_path, check=True, databases=["postgres"])).selected_databases == ["postgres"]
    result = refused(export(source, tmp_path, databases=["a", "z"]), "no database 'z'", "'a'", "'b'")
    assert "Correct databases" in result.remedy
    roles_only = done(export(source, tmp_path, include=["roles"]))
    assert roles_only.databases is None
    assert sorted(os.listdir(tmp_path)) == [".roles.lock", "databases", "roles"]
    assert os.listdir(tmp_path / "databases") == []
    assert done(export(source, tmp_path, include=["databases"], databases=["b"])).roles is None
    assert (tmp_path / "databases" / "b" / "manifest.json").exists()
    source.sql("postgres", "UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'half dropped'")


# --- the dump directory ----------------------------------------------------------------------------------------------


def test_the_manifest_tells_the_truth(servers, tmp_path):
    source = servers(17)
    small(source)
    source.sql("postgres", "CHECKPOINT")
    [(before,)] = source.sql("postgres", "SELECT pg_current_wal_lsn()")
    exported = one(export(source, tmp_path, target_version=17))
    manifest = manifest_of(tmp_path)
    [(identifier, lsn_is_right)] = source.sql(
        "postgres",
        "SELECT system_identifier::text, %s::pg_lsn BETWEEN %s AND pg_current_wal_lsn() FROM pg_control_system()",
        [manifest["snapshot"]["lsn"], before],
    )
    assert lsn_is_right
    assert manifest["source"] == {
        "version": source.build.version,
        "major": 17,
        "system_identifier": identifier,
        "in_recovery": False,
        "database": "small",
    }
    assert manifest["snapshot"]["isolation"] == "serializable, read only, deferrable"
    assert manifest["client"] == exported["client"] == builds.build(17).version
    assert [count["rows"] for count in manifest["row_counts"]] == [10]
    unit = tmp_path / "databases" / "small"
    files = {file.relative_to(unit).as_posix(): file for file in unit.rglob("*") if file.is_file()}
    assert {file["path"] for file in manifest["files"]} == set(files) - {"manifest.json"}
    for described in manifest["files"]:
        content = files[described["path"]].read_bytes()
        assert (described["size"], described["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert exported["bytes"] == sum(file["size"] for file in manifest["files"])


def test_the_directory_is_for_its_owner_alone(servers, tmp_path):
    source = servers(17)
    small(source)
    done(export(source, tmp_path / "new" / "dump"))
    for place in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        assert place.stat().st_mode & 0o077 == 0, place


def test_a_rerun_changes_nothing(servers, tmp_path):
    source = servers(17)
    small(source)
    first = done(export(source, tmp_path))
    assert first.changed
    states = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(tmp_path.rglob("*/*"))]
    source.sql("small", "INSERT INTO t VALUES (11)")
    second = done(export(source, tmp_path))
    assert not second.changed
    assert states == [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(tmp_path.rglob("*/*"))]
    assert {**second.databases[0], "changed": True} == first.databases[0]
    assert {**second.roles, "changed": True} == first.roles
    source.sql("postgres", "CREATE ROLE newcomer")
    third = done(export(source, tmp_path))
    assert (third.roles["changed"], third.databases[0]["changed"]) == (True, False)
    forced = done(export(source, tmp_path, force=True)).databases[0]
    assert (forced["changed"], forced["rows"]) == (True, 11)
    assert forced["dump_id"] != first.databases[0]["dump_id"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"exclude_table_data": ["t"]}, "exclude_table_data"),
        ({"compress": "none"}, "compress"),
        ({"unlogged_table_data": True, "quote_all_identifiers": False}, "quote_all_identifiers, unlogged_table_data"),
        ({"large_objects": False}, "large_objects"),
    ],
)
def test_a_dump_with_other_options_is_not_taken_for_it(servers, tmp_path, options, named):
    source = servers(17)
    small(source)
    done(export(source, tmp_path))
    refused(export(source, tmp_path, **options), "other options", f"({named})", "force: true", "small")
    assert not done(export(source, tmp_path, jobs=2, lock_wait_timeout=5, count_rows=False)).changed
    assert done(export(source, tmp_path, force=True, **options)).changed


def test_a_dump_of_another_source_is_not_taken_for_it(servers, tmp_path):
    first, second = servers(17), servers(17, "target")
    small(first), small(second)
    done(export(first, tmp_path))
    [(identifier,)] = first.sql("postgres", "SELECT system_identifier::text FROM pg_control_system()")
    refused(export(second, tmp_path), "another source", identifier, "roles", "force: true")
    refused(export(second, tmp_path, include=["databases"]), "another source", identifier, "small", "force: true")
    assert done(export(second, tmp_path, force=True)).changed
    assert done(export(first, tmp_path / "kept", include=["roles"])).changed
    other = done(export(second, tmp_path / "kept", include=["roles"]))
    assert other.changed and not done(export(second, tmp_path / "kept", include=["roles"])).changed
    refused(export(first, tmp_path), "another source")


def test_every_damage_is_named(servers, tmp_path):
    source, target = servers(17), servers(18, "target")
    small(source, columns="i, 'row ' || i AS words")
    done(export(source, tmp_path, compress="none"))
    archive = tmp_path / "databases" / "small" / "archive"
    [data] = [path for path in archive.iterdir() if path.suffix == ".dat" and path.name != "toc.dat"]
    content = data.read_bytes()

    def assert_named(*words):
        refused(export(source, tmp_path, compress="none"), "damaged", "force: true", *words)
        refused(restore(target, tmp_path), "damaged", *words)
        assert databases(target) == set()

    data.write_bytes(content.replace(b"row 7", b"row 8"))
    assert_named(f"archive/{data.name} has another SHA-256")
    data.write_bytes(content[:-1])
    assert_named(f"archive/{data.name} has {len(content) - 1} bytes instead of {len(content)}")
    data.unlink()
    assert_named(f"archive/{data.name} is missing")
    data.write_bytes(content)
    (archive / "stranger").touch()
    assert_named("archive/stranger is not in the manifest")
    (archive / "stranger").unlink()
    assert not done(export(source, tmp_path, compress="none")).changed
    manifest = archive.parent / "manifest.json"
    manifest.write_text(manifest.read_text()[:-5])
    assert_named("manifest.json")
    manifest.write_text(json.dumps({"format": 99}))
    refused(export(source, tmp_path, compress="none"), "format 99")
    refused(restore(target, tmp_path), "format 99")
    manifest.unlink()
    refused(restore(target, tmp_path), "no complete dump", "manifest.json")
    assert done(export(source, tmp_path, compress="none")).changed
    roles = tmp_path / "roles" / "roles.json"
    roles.write_text(roles.read_text() + " ")
    refused(restore(target, tmp_path), "damaged", "roles.json has")
    again = done(export(source, tmp_path, compress="none"))
    assert (again.roles["changed"], again.databases[0]["changed"]) == (True, False)
    done(restore(target, tmp_path))


def test_check_mode_changes_nothing(servers, tmp_path):
    source = servers(15)
    small(source)
    planned = done(export(source, tmp_path / "dump", check=True, target_version=18, jobs=3, compress="gzip:1"))
    assert planned.changed
    assert planned.roles["changed"]
    [database] = planned.databases
    command = database["command"]
    assert Path(command[0]).name == "pg_dump"
    assert {"--format=directory", "--jobs=3", "--compress=gzip:1", "--no-unlogged-table-data"} <= set(command)
    assert any(argument.startswith("--dbname=") and "dbname=small" in argument for argument in command)
    assert source.password not in json.dumps(planned.data)
    assert not (tmp_path / "dump").exists()
    done(export(source, tmp_path / "dump"))
    assert not done(export(source, tmp_path / "dump", check=True)).changed
    assert_nothing_of_ours(source)
