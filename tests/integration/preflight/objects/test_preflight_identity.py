# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of replica identity, and that the server agrees: what they call a blocker breaks UPDATE or apply."""

from __future__ import annotations

import psycopg2
import pytest
from preflights import Report, look, mend
from support import create_database

TABLES = """
CREATE TABLE fine (id integer PRIMARY KEY, j json);
CREATE TABLE fine_full (id integer PRIMARY KEY, j json);
ALTER TABLE fine_full REPLICA IDENTITY FULL;
CREATE TABLE by_index (id integer NOT NULL UNIQUE);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id_key;
CREATE UNLOGGED TABLE unlogged (a integer);
CREATE TABLE parted (id integer) PARTITION BY LIST (id);
CREATE TABLE "Parted 1" PARTITION OF parted FOR VALUES IN (1);

CREATE TABLE bare (a integer, b integer);
CREATE TABLE bare_json (a json);
CREATE TABLE later (id integer PRIMARY KEY DEFERRABLE);
CREATE TABLE "has unique" (a integer UNIQUE, b integer NOT NULL UNIQUE);
CREATE TABLE nullable (a integer UNIQUE);
CREATE TABLE nothing (id integer PRIMARY KEY);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE dropped (a integer NOT NULL);
CREATE UNIQUE INDEX dropped_a ON dropped (a);
ALTER TABLE dropped REPLICA IDENTITY USING INDEX dropped_a;
DROP INDEX dropped_a;
CREATE TABLE partly (a integer NOT NULL, b integer);
CREATE UNIQUE INDEX ON partly (a) WHERE b > 0;
CREATE UNIQUE INDEX ON partly ((a + 1));

CREATE TABLE computed (a integer, b integer GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY);
CREATE TABLE computed_too (a integer NOT NULL UNIQUE, b integer GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY);

CREATE TYPE pair AS (a integer, b json);
CREATE DOMAIN document AS xml;
CREATE TABLE full_json (id integer, j json);
CREATE TABLE full_pair (id integer, p pair[]);
CREATE TABLE full_document (id integer, d document);
CREATE TABLE full_point (id integer, p point);
CREATE TABLE full_comparable (a varchar(9), b name, c int4range, d text[], e jsonb, f cidr, g tsvector, h money, i xid,
                              j int2vector, k oidvector, l inet[], m char(3));
CREATE TABLE full_big (a integer, b integer);
CREATE TABLE full_indexed (a integer, b integer);
CREATE TABLE full_unique (a integer NOT NULL UNIQUE, b integer);
INSERT INTO full_big SELECT i % 3, i FROM generate_series(1, 2000) AS i;
INSERT INTO full_indexed SELECT i, i FROM generate_series(1, 2000) AS i;
CREATE INDEX ON full_indexed (b);
INSERT INTO full_unique SELECT i, i FROM generate_series(1, 2000) AS i;
ALTER TABLE full_json REPLICA IDENTITY FULL;
ALTER TABLE full_pair REPLICA IDENTITY FULL;
ALTER TABLE full_document REPLICA IDENTITY FULL;
ALTER TABLE full_point REPLICA IDENTITY FULL;
ALTER TABLE full_comparable REPLICA IDENTITY FULL;
ALTER TABLE full_big REPLICA IDENTITY FULL;
ALTER TABLE full_indexed REPLICA IDENTITY FULL;
ALTER TABLE full_unique REPLICA IDENTITY FULL;
"""
LACKING = {
    "public.bare",
    "public.bare_json",
    "public.later",
    'public."has unique"',
    "public.nullable",
    "public.nothing",
    "public.dropped",
    "public.partly",
    'public."Parted 1"',
}
INCOMPARABLE = {"public.full_json", "public.full_pair", "public.full_document", "public.full_point"}
CHECKS = [
    "replica_identity",
    "replica_identity_generated",
    "replica_identity_equality",
    "replica_identity_full",
]


@pytest.fixture(scope="module", params=[13, 18])
def source(request, all_servers):
    """(server, database) with every kind of identity, of the oldest and the newest major."""
    cluster = all_servers(request.param, "identity")
    dbname = create_database(cluster)
    cluster.sql(dbname, TABLES)
    cluster.sql(dbname, "ANALYZE")
    yield cluster, dbname
    all_servers.sweep()


def report_of(source, target=None) -> Report:
    cluster, dbname = source
    return look(cluster.endpoint(), target and target.endpoint(), [dbname])


@pytest.fixture(scope="module")
def report(source, all_servers) -> Report:
    return report_of(source, all_servers(18))


def test_tables_without_an_identity_are_blockers_for_continuous_only(source, report):
    assert report.objects("replica_identity", "blocker") == LACKING
    assert {tuple(one["methods"]) for one in report.of("replica_identity")} == {("continuous",)}
    cluster, dbname = source
    cluster.sql(dbname, "CREATE PUBLICATION everything FOR ALL TABLES")
    for name in sorted(LACKING):
        with pytest.raises(psycopg2.Error, match="does not have a replica identity"):
            cluster.sql(dbname, f"DELETE FROM {name}")
    cluster.sql(dbname, "DROP PUBLICATION everything")


def test_the_remedy_names_the_index_that_is_there(report):
    assert 'USING INDEX "has unique_b_key";' in report.about("replica_identity", 'public."has unique"')["remedy"]
    assert "ALTER COLUMN a SET NOT NULL" in report.about("replica_identity", "public.nullable")["remedy"]
    assert "IDENTITY DEFAULT" in report.about("replica_identity", "public.nothing")["remedy"]
    assert "CREATE UNIQUE INDEX CONCURRENTLY" in report.about("replica_identity", "public.later")["remedy"]
    assert "IDENTITY FULL" in report.about("replica_identity", "public.bare")["remedy"]
    assert "ADD COLUMN" in report.about("replica_identity", "public.bare_json")["remedy"]


