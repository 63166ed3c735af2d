# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases with extensions of Debian's packages: what comes along, and what is said of the rest."""

from __future__ import annotations

import pytest
from copies import copy
from dumps import databases, done, export, one, refused, restore
from migrations import in_step, stopped
from preflights import look
from rehearsals import about, assert_well, rehearse
from servers import sweep
from support import create_database, run_module
from verifications import verify

from lab import builds
from lab.cluster import Cluster

NAME = "shop"
SETTINGS = {
    "shared_preload_libraries": "pg_cron, timescaledb, pglogical",
    "cron.database_name": NAME,
    "cron.launch_active_jobs": "off",
    "timescaledb.telemetry_level": "off",
}
# What each is made of, and a question whose answer has to be the same on both ends.
ALONG = """
CREATE EXTENSION pg_cron;
SELECT cron.schedule('night', '0 3 * * *', 'VACUUM');
INSERT INTO cron.job_run_details (jobid, runid, command, status) VALUES (1, nextval('cron.runid_seq'), 'VACUUM', 'ok');
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
CREATE TABLE event (id integer, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
SELECT partman.create_parent('public.event', 'at', '1 day', p_premake => 3);
INSERT INTO event SELECT i, now() FROM generate_series(1, 50) AS i;
CREATE EXTENSION vector;
CREATE TABLE item (id integer PRIMARY KEY, v vector(3), h halfvec(3), s sparsevec(3));
INSERT INTO item SELECT i, ARRAY[i, i / 3.0, -i]::vector, ARRAY[i, 1, 2]::halfvec, '{1:1.5,3:2}/3'
    FROM generate_series(1, 200) AS i;
CREATE INDEX ON item USING hnsw (v vector_l2_ops);
CREATE INDEX ON item USING ivfflat (v vector_cosine_ops) WITH (lists = 5);
"""
ASKED = (
    "SELECT jobid, jobname, schedule, command, nodename, database, username, active FROM cron.job",
    "SELECT jobid, runid, status FROM cron.job_run_details",
    "SELECT parent_table, partition_interval, premake, template_table FROM partman.part_config",
    "SELECT relid::text, level FROM pg_partition_tree('event') ORDER BY 1",
    "SELECT id, v::text, h::text, s::text FROM item ORDER BY v <-> '[7,2,-7]', id LIMIT 5",
    "SELECT indexdef FROM pg_indexes WHERE tablename = 'item' ORDER BY 1",
)
PGLOGICAL = """
CREATE EXTENSION pglogical;
SELECT pglogical.create_node('provider', 'host=127.0.0.1 dbname=shop');
CREATE TABLE t (i integer PRIMARY KEY); INSERT INTO t VALUES (1), (2);
SELECT pglogical.replication_set_add_table('default', 't');
"""
TIMESCALE = """
CREATE EXTENSION timescaledb;
CREATE TABLE m (at timestamptz NOT NULL, v float);
SELECT create_hypertable('m', 'at');
INSERT INTO m SELECT '2026-01-01'::timestamptz + i * interval '1 hour', i FROM generate_series(1, 1000) AS i;
"""

# An extension that does as PostGIS in spatial_ref_sys: rows up to 100 are its own, later ones the user's.
SHIPPING = """
CREATE TABLE system (id integer PRIMARY KEY, words text);
INSERT INTO system SELECT i, 'as shipped' FROM generate_series(1, 100) AS i;
SELECT pg_extension_config_dump('system', 'WHERE id > 100');
"""

# One that keeps what users give it in tables of its own, with a sequence, and needs a schema of its own.
JOBS = """
CREATE TABLE status (code serial PRIMARY KEY, words text);
CREATE FUNCTION forget(integer) RETURNS void LANGUAGE sql AS 'DELETE FROM jobs.status WHERE code = $1';
INSERT INTO status (words) VALUES ('made here'), ('made here, too');
SELECT pg_extension_config_dump('status', ''); SELECT pg_extension_config_dump('status_code_seq', '');
"""


