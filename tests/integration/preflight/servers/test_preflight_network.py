# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the way from the target to the source: what can be read of it, and the target's own tries."""

from __future__ import annotations

import pytest
from preflights import look, own_address
from support import create_database

HERE = ("listen_addresses", "pg_hba", "configuration_files", "pending_restart", "publisher_tls")
needs_network = pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")


@pytest.mark.parametrize(("old", "new"), [(13, 15), (16, 18)])
def test_two_servers_on_this_machine(servers, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    report = look(source.endpoint(), target.endpoint(), [dbname])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)
    [finding] = report.of("network", "unknown")
    assert "CREATE EXTENSION dblink" in finding["remedy"] and source.password not in finding["remedy"]
    assert look(source.endpoint(), None, [dbname]).levels("network") == {"unknown"}


@pytest.mark.parametrize(
    ("how", "superuser"), [("dblink", True), ("dblink", False), ("subscription", True), ("subscription", False)]
)
@pytest.mark.parametrize("major", [13, 18])
def test_the_target_tries(servers, how, superuser, major):
    source, target = servers(15), servers(major, "target")
    dbname = create_database(source)
    endpoint = target.endpoint() if superuser else target.managed_admin(grants=["pg_create_subscription"])
    if not superuser and major >= 16:
        target.sql("postgres", "GRANT CREATE ON DATABASE postgres TO doadmin")
    if how == "dblink":
        assert look(source.endpoint(), endpoint, [dbname], test_network=how).levels("network") == {"unknown"}
        target.sql("postgres", "CREATE SCHEMA x CREATE TABLE x.y ()")
        target.sql("postgres", "CREATE EXTENSION dblink SCHEMA x")
        target.sql("postgres", "GRANT USAGE ON SCHEMA x TO PUBLIC")
    try:
        report = look(source.endpoint(), endpoint, [dbname], test_network=how)
        refused = how == "subscription" and not superuser and major < 16
        assert report.levels("network") == ({"unknown"} if refused else {"ok"}), report.of("network")
        assert target.sql("postgres", "SELECT count(*) FROM pg_subscription") == [(0,)]
        assert source.sql("postgres", "SELECT count(*) FROM pg_replication_slots") == [(0,)]
    finally:
        target.sql("postgres", "DROP EXTENSION IF EXISTS dblink; DROP SCHEMA IF EXISTS x CASCADE")


@pytest.mark.parametrize(("how", "major"), [("dblink", 13), ("dblink", 18), ("subscription", 16)])
def test_a_target_that_is_let_in_without_a_password(new_cluster, servers, how, major):
    source, target = new_cluster(15, hba=["host all all 127.0.0.1/32 trust"]), servers(major, "target")
    admin = target.managed_admin(grants=["pg_create_subscription"])
    target.sql("postgres", "CREATE EXTENSION dblink; GRANT CREATE ON DATABASE postgres TO doadmin")
    try:
        report = look(source.endpoint(), admin, ["postgres"], test_network=how)
        assert "trust" in report.of("network", "blocker")[0]["remedy"]
        report = look(source.endpoint(), target.endpoint(), ["postgres"], test_network=how)
        assert report.levels("network") == {"ok"}
    finally:
        target.sql("postgres", "DROP EXTENSION dblink")


@needs_network
def test_a_source_that_turns_the_target_away(new_cluster, servers):
    """The target reaches it under an address that pg_hba.conf does not know."""
    address = own_address()
    hba = ["host all all 127.0.0.1/32 scram-sha-256", f"host postgres,shop all {address}/32 scram-sha-256"]
    source, target = new_cluster(15, settings={"listen_addresses": "*"}, hba=hba), servers(18, "target")
    for name in ("shop", "a b"):
        source.sql("postgres", f'CREATE DATABASE "{name}"')
    target_endpoint = {**target.endpoint(), "host": "127.0.0.1"}
    endpoint = {**source.endpoint(), "host": address, "sslmode": "disable"}
    assert look(endpoint, target_endpoint, ["shop"], test_network="subscription").levels("network") == {"ok"}
    (source.data / "pg_hba.conf").write_text(hba[0] + f"\nhost postgres all {address}/32 scram-sha-256\n")
    source.reload()
    report = look(endpoint, target_endpoint, ["a b", "shop"], test_network="subscription", target_addresses=[address])
    [finding] = report.of("network", "blocker")
    assert finding["objects"] == [address] and f'host "a b" postgres {address}/32 scram-sha-256' in finding["remedy"]
    [finding] = report.of("pg_hba", "blocker")
    assert finding["objects"] == ["a b", "shop"]
    lines = [line for line in finding["remedy"].splitlines() if line.startswith("host")]
    (source.data / "pg_hba.conf").write_text("\n".join([*hba, *lines, ""]))
    source.reload()
    report = look(endpoint, target_endpoint, ["a b", "shop"], test_network="subscription", target_addresses=[address])
    assert report.levels("network") == report.levels("pg_hba") == {"ok"}


