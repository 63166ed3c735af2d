# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of encoding and locale. The lab has en_US and de_DE; its builds bring the C libraries of several years."""

from __future__ import annotations

import pytest
from preflights import look, mend
from support import Cluster, create_database

from lab import builds

TEXT = """
CREATE TABLE t (w text PRIMARY KEY, c text COLLATE "C" UNIQUE, n integer UNIQUE);
CREATE TABLE ranges (w text) PARTITION BY RANGE (w);
CREATE TABLE numbers (n integer) PARTITION BY RANGE (n);
"""
PHONE_BOOK = """
CREATE COLLATION phone_book (PROVIDER = icu, LOCALE = 'de-u-co-phonebk');
CREATE TABLE p (w text COLLATE phone_book UNIQUE, x text COLLATE "de-x-icu");
"""
GERMAN = "TEMPLATE template0 LOCALE 'de_DE.UTF-8'"
OTHER_VERSION = """
SET allow_system_table_mods = on;
UPDATE pg_database SET datcollversion = '0.1' WHERE datname = current_database();
UPDATE pg_collation SET collversion = '0.1' WHERE collname = 'phone_book';
"""
CHECKS = ("encoding", "locale", "collations", "collation_versions", "sort_order")


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(15, "locales")
    all_servers.sweep()


@pytest.fixture
def target(all_servers, source):
    """A server with a collation by which it says what it knows beyond C. After ``source``, which sweeps up."""
    cluster = all_servers(18)
    cluster.sql("postgres", "CREATE COLLATION lab_english (PROVIDER = libc, LOCALE = 'en_US.UTF-8')")
    yield cluster
    cluster.sql("postgres", "DROP COLLATION lab_english")


@pytest.fixture(scope="module")
def without_icu(source, run_directory):
    cluster = Cluster(builds.embedded()[18], run_directory / "without-icu")
    cluster.start()
    yield cluster
    cluster.destroy()


def test_what_every_server_has(source, target):
    dbname = create_database(source)
    source.sql(dbname, TEXT)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in CHECKS:
        assert report.levels(check) == {"ok"}, check
    english = create_database(source, options="TEMPLATE template0 LOCALE 'en_US.UTF-8'")
    assert look(source.endpoint(), target.endpoint(), [english]).levels("locale") == {"ok"}
    alone = look(source.endpoint(), None, [dbname])
    assert {check for check in CHECKS if alone.levels(check) == {"unknown"}} == {"locale", "collations", "sort_order"}


def test_encodings(source):
    no_encoding = create_database(source, options="TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    latin = create_database(source, options="TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'en_US'")
    report = look(source.endpoint(), None, [no_encoding, latin])
    assert report.levels("encoding", no_encoding) == {"warning"}
    assert report.levels("encoding", latin) == {"info"}


def test_locales_that_the_target_does_not_list(source, target):
    dbname = create_database(source, options=GERMAN)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    assert report.about("locale", "de_DE.UTF-8")["level"] == "blocker"
    mapped = look(source.endpoint(), target.endpoint(), [dbname], locale_map={"de_DE.UTF-8": "en_US.UTF-8"})
    assert mapped.levels("locale") == {"ok"}
    target.sql("postgres", "DROP COLLATION lab_english")
    unseen = look(source.endpoint(), target.endpoint(), [dbname])
    target.sql("postgres", "CREATE COLLATION lab_english (PROVIDER = libc, LOCALE = 'en_US.UTF-8')")
    assert unseen.about("locale", "de_DE.UTF-8")["level"] == "unknown"
    for statement in unseen.of("locale")[0]["remedy"].splitlines()[0].split("; "):
        target.sql("postgres", statement)
    create_database(target, options=GERMAN)
    assert look(source.endpoint(), target.endpoint(), [dbname]).levels("locale") == {"ok"}


def test_targets_without_icu(source, without_icu, target):
    dbname = create_database(source, options="TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C.UTF-8'")
    source.sql(dbname, PHONE_BOOK)
    report = look(source.endpoint(), without_icu.endpoint(), [dbname])
    assert report.levels("locale") == {"blocker"}
    assert report.objects("collations", "blocker") == {"public.phone_book", 'pg_catalog."de-x-icu"'}
    report = look(source.endpoint(), target.endpoint(), [dbname])
    assert report.levels("locale") == report.levels("collations") == {"ok"}


def test_indexes_older_than_the_library(source):
    dbname = create_database(source, options=GERMAN)
    source.sql(dbname, TEXT + PHONE_BOOK)
    assert look(source.endpoint(), None, [dbname]).levels("collation_versions") == {"ok"}
    source.sql(dbname, OTHER_VERSION)
    report = look(source.endpoint(), None, [dbname])
    assert report.objects("collation_versions", "warning") == {"public.t_pkey", "public.p_w_key"}
    mend(source, dbname, report.of("collation_versions"))
    assert look(source.endpoint(), None, [dbname]).levels("collation_versions") == {"ok"}


def test_indexes_of_which_nothing_is_known(all_servers, source):
    old = all_servers(13)
    known, unknown = create_database(old), create_database(old, options=GERMAN)
    for dbname in (known, unknown):
        old.sql(dbname, TEXT)
    report = look(old.endpoint(), None, [known, unknown])
    assert report.levels("collation_versions", known) == {"ok"}
    assert report.about("collation_versions", "public.t_pkey", unknown)["level"] == "unknown"


def test_order_of_text(source, target):
    dbname = create_database(source, options=GERMAN)
    source.sql(dbname, TEXT + PHONE_BOOK)
    create_database(target, options=GERMAN)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    query = "SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datcollate = 'de_DE.UTF-8'"
    ends = [cluster.sql("postgres", query)[0][0] for cluster in (source, target)]
    assert ends[0] != ends[1]
    ranges = report.about("sort_order", "public.ranges")
    assert ranges["level"] == "warning" and f"is version {ends[0]} here and {ends[1]} on" in ranges["seen"]
    assert report.about("sort_order", "public.p_w_key")["level"] == "info"
    same = look(source.endpoint(), {**source.endpoint(), "host": "localhost"}, [dbname])
    assert same.levels("sort_order") == {"ok"}