@pytest.fixture(scope="module")
def ends(run_directory):
    """Two servers of 18 with all of them, and with ``shipping`` in two versions."""
    build, own = builds.with_extensions(), run_directory / "extensions-own"
    (own / "extension").mkdir(parents=True)
    (own / "extension" / "shipping.control").write_text("default_version = '1.0'\n")
    for version in ("1.0", "1.1"):
        (own / "extension" / f"shipping--{version}.sql").write_text(SHIPPING)
    (own / "extension" / "jobs.control").write_text("default_version = '1.0'\nschema = jobs\n")
    (own / "extension" / "jobs--1.0.sql").write_text(JOBS)
    settings = {**SETTINGS, "extension_control_path": f"$system:{own}"}
    made = [Cluster(build, run_directory / f"extensions-{side}", settings=settings) for side in ("source", "target")]
    for cluster in made:
        cluster.start()
    yield made
    for cluster in made:
        cluster.destroy()


@pytest.fixture
def both(ends):
    """Both, and the first with the database that pg_cron is for."""
    create_database(ends[0], NAME)
    yield ends
    for cluster in ends:
        sweep(cluster)


@pytest.mark.parametrize("way", ["dump", "direct", "continuous"])
def test_they_come_along(both, tmp_path, way):
    source, target = both
    source.sql(NAME, ALONG)
    if way == "dump":
        source.sql(NAME, PGLOGICAL)
        finding = look(source.endpoint(), target.endpoint(), [NAME]).about("special_extensions", "pglogical")
        assert finding["level"] == "warning" and "comes along empty" in finding["consequence"]
    if way == "continuous":
        in_step(source, target, databases=[NAME], no_identity="full")  # the template has no key
    elif way == "direct":
        done(copy(source, target, databases=[NAME]))
    else:
        done(export(source, tmp_path, databases=[NAME]))
        done(restore(target, tmp_path, databases=[NAME]))
    for question in ASKED:
        assert source.sql(NAME, question) == target.sql(NAME, question) != []
    assert one(verify(source, target, databases=[NAME]))["verdict"] == "equal"
    if way == "continuous":
        source.sql(NAME, "UPDATE item SET v = '[0,0,1]' WHERE id = 7; DELETE FROM event WHERE id = 9")
        assert one(verify(source, target, databases=[NAME]))["verdict"] == "equal"
        assert target.sql(NAME, "SELECT v::text FROM item WHERE id = 7") == [("[0,0,1]",)]
        stopped(source, target, databases=[NAME])
    else:
        target.sql(NAME, "SELECT partman.run_maintenance()")
    if way == "dump":
        assert [end.sql(NAME, "SELECT count(*) FROM pglogical.node") for end in both] == [[(1,)], [(0,)]]


def test_what_may_be_in_one_database_only_is_told_by_the_rehearsal(both):
    """The database to come is not there yet, so what may only be in that one is not made, but asked for."""
    source, target = both
    source.sql(NAME, "CREATE EXTENSION pg_cron; SELECT cron.schedule('night', '0 3 * * *', 'VACUUM')")
    found = done(rehearse(source, target, databases=[NAME]))
    assert about(found, "can only be made in database")["level"] == "unknown"
    moved = {"databases": [NAME], "rename": {NAME: "elsewhere"}}
    refusal = rehearse(source, target, **moved)
    assert refusal.failed and refusal.failed_on == [NAME]
    finding = about(refusal, f'takes extension pg_cron in database "{NAME}" only, not in "elsewhere"')
    assert finding["level"] == "blocker" and finding["objects"] == ["EXTENSION pg_cron"]
    given = {**moved, "exclude_extensions": ["pg_cron"]}
    assert_well(done(rehearse(source, target, **given)))
    done(copy(source, target, **given))
    assert databases(target) == {"elsewhere"}


def test_timescaledb_is_a_blocker_as_it_says(both, tmp_path):
    source, target = both
    source.sql(NAME, TIMESCALE)
    finding = look(source.endpoint(), target.endpoint(), [NAME]).about("special_extensions", "timescaledb")
    assert finding["level"] == "blocker" and "foreign keys" in finding["consequence"]
    done(export(source, tmp_path, databases=[NAME]))
    refused(restore(target, tmp_path, databases=[NAME]), "COPY failed for table", "violates foreign key constraint")
    assert databases(target) == set()


