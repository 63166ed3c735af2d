"""pg_restore_import: what arrives is what was there: properties, owners, privileges, statistics, views."""

from __future__ import annotations

import dataclasses
import json
from contextlib import closing

import psycopg2
import pytest
from dumps import (
    databases,
    done,
    export,
    finish,
    look,
    look_at_roles,
    one,
    refused,
    restore,
    row_counts,
    rows_of,
    small,
    statistics,
)
from support import Cluster, assert_same, create_database

from lab import builds, sample

# --- properties of the database --------------------------------------------------------------------------------------

ICU = "LOCALE_PROVIDER icu ICU_LOCALE 'de-AT' LOCALE 'C.UTF-8'"
PROPERTIES = [
    (13, 18, "ENCODING 'LATIN1' LC_COLLATE 'en_US' LC_CTYPE 'en_US'"),
    (14, 17, "ENCODING 'SQL_ASCII' LOCALE 'C'"),
    (13, 17, "ENCODING 'UTF8' LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C.UTF-8' CONNECTION LIMIT 0"),
    (15, 18, f"ENCODING 'UTF8' {ICU}"),
    (17, 18, f"ENCODING 'UTF8' {ICU} ICU_RULES '&a < b'"),
    (17, 18, "ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'de_DE.UTF-8'"),
    (18, 18, "ENCODING 'EUC_JP' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C' LOCALE 'C'"),
]


@pytest.mark.parametrize(("old", "new", "properties"), PROPERTIES)
def test_encoding_and_locale_are_kept(servers, tmp_path, old, new, properties):
    source, target = servers(old), servers(new, "target")
    create_database(source, "of it", f"TEMPLATE template0 {properties}")
    with closing(source.connect("of it")) as session, session.cursor() as cursor:
        session.set_client_encoding("SQL_ASCII" if "SQL_ASCII" in properties else "UTF8")
        cursor.execute("CREATE TABLE t AS SELECT %s::text AS words", ["é" if "LATIN1" in properties else "x"])
        if "SQL_ASCII" in properties:
            cursor.execute("SET backslash_quote = on; INSERT INTO t VALUES (E'no UTF-8: \\xe9\\xff')")
        cursor.execute("CREATE INDEX ON t (words)")
    done(export(source, tmp_path, target_version=new))
    done(restore(target, tmp_path))
    finish(target, "of it")
    before, after = look(source, "of it"), look(target, "of it")
    assert_same(before, after)
    assert after["database"]["database"]["encoding"] in properties


def test_a_locale_that_the_target_lacks_is_mapped(servers, run_directory, tmp_path):
    source = servers(15)
    create_database(source, "german", "TEMPLATE template0 ENCODING 'UTF8' LOCALE 'de_DE.UTF-8'")
    source.sql("german", "CREATE TABLE t AS SELECT 'ä' AS words")
    done(export(source, tmp_path, target_version=18))
    build = dataclasses.replace(builds.build(18), locale_path=None)
    with Cluster(build, run_directory / "without-locales") as target:
        try:
            refused(restore(target, tmp_path), "de_DE.UTF-8", "locale_map")
            assert databases(target) == set()
            done(restore(target, tmp_path, locale_map={"de_DE.UTF-8": "C.UTF-8"}))
            finish(target, "german")
            [(collation,)] = target.sql("postgres", "SELECT datcollate FROM pg_database WHERE datname = 'german'")
            assert collation == "C.UTF-8"
            assert_same(look(source, "german"), look(target, "german"), ignore=["database/database"])
        finally:
            target.destroy()


def test_a_locale_provider_that_the_target_lacks_is_refused(servers, tmp_path):
    source, target = servers(15), servers(14, "target")
    create_database(source, "of it", f"TEMPLATE template0 ENCODING 'UTF8' {ICU}")
    done(export(source, tmp_path))
    refused(restore(target, tmp_path), "locale provider icu", "create: false")