def test_a_source_out_of_reach(servers):
    """What the migrator knows as a host name is nothing that the target can look up."""
    source, target = servers(15), servers(18, "target")
    uri = f"postgresql://postgres:{source.password}@source.invalid:{source.port}/postgres?hostaddr=127.0.0.1"
    report = look({"uri": uri}, target.endpoint(), [create_database(source)], test_network="subscription")
    [finding] = report.of("network", "blocker")
    assert f"source.invalid:{source.port}" in finding["remedy"] and "could not translate" in finding["seen"]


@needs_network
def test_a_source_that_listens_to_itself_alone(new_cluster):
    address = own_address()
    hba = [f"host all all {one}/32 scram-sha-256" for one in ("127.0.0.1", address)]
    source, target = new_cluster(15), new_cluster(18, settings={"listen_addresses": "*"}, hba=hba)
    dbname = create_database(source)
    endpoint = {**target.endpoint(), "host": address, "sslmode": "disable"}
    report = look(source.endpoint(), endpoint, [dbname])
    assert "'*'" in report.of("listen_addresses", "blocker")[0]["remedy"]
    assert "TLS is off" in report.of("publisher_tls", "warning")[0]["seen"]
    [finding] = report.of("pg_hba", "warning")
    assert f"from {address}/32" in finding["seen"] and "target_addresses" in finding["seen"]
    with (source.data / "pg_hba.conf").open("a") as file:
        file.write("\n".join(line for line in finding["remedy"].splitlines() if line.startswith("host")) + "\n")
    source.sql("postgres", "SELECT pg_reload_conf()")
    report = look(source.endpoint(), endpoint, [dbname], test_network="subscription")
    assert f"from {address} (as its name" in report.of("pg_hba", "info")[0]["seen"]
    assert "another machine" in report.of("network", "unknown")[0]["seen"]


@pytest.mark.parametrize("major", [13, 16])
def test_lines_that_are_not_understood(new_cluster, major):
    source = new_cluster(major)
    target = {**source.endpoint(), "port": source.port}
    (source.data / "pg_hba.conf").write_text(
        "host all all 127.0.0.1/32 scram-sha-256\nhost all all 10.0.0.0/99 md5\nhostssl all all all md5\nnonsense\n"
        "host all all db.example.com md5\n"
    )
    report = look(source.endpoint(), target, ["postgres"], target_addresses=["10.1.2.3"])
    [finding] = report.of("configuration_files", "warning")
    assert [place.rpartition("/")[2] for place in finding["objects"]] == ["pg_hba.conf:2", "pg_hba.conf:4"]
    assert report.levels("pg_hba") == {"unknown"}
    admin = look(source.managed_admin(), target, ["postgres"])
    assert admin.levels("pg_hba") == admin.levels("configuration_files") == {"unknown"}


def test_settings_that_wait_for_a_restart(servers):
    source = servers(15)
    source.sql("postgres", "ALTER SYSTEM SET wal_level = 'replica'")
    source.sql("postgres", "SELECT pg_reload_conf()")
    dbname = create_database(source)
    report = look(source.endpoint(), None, [dbname])
    assert report.objects("pending_restart", "info") == {"wal_level"}
    assert "wal_level (logical, then replica)" in report.of("pending_restart")[0]["seen"]