def test_generated_columns_in_an_identity(source, report):
    assert report.objects("replica_identity_generated", "blocker") == {"public.computed", "public.computed_too"}
    other = report.about("replica_identity_generated", "public.computed_too")
    assert "USING INDEX computed_too_a_key;" in other["remedy"]
    cluster, dbname = source
    if cluster.build.major >= 18:
        cluster.sql(dbname, "CREATE PUBLICATION one FOR TABLE computed")
        with pytest.raises(psycopg2.Error, match="unpublished generated columns"):
            cluster.sql(dbname, "DELETE FROM computed")
        cluster.sql(dbname, "DROP PUBLICATION one")


def test_full_needs_columns_that_can_be_compared(report):
    assert report.objects("replica_identity_equality", "blocker") == INCOMPARABLE
    assert "which contains xml" in report.of("replica_identity_equality")[0]["seen"]


def test_full_costs_most_where_no_index_serves(report, source, all_servers):
    assert report.objects("replica_identity_full", "warning") == {"public.full_big"}
    assert "(b);" in report.about("replica_identity_full", "public.full_big")["remedy"]
    assert report.objects("replica_identity_full", "info") == {
        "public.full_comparable",
        "public.full_indexed",
        "public.full_unique",
    }
    slow = {"public.full_big", "public.full_indexed", "public.full_unique"}
    if source[0].build.major == 13:
        assert report_of(source, all_servers(15)).objects("replica_identity_full", "warning") == slow
    alone = report_of(source)
    assert alone.objects("replica_identity_full", "warning") == slow
    assert alone.objects("replica_identity") == LACKING


@pytest.mark.parametrize(
    ("choice", "blockers"),
    [
        ("full", {"public.bare_json", "public.computed", *INCOMPARABLE}),
        ("copy_at_cutover", set()),
    ],
)
def test_what_stands_in_the_way_depends_on_the_policy(source, choice, blockers):
    cluster, dbname = source
    report = look(cluster.endpoint(), None, [dbname], no_identity=choice)
    found = {name for check in CHECKS for name in report.objects(check, "blocker")}
    assert found == blockers
    assert report.objects("replica_identity") == LACKING


def test_full_and_a_generated_column_are_refused_from_18_on(source, all_servers):
    """As soon as that is who publishes: the source at once, the target for the way back."""
    cluster, major = source[0], source[0].build.major
    dbname = create_database(cluster)
    generated = "GENERATED ALWAYS AS (n + 1) STORED"
    cluster.sql(
        dbname,
        f"""
        CREATE TABLE whole (n int, g int {generated}); ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE keyed (n int, g int {generated} PRIMARY KEY); ALTER TABLE keyed REPLICA IDENTITY NOTHING;
        CREATE TABLE at_hand (n int PRIMARY KEY, g int {generated}); ALTER TABLE at_hand REPLICA IDENTITY FULL;
        CREATE TABLE bare (n int, g int {generated})""",
    )
    at_once, back = major >= 18, "a rollback copies it"

    def found(target=None, **more):
        return look(cluster.endpoint(), target and target.endpoint(), [dbname], **more)

    report = found(all_servers(17))
    assert report.objects("replica_identity_generated") == ({"public.whole", "public.at_hand"} if at_once else set())
    report = found(all_servers(18), no_identity="full")
    lacking = {"public.keyed", "public.bare"} if at_once else {"public.keyed"}
    assert report.objects("replica_identity", "blocker") == lacking
    assert report.objects("replica_identity_generated", "blocker") == ({"public.whole"} if at_once else set())
    if at_once:
        words = "becomes DEFAULT for the time"
        assert words in report.about("replica_identity_generated", "public.at_hand")["consequence"]
    else:
        assert back in report.about("replica_identity_generated", "public.whole")["consequence"]
        assert back in report.about("replica_identity", "public.bare")["consequence"]
    cluster.sql(dbname, "CREATE PUBLICATION everything FOR ALL TABLES")
    published = {"public.whole", "public.at_hand"}
    report = found(all_servers(18))
    assert report.objects("published_generated", "blocker") == (set() if at_once else published)
    cluster.sql(dbname, "DROP PUBLICATION everything")
    report = found(all_servers(18))
    mend(cluster, dbname, report.of("replica_identity") + report.of("replica_identity_generated"))
    report = found(all_servers(18))
    assert {level for check in CHECKS for level in report.levels(check)} == {"ok"}
    cluster.sql(dbname, "CREATE PUBLICATION everything FOR ALL TABLES")
    for name in ("whole", "keyed", "at_hand", "bare"):
        cluster.sql(dbname, f"DELETE FROM {name}")


def test_remedies_help(source, all_servers):
    """Run last: it changes the tables."""
    for _round in range(2):  # FULL, as a remedy, is another finding's cause
        report = report_of(source, all_servers(18))
        mend(
            *source,
            [
                one
                for check in CHECKS
                for one in report.of(check, "blocker") + report.of(check, "warning")
                if one["objects"] != ["public.computed"]
            ],
        )
    report = report_of(source, all_servers(18))
    assert report.levels("replica_identity") == {"ok"}
    assert report.levels("replica_identity_equality") == {"ok"}
    assert report.objects("replica_identity_generated") == {"public.computed"}
    assert report.levels("replica_identity_full") == {"info"}
