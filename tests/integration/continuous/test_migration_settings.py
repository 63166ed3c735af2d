# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a database that change how values are read, and what expressions make of them."""

from __future__ import annotations

import pytest
from copies import copy
from cutovers import cut_over, eventually_same, handed_over
from dumps import done, export, restore
from migrations import in_step, migrate
from support import create_database
from verifications import differing, verify

SETTINGS = """
    array_nulls = off; xmloption = document;
    IntervalStyle = sql_standard; DateStyle = 'SQL, DMY'; bytea_output = escape;
    extra_float_digits = -15; transform_null_equals = on; quote_all_identifiers = on; TimeZone = 'Asia/Tokyo';
    default_text_search_config = german; backslash_quote = on; my.word = 'of the application'"""
SHOP = r"""
    CREATE FUNCTION day(timestamptz) RETURNS date IMMUTABLE LANGUAGE sql AS 'SELECT $1::date';
    CREATE FUNCTION spelled(bytea, float8, interval) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
        'BEGIN RETURN $1::text || $2::text || $3::text || current_setting(''my.word'', true); END';
    CREATE FUNCTION words(text) RETURNS tsvector IMMUTABLE LANGUAGE sql AS 'SELECT to_tsvector($1)';
    CREATE TABLE t (id int PRIMARY KEY, tags text[], x xml, iv interval, d date, at timestamptz, b bytea, f float8,
        day date GENERATED ALWAYS AS (day(at)) STORED,
        spelled text GENERATED ALWAYS AS (spelled(b, f, iv)) STORED, v text, n text[] DEFAULT '{NULL,"NULL"}');
    CREATE INDEX by_day ON t (day(at)); CREATE INDEX by_words ON t USING gin (words(v))"""
ROWS = r"""
    SET array_nulls = on; SET xmloption = content; INSERT INTO t (id, tags, x, iv, d, at, b, f, v)
    SELECT i, ARRAY['a', NULL, 'NULL'], '<a/>tail', '-1 year +2 days -02:03:04', '2024-02-03',
           '2024-02-03 20:00+00'::timestamptz - i * interval '1 hour', '\xff00aa', 1.0 / i, 'Die Häuser'
    FROM generate_series({}, {}) AS i"""
SHOWN = """
    SELECT id, tags::text, tags[2] IS NULL, x::text, iv::text, d::text, day::text, spelled, n::text
    FROM t ORDER BY id"""
BY_INDEX = """
    SET enable_seqscan = off; SELECT (SELECT count(*) FROM t WHERE day(at) = '04/02/2024'),
        (SELECT count(*) FROM t WHERE words(v) @@ to_tsquery('haus'))"""
OF_ROLES = "SELECT setrole::regrole::text, setconfig FROM pg_db_role_setting WHERE setrole <> 0 ORDER BY 1"


def shop(cluster):
    create_database(cluster, "shop")
    for setting in SETTINGS.split(";"):
        cluster.sql("postgres", f"ALTER DATABASE shop SET {setting}")
    cluster.sql("shop", SHOP)
    cluster.sql("shop", ROWS.format(1, 20))


def assert_as_for_the_application(source, target):
    assert target.sql("shop", SHOWN) == source.sql("shop", SHOWN)
    assert target.sql("shop", BY_INDEX) == source.sql("shop", BY_INDEX)
    assert 0 < source.sql("shop", BY_INDEX)[0][0] < source.sql("shop", BY_INDEX)[0][1]


@pytest.mark.parametrize(("majors", "way"), [((13, 16), "files"), ((15, 18), "direct")], ids=str)
def test_expressions_are_evaluated_as_for_the_application(servers, tmp_path, majors, way):
    """Contents of indexes and of generated columns depend on settings where a function says that they do not."""
    source, target = servers(majors[0]), servers(majors[1], "target")
    shop(source)
    if way == "files":
        done(export(source, tmp_path, databases=["shop"]))
        done(restore(target, tmp_path))
    else:
        done(copy(source, target, databases=["shop"]))
    assert_as_for_the_application(source, target)
    assert done(verify(source, target, databases=["shop"])).databases[0]["verdict"] == "equal"


def settings_apart(source, target):
    return {one for one in differing(verify(source, target, databases=["shop"])) if one.startswith("settings ")}


def assert_same_settings(source, target):
    """What apply needs is set for its role, and is none of the application's settings."""
    assert settings_apart(source, target) == set()


@pytest.mark.parametrize(("majors", "managed"), [((14, 15), False), ((16, 18), True)], ids=str)
def test_what_is_applied_is_read_as_it_was_written(servers, majors, managed):
    """There, and back."""
    source, target = servers(majors[0]), servers(majors[1], "target")
    shop(source)
    as_role = target
    if managed:
        attributes = ("CREATEDB", "CREATEROLE", "REPLICATION")
        as_role = target.managed_admin("doadmin", attributes, ["pg_create_subscription"])
        target.sql("postgres", "GRANT SET ON PARAMETER my.word TO doadmin")  # else it is left out, and named
    in_step(source, as_role, databases=["shop"], no_owner=True)
    source.sql("shop", ROWS.format(21, 30))
    eventually_same(lambda: target.sql("shop", "SELECT count(*) FROM t"), [(30,)])
    assert_as_for_the_application(source, target)
    assert target.sql("shop", OF_ROLES), "how apply reads is set for its role"
    assert_same_settings(source, as_role)
    handed_over(cut_over(source, as_role))
    assert source.sql("shop", OF_ROLES), "and back"
    assert_same_settings(source, as_role)
    target.sql("shop", "ALTER ROLE postgres IN DATABASE shop SET work_mem = '5MB'; ALTER DATABASE shop RESET xmloption")
    apart = {"settings role * in the database", "settings role postgres in the database"}
    assert settings_apart(source, as_role) == apart, "others still are"
    target.sql(
        "shop", "ALTER ROLE postgres IN DATABASE shop RESET work_mem; ALTER DATABASE shop SET xmloption = document"
    )
    target.sql("shop", ROWS.format(31, 40))
    eventually_same(lambda: source.sql("shop", "SELECT count(*) FROM t"), [(40,)])
    assert_as_for_the_application(source, target)
    done(migrate(source, as_role, databases=["shop"], state="finished", lift_fence=True))
    assert source.sql("shop", OF_ROLES) == target.sql("shop", OF_ROLES) == []
    assert target.sql("shop", "SHOW array_nulls") == [("off",)]
