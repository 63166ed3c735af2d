# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what only superusers can make, and that an import leaves out just what they say."""

from __future__ import annotations

import dumps
import pytest
from preflights import look, mend
from support import create_database

from lab import every_class

FUNCTIONS = """
CREATE FUNCTION harmless() RETURNS integer LANGUAGE sql SET work_mem = '1MB' SET search_path = public AS 'SELECT 1';
CREATE FUNCTION logs() RETURNS integer LANGUAGE sql SET log_min_duration_statement = 0 AS 'SELECT 1';
CREATE FUNCTION custom() RETURNS integer LANGUAGE sql SET "my.setting" = 'x' AS 'SELECT 1';
CREATE FUNCTION preloads() RETURNS integer LANGUAGE sql SET session_preload_libraries = '' AS 'SELECT 1';
CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = snowball, Language = english, StopWords = english);
CREATE TEXT SEARCH DICTIONARY from_files (TEMPLATE = ispell, DictFile = ispell_sample, AffFile = ispell_sample,
                                          StopWords = english);
"""
LEAKPROOF = """
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE FUNCTION f(a integer) RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT 1';
CREATE TABLE t (a integer CHECK (f(a) = 1));
INSERT INTO t VALUES (1);
"""
OF_13 = 'CREATE FUNCTION "Old"() RETURNS integer LANGUAGE sql SET operator_precedence_warning = on AS $$SELECT 1$$'
LABEL = """
SET allow_system_table_mods = on;
INSERT INTO pg_seclabel SELECT 'public'::regnamespace, 'pg_namespace'::regclass, 0, 'anon', 'x';
"""
CHECKS = ("superuser_objects", "function_settings", "security_labels", "text_search_files")


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(13, "reserved")
    all_servers.sweep()


@pytest.fixture(scope="module")
def admin(all_servers, source):
    """An administrator of the target who is not superuser. After ``source``, which sweeps up."""
    return all_servers(18).managed_admin("adm")


def test_an_import_leaves_out_what_the_preflight_names(source, admin, tmp_path):
    every_class.create(source.connect, "every", extensions=())
    report = look(source.endpoint(), admin, ["every"])
    objects = report.objects("superuser_objects", "warning")
    tables = report.objects("superuser_objects", "blocker")
    assert {
        "access method every_gist",
        "cast (every.number AS integer)",
        "aggregate every.mean(numeric)",
        "type every.shell_only",
        "operator family every.empty_family USING gist",
    } <= objects
    assert tables == {"every.typed_values", "every.another_heap"}
    dumps.done(dumps.export(source, tmp_path, databases=["every"]))
    result = dumps.restore(admin, tmp_path, databases=["every"])
    assert {one["object"] for one in result.skipped if one["class"] == "TABLE"} == {f"TABLE {name}" for name in tables}
    refused = [one for one in result.skipped if not one["reason"].startswith("needs ")]
    kinds = {"AGGREGATE", "OPERATOR FAMILY", "TEXT SEARCH PARSER", "ACCESS METHOD", "SHELL TYPE", "TYPE"}
    assert kinds <= {one["class"] for one in refused}
    superuser = look(source.endpoint(), None, ["every"])
    assert superuser.levels("superuser_objects") == {"unknown"}


def test_a_superuser_makes_everything(source, all_servers):
    dbname = create_database(source)
    source.sql(dbname, LEAKPROOF)
    report = look(source.endpoint(), all_servers(17).endpoint(), [dbname])
    for check in CHECKS:
        assert report.levels(check) == {"ok"}, check
    report = look(source.endpoint(), all_servers(17).managed_admin("adm17"), [dbname])
    assert report.objects("superuser_objects", "warning") == {
        "publication everything",
        "function public.f(integer)",
    }
    assert report.objects("superuser_objects", "blocker") == {"public.t"}


def test_settings_of_functions(source, admin, all_servers):
    dbname = create_database(source)
    source.sql(dbname, FUNCTIONS)
    source.sql(dbname, OF_13)
    report = look(source.endpoint(), admin, [dbname])
    assert report.objects("function_settings", "blocker") == {'public."Old"()'}
    assert report.objects("function_settings", "warning") == {"public.logs()", "public.custom()", "public.preloads()"}
    all_servers(18).sql("postgres", "GRANT SET ON PARAMETER log_min_duration_statement TO adm")
    granted = look(source.endpoint(), admin, [dbname])
    assert granted.objects("function_settings", "warning") == {"public.custom()", "public.preloads()"}
    superuser = look(source.endpoint(), all_servers(18).endpoint(), [dbname])
    assert superuser.levels("function_settings") == {"blocker"}
    assert look(source.endpoint(), all_servers(13).endpoint(), [dbname]).levels("function_settings") == {"ok"}
    mend(source, dbname, report.of("function_settings"))
    assert look(source.endpoint(), admin, [dbname]).levels("function_settings") == {"ok"}
    assert report.objects("text_search_files", "warning") == {"public.from_files"}
    seen = report.of("text_search_files")[0]["seen"]
    assert "(ispell_sample.affix, ispell_sample.dict)" in seen


def test_security_labels_need_their_provider(source, admin, tmp_path):
    dbname = create_database(source)
    source.sql(dbname, LABEL)
    report = look(source.endpoint(), None, [dbname])
    assert report.objects("security_labels", "warning") == {"anon"}
    dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
    dumps.refused(dumps.restore(admin, tmp_path, databases=[dbname]), 'security label provider "anon" is not loaded')
    options = {"databases": [dbname], "dump_extra_args": ["--no-security-labels"], "force": True}
    dumps.done(dumps.export(source, tmp_path, **options))
    dumps.done(dumps.restore(admin, tmp_path, databases=[dbname]))
