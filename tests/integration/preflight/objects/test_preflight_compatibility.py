# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the target's major does not have any more, and that its server agrees, object by object."""

from __future__ import annotations

import re

import dumps
import pytest
from preflights import look
from support import create_database

OF_13 = """
CREATE VIEW in_backup AS SELECT pg_is_in_backup() AS b;
CREATE VIEW factorial AS SELECT 5! AS f;
CREATE VIEW writer AS SELECT * FROM pg_stat_bgwriter;
CREATE VIEW checkpoints AS SELECT checkpoints_timed > 0 AS any FROM pg_stat_bgwriter;
CREATE AGGREGATE collected (anyelement) (SFUNC = array_append, STYPE = anyarray, INITCOND = '{}');
CREATE FUNCTION next_of(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE OPERATOR !+ (FUNCTION = next_of, LEFTARG = integer);
CREATE TABLE with_default (a boolean DEFAULT pg_is_in_backup());
CREATE TABLE with_check (a integer CHECK ((a !) > 0));
CREATE TABLE with_index (a bigint);
CREATE INDEX of_factorial ON with_index (numeric_fac(a));
"""
OF_EVERY_MAJOR = """
CREATE VIEW replication AS SELECT pid, state FROM pg_stat_replication;
CREATE VIEW since AS SELECT stats_reset FROM pg_stat_bgwriter;
CREATE VIEW sessions AS SELECT * FROM pg_stat_activity;
CREATE AGGREGATE summed (integer) (SFUNC = int4pl, STYPE = integer);
CREATE FUNCTION next_of(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE OPERATOR !+ (FUNCTION = next_of, RIGHTARG = integer);
CREATE TABLE t (id bigserial PRIMARY KEY, at timestamptz DEFAULT now() CHECK (extract(year FROM at) > 2000));
CREATE CONVERSION of_latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
"""


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(13, "compatibility")
    all_servers.sweep()


def test_what_the_preflight_names_is_what_the_import_fails_on(source, all_servers, tmp_path):
    dbname = create_database(source)
    source.sql(dbname, OF_13)
    target = all_servers(18)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    assert report.objects("removed_functions", "blocker") == {
        "view public.in_backup",
        "view public.factorial",
        "aggregate public.collected(pg_catalog.anyelement)",
        "operator public.!+(integer,NONE)",
        "table public.with_default",
        "index public.of_factorial",
        "table constraint with_check_a_check on public.with_check",
    }
    assert report.objects("system_views", "blocker") == {"public.writer", "public.checkpoints"}
    assert "public.checkpoints (pg_stat_bgwriter.checkpoints_timed)" in report.of("system_views")[0]["seen"]
    dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
    errors = "\n".join(dumps.restore(target, tmp_path, databases=[dbname]).errors)
    failed = set(re.findall(r"^(?:VIEW|TABLE|AGGREGATE|OPERATOR) public\.([^(: ]+)", errors, re.MULTILINE))
    assert failed == {
        "in_backup",
        "factorial",
        "writer",
        "checkpoints",
        "collected",
        "!+",
        "with_default",
        "with_check",
    }


def test_what_every_major_has(source, all_servers, tmp_path):
    dbname = create_database(source)
    source.sql(dbname, OF_EVERY_MAJOR)
    target = all_servers(18)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    assert report.levels("removed_functions") == {"ok"}
    assert report.objects("system_views") <= {"public.sessions"}  # if a column of it was renamed
    source.sql(dbname, "DROP VIEW sessions")
    dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
    dumps.done(dumps.restore(target, tmp_path, databases=[dbname]))


def test_the_same_major_has_the_same(source, all_servers):
    dbname = create_database(source)
    source.sql(dbname, OF_13)
    report = look(source.endpoint(), all_servers(13).endpoint(), [dbname])
    assert report.levels("removed_functions") == report.levels("system_views") == {"ok"}
    assert look(source.endpoint(), None, [dbname]).levels("removed_functions") == {"unknown"}
