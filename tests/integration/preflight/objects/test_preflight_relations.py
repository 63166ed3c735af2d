# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of relations whose rows do not simply move."""

from __future__ import annotations

import contextlib

import psycopg2
import pytest
from preflights import look, mend
from support import create_database

DEFECTS = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE UNLOGGED TABLE "Cache" (id integer PRIMARY KEY);
INSERT INTO "Cache" VALUES (1);
CREATE EXTENSION file_fdw;
CREATE EXTENSION postgres_fdw;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example.com', port '5433');
CREATE SERVER unused FOREIGN DATA WRAPPER postgres_fdw;
CREATE FOREIGN TABLE echo (a integer) SERVER files OPTIONS (program 'echo 1');
CREATE FOREIGN TABLE far (a integer) SERVER elsewhere;
CREATE VIEW over_far AS SELECT * FROM far;
CREATE MATERIALIZED VIEW plain AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW on_far AS SELECT * FROM over_far WITH NO DATA;
SELECT lo_from_bytea(4711, 'x'), lo_from_bytea(4712, 'y');
CREATE TABLE parent (a integer);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE parted (a integer) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
CREATE TABLE by_id (id integer) PARTITION BY HASH (id);
CREATE TABLE by_mood (m mood[]) PARTITION BY HASH (m);
CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 1, REMAINDER 0);
"""
SOUND = """
CREATE TABLE plain (id integer PRIMARY KEY);
CREATE TABLE by_id (id integer) PARTITION BY HASH (id);
CREATE VIEW simple AS SELECT 1 AS one;
"""
CHECKS = (
    "unlogged_tables",
    "temporary_tables",
    "foreign_tables",
    "materialized_views",
    "large_objects",
    "inherited_tables",
    "pending_detachments",
    "hash_partitions",
)


@pytest.fixture(scope="module", params=[13, 15])
def source(request, all_servers):
    """(server, a database with every defect, one without)"""
    cluster = all_servers(request.param, "relations")
    names = create_database(cluster), create_database(cluster)
    for dbname, statements in zip(names, (DEFECTS, SOUND)):
        cluster.sql(dbname, statements)
    with contextlib.closing(cluster.connect(names[0])) as session:
        session.cursor().execute("CREATE TEMPORARY TABLE scratch (a integer)")
        yield cluster, *names
    all_servers.sweep()


@pytest.fixture(scope="module")
def report(source):
    cluster, *names = source
    return look(cluster.endpoint(), None, names)


def test_nothing_is_found_where_nothing_is(source, report):
    _cluster, _defects, sound = source
    for check in CHECKS:
        assert report.levels(check, database=sound) == {"ok"}, check


def test_rows_that_are_not_in_wal(source, report):
    cluster, dbname, _sound = source
    findings = report.of("unlogged_tables", "warning", dbname)
    assert {tuple(one["methods"]): one["objects"] for one in findings} == {
        ("dump",): ['public."Cache"'],
        ("continuous",): ['public."Cache"'],
    }
    mend(cluster, dbname, findings[:1])
    assert look(cluster.endpoint(), None, [dbname]).levels("unlogged_tables") == {"ok"}
    (temporary,) = report.of("temporary_tables", "info", dbname)
    assert temporary["objects"][0].startswith("pg_temp_") and temporary["objects"][0].endswith(".scratch")


def test_rows_on_other_servers(report):
    assert report.objects("foreign_tables", "warning") == {"public.echo", "public.far"}
    assert report.objects("foreign_tables", "info") == {"unused"}
    far = report.about("foreign_tables", "public.far")
    assert "host=db.example.com port=5433" in far["seen"]
    assert far["remedy"].startswith("ALTER SERVER elsewhere OPTIONS (SET host")


def test_materialized_views(report):
    assert report.objects("materialized_views", "info") == {"public.plain", "public.on_far"}
    assert "Never populated: public.on_far." in report.about("materialized_views", "public.plain")["seen"]
    assert report.objects("materialized_views", "warning") == {"public.on_far"}


def test_large_objects_are_dumped_or_copied_at_the_cutover(report, source):
    _cluster, dbname, _sound = source
    levels = {tuple(one["methods"]): one["level"] for one in report.of("large_objects", database=dbname)}
    assert levels == {("dump",): "info", ("continuous",): "warning"}
    assert all(one["seen"].startswith("2 large objects of ") for one in report.of("large_objects", database=dbname))


def test_inheritance_and_hashes(report):
    assert report.objects("inherited_tables", "info") == {"public.parent"}
    assert report.objects("hash_partitions", "warning") == {"public.by_mood"}


def test_hashes_of_an_unstable_collation(source):
    cluster, _defects, dbname = source
    if not cluster.sql("postgres", "SELECT 1 FROM pg_collation WHERE collprovider = 'i'"):
        pytest.skip("this build has no ICU")
    cluster.sql(
        dbname,
        "CREATE COLLATION loose (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);"
        "CREATE TABLE by_word (w text COLLATE loose) PARTITION BY HASH (w)",
    )
    assert look(cluster.endpoint(), None, [dbname]).objects("hash_partitions", "warning") == {"public.by_word"}


def test_a_detachment_that_was_interrupted(source, report):
    cluster, dbname, _sound = source
    assert report.levels("pending_detachments", dbname) == {"ok"}
    if cluster.build.major < 14:
        return
    with (
        contextlib.closing(cluster.connect(dbname, autocommit=False)) as reader,
        contextlib.closing(cluster.connect(dbname, options="-c statement_timeout=500")) as other,
    ):
        reader.cursor().execute("SELECT FROM parted")
        with pytest.raises(psycopg2.errors.QueryCanceled):
            other.cursor().execute("ALTER TABLE parted DETACH PARTITION parted_1 CONCURRENTLY")
    report = look(cluster.endpoint(), None, [dbname])
    assert report.objects("pending_detachments", "warning") == {"public.parted_1"}
    mend(cluster, dbname, report.of("pending_detachments"))
    assert look(cluster.endpoint(), None, [dbname]).levels("pending_detachments") == {"ok"}