def test_owner_privileges_settings_and_limit_are_kept(servers, tmp_path):
    source, target = servers(13), servers(18, "target")
    source.sql("postgres", 'CREATE ROLE boss CREATEDB; CREATE ROLE app LOGIN; CREATE ROLE "Ü s"')
    create_database(source, "of it", "OWNER boss CONNECTION LIMIT 7")
    source.sql(
        "of it",
        """COMMENT ON DATABASE "of it" IS 'it''s \\ ☕'; REVOKE ALL ON DATABASE "of it" FROM PUBLIC;
        GRANT CONNECT ON DATABASE "of it" TO app WITH GRANT OPTION; GRANT CREATE ON DATABASE "of it" TO "Ü s";
        REVOKE TEMPORARY ON DATABASE "of it" FROM boss; ALTER DATABASE "of it" SET work_mem = '7MB';
        ALTER DATABASE "of it" SET search_path = "$user", 'a b'; ALTER ROLE app IN DATABASE "of it" SET jit = off""",
    )
    done(export(source, tmp_path))
    done(restore(target, tmp_path, rename={"of it": "of that"}))
    finish(target, "of that")
    assert_same(look(source, "of it"), look(target, "of that"))
    renamed = json.dumps(look_at_roles(source)).replace('"of it: ', '"of that: ')
    assert_same(json.loads(renamed), look_at_roles(target))


# --- owners and privileges -------------------------------------------------------------------------------------------