def test_rows_of_an_extension_that_somebody_changed_are_named(both, tmp_path):
    source, target = both
    source.sql(NAME, "CREATE EXTENSION shipping; INSERT INTO system VALUES (200, 'the user''s')")
    source.sql(NAME, "UPDATE system SET words = 'changed' WHERE id = 7; DELETE FROM system WHERE id = 9")
    done(copy(source, target, databases=[NAME]))
    assert target.sql(NAME, "SELECT * FROM system WHERE id IN (7, 200) ORDER BY 1") == [
        (7, "as shipped"),
        (200, "the user's"),
    ]
    (different,) = verify(source, target, databases=[NAME]).databases[0]["different"]
    assert (different["class"], different["object"]) == ("rows", "public.system")
    assert "rows that shipping made were changed" in different["problem"]
    assert different["rows"] == {"source": 99, "target": 100}
    assert [row["key"] for row in different["changed"]] == [{"id": "7"}] and different["extra"] == [{"id": "9"}]
    excluded = {"class": "rows", "name": "public.system", "reason": "known"}
    assert one(verify(source, target, databases=[NAME], verify_exclude=[excluded]))["verdict"] == "equal"

    target.sql(NAME, "DROP EXTENSION shipping; CREATE EXTENSION shipping VERSION '1.1'")
    target.sql(NAME, "INSERT INTO system VALUES (200, 'the user''s')")
    newer = {"class": "extensions", "name": "shipping", "reason": "newer"}
    found = one(verify(source, target, databases=[NAME], verify_exclude=[newer]))
    assert found["verdict"] == "equal"
    assert [one["reason"] for one in found["left_out"] if one["object"] == "public.system"] == [
        "rows that shipping made: it is 1.0 on the source, 1.1 on the target"
    ]
    target.sql(
        NAME, "DROP EXTENSION shipping; CREATE EXTENSION shipping; INSERT INTO system VALUES (200, 'the user''s')"
    )
    target.sql(NAME, "UPDATE system SET words = 'changed' WHERE id = 7; DELETE FROM system WHERE id = 9")
    assert one(verify(source, target, databases=[NAME]))["verdict"] == "equal"


@pytest.mark.parametrize("way", ["dump", "direct", "continuous"])
def test_left_out_with_its_rows_and_positions(both, tmp_path, way):
    """What is the user's comes, up to the cutover; what the extension kept stays, also where the target has its own."""
    source, target = both
    source.sql(NAME, "CREATE EXTENSION jobs; INSERT INTO jobs.status (words) VALUES ('ours'); ANALYZE")
    source.sql(NAME, "GRANT SELECT ON jobs.status TO PUBLIC; GRANT USAGE ON jobs.status_code_seq TO PUBLIC")
    source.sql(NAME, "REVOKE ALL ON FUNCTION jobs.forget FROM PUBLIC")
    source.sql(NAME, "CREATE TABLE own (id serial PRIMARY KEY, v text); INSERT INTO own (v) VALUES ('a'), ('b')")
    given = {"databases": [NAME], "exclude_extensions": ["jobs"]}
    if way == "dump":
        done(export(source, tmp_path, databases=[NAME]))
        refused(restore(target, tmp_path, databases=[NAME]), "status_pkey", "exclude_extensions: [jobs]")
        found = one(restore(target, tmp_path, **given))
    elif way == "direct":
        found = one(copy(source, target, **given))
    else:
        found = in_step(source, target, **given)
    assert "EXTENSION jobs" in {entry["object"] for entry in found["skipped"]}
    assert target.sql(NAME, "SELECT v FROM own ORDER BY id") == [("a",), ("b",)]
    assert target.sql(NAME, "SELECT to_regclass('jobs.status')") == [(None,)]
    compared = one(verify(source, target, databases=[NAME]))
    left = {f"{entry['class']} {entry['object']}" for entry in compared["left_out"]}
    assert compared["verdict"] == "equal" and {"extensions jobs", "rows jobs.status"} <= left, compared
    if way == "continuous":
        target.sql(NAME, "CREATE EXTENSION jobs; ANALYZE jobs.status")
        before = target.sql(NAME, "SELECT * FROM jobs.status_code_seq")
        source.sql(NAME, "INSERT INTO own (v) VALUES ('c'); INSERT INTO jobs.status (words) VALUES ('later')")
        options = {"source": source.endpoint(), "target": target.endpoint(), "databases": [NAME]}
        moved = run_module("pg_cutover", {**options, "require_verification": False, "sequence_margin": 0})
        assert done(moved).databases[0]["handed_over"]
        assert target.sql(NAME, "SELECT nextval('own_id_seq')") == [(4,)]
        assert target.sql(NAME, "SELECT * FROM jobs.status_code_seq") == before
        assert target.sql(NAME, "SELECT count(*) FROM jobs.status") == [(2,)]
