# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of extensions.

Extensions that the lab does not have are stood in for by hstore under their name: what is looked at is the catalog.
"""

from __future__ import annotations

import dumps
import pytest
from preflights import look, mend
from support import create_database

MANY = """
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION pg_stat_statements;
CREATE EXTENSION earthdistance CASCADE;
CREATE TABLE places (p earth);
INSERT INTO places VALUES ('(6378168,0,0)');
CREATE TABLE no_places (p earth);
CREATE VIEW slow AS SELECT query FROM pg_stat_statements;
CREATE TABLE words (w citext DEFAULT 'a'::citext CHECK (w <> 'b'::citext));
CREATE TABLE state (id integer); INSERT INTO state VALUES (1);
CREATE TABLE configuration (id integer); INSERT INTO configuration VALUES (1);
CREATE TABLE empty (id integer);
ALTER EXTENSION hstore ADD TABLE state;
ALTER EXTENSION hstore ADD TABLE configuration;
ALTER EXTENSION hstore ADD TABLE empty;
SET allow_system_table_mods = on;
UPDATE pg_extension SET extconfig = ARRAY['configuration'::regclass], extcondition = '{""}' WHERE extname = 'hstore';
"""
NAMED = """
CREATE EXTENSION {extension};
SET allow_system_table_mods = on;
UPDATE pg_extension SET extname = '{name}' WHERE extname = '{extension}';
"""
REFERENCES = """
CREATE EXTENSION hstore;
CREATE TABLE kinds (id integer PRIMARY KEY);
CREATE TABLE own (id integer PRIMARY KEY);
CREATE TABLE t (kind integer REFERENCES kinds, own integer REFERENCES own);
ALTER EXTENSION hstore ADD TABLE kinds;
"""
TRUSTED = "CREATE EXTENSION pg_trgm; CREATE TABLE t (w text); CREATE INDEX ON t USING gin (w gin_trgm_ops)"


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(13, "extensions")
    all_servers.sweep()


@pytest.fixture(scope="module")
def many(source):
    dbname = create_database(source)
    source.sql(dbname, MANY)
    return dbname


def renamed(cluster, extension: str, name: str, more: str = "") -> str:
    """A database with an extension that no other server has."""
    dbname = create_database(cluster)
    cluster.sql(dbname, NAMED.format(extension=extension, name=name) + more)
    return dbname


def test_extensions_that_are_everywhere(source, all_servers):
    dbname = create_database(source)
    source.sql(dbname, TRUSTED)
    admin = all_servers(13, "too").managed_admin("adm")
    report = look(source.endpoint(), admin, [dbname])
    for check in ("extensions", "extension_versions", "extension_rights", "extension_tables", "special_extensions"):
        assert report.levels(check) == {"ok"}, check
    assert look(source.endpoint(), None, [dbname]).levels("extensions") == {"unknown"}


def test_missing_extensions_stop_the_import_where_rows_need_them(source, all_servers, tmp_path):
    dbname = renamed(source, "citext", "missing", "CREATE TABLE words (w citext); INSERT INTO words VALUES ('a')")
    target = all_servers(17)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    blocker = report.about("extensions", "missing")
    assert blocker["level"] == "blocker" and "public.words" in blocker["seen"]
    dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
    dumps.refused(dumps.restore(target, tmp_path, databases=[dbname]), "public.words", "missing")

    source.sql(dbname, "DROP TABLE words; CREATE FUNCTION f(citext) RETURNS text LANGUAGE sql AS 'SELECT 1'")
    assert look(source.endpoint(), target.endpoint(), [dbname]).about("extensions", "missing")["level"] == "warning"
    dumps.done(dumps.export(source, tmp_path, databases=[dbname], force=True))
    result = dumps.one(dumps.restore(target, tmp_path, databases=[dbname]))
    assert [one["class"] for one in result["skipped"] if "missing" in one["reason"]] == ["COMMENT", "FUNCTION"]


def test_versions(source, many, all_servers):
    report = look(source.endpoint(), all_servers(18).endpoint(), [many])
    assert report.about("extension_versions", "pg_stat_statements")["level"] == "warning"
    assert "public.slow" in report.about("extension_versions", "pg_stat_statements")["seen"]
    assert {"citext", "cube", "earthdistance", "hstore"} <= report.objects("extension_versions", "info")
    source.sql(
        many, "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '9.9' WHERE extname = 'cube'"
    )
    report = look(source.endpoint(), all_servers(18).endpoint(), [many])
    assert "The target lacks what was added since." in report.about("extension_versions", "cube")["consequence"]


def test_rights_to_create_them(source, many, all_servers):
    target = all_servers(18)
    admin = target.managed_admin("adm")
    report = look(source.endpoint(), admin, [many])
    (doubt,) = report.of("extension_rights")
    assert doubt["level"] == "unknown" and doubt["objects"] == ["earthdistance", "pg_stat_statements"]
    assert "Needed by 2 tables: public.no_places, public.places." in doubt["seen"]
    try_out = create_database(target)
    mend(target, try_out, [doubt])
    assert target.sql(try_out, "SELECT extname FROM pg_extension") == [("plpgsql",)]
    assert look(source.endpoint(), target.endpoint(), [many]).levels("extension_rights") == {"ok"}


def test_lists_of_what_a_service_allows(source, many, all_servers):
    target = all_servers(18)
    admin = target.managed_admin("listed")
    target.sql("postgres", "ALTER ROLE listed SET extwlist.extensions = 'hstore, pg_stat_statements'")
    report = look(source.endpoint(), admin, [many])
    assert report.objects("extension_rights") == {"earthdistance"}
    assert report.about("extension_rights", "earthdistance")["level"] == "blocker"
    target.sql("postgres", "ALTER ROLE listed SET extwlist.extensions = '*'")
    assert look(source.endpoint(), admin, [many]).levels("extension_rights") == {"ok"}


def test_tables_of_extensions(source, many):
    report = look(source.endpoint(), None, [many])
    by_methods = {tuple(one["methods"]): one["objects"] for one in report.of("extension_tables", "warning")}
    assert by_methods == {("continuous",): ["public.configuration"], ("dump", "continuous"): ["public.state"]}


def test_extensions_with_a_way_of_their_own(source):
    report = look(source.endpoint(), None, [renamed(source, "hstore", "timescaledb")])
    assert report.about("special_extensions", "timescaledb")["level"] == "blocker"
    report = look(source.endpoint(), None, [renamed(source, "hstore", "pg_partman")])
    assert report.about("special_extensions", "pg_partman")["methods"] == ["continuous"]


def test_foreign_keys_to_tables_of_extensions(source):
    dbname = create_database(source)
    source.sql(dbname, REFERENCES)
    report = look(source.endpoint(), None, [dbname])
    assert report.objects("extension_references", "warning") == {"t_kind_fkey ON public.t"}
    assert "t_kind_fkey ON public.t to public.kinds" in report.of("extension_references")[0]["seen"]
    source.sql(dbname, "ALTER TABLE t DROP CONSTRAINT t_kind_fkey")
    assert look(source.endpoint(), None, [dbname]).levels("extension_references") == {"ok"}
