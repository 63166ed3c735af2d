# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the servers are: pairs that fit, and pairs that do not."""

from __future__ import annotations

import pytest
from faults import await_that
from preflights import look, mend
from support import create_database

HERE = (
    "source_version", "target_version", "end_of_life", "minor_version", "same_server", "source_standby",
    "target_read_only", "source_read_only", "durability", "damaged_pages", "clock",
)  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [(13, 16), (17, 19)])
def test_a_pair_that_fits(servers, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    mend(target, "postgres", look(source.endpoint(), target.endpoint(), [dbname]).of("durability", "warning"))
    target.reload()
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)
    without = look(source.endpoint(), None, [dbname])
    for check in ("target_version", "end_of_life", "same_server", "target_read_only", "durability", "clock"):
        assert without.levels(check) == {"unknown"}
    for check in ("source_version", "minor_version", "source_standby", "source_read_only", "damaged_pages"):
        assert without.levels(check) == {"ok"}


def test_no_way_back_in_time_and_no_durability(servers):
    source, target = servers(15), servers(13, "target")
    report = look(source.endpoint(), target.endpoint(), [create_database(source)])
    [finding] = report.of("target_version", "blocker")
    assert "15." in finding["seen"] and "13." in finding["seen"] and finding["methods"] == ["dump", "continuous"]
    assert "2025-11-13" in report.of("end_of_life", "warning")[0]["seen"]
    assert report.objects("durability", "warning") == {"fsync", "full_page_writes"}
    assert report.report["databases"][0]["recommended_method"] is None


def test_one_server_is_no_pair(servers):
    source = servers(15)
    report = look(source.endpoint(), source.endpoint(), [create_database(source)])
    assert "the same server" in report.of("same_server", "blocker")[0]["seen"]


def test_a_standby_is_neither_target_nor_publisher(new_cluster, run_directory):
    primary = new_cluster(15)
    primary.sql("postgres", "CREATE DATABASE shop")
    standby = primary.standby(run_directory / "standby")
    try:
        report = look(primary.endpoint(), standby.endpoint(), ["shop"])
        assert "is a standby" in report.of("target_read_only", "blocker")[0]["seen"]
        assert "physical copy" in report.of("same_server", "warning")[0]["seen"]

        report = look(standby.endpoint(), None, ["shop"])
        blocker, warning = report.of("source_standby")
        assert (blocker["level"], blocker["methods"]) == ("blocker", ["continuous"])
        assert f"127.0.0.1:{primary.port}" in blocker["remedy"]
        assert (warning["level"], warning["methods"]) == ("warning", ["dump"])
        assert report.report["databases"][0]["feasible_methods"] == ["dump"]
        mend(standby, "postgres", [warning])
        standby.reload()
        patient = look(standby.endpoint(), None, ["shop"]).of("source_standby", "info")
        assert patient and patient[0]["methods"] == ["dump"]

        standby.sql("postgres", "SELECT pg_promote()")
        report = look(primary.endpoint(), standby.endpoint(), ["shop"])
        assert report.levels("target_read_only") == {"ok"}
        assert report.levels("same_server") == {"warning"}
    finally:
        standby.destroy()


def test_servers_that_refuse_to_be_written(servers):
    source, target = servers(15), servers(17, "target")
    dbname = create_database(source)
    for server in (source, target):
        server.sql("postgres", "ALTER ROLE postgres SET default_transaction_read_only = on")
    try:
        report = look(source.endpoint(), target.endpoint(), [dbname])
        assert "role postgres" in report.of("target_read_only", "blocker")[0]["remedy"]
        [finding] = report.of("source_read_only", "warning")
        assert finding["methods"] == ["continuous"] and "role postgres" in finding["remedy"]
    finally:
        for server in (source, target):
            writable = {"options": "-c default_transaction_read_only=off"}
            server.sql("postgres", "ALTER ROLE postgres RESET ALL", **writable)


def test_damage_that_is_hidden_and_damage_that_was_seen(new_cluster):
    source = new_cluster(15, initdb_args=("--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"))
    source.sql("postgres", "CREATE DATABASE shop")
    source.sql("shop", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS i")
    source.sql("shop", "CHECKPOINT")
    [(path,)] = source.sql("shop", "SELECT pg_relation_filepath('t')")
    source.stop()
    with (source.data / path).open("r+b") as file:
        file.seek(4000)
        file.write(b"damage")
    source.start()
    with pytest.raises(Exception, match="invalid page"):
        source.sql("shop", "SELECT count(*) FROM t")
    source.sql("postgres", "ALTER SYSTEM SET zero_damaged_pages = on")
    source.sql("postgres", "SELECT pg_reload_conf()")
    counted = "SELECT 1 FROM pg_stat_database WHERE checksum_failures > 0"
    await_that(lambda: source.sql("postgres", counted), "the failure to be counted")
    report = look(source.endpoint(), None, ["shop"])
    assert report.objects("damaged_pages", "warning") == {"zero_damaged_pages", "shop"}
    mend(source, "postgres", [report.about("damaged_pages", "zero_damaged_pages")])
    source.reload()
    source.sql("shop", "SELECT pg_stat_reset()")
    await_that(lambda: not source.sql("postgres", counted), "the end of the count")
    assert look(source.endpoint(), None, ["shop"]).levels("damaged_pages") == {"ok"}


@pytest.mark.parametrize("minutes", [1, -1])
def test_clocks_that_disagree(new_cluster, servers, minutes):
    """The server's function is another one; nobody may set the clock of the machine that the tests run on."""
    target, source = new_cluster(15), servers(13)
    dbname = create_database(source)
    target.sql(
        "postgres",
        "SET allow_system_table_mods = on; ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO its;"
        "CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        f"$$SELECT pg_catalog.its() + interval '{minutes} minutes'$$",
    )
    report = look(source.endpoint(), target.endpoint(), [dbname])
    [warning] = report.of("clock", "warning")
    assert f"60.0 s {'ahead of' if minutes > 0 else 'behind'} the source's" in warning["seen"]
    assert ["target's" in one["seen"] for one in report.of("clock", "info")] == [True]
