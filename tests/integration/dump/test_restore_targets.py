"""pg_restore_import: where it puts a database, what it refuses to touch, and what it does after the rows are in."""

from __future__ import annotations

import contextlib
import json

import pytest
from dumps import (
    assert_nothing_of_ours,
    databases,
    done,
    export,
    finish,
    look,
    look_at_roles,
    one,
    refused,
    restore,
    rows_of,
    small,
)
from support import assert_same, create_database

from lab import every_class, sample


@pytest.fixture
def dump(servers, tmp_path):
    """A dump of the small database, and the target."""
    source, target = servers(15), servers(17, "target")
    small(source)
    done(export(source, tmp_path, target_version=17))
    return tmp_path, target


# --- databases that exist --------------------------------------------------------------------------------------------


def test_an_existing_database_is_not_touched_unless_it_is_named(dump):
    directory, target = dump
    small(target, rows=3)
    refused(restore(target, directory), '"small"', "holds 1 object (table public.t)", "replace_databases: [small]")
    refused(restore(target, directory, replace=True), "replace_databases: [small]")
    refused(restore(target, directory, replace=True, replace_databases=["t"]), "replace_databases: [small]")
    refused(restore(target, directory, replace_databases=["small"]), "replace: true")
    assert rows_of(target, "small") == 3
    assert done(restore(target, directory, replace=True, replace_databases=["small"])).changed
    assert rows_of(target, "small") == 10
    assert not done(restore(target, directory, replace=True, replace_databases=["small"])).changed
    assert_nothing_of_ours(target)


def test_sessions_that_keep_a_database_from_being_replaced_are_named(dump):
    directory, target = dump
    admin = target.managed_admin()
    small(target, rows=3)
    target.sql("small", f"ALTER DATABASE small OWNER TO {admin['user']}; ALTER TABLE t OWNER TO {admin['user']}")
    with contextlib.closing(target.connect("small")) as session:
        again = {"replace": True, "replace_databases": ["small"]}
        pid = session.info.backend_pid
        words = ["sessions use it", f"postgres (process {pid}", "keep their clients away"]
        refused(restore(admin, directory, **again), *words)
    assert rows_of(target, "small") == 3
    done(restore(admin, directory, **again))
    assert rows_of(target, "small") == 10


def test_an_empty_database_that_exists_is_left_to_the_operator(dump):
    directory, target = dump
    create_database(target, "small")
    refused(restore(target, directory), "it is empty", "create: false")
    assert done(restore(target, directory, create=False)).changed
    assert rows_of(target, "small") == 10


def test_a_database_is_replaced_only_by_a_complete_one(dump):
    directory, target = dump
    small(target, rows=3)
    claim_more_rows(directory)
    refused(restore(target, directory, replace=True, replace_databases=["small"]), "without exactly the rows")
    assert rows_of(target, "small") == 3
    assert_nothing_of_ours(target)


def claim_more_rows(directory):
    """Let a dump's manifest say that a table has one row more than it has."""
    manifest = directory / "databases" / "small" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["row_counts"][0]["rows"] += 1
    manifest.write_text(json.dumps(content))


def test_missing_rows_are_noticed(dump):
    directory, target = dump
    claim_more_rows(directory)
    result = refused(restore(target, directory), "1 table without exactly the rows that were exported")
    [different] = result.different_row_counts
    assert (different["table"], different["rows"], different["rows_on_target"]) == ("t", 11, 10)
    assert databases(target) == set()
    create_database(target, "small")
    refused(restore(target, directory, create=False), "without exactly the rows")
    refused(finish(target, "small"), "not complete")
    refused(restore(target, directory, create=False), "without exactly the rows"), "a rerun starts over"


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_the_target_refuses_is_said_with_its_statement(servers, tmp_path, jobs):
    source, target = servers(15), servers(18, "target")
    create_database(source, "broken")
    source.sql(
        "broken",
        """CREATE TABLE a (i int PRIMARY KEY); CREATE TABLE b (i int CONSTRAINT to_a REFERENCES a);
        SET session_replication_role = replica; INSERT INTO b VALUES (7)""",
    )
    done(export(source, tmp_path, target_version=18))
    result = refused(restore(target, tmp_path, jobs=jobs), '"broken"', "FK CONSTRAINT public.b to_a")
    [failure] = result.failures
    assert (
        'violates foreign key constraint "to_a" DETAIL: Key (i)=(7) is not present in table "a".' in failure["message"]
    )
    assert failure["statement"].startswith('ALTER TABLE ONLY "public"."b"')
    assert "broken" not in databases(target)
    source.sql("broken", "DELETE FROM b")
    done(export(source, tmp_path, target_version=18, force=True))
    done(restore(target, tmp_path, jobs=jobs))
    assert databases(target) == {"broken"}


