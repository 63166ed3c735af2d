"""How pg_direct_copy brings rows: formats, pieces, what is left out, and what is told of it."""

from __future__ import annotations

import resource
import time
from contextlib import closing

import psycopg2
import pytest
from copies import copy, start_copy
from dumps import assert_nothing_of_ours, databases, done, finish, look, one, refused, rows_of, small
from faults import await_that, watching
from support import assert_same, create_database

FORMATS = """
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN score AS numeric(6, 2);
    CREATE TABLE safe AS SELECT i, 'ok'::mood AS mood, 1.5::score AS score, int4range(i, i + 5) AS span, ARRAY[i, NULL]
        AS list, '{"a": [1]}'::jsonb AS doc, now() AS at, 'infinity'::float8 AS far, '\\x00ff'::bytea AS bytes,
        gen_random_uuid() AS id FROM generate_series(1, 50) AS i;
    CREATE TABLE names AS SELECT 'safe'::regclass AS class, 'int4'::regtype AS type, 'sum(int4)'::regprocedure AS proc;
    CREATE TABLE moods AS SELECT ARRAY['sad', 'ok']::mood[] AS moods;
    CREATE TABLE pairs AS SELECT (1, 'x')::pair AS pair;
    CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
    CREATE TABLE made (a int GENERATED ALWAYS AS IDENTITY, b int, c int GENERATED ALWAYS AS (b * 2) STORED);
    INSERT INTO made (b) SELECT generate_series(1, 20);
    CREATE TABLE only_made (c int GENERATED ALWAYS AS (7) STORED); INSERT INTO only_made DEFAULT VALUES;
    CREATE TABLE "Odd; DROP ""x" ("a b" text, "SELECT" int); INSERT INTO "Odd; DROP ""x" VALUES (E'tab\\t\\\\N', 1);
    CREATE TABLE empty (i int PRIMARY KEY);
    CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS i;
    CREATE TABLE hashed (mood mood, i int) PARTITION BY HASH (mood);
    CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO hashed SELECT CASE WHEN i % 3 = 0 THEN 'sad' ELSE 'ok' END::mood, i FROM generate_series(1, 90) AS i;
    CREATE TABLE parent (i int); CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);
    SELECT lo_from_bytea(1, decode(repeat('ab', 300000), 'hex')); COMMENT ON LARGE OBJECT 1 IS 'large'"""


def test_every_kind_of_table(servers):
    source, target = servers(14), servers(18, "target")
    create_database(source, "kinds")
    source.sql("kinds", FORMATS)
    source.sql("kinds", "CREATE TABLE paid (mood mood[], sum money); INSERT INTO paid VALUES ('{sad}', 1234.56)")
    source.sql("kinds", "ALTER DATABASE kinds SET lc_monetary = 'de_DE.UTF-8'")  # 1.234,56
    copied = one(copy(source, target, count_rows=True))
    assert target.sql("kinds", "SELECT count(*) FROM fleeting") == [(0,)]
    said = " ".join(copied["notices"])
    assert "public.fleeting" in said
    for name in ("names", "moods", "pairs"):
        assert f"public.{name}" in said.partition("copied as text")[2], "what only text can say is told"
    assert "public.safe" not in said and "public.made" not in said
    source.sql("kinds", "DELETE FROM fleeting")
    finish(target, "kinds")
    hashes = (r"rows/public\.hashed_.*",)  # an enum's hash is that of its oid: rows may change places
    assert_same(look(source, "kinds"), look(target, "kinds"), ignore=hashes)
    assert target.sql("kinds", "SELECT mood, count(*), sum(i) FROM hashed GROUP BY 1 ORDER BY 1") == source.sql(
        "kinds", "SELECT mood, count(*), sum(i) FROM hashed GROUP BY 1 ORDER BY 1"
    )


