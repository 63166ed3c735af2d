"""pg_direct_copy between all majors: what arrives is what was there."""

from __future__ import annotations

import pytest
from copies import bring_roles, copy
from dumps import (
    JOURNAL,
    PUBLISHER,
    as_seen_by_admin,
    assert_nothing_of_ours,
    databases,
    done,
    expected_on_target,
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
from faults import await_that
from support import assert_same, create_database

from lab import every_class, sample

PAIRS = [(13, 17), (14, 18), (15, 18), (18, 18)]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_sample_arrives_whole(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    made = sample.create(source.connect, "shop", scale=0.01)
    before = look(source, "shop")
    bring_roles(source, target, tmp_path)

    foreseen = one(copy(source, target, check=True, unlogged_table_data=True))
    assert databases(target) == set(), "check mode changes nothing"
    assert (foreseen["tables"], foreseen["skipped"]) == (made["tables"], [])

    copied = one(copy(source, target, unlogged_table_data=True, count_rows=True))
    assert (copied["skipped"], copied["edits"], copied["changed"]) == ([], [], True)
    assert copied["tables"] == copied["tables_compared"] == made["tables"]
    assert copied["rows"] == copied["rows_compared"] == made["rows"]
    again = one(copy(source, target, unlogged_table_data=True))
    assert {**again, "changed": True} == {**copied, "changed": True}, "the facts of the first run, and no change"
    assert not again["changed"]

    assert_same(before, look(target, "shop"), ignore=JOURNAL)
    finish(target, "shop")
    assert_same(before, look(target, "shop"))
    assert_same(before, look(source, "shop"))
    assert_nothing_of_ours(source, target)
    counted = row_counts(target, "shop")
    assert statistics(target, "shop") == {
        name: (rows, columns if rows else 0) for name, (rows, columns) in counted.items()
    }
    assert target.sql("shop", "SELECT count(*) FROM pg_statistic_ext_data") == [(2,)]


@pytest.mark.parametrize(("old", "new"), [(13, 18), (18, 18)])
def test_every_class_arrives(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    every_class.create(source.connect, "every")
    before = look(source, "every")
    bring_roles(source, target, tmp_path)
    copied = one(copy(source, target, unlogged_table_data=True))
    subscriptions = {f"SUBSCRIPTION {name}" for name in before["subscriptions"]}
    skipped = {entry["object"]: entry["reason"] for entry in copied["skipped"]}
    assert {name for name, reason in skipped.items() if reason == PUBLISHER} == subscriptions
    assert set(skipped) - subscriptions == {'COMMENT SUBSCRIPTION "every_subscription"'}
    finish(target, "every")
    assert_same(expected_on_target(before, tablespaces=False), look(target, "every"))


@pytest.mark.parametrize(("old", "new"), [(14, 16), (15, 18)])
def test_sample_goes_to_a_service(servers, tmp_path, old, new):
    """The role there is no superuser; the application's roles own what they owned."""
    source, target = servers(old), servers(new, "target")
    sample.create(source.connect, "shop", scale=0.01)
    admin = target.managed_admin()
    bring_roles(source, admin, tmp_path)
    copied = one(copy(source, admin, unlogged_table_data=True))
    assert {entry["class"] for entry in copied["skipped"]} <= {"DATABASE PROPERTIES"}, copied["skipped"]
    finish(admin, "shop")
    before, after = (as_seen_by_admin(look(cluster, "shop")) for cluster in (source, target))
    assert_same(before, after, ignore=("database/.*", r"objects/database .*", r"settings/.*"))
    assert_nothing_of_ours(target)


def test_whose_database_is_there_is_not_touched(servers):
    source, target = servers(15), servers(18, "target")
    small(source)
    source.sql("small", "GRANT SELECT ON t TO PUBLIC; SELECT lo_from_bytea(0, '\\x01')")  # made before and after rows
    small(target, rows=3)
    refused(copy(source, target, databases=["small"]), 'already has a database "small"', "replace_databases: [small]")
    assert one(copy(source, target, replace=True, replace_databases=["small"]))["changed"]
    assert rows_of(target, "small") == 10
    counted = target.sql("small", "SELECT writes IS NOT NULL FROM handover.restore")
    assert counted == [(True,)], "so that whoever writes to it from then on is noticed"
    source.sql("small", "INSERT INTO t VALUES (11)")
    assert not one(copy(source, target))["changed"], "a copy of an instant is what was asked for"
    refused(copy(source, target, source_is_quiet=True), "nobody had said that the source is quiet")
    refused(copy(source, target, force=True), "replace_databases")
    again = {"force": True, "replace": True, "replace_databases": ["small"], "source_is_quiet": True}
    assert one(copy(source, target, **again))["rows"] == 11
    source.sql("small", "ALTER DATABASE small SET work_mem = 4096; COMMENT ON DATABASE small IS 'old'")
    source.sql("postgres", "REVOKE CONNECT ON DATABASE small FROM PUBLIC")
    settled = one(copy(source, target, source_is_quiet=True))
    assert not settled["changed"] and settled["notices"] == []
    source.sql("small", "ALTER TABLE t ADD note text DEFAULT 'of which no row tells'")
    refused(copy(source, target, source_is_quiet=True), "the source's schema was changed after")
    source.sql("small", "ALTER TABLE t DROP note")
    source.sql("small", "CREATE ROLE uncounted; ALTER ROLE uncounted SET track_counts = off")
    unsure = one(copy(source, target, source_is_quiet=True))
    assert not unsure["changed"] and "rests on your source_is_quiet: true alone" in unsure["notices"][-1]
    source.sql("small", "DROP ROLE uncounted")
    source.sql("small", "INSERT INTO t VALUES (12)")
    await_that(lambda: source.sql("small", "SELECT 1 FROM pg_stat_user_tables WHERE n_tup_ins = 12"), "a row's count")
    refused(copy(source, target, source_is_quiet=True), "somebody wrote to the source")


def test_database_that_the_service_made_is_filled(servers):
    source, target = servers(16), servers(18, "target")
    small(source)
    create_database(target, "defaultdb")
    options = {"rename": {"small": "defaultdb"}, "create": False}
    copied = one(copy(source, target, **options))
    assert (copied["database"], rows_of(target, "defaultdb")) == ("defaultdb", 10)
    assert not one(copy(source, target, **options))["changed"]


def test_long_values_are_compressed_by_lz4(servers, tmp_path):
    """Unless a column, or who keeps the database, asks for something else; whichever way the rows come."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "long")
    source.sql(
        "long",
        "CREATE TABLE t (free text, chosen text COMPRESSION pglz);"
        "INSERT INTO t SELECT repeat(md5(i::text), 500), repeat(md5(i::text), 500) FROM generate_series(1, 3) AS i",
    )
    look_at = "SELECT DISTINCT pg_column_compression(free), pg_column_compression(chosen) FROM t"

    def by_dump(**options):
        done(export(source, tmp_path, databases=["long"], force=True))
        return one(restore(target, tmp_path, **options))

    def directly(**options):
        return one(copy(source, target, databases=["long"], force=True, **options))

    for way in (directly, by_dump):
        assert way(toast_compression="keep")["toast_compression"] is None
        assert target.sql("long", look_at) == [("pglz", "pglz")]
        target.sql("postgres", "DROP DATABASE long")
        assert way()["toast_compression"] == "lz4"
        assert target.sql("long", look_at) == [("lz4", "pglz")]
        assert target.sql("long", "SHOW default_toast_compression") == [("pglz",)]
        target.sql("postgres", "DROP DATABASE long")
    source.sql("postgres", "ALTER DATABASE long SET default_toast_compression = 'pglz'")
    for way in (directly, by_dump):
        assert way()["toast_compression"] is None
        assert target.sql("long", look_at) == [("pglz", "pglz")]
        target.sql("postgres", "DROP DATABASE long")


def test_parts_are_left_out(servers):
    source, target = servers(15), servers(17, "target")
    small(source)
    source.sql("small", "CREATE TABLE u (i int); INSERT INTO u VALUES (1); CREATE SCHEMA s CREATE TABLE v (i int)")
    copied = one(copy(source, target, exclude_tables=["u", "w"], exclude_schemas=["s"]))
    assert copied["tables"] == 1
    assert not one(copy(source, target, exclude_tables=["w", "u"], exclude_schemas=["s"]))["changed"]
    refused(
        copy(source, target, unlogged_table_data=True, exclude_tables=["u", "w"]),
        "copy that was made with other options (exclude_schemas, unlogged_table_data)",
    )
    assert set(look(target, "small")["relations"]) >= {"public.t"}
    assert not set(look(target, "small")["relations"]) & {"public.u", "s.v"}


def test_roles_have_to_be_there(servers):
    source, target = servers(15), servers(17, "target")
    small(source)
    source.sql("small", "CREATE ROLE keeper; ALTER TABLE t OWNER TO keeper")
    refused(copy(source, target), "lacks roles", "keeper")
    assert databases(target) == set()
    assert one(copy(source, target, no_owner=True, no_privileges=True))["rows"] == 10


def test_neither_a_description_nor_a_database_that_fails_leaves_anything(servers, tmp_path):
    """Both are made at the same time."""
    source, target = servers(15), servers(18, "target")
    small(source)
    refused(copy(source, target, client_directory=[str(tmp_path)]), "pg_dump")
    assert databases(target) == set()
    target.sql("postgres", "CREATE ROLE unable LOGIN PASSWORD 'unable'")
    refused(copy(source, target.endpoint(user="unable", password="unable")), "permission denied to create database")
    assert databases(target) == set()
    assert_nothing_of_ours(target)
    assert one(copy(source, target))["rows"] == 10


def test_roles_of_both_ends_are_as_before(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    small(source)
    admin = target.managed_admin()
    source.sql("small", "CREATE ROLE keeper; ALTER TABLE t OWNER TO keeper")
    bring_roles(source, admin, tmp_path)
    before = look_at_roles(target)
    done(copy(source, admin))
    assert_same(before, look_at_roles(target))
    assert_nothing_of_ours(target)
