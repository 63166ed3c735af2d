"""pg_dump_export: what is dumped, what is counted, and what is refused."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest
from dumps import (
    done,
    export,
    finish,
    look,
    manifest_of,
    one,
    refused,
    restore,
    small,
)
from support import assert_same, create_database

from lab import builds, sample

# --- what is dumped --------------------------------------------------------------------------------------------------


@pytest.fixture
def sample_database(servers):
    """A sample application on 15, to be brought to 17."""
    source, target = servers(15), servers(17, "target")
    sample.create(source.connect, "shop", scale=0.01)
    return source, target


def carried(source, target, directory, **options):
    """What a dump with these options brings to the target."""
    done(export(source, directory, target_version=17, unlogged_table_data=True, **filled(**options)))
    done(restore(target, directory))
    finish(target, "shop")
    return look(target, "shop")


@pytest.mark.parametrize("large_objects", [None, True], ids=["without large objects", "with large objects"])
def test_schemas(sample_database, tmp_path, large_objects):
    source, target = sample_database
    before = look(source, "shop")
    after = carried(
        source,
        target,
        tmp_path,
        schemas=["billing", "public"],
        exclude_tables=["billing.*note"],
        dump_extra_args=["--section=pre-data", "--section=data"],
        large_objects=large_objects,
    )
    wanted = {name for name in before["relations"] if name.startswith(("billing.", "public."))}
    assert set(after["relations"]) == wanted - {"billing.internal_note"}
    assert after["rows"] == {name: before["rows"][name] for name in after["rows"]}
    assert after["constraints"].keys() < before["constraints"].keys()
    assert after["large objects"] == (before["large objects"] if large_objects else {})


def test_what_is_left_out(sample_database, tmp_path):
    source, target = sample_database
    before = look(source, "shop")
    after = carried(
        source,
        target,
        tmp_path,
        exclude_schemas=['"Lager & Größe"'],
        exclude_table_data=["billing.*t"],
        exclude_tables=["public.values*"],
    )
    gone = {name for name in before["relations"] if name.startswith(('"Lager', "public.values"))}
    assert set(before["relations"]) - set(after["relations"]) == gone
    assert len(gone) > 4
    for name, rows in after["rows"].items():
        assert rows["rows"] == 0 if name == "billing.payment" else rows == before["rows"][name], name
    assert after["large objects"] == before["large objects"]
    assert after["positions"]["billing.invoice_id_seq"] == before["positions"]["billing.invoice_id_seq"]


def test_tables_and_no_large_objects(sample_database, tmp_path):
    source, target = sample_database
    after = carried(source, target, tmp_path, tables=["public.values_of_note", "public.attachment"])
    before = look(source, "shop")
    assert set(after["relations"]) == {"public.values_of_note", "public.attachment"}
    assert after["rows"] == {name: before["rows"][name] for name in after["relations"]}
    assert after["large objects"] == {}


def test_no_large_objects_of_a_whole_database(sample_database, tmp_path):
    source, target = sample_database
    after = carried(source, target, tmp_path, large_objects=False)
    assert set(after["relations"]) == set(look(source, "shop")["relations"])
    assert after["large objects"] == {}


def test_a_filter_that_matches_nothing_is_refused(servers, tmp_path):
    source = servers(17)
    small(source)
    refused(export(source, tmp_path, tables=["nowhere"]), "no matching tables", "Correct schemas, tables")
    assert not (tmp_path / "databases" / "small").exists()


def test_unlogged_tables(servers, tmp_path):
    """Their definition is carried; their rows only if that is asked for, and it is said when they are not."""
    source, target = servers(17), servers(18, "target")
    small(source)
    source.sql("small", "CREATE UNLOGGED TABLE fleeting (id serial); INSERT INTO fleeting DEFAULT VALUES")
    exported = one(export(source, tmp_path / "without", target_version=18))
    assert exported["notices"] == ["The rows of 1 unlogged table were left out: public.fleeting."]
    assert (exported["tables"], exported["rows"]) == (1, 10)
    done(restore(target, tmp_path / "without"))
    assert target.sql("small", "SELECT count(*) FROM fleeting") == [(0,)]
    exported = one(export(source, tmp_path / "with", target_version=18, unlogged_table_data=True))
    assert (exported["tables"], exported["rows"], exported["notices"]) == (2, 11, [])
    done(restore(target, tmp_path / "with", replace=True, replace_databases=["small"]))
    assert target.sql("small", "SELECT id FROM fleeting") == [(1,)]
    assert target.sql("small", "INSERT INTO fleeting DEFAULT VALUES RETURNING id") == [(2,)]


@pytest.mark.parametrize(
    ("major", "compress", "ending"),
    [
        (13, "none", ".dat"),
        (13, "gzip:9", ".dat.gz"),
        (13, "3", ".dat.gz"),
        (17, None, ".dat.gz"),
        (18, "none", ".dat"),
        (18, "gzip:1", ".dat.gz"),
        (18, "lz4:3", ".dat.lz4"),
        (18, "zstd", ".dat.zst"),
    ],
)
def test_compression(servers, tmp_path, major, compress, ending):
    source, target = servers(13), servers(18, "target")
    small(source, rows=1000)
    done(export(source, tmp_path, client_directory=[str(builds.build(major).bin)], **filled(compress=compress)))
    names = {path.name for path in (tmp_path / "databases" / "small" / "archive").iterdir()}
    assert {name[name.index(".") :] for name in names - {"toc.dat"}} == {ending}
    assert one(restore(target, tmp_path))["rows_compared"] == 1000


def filled(**options):
    return {name: value for name, value in options.items() if value is not None}


@pytest.mark.parametrize(
    ("major", "compress", "words"),
    [(13, "zstd:3", ["13.", "knows gzip only"]), (18, "brotli", ["brotli"]), (18, "gzip:77", ["gzip"])],
)
def test_compression_that_there_is_not(servers, tmp_path, major, compress, words):
    source = servers(13)
    small(source)
    refused(export(source, tmp_path, client_directory=[str(builds.build(major).bin)], compress=compress), *words)
    assert not (tmp_path / "databases" / "small").exists()


def test_extra_args_reach_pg_dump(servers, tmp_path):
    source, target = servers(17), servers(18, "target")
    small(source)
    source.sql("small", "COMMENT ON TABLE t IS 'not wanted'")
    done(export(source, tmp_path, dump_extra_args=["--no-comments"]))
    done(restore(target, tmp_path))
    assert target.sql("small", "SELECT obj_description('t'::regclass)") == [(None,)]
    refused(
        export(source, tmp_path / "other", dump_extra_args=["--no-such-option"]), "no-such-option", "dump_extra_args"
    )


def test_quoting_can_be_left_to_pg_dump(servers, tmp_path):
    source = servers(17)
    small(source)
    toc = Path("databases", "small", "archive", "toc.dat")
    done(export(source, tmp_path / "all"))
    done(export(source, tmp_path / "some", quote_all_identifiers=False))
    assert b'CREATE TABLE "public"."t"' in (tmp_path / "all" / toc).read_bytes()
    assert b"CREATE TABLE public.t" in (tmp_path / "some" / toc).read_bytes()


def test_jobs(servers, tmp_path):
    """By cores and tables, unless they are given; never none."""
    source = servers(17)
    small(source)

    def jobs(**options):
        command = one(export(source, tmp_path, check=True, **options))["command"]
        [argument] = [argument for argument in command if argument.startswith("--jobs")]
        return argument

    assert jobs() == "--jobs=1", "there is one table"
    for number in range(20):
        source.sql("small", f"CREATE TABLE t{number} (i int)")
    assert jobs() == f"--jobs={min(8, os.cpu_count())}"
    assert jobs(jobs=5) == "--jobs=5"
    refused(export(source, tmp_path, jobs=0), "jobs is 0")
    assert one(export(source, tmp_path, jobs=5))["tables"] == 21


# --- counting --------------------------------------------------------------------------------------------------------


def test_rows_are_counted_up_to_a_size(servers, tmp_path):
    source, target = servers(17), servers(18, "target")
    small(source)
    for name, options, counted in (
        ("off", {"count_rows": False}, (None, None)),
        ("beyond the limit", {"count_rows_limit": 100}, (None, None)),
        ("below the limit", {"count_rows_limit": 10_000_000}, (1, 10)),
        ("on", {"count_rows": True, "count_rows_limit": 100}, (1, 10)),
    ):
        exported = one(export(source, tmp_path / name, target_version=18, **options))
        assert (exported["tables"], exported["rows"]) == counted, name
        imported = one(restore(target, tmp_path / name, replace=True, replace_databases=["small"]))
        assert (imported["tables_compared"], imported["rows_compared"]) == counted, name


def test_everything_is_of_one_moment(servers, tmp_path):
    """While somebody writes: both tables, the sequence's position not below, and the counts."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "busy")
    source.sql("busy", "CREATE TABLE a (id serial); CREATE TABLE b (id int); CREATE TABLE filler AS SELECT 1 AS i")
    stop = threading.Event()

    def write():
        with closing(source.connect("busy")) as session, session.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(
                    "WITH new AS (INSERT INTO a DEFAULT VALUES RETURNING id) INSERT INTO b SELECT id FROM new"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        exported = one(export(source, tmp_path, target_version=18, serializable_deferrable=False))
    finally:
        stop.set()
        writer.join()
    assert manifest_of(tmp_path, "busy")["snapshot"]["isolation"] == "repeatable read, read only"
    imported = one(restore(target, tmp_path))
    [(a, b, last)] = target.sql(
        "busy", "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT last_value FROM a_id_seq)"
    )
    assert a == b
    assert last >= a > 0
    assert source.sql("busy", "SELECT count(*) FROM a")[0][0] > a, "somebody wrote meanwhile"
    assert exported["rows"] == imported["rows_compared"] == 2 * a + 1


# --- what is refused -------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named(servers, tmp_path):
    source = servers(13)
    small(source)
    create_role = "CREATE ROLE reader LOGIN PASSWORD 'of the reader'"
    source.sql(
        "small",
        create_role
        + """;
        CREATE SCHEMA closed; CREATE TABLE closed.there (i int); CREATE SEQUENCE numbers; CREATE TABLE filtered (i int);
        ALTER TABLE filtered ENABLE ROW LEVEL SECURITY; GRANT SELECT ON filtered, t TO reader;
        CREATE TABLE "not Mine" (i serial); CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW m AS SELECT 1 AS i;
        SELECT lo_from_bytea(4711, 'x'), lo_from_bytea(4712, 'y'); GRANT SELECT ON LARGE OBJECT 4712 TO reader""",
    )
    endpoint = source.endpoint(user="reader", password="of the reader")
    result = refused(export(endpoint, tmp_path), "lacks privileges that a dump needs", "Grant them")
    assert sorted(result.unreadable_objects) == sorted(
        [
            'sequence public."not Mine_i_seq": SELECT',
            "sequence public.numbers: SELECT",
            "table closed.there: USAGE on its schema",
            'table public."not Mine": SELECT',
            "table public.filtered: BYPASSRLS, for its row level security",
            "large object 4711: SELECT",
        ]
    )
    assert not (tmp_path / "databases" / "small").exists()
    source.sql(
        "small",
        """GRANT SELECT ON ALL TABLES IN SCHEMA public, closed TO reader; GRANT USAGE ON SCHEMA closed TO reader;
        GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reader; ALTER ROLE reader BYPASSRLS;
        GRANT SELECT ON LARGE OBJECT 4711 TO reader""",
    )
    exported = done(export(endpoint, tmp_path))
    assert exported.roles["passwords"] == "unreadable"
    assert exported.databases[0]["rows"] == 10


def test_a_lock_is_not_waited_for_without_end(servers, tmp_path):
    source = servers(17)
    small(source)
    with closing(source.connect("small", autocommit=False)) as session:
        session.cursor().execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        refused(export(source, tmp_path, lock_wait_timeout=100), "stayed locked for 100 ms", "t", "lock_wait_timeout")
    assert "small" not in os.listdir(tmp_path / "databases")
    assert done(export(source, tmp_path, lock_wait_timeout=100)).changed


# --- a standby -------------------------------------------------------------------------------------------------------


def test_a_standby_is_as_good_as_its_primary(servers, new_cluster, tmp_path):
    primary, target = new_cluster(15), servers(18, "target")
    sample.create(primary.connect, "shop", scale=0.01)
    standby = primary.standby(primary.directory.with_name("standby"))
    try:
        exported = done(export(standby, tmp_path, target_version=18))
        [database] = exported.databases
        assert exported.source["in_recovery"]
        assert any("standby, which cannot offer serializable_deferrable" in notice for notice in database["notices"])
        assert database["snapshot"]["isolation"] == "repeatable read, read only"
        assert not done(export(primary, tmp_path, target_version=18)).changed, "it is the same source"
    finally:
        standby.destroy()
    before = look(primary, "shop")
    done(restore(target, tmp_path))
    finish(target, "shop")
    after = look(target, "shop")
    assert_same(before, after, ignore=["rows/shop.cart"])
    assert after["rows"]["shop.cart"]["rows"] == 0, "a standby does not have what is unlogged"