def test_configuration_of_extensions(servers):
    """Rows that are the user's come along, those that the extension makes do not come twice."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "extended")
    source.sql("extended", "CREATE EXTENSION hstore; CREATE TABLE config (i int, h hstore)")
    source.sql("extended", "INSERT INTO config SELECT i, hstore('k', i::text) FROM generate_series(1, 9) AS i")
    source.sql("extended", "CREATE SEQUENCE numbers; SELECT setval('numbers', 42)")
    source.sql("extended", "ALTER EXTENSION hstore ADD TABLE config; ALTER EXTENSION hstore ADD SEQUENCE numbers")
    mark = "UPDATE pg_extension SET extconfig = {}, extcondition = ARRAY['WHERE i > 5', ''] WHERE extname = 'hstore'"
    mark = mark.format("ARRAY['config'::regclass::oid, 'numbers'::regclass::oid]")
    source.sql("extended", mark)
    result = copy(source, target)
    refused(result, "public.config")  # a table that the target's extension does not have
    create_database(target, "there")
    target.sql("there", "CREATE EXTENSION hstore; CREATE TABLE config (i int, h hstore); INSERT INTO config VALUES (1)")
    target.sql("there", "CREATE SEQUENCE numbers; ALTER EXTENSION hstore ADD SEQUENCE numbers")
    target.sql("there", "ALTER EXTENSION hstore ADD TABLE config")
    target.sql("there", mark)
    options = {"rename": {"extended": "there"}, "create": False, "exclude_extensions": []}
    copied = one(copy(source, target, count_rows=True, **options))
    assert copied["rows"] == 4
    assert target.sql("there", "SELECT nextval('numbers')") == [(43,)]
    assert target.sql("there", "SELECT i, h -> 'k' FROM config ORDER BY 1") == [
        (1, None),
        (6, "6"),
        (7, "7"),
        (8, "8"),
        (9, "9"),
    ]


def test_large_table_in_ranges(servers):
    source, target = servers(16), servers(18, "target")
    small(source, rows=60000, columns="i, repeat('x', 100) AS filler")
    source.sql(
        "small", "DELETE FROM t WHERE i % 7 = 0; INSERT INTO t SELECT -i, 'more' FROM generate_series(1, 999) AS i"
    )
    with watching(source) as watch:
        running = start_copy(source, target, split_tables_larger_than="1MB", jobs=4, max_rate="5MB", count_rows=True)
        watch.await_query("^COPY .*ctid >= ")
        copied = one(running.wait())
    assert copied["rows"] == rows_of(source, "small") == rows_of(target, "small")
    assert look(source, "small")["rows"]["public.t"] == look(target, "small")["rows"]["public.t"]


def test_rate_is_not_exceeded(servers):
    source, target = servers(16), servers(18, "target")
    small(source, rows=40000, columns="i, repeat('x', 100) AS filler")
    started = time.monotonic()
    copied = one(copy(source, target, max_rate="2MB", jobs=2))
    assert copied["bytes"] / (time.monotonic() - started) <= 2 << 20
    refused(copy(source, target, max_rate="fast", force=True, replace=True, replace_databases=["small"]), "max_rate")


def test_rows_hidden_by_policies_are_not_lost(servers):
    """A role that would see a part of the rows is refused, before anything is made."""
    source, target = servers(15), servers(17, "target")
    small(source)
    source.sql("small", "ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO PUBLIC")
    source.sql("small", "CREATE ROLE guest LOGIN PASSWORD 'a password of guests'")
    result = copy(source.endpoint(user="guest", password="a password of guests"), target)
    refused(result, "table public.t", "BYPASSRLS")
    assert databases(target) == set()
    assert one(copy(source, target))["rows"] == 10


def test_index_that_cannot_be_built_is_named(servers):
    source, target = servers(15), servers(17, "target")
    small(source)
    done(copy(source, target))
    function = "CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT {}'"
    source.sql("small", f"{function.format('$1')}; CREATE INDEX never ON t (f(i)); CREATE INDEX fine ON t (i)")
    source.sql("small", function.format("1 / 0"))
    result = copy(source, target, force=True, replace=True, replace_databases=["small"])
    refused(result, "INDEX public.never", "division by zero", "small")
    assert target.sql("small", "SELECT to_regclass('fine')") == [(None,)], "the former copy stands"
    one(copy(source, target, replace=True, replace_databases=["small"], force=True, leave_out=["INDEX public.never"]))
    assert target.sql("small", "SELECT to_regclass('fine') IS NOT NULL, to_regclass('never')") == [(True, None)]
    assert_nothing_of_ours(target)


def test_lock_of_another_is_named(servers):
    source, target = servers(15), servers(17, "target")
    small(source)
    with source.connect("small", autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE t")
        refused(copy(source, target, lock_wait_timeout=200), "stayed locked", "public.t", str(other.info.backend_pid))
    other.close()
    assert databases(target) == set()


def test_truncation_waits_and_writes_do_not(servers):
    """What is written after the snapshot is not in the copy, and no table looks empty because it was truncated."""
    source, target = servers(15), servers(17, "target")
    small(source, rows=30000, columns="i, repeat('x', 100) AS filler")
    source.sql("small", "CREATE TABLE u AS SELECT 1 AS i")
    with watching(source) as watch:
        running = start_copy(source, target, max_rate="1MB")
        watch.await_query("^COPY")
        source.sql("small", "INSERT INTO u VALUES (2); DELETE FROM t WHERE i < 100")
        with (
            source.connect("small") as other,
            other.cursor() as cursor,
            pytest.raises(psycopg2.errors.LockNotAvailable),
        ):
            cursor.execute("SET lock_timeout = 50; TRUNCATE u")
        other.close()
        copied = one(running.wait())
    assert (copied["rows"], rows_of(target, "small")) == (30001, 30000)


def test_source_is_free_once_all_rows_are_read(servers):
    """Indexes may take hours; nobody on the source waits for them."""
    source, target = servers(15), servers(17, "target")
    small(source)
    source.sql("small", "CREATE TABLE big AS SELECT i, repeat('x', 100) AS f FROM generate_series(1, 20000) AS i")
    source.sql("small", "CREATE INDEX ON t (i); CREATE TABLE u AS SELECT 1 AS i")
    running = start_copy(source, target, max_rate="1MB", jobs=1)

    def locked():
        """The small table, which comes last, on the target: an index has to wait for this, rows have not."""
        try:
            session.cursor().execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
        except psycopg2.errors.UndefinedTable:
            session.rollback()
            return False
        return True

    def working():
        return [name for name in databases(target) if name.startswith("handover_restore_")]

    [name] = await_that(working, "the database that is being filled")
    with closing(target.connect(name, autocommit=False)) as session, watching(target) as watch:
        await_that(locked, "the table")
        assert "CREATE INDEX" in watch.await_blocked(session)
        source.sql("small", "SET lock_timeout = 500; TRUNCATE big")
    assert one(running.wait())["rows"] == 20011


def test_many_tables_take_linear_time_and_little_memory(new_cluster):
    """Thirty times the tables of the first run in the second, in less than sixty times the time."""
    settings = {"max_locks_per_transaction": 512, "autovacuum": "off"}
    source, target = (new_cluster(major, settings=settings) for major in (15, 18))
    seconds = {}
    for count in (20, 600):
        name = f"many{count}"
        create_database(source, name)
        make = f"""
            DO $$ BEGIN FOR n IN 1..{count} LOOP
                EXECUTE format('CREATE TABLE t%s (i int PRIMARY KEY, j int REFERENCES t%s)', n, greatest(1, n - 1));
                EXECUTE format('INSERT INTO t%s SELECT i, NULL FROM generate_series(1, 3) AS i', n);
            END LOOP; END $$"""
        source.sql(name, make)
        started = time.monotonic()
        copied = one(copy(source, target, databases=[name]))
        seconds[count] = time.monotonic() - started
        assert (copied["tables"], copied["rows"]) == (count, 3 * count)
    assert target.sql("many600", "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated") == [(600,)]
    assert seconds[600] < 60 * seconds[20]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 150 * 1024, "of any process that tests started"


def test_names_and_values_of_another_encoding(servers):
    source, target = servers(15), servers(18, "target")
    create_database(source, "latin", options="TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    source.sql("latin", 'CREATE TABLE "Größe" ("für" text PRIMARY KEY); INSERT INTO "Größe" VALUES (\'groß\')')
    done(copy(source, target))
    assert target.sql("latin", 'SELECT * FROM "Größe"') == [("groß",)]
    finish(target, "latin")
    assert_same(look(source, "latin"), look(target, "latin"))