def test_a_newer_dump_does_not_replace_an_older_one_by_itself(servers, dump):
    directory, target = dump
    source = servers(15)
    done(restore(target, directory))
    source.sql("small", "INSERT INTO t VALUES (11)")
    done(export(source, directory, target_version=17, force=True))
    refused(restore(target, directory), "small", "replace: true")
    assert rows_of(target, "small") == 10
    done(restore(target, directory, replace=True, replace_databases=["small"]))
    assert rows_of(target, "small") == 11


def test_a_database_gets_another_name(servers, dump):
    directory, target = dump
    small(target, rows=3)
    options = {"rename": {"small": 'new "name"'}}
    imported = one(restore(target, directory, **options))
    assert imported["database"] == 'new "name"'
    assert databases(target) == {"small", 'new "name"'}
    assert (rows_of(target, "small"), rows_of(target, 'new "name"')) == (3, 10)
    assert not done(restore(target, directory, **options)).changed
    result = done(restore(target, None, state="finished", databases=["small"], **options))
    assert (result.changed, result.finished_databases) == (True, ['new "name"'])
    assert_same(look(servers(15), "small"), look(target, 'new "name"'))


# --- databases that somebody else makes ------------------------------------------------------------------------------


def test_a_database_that_is_there_is_filled(dump):
    directory, target = dump
    refused(restore(target, directory, create=False), 'no database "small"', "create is false", "rename")
    create_database(target, "defaultdb", "ENCODING 'UTF8' TEMPLATE template0 CONNECTION LIMIT 9")
    target.sql("defaultdb", "CREATE EXTENSION hstore; GRANT CREATE ON SCHEMA public TO PUBLIC")
    options = {"create": False, "rename": {"small": "defaultdb"}}
    imported = one(restore(target, directory, **options))
    assert (imported["database"], imported["changed"]) == ("defaultdb", True)
    assert databases(target) == {"defaultdb"}
    assert rows_of(target, "defaultdb") == 10
    assert not done(restore(target, directory, **options)).changed


def test_what_is_in_a_database_that_is_there_is_not_touched_unless_it_is_named(servers, dump):
    directory, target = dump
    every_class.create(target.connect, "defaultdb")
    before = look(target, "defaultdb")
    options = {"create": False, "rename": {"small": "defaultdb"}}
    result = refused(restore(target, directory, **options), '"defaultdb"', "objects", "or empty it")
    assert "replace_databases: [defaultdb]" in result.remedy
    refused(restore(target, directory, **options, replace=True, replace_databases=["small"]), "[defaultdb]")
    assert_same(before, look(target, "defaultdb"))
    [(identity,)] = target.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'defaultdb'")
    target.sql("defaultdb", "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC")
    for (subscription,) in target.sql("defaultdb", "SELECT quote_ident(subname) FROM pg_subscription"):
        target.sql("defaultdb", f"DROP SUBSCRIPTION {subscription}")
    assert done(restore(target, directory, **options, replace=True, replace_databases=["defaultdb"])).changed
    assert target.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'defaultdb'") == [(identity,)]
    finish(target, "defaultdb")
    left = look(target, "defaultdb")
    assert set(left["relations"]) == {"public.t"}
    assert not left["large objects"]
    own = {name for name in left["objects"] if not name.startswith(("extension ", "schema extensions"))}
    assert own == {"schema public", "table public.t"}
    assert left["default privileges"] == {}


def test_the_database_that_one_connects_to(servers, tmp_path):
    """Small services have one database, postgres, and applications live in it."""
    source, target = servers(15), servers(18, "target")
    source.sql("postgres", "CREATE TABLE t AS SELECT i FROM generate_series(1, 10) AS i")
    try:
        done(export(source, tmp_path, databases=["postgres"], target_version=18))
        done(restore(target, tmp_path, rename={"postgres": "app"}))
        assert rows_of(target, "app") == 10
        refused(restore(target, tmp_path), '"postgres"', "create: false")
        refused(
            restore(target, tmp_path, replace=True, replace_databases=["postgres"]),
            "the one that the module connects to",
        )
        assert databases(target) == {"app"}
        done(restore(target, tmp_path, create=False))
        assert rows_of(target, "postgres") == 10
        assert not done(restore(target, tmp_path, create=False)).changed
        finish(target, "postgres")
    finally:
        for cluster in (source, target):
            cluster.sql("postgres", "DROP TABLE IF EXISTS t; DROP SCHEMA IF EXISTS handover CASCADE")


