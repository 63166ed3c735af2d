# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of amounts."""

from __future__ import annotations

import pytest
from preflights import look, mend
from support import create_database

# 100 MB of one letter take 400 kB, and values that are copied from column to column stay as they are.
LONG = """
CREATE TABLE long (a bytea COMPRESSION lz4, b bytea COMPRESSION lz4, c bytea COMPRESSION lz4, d bytea COMPRESSION lz4,
                   e bytea COMPRESSION lz4, f bytea COMPRESSION lz4);
INSERT INTO long (a) SELECT convert_to(repeat('x', 100000000), 'UTF8');
UPDATE long SET b = a, c = a, d = a;
"""
SEQUENCES = """
CREATE TABLE small (id smallserial PRIMARY KEY);
SELECT setval('small_id_seq', 30000);
CREATE TABLE counted (id serial PRIMARY KEY, other integer GENERATED ALWAYS AS IDENTITY);
SELECT setval('counted_id_seq', 2000000000), setval('counted_other_seq', 2000000000);
CREATE SEQUENCE "of many";
CREATE TABLE fed (id integer DEFAULT nextval('"of many"'), big bigint DEFAULT nextval('"of many"'));
SELECT setval('"of many"', 2000000000);
CREATE SEQUENCE far_away;
SELECT setval('far_away', 2000000000);
CREATE SEQUENCE around MAXVALUE 10 CYCLE;
SELECT setval('around', 10);
CREATE SEQUENCE unused;
"""
CHECKS = ("long_rows", "largest_table", "table_statistics", "sequences", "sequence_ends", "handover_schema")


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(15, "amounts")
    all_servers.sweep()


def findings_of(source, dbname, **options):
    return look(source.endpoint(), None, [dbname], **options)


def test_nothing_is_found_where_nothing_is(source):
    dbname = create_database(source)
    source.sql(dbname, "CREATE TABLE t (id integer, w text); INSERT INTO t SELECT 1, repeat('x', 1000000)")
    source.sql(dbname, "ANALYZE")
    report = findings_of(source, dbname)
    for check in CHECKS:
        assert report.levels(check) == {"ok"}, check


def test_rows_that_copy_cannot_write(source):
    dbname = create_database(source)
    source.sql(dbname, LONG)
    report = findings_of(source, dbname)
    assert report.about("long_rows", "public.long")["level"] == "warning"
    assert "763 MB of text" in report.about("long_rows", "public.long")["seen"]
    source.sql(dbname, "UPDATE long SET e = a, f = a")
    [finding] = findings_of(source, dbname).of("long_rows")
    assert finding["level"] == "blocker" and finding["objects"] == ["public.long"]
    [(_ctid, length)] = source.sql(dbname, finding["remedy"])
    assert length == 6 * 2 * 100_000_000


def test_tables_that_keep_one_job_busy(source):
    dbname = create_database(source)
    source.sql(dbname, "CREATE TABLE large (a integer); CREATE TABLE small (a integer)")
    source.sql(dbname, "INSERT INTO large SELECT i FROM generate_series(1, 1000) AS i")
    assert findings_of(source, dbname, jobs=4).levels("largest_table") == {"ok"}
    path, data = source.sql(dbname, "SELECT pg_relation_filepath('large'), current_setting('data_directory')")[0]
    with open(f"{data}/{path}", "r+b") as file:
        file.truncate(2**30)  # pages that nobody has written yet, and no disk is used for
    with open(f"{data}/{path}.1", "wb") as file:
        file.truncate(2**29)
    report = findings_of(source, dbname, jobs=4)
    assert report.about("largest_table", "public.large")["methods"] == ["dump"]
    assert "public.large (1.5 GB)" in report.of("largest_table")[0]["seen"]
    assert findings_of(source, dbname, jobs=1).levels("largest_table") == {"ok"}


def test_tables_that_were_never_analyzed(source, all_servers):
    for cluster in (source, all_servers(13)):
        dbname = create_database(cluster)
        cluster.sql(dbname, 'CREATE TABLE empty (a integer); CREATE TABLE "T" (a integer)')
        cluster.sql(dbname, 'ALTER TABLE "T" SET (autovacuum_enabled = off); INSERT INTO "T" VALUES (1)')
        report = findings_of(cluster, dbname)
        assert report.objects("table_statistics", "info") == {'public."T"'}
        mend(cluster, dbname, report.of("table_statistics"))
        assert findings_of(cluster, dbname).levels("table_statistics") == {"ok"}


def test_sequences(source):
    dbname = create_database(source)
    source.sql(dbname, SEQUENCES)
    report = findings_of(source, dbname)
    [every] = report.of("sequences", "info")
    assert len(every["objects"]) == 7 and every["methods"] == ["continuous"]
    assert every["seen"].startswith('7 sequences, 4 of no column: public."of many"')
    assert report.objects("sequence_ends", "warning") == {
        "public.small_id_seq",
        "public.counted_id_seq",
        "public.counted_other_seq",
        'public."of many"',
    }
    assert 'public."of many" is at 2000000000 of 2147483647' in report.of("sequence_ends")[0]["seen"]
    assert "public.small ALTER COLUMN id TYPE bigint; ALTER SEQ" in report.of("sequence_ends")[0]["remedy"]
    reader = source.managed_admin("reader")
    hidden = look(reader, None, [dbname]).of("sequence_ends")
    assert [one["level"] for one in hidden] == ["unknown"] and len(hidden[0]["objects"]) == 6
    mend(source, dbname, [*report.of("sequence_ends"), *hidden])
    assert findings_of(source, dbname).levels("sequence_ends") == {"ok"}
    types = (
        "SELECT DISTINCT atttypid::regtype::text FROM pg_attribute WHERE attrelid = ANY (%s::regclass[]) AND attnum > 0"
    )
    assert source.sql(dbname, types, [["small", "counted", "fed"]]) == [("bigint",)]


def test_our_schema_is_ours(source):
    dbname = create_database(source)
    source.sql(dbname, "CREATE SCHEMA handover; COMMENT ON SCHEMA handover IS 'handover.postgresql: journal'")
    assert findings_of(source, dbname).levels("handover_schema") == {"ok"}
    source.sql(dbname, "COMMENT ON SCHEMA handover IS 'of the shift'")
    report = findings_of(source, dbname)
    assert report.levels("handover_schema") == {"blocker"}
    mend(source, dbname, report.of("handover_schema"))
    assert findings_of(source, dbname).levels("handover_schema") == {"ok"}