def test_no_owner_and_no_privileges(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    sample.create(source.connect, "shop", scale=0.01)
    done(export(source, tmp_path, target_version=17, unlogged_table_data=True))
    missing = refused(restore(target, tmp_path, include=["databases"]), "lacks roles", "shop_owner", "Import the roles")
    options = {"include": ["databases"], "no_owner": True, "no_privileges": True}
    missing = refused(restore(target, tmp_path, **options), "lacks roles", ": shop_app, shop_readers.")
    assert "no_owner: true" in missing.remedy
    assert databases(target) == set()
    target.sql("postgres", "CREATE ROLE shop_app; CREATE ROLE shop_readers")
    done(restore(target, tmp_path, **options))
    finish(target, "shop")
    before, after = look(source, "shop"), look(target, "shop")
    owners = {value["owner"] for value in after["objects"].values()}
    assert owners <= {"postgres", "pg_database_owner", None}
    privileges = [text for value in after["objects"].values() for text in value["privileges"] or ()]
    assert {text.split("=")[0] for text in privileges} <= {"postgres", "pg_database_owner", "PUBLIC"}
    assert after["default privileges"] == {}
    [database] = after["database"].values()
    assert (database["owner"], database["datconnlimit"]) == ("postgres", 150)
    assert database["comment"] == before["database"]["database"]["comment"]
    assert (after["rows"], after["policies"]) == (before["rows"], before["policies"])


def test_owners_without_privileges_and_privileges_without_owners(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    source.sql("postgres", "CREATE ROLE a; CREATE ROLE b")
    small(source)
    source.sql("small", "ALTER TABLE t OWNER TO a; GRANT SELECT ON t TO b; GRANT CREATE ON DATABASE small TO b")
    done(export(source, tmp_path, target_version=17))

    def owner_and_grantees(name):
        query = """
            SELECT relowner::regrole::text, has_table_privilege('b', oid, 'SELECT'),
                   has_database_privilege('b', current_database(), 'CREATE') FROM pg_class WHERE relname = 't'"""
        return target.sql(name, query)[0]

    for options, expected in (
        ({}, ("a", True, True)),
        ({"no_privileges": True}, ("a", False, False)),
        ({"no_owner": True}, ("postgres", True, True)),
    ):
        name = "_".join(["with", *options])
        imported = one(restore(target, tmp_path, rename={"small": name}, **options))
        assert owner_and_grantees(name) == expected
        assert {entry["class"] for entry in imported["skipped"]} <= {"ACL"}


def test_the_sources_superuser_has_another_name(servers, run_directory, tmp_path):
    """initdb's superuser is not carried over: what is his goes to the connecting role, and his grants are dropped."""
    target = servers(17, "target")
    locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--username=grand master")
    with Cluster(builds.build(15), run_directory / "other-superuser", initdb_args=locale) as source:
        try:
            master = {"user": "grand master"}
            source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the app'", **master)
            source.sql("postgres", "CREATE DATABASE small", **master)
            source.sql(
                "small",
                """CREATE TABLE t AS SELECT i FROM generate_series(1, 10) AS i; CREATE SCHEMA s AUTHORIZATION app;
                GRANT SELECT ON t TO app; CREATE TABLE s.u (i int); ALTER TABLE s.u OWNER TO app;
                GRANT SELECT ON s.u TO "grand master" WITH GRANT OPTION; SET ROLE "grand master";
                ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app;
                ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO "grand master";
                CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_from_bytea(4711, 'x')""",
                **master,
            )
            done(export(source.endpoint(**master), tmp_path, target_version=17))
        finally:
            source.destroy()
    result = done(restore(target, tmp_path))
    assert [skipped["role"] for skipped in result.roles["skipped"]] == ["grand master"]
    assert target.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'grand master'") == [(0,)]
    edits = {edit["edit"]: edit["objects"] for edit in result.databases[0]["edits"]}
    assert set(edits) == {"owner grand master", "grants of grand master"}
    assert rows_of(target, "small") == 10
    target.sql("small", "SELECT * FROM t", user="app", password="of the app")
    after = look(target, "small")
    assert after["objects"]["table public.t"]["owner"] == "postgres"
    assert after["objects"]["table s.u"]["owner"] == "app"
    assert after["database"]["database"]["owner"] == "postgres"
    assert "grand master" not in json.dumps(after)


# --- statistics and materialized views -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "analyze", "planned"),
    [
        (16, "auto", {"stale": 100, "extended": 1000}),
        (18, "auto", {"stale": 100, "extended": 1000}),
        (18, "full", {"stale": 1000, "extended": 1000}),
        (16, "in_stages", {"stale": 1000, "extended": 1000}),
        (18, "none", {"stale": 100, "extended": 100}),
    ],
)
def test_statistics(servers, tmp_path, old, analyze, planned):
    """Statistics of old contents tell those that were carried over from those that were made anew."""
    source, target = servers(old), servers(18, "target")
    create_database(source, "of it")
    for name in planned:
        source.sql(
            "of it",
            f"""CREATE TABLE {name} (i int, words text) WITH (autovacuum_enabled = off);
            INSERT INTO {name} SELECT i, 'word ' || i % 7 FROM generate_series(1, 100) AS i; ANALYZE {name};
            INSERT INTO {name} SELECT 1, 'word' FROM generate_series(1, 900)""",
        )
    source.sql("of it", "CREATE STATISTICS both_columns ON i, words FROM extended")
    one(export(source, tmp_path, target_version=18))
    imported = one(restore(target, tmp_path, analyze=analyze))
    stages = [stage["stage"] for stage in imported["stages"]]
    assert ("analyze" in stages) == (analyze != "none")
    assert statistics(target, "of it") == {name: (rows, 2) for name, rows in planned.items()}
    distinct = "SELECT n_distinct FROM pg_stats WHERE (tablename, attname) = (%s, 'words')"
    for name, rows in planned.items():
        assert target.sql("of it", distinct, [name]) == [(7 if rows == 100 else 8,)]
    collected = target.sql("of it", "SELECT count(*) FROM pg_statistic_ext_data")
    assert collected == [(0 if analyze == "none" else 1,)]


@pytest.mark.parametrize("analyze", ["auto", "none"])
def test_statistics_before_18(servers, tmp_path, analyze):
    source, target = servers(13), servers(17, "target")
    small(source)
    done(export(source, tmp_path, target_version=17))
    done(restore(target, tmp_path, analyze=analyze))
    assert statistics(target, "small") == {"t": (10, 1) if analyze == "auto" else (-1, 0)}


def test_in_stages_ends_with_the_default_target(servers, tmp_path):
    source, target = servers(13), servers(17, "target")
    small(source, rows=5000)
    done(export(source, tmp_path, target_version=17))
    done(restore(target, tmp_path, analyze="in_stages"))
    assert target.sql("small", "SELECT array_length(histogram_bounds, 1) FROM pg_stats WHERE tablename = 't'") == [
        (101,)
    ]
    assert row_counts(target, "small") == {"t": (5000, 1)}


@pytest.mark.parametrize("refresh", [True, False], ids=["refreshed", "not refreshed"])
def test_materialized_views(servers, tmp_path, refresh):
    """In the order of their dependencies, which is not that of their names; with the settings of the database."""
    source, target = servers(14), servers(18, "target")
    small(source)
    source.sql("postgres", "ALTER DATABASE small SET timezone = 'Asia/Kolkata'")
    source.sql(
        "small",
        """CREATE SCHEMA "z z"; CREATE MATERIALIZED VIEW "z z".m AS SELECT i FROM t;
        CREATE VIEW between_them AS SELECT i * 2 AS i FROM "z z".m;
        CREATE MATERIALIZED VIEW b AS SELECT i FROM between_them WITH DATA;
        CREATE MATERIALIZED VIEW a AS SELECT sum(i) AS total, timestamptz '2025-01-01 00:00+00'::text AS moment FROM b;
        CREATE UNIQUE INDEX ON a (total); CREATE MATERIALIZED VIEW empty_one AS SELECT i FROM t WITH NO DATA""",
    )
    before = look(source, "small")
    done(export(source, tmp_path, target_version=18))
    imported = one(restore(target, tmp_path, refresh_materialized_views=refresh))
    finish(target, "small")
    after = look(target, "small")
    if refresh:
        assert_same(before, after)
        assert target.sql("small", "SELECT total FROM a") == [(110,)]
    else:
        filled = {
            name for name, value in after["relations"].items() if value["relkind"] == "m" and value["relispopulated"]
        }
        assert filled == set()
    assert "materialized views" in [stage["stage"] for stage in imported["stages"]] or not refresh


def test_a_view_that_cannot_be_refreshed_is_named(servers, tmp_path):
    source, target = servers(14), servers(18, "target")
    small(source)
    source.sql("small", "CREATE TABLE switch (i int); INSERT INTO switch VALUES (1)")
    source.sql("small", "CREATE MATERIALIZED VIEW fragile AS SELECT 10 / i AS i FROM switch")
    source.sql("small", "UPDATE switch SET i = 0")
    done(export(source, tmp_path, target_version=18))
    result = restore(target, tmp_path)
    refused(result, "fragile", "division by zero", "refresh_materialized_views: false")
    assert "small" not in databases(target)
    done(restore(target, tmp_path, refresh_materialized_views=False))
    assert databases(target) == {"small"}


# --- roles of the application ----------------------------------------------------------------------------------------


def test_the_application_works_on_the_target(servers, tmp_path):
    """With its own role, password and settings, under its own row level security."""
    source, target = servers(13), servers(18, "target")
    sample.create(source.connect, "shop", scale=0.01)
    done(export(source, tmp_path, target_version=18))
    done(restore(target, tmp_path))
    answers = []
    for cluster in (source, target):
        with (
            closing(cluster.connect("shop", user="shop_app", password="sample")) as session,
            session.cursor() as cursor,
        ):
            cursor.execute("SELECT count(*), min(name) FROM customer")
            answers.append(cursor.fetchone())
            cursor.execute(
                'INSERT INTO shop."Order" (customer, state, "from") SELECT id, \'open\', now() FROM customer LIMIT 1'
            )
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute('DELETE FROM shop."Order"')
    assert answers[0] == answers[1]
    assert 0 < answers[1][0] < target.sql("shop", "SELECT count(*) FROM shop.customer")[0][0]