def test_settings_of_a_database_do_not_disturb_its_migration(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    small(source)
    source.sql(
        "small", "CREATE MATERIALIZED VIEW m AS SELECT '2025-02-01'::date::text AS day, 1.5::float4 AS number FROM t"
    )
    for setting in (
        "default_transaction_read_only = on", "default_transaction_isolation = serializable", "row_security = off",
        "default_transaction_deferrable = on", "statement_timeout = '1s'", "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'", "client_encoding = 'LATIN1'", "datestyle = 'German'",
        "standard_conforming_strings = off", "quote_all_identifiers = on", "extra_float_digits = -9",
        "xmloption = document", "search_path = ''",
    ):  # fmt: skip
        source.sql("postgres", f"ALTER DATABASE small SET {setting}")
    done(export(source, tmp_path, target_version=18))
    imported = one(restore(target, tmp_path))
    assert imported["skipped"] == []
    assert not done(restore(target, tmp_path)).changed
    assert done(finish(target, "small")).changed
    assert_same(look(source, "small"), look(target, "small"))


# --- finishing -------------------------------------------------------------------------------------------------------


def test_finishing_removes_the_journal_and_nothing_else(dump):
    directory, target = dump
    done(restore(target, directory))
    create_database(target, "other")
    before = look(target, "small")
    assert "schema handover" in before["objects"]
    planned = done(restore(target, None, check=True, state="finished", databases=["small", "other", "nowhere"]))
    assert (planned.changed, planned.finished_databases) == (True, ["small"])
    assert_same(before, look(target, "small"))
    finished = done(finish(target, "small", "other", "nowhere"))
    assert (finished.changed, finished.finished_databases) == (True, ["small"])
    assert not [name for section in look(target, "small").values() for name in section if "handover" in name]
    again = done(finish(target, "small"))
    assert (again.changed, again.finished_databases) == (False, [])
    refused(restore(target, directory), "small", "replace: true"), "it is somebody else's now"


def test_a_migrated_database_can_be_migrated_on_without_the_journal(servers, dump, tmp_path):
    directory, first = dump
    done(restore(first, directory))
    second = servers(18, "target")
    done(export(first, tmp_path / "next", target_version=18))
    done(restore(second, tmp_path / "next"))
    finish(first, "small"), finish(second, "small")
    assert_same(look(first, "small"), look(second, "small"))


def test_a_schema_called_handover_that_is_not_ours_is_noticed(servers, tmp_path):
    source = servers(17)
    small(source)
    source.sql("small", "CREATE SCHEMA handover CREATE TABLE restore (i int)")
    refused(export(source, tmp_path), "schema handover that the collection did not make", "Rename it")


# --- check mode ------------------------------------------------------------------------------------------------------


def test_check_mode_changes_nothing(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    sample.create(source.connect, "shop", scale=0.01)
    planned = done(restore(target, tmp_path / "not there yet", check=True, databases=["shop"]))
    assert planned.changed
    assert "no dump yet" in planned.databases[0]["notices"][0]
    done(export(source, tmp_path, target_version=17))
    before = look_at_roles(target), databases(target)
    planned = done(restore(target, tmp_path, check=True, no_owner=False, jobs=3))
    assert planned.changed
    assert planned.roles["changed"]
    assert any("CREATE ROLE" in statement for statement in planned.roles["statements"])
    [database] = planned.databases
    assert "Roles that must be imported first: Shop Admin, shop" in database["notices"][0]
    assert {"--jobs=3", "--no-tablespaces"} <= set(database["command"])
    assert target.password not in json.dumps(planned.data)
    assert (look_at_roles(target), databases(target)) == before
    imported = one(restore(target, tmp_path))
    assert database["planned_stages"] == [
        stage["stage"] for stage in imported["stages"] if stage["stage"] in database["planned_stages"]
    ]
    assert not done(restore(target, tmp_path, check=True)).changed
    result = restore(target, tmp_path, check=True, rename={"shop": "postgres"})
    refused(result, 'already has a database "postgres"')
    small(target)
    refused(restore(target, tmp_path, check=True, rename={"shop": "small"}), "holds 1 object")
    assert_nothing_of_ours(source, target)
