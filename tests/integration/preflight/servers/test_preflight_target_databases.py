# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the place for the databases, and of settings and programs that they depend on."""

from __future__ import annotations

import pytest
from preflights import look, mend, run_script
from support import create_database, run_module

from lab.cluster import give

HERE = (
    "target_database",
    "leftovers",
    "database_tablespaces",
    "databases_left_out",
    "settings",
    "preloaded_libraries",
    "lock_table",
    "clients",
)


@pytest.mark.parametrize(("old", "new"), [(14, 15), (16, 18)])
def test_an_empty_target_like_the_source(servers, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)
    assert "MB" in report.of("target_disk", "unknown")[0]["seen"]


def test_databases_that_are_there(servers, tmp_path):
    source, target = servers(15), servers(18, "target")
    names = ["empty", "full", "o'urs", "begun"]
    for name in names:
        create_database(source, name)
    arguments = {"dump_directory": str(tmp_path), "databases": ["o'urs", "begun"], "include": ["databases"]}
    run_module("pg_dump_export", {"source": source.endpoint(), **arguments})
    assert not run_module("pg_restore_import", {"target": target.endpoint(), **arguments}).failed
    target.sql("begun", "UPDATE handover.restore SET completed = NULL")
    for name in names[:2]:
        create_database(target, name)
    target.sql("full", 'CREATE TABLE "T" (i int)')
    report = look(source.endpoint(), target.endpoint(), names)
    levels = {name: report.levels("target_database", name) for name in names}
    assert levels == {"empty": {"warning"}, "full": {"blocker"}, "o'urs": {"warning"}, "begun": {"info"}}
    [full] = report.of("target_database", database="full")
    assert full["objects"] == ['table public."T"'] and 'replace_databases: ["full"]' in full["remedy"]
    assert "an earlier run imported" in report.of("target_database", database="o'urs")[0]["seen"]
    by_name = {one["database"]: one for one in report.report["databases"]}
    assert by_name["full"]["feasible_methods"] == [] and by_name["empty"]["feasible_methods"] == ["dump", "continuous"]
    run_script(target, "postgres", report.of("target_database", database="empty")[0]["remedy"].partition("\n")[2])
    assert look(source.endpoint(), target.endpoint(), ["empty"]).levels("target_database") == {"ok"}


def test_what_runs_left_behind(servers):
    source, target = servers(15), servers(16, "target")
    dbname = create_database(source)
    target.sql("postgres", "CREATE DATABASE handover_restore_0123456789abcdef")
    target.sql("postgres", "CREATE ROLE handover_owners_4711_1700000000000000")
    report = look(source.endpoint(), target.endpoint(), [dbname])
    [finding] = report.of("leftovers", "info")
    assert finding["objects"] == ["handover_restore_0123456789abcdef", "handover_owners_4711_1700000000000000"]
    run_script(target, "postgres", finding["remedy"].partition("\n")[2])
    assert look(source.endpoint(), target.endpoint(), [dbname]).levels("leftovers") == {"ok"}


def test_databases_that_are_left_out_or_lie_elsewhere(servers, run_directory):
    source = servers(17)
    place = run_directory / "space"
    place.mkdir(exist_ok=True)
    give(place)
    source.sql("postgres", f"CREATE TABLESPACE \"S\" LOCATION '{place}'")
    names = [create_database(source, name) for name in ("chosen", "Template", "closed", "half")]
    source.sql("postgres", 'ALTER DATABASE chosen SET TABLESPACE "S"')
    source.sql("postgres", 'ALTER DATABASE "Template" IS_TEMPLATE true; ALTER DATABASE closed ALLOW_CONNECTIONS false')
    source.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'")
    source.sql("postgres", "CREATE TABLE mine (i int)")
    try:
        report = look(source.endpoint(), None, names[:1])
        assert report.objects("databases_left_out", "info") == {'"Template"', "closed", "half"}
        assert report.objects("databases_left_out", "warning") == {"table public.mine"}
        assert report.objects("database_tablespaces", "info") == {"chosen"}
    finally:
        source.sql("postgres", "DROP TABLE mine; UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'half'")
        source.sql("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS true")
        source.sql("postgres", "DROP DATABASE chosen")


def test_settings_that_mean_something_else(new_cluster, servers):
    source = new_cluster(
        15,
        settings={
            "timezone": "Europe/Berlin",
            "statement_timeout": "30s",
            "max_prepared_transactions": 2,
            "shared_preload_libraries": "pg_stat_statements",
            "session_preload_libraries": "auto_explain",
            "search_path": '"$user", "a b", public',
        },
    )
    source.sql("postgres", 'CREATE DATABASE "a b"')
    target = servers(18)
    create_database(target, "a b")
    report = look(source.endpoint(), target.endpoint(), ["a b"])
    assert report.objects("settings", "warning") == {
        "TimeZone",
        "statement_timeout",
        "search_path",
        "max_prepared_transactions",
    }
    assert report.objects("preloaded_libraries", "warning") == {"pg_stat_statements", "auto_explain"}
    script = report.about("settings", "TimeZone")["remedy"].partition("\n")[2]
    run_script(target, "postgres", script)
    values = "SELECT current_setting('TimeZone'), current_setting('statement_timeout'), current_setting('search_path')"
    assert target.sql("a b", values) == source.sql("a b", values)
    admin = look(source.managed_admin(), target.endpoint(), ["a b"])
    assert admin.levels("preloaded_libraries") == {"unknown"}


def test_more_tables_than_locks(new_cluster):
    settings = {"max_locks_per_transaction": 10, "max_connections": 10, "max_worker_processes": 2, "max_wal_senders": 2}
    source = new_cluster(15, settings={**settings, "max_replication_slots": 2})
    source.sql("postgres", "CREATE DATABASE shop")
    for number in range(150):
        source.sql("shop", f"CREATE TABLE t{number} ()")
    report = look(source.endpoint(), None, ["shop"])
    [finding] = report.of("lock_table", "warning")
    assert "150 tables" in finding["seen"] and finding["database"] == "shop"
    mend(source, "postgres", [finding])
    source.restart()
    assert look(source.endpoint(), None, ["shop"]).levels("lock_table") == {"ok"}


def test_client_programs(servers, tmp_path):
    source, target = servers(15), servers(16, "target")
    dbname = create_database(source)
    bins = {major: str(servers(major).build.bin) for major in (13, 17, 18, 19)}
    report = look(source.endpoint(), target.endpoint(), [dbname], client_directory=[bins[13]])
    assert "client_directory" in report.of("clients", "blocker")[0]["remedy"]
    report = look(source.endpoint(), target.endpoint(), [dbname], client_directory=[bins[17]])
    assert [one["level"] for one in report.of("clients")] == ["info"]
    assert "newer than the target's major, 16" in report.of("clients")[0]["seen"]
    report = look(source.endpoint(), servers(18).endpoint(), [dbname], client_directory=[bins[18]])
    assert "pg_attver" in report.of("clients", "info")[0]["seen"]
    newest = servers(19, "target").endpoint()
    [finding] = look(source.endpoint(), newest, [dbname], client_directory=[bins[18]]).of("clients", "blocker")
    assert "pg_restore that connects to a server of PostgreSQL 19" in finding["seen"]
    assert finding["methods"] == ["dump"] and "of PostgreSQL 19" in finding["remedy"]
    for fit in ([bins[17]], [bins[18], bins[19]]):
        assert not look(source.endpoint(), newest, [dbname], client_directory=fit).of("clients", "blocker")
