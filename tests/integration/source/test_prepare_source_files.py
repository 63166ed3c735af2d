# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_hba.conf and the other files, as pg_source_prepare and pg_configuration_reload see them."""

from __future__ import annotations

import psycopg2
import pytest
from sources import PASSWORD, ROLE, prepare, release, state
from support import Cluster, create_database, run_module


def test_lines_of_pg_hba_conf_admit_the_role_and_nobody_else(small):
    cluster = small(16)
    odd = ["a b", "x; drop", "-d", "host=evil", "Ünïcode\"'", "all", "replication", "with,comma", "#hash", "UP", "+x"]
    for name in odd:
        create_database(cluster, name)
    done = prepare(cluster, databases=odd)
    refused = [{"database": name, "address": "127.0.0.1/32", "place": None} for name in odd]
    (cluster.data / "pg_hba.conf").write_text("host postgres all 127.0.0.1/32 scram-sha-256\n")
    reload(cluster)
    assert [{**one, "place": None} for one in prepare(cluster, databases=odd).hba_refused] == refused
    own = "host postgres postgres 127.0.0.1/32 scram-sha-256"
    (cluster.data / "pg_hba.conf").write_text("\n".join([own, *done.hba_lines]))
    reload(cluster)
    assert prepare(cluster, databases=odd).hba_refused == []
    for name in odd:
        assert cluster.sql(name, "SELECT current_database()", user=ROLE, password=PASSWORD) == [(name,)]
        with pytest.raises(psycopg2.OperationalError):
            cluster.sql(name, "SELECT 1")


def reload(cluster: Cluster) -> None:
    result = run_module("pg_configuration_reload", {"source": cluster.endpoint()})
    assert not result.failed, result


def test_the_line_that_turns_the_target_away_is_named(small):
    cluster = small(17)
    own = "host all postgres 127.0.0.1/32 scram-sha-256"
    for rule in ("host all all 127.0.0.0/8 reject", "hostnossl all all all reject"):
        (cluster.data / "pg_hba.conf").write_text(f"{own}\n{rule}\n")
        place = f"{cluster.data}/pg_hba.conf:2"
        assert prepare(cluster).hba_refused == [{"database": "shop", "address": "127.0.0.1/32", "place": place}]


def test_only_addresses_are_taken_and_everybody_is_remarked_upon(small):
    cluster = small(15)
    for address in ("all", "samenet", "example.com", "10.0.0.1/8", "trust"):
        assert "neither an address nor a network" in prepare(cluster, target_addresses=[address]).msg
    assert prepare(cluster, target_addresses=[]).failed
    done = prepare(cluster, target_addresses=["0.0.0.0/0", "2001:db8::1"], hba_method="trust")
    assert done.hba_lines == [
        f"host shop {ROLE} 0.0.0.0/0 trust",
        f"host shop {ROLE} 2001:db8::1/128 trust",
    ]
    assert any("everybody" in hint for hint in done.hints) and any("trust" in hint for hint in done.hints)
    assert {one["value"] for one in done.settings if one["name"] == "listen_addresses"} == {"*"}
    assert not any(one["name"] == "listen_addresses" for one in prepare(cluster).settings)


def test_tls_is_expected_unless_it_is_off_by_choice(small, authority):
    assert "ssl = off" in prepare(small(17), replication_tls=True).msg
    cluster = small(17, tls=authority.server())
    done = prepare(cluster, replication_tls=True, hba_method="cert", replication_password=None)
    assert done.hba_lines == [f"hostssl shop {ROLE} 127.0.0.1/32 cert"]
    assert prepare(cluster, replication_tls=False, hba_method="cert").failed


@pytest.mark.parametrize("major", [13, 17])
def test_broken_files_are_refused_before_anything_is_changed(small, major):
    cluster = small(major)
    before = state(cluster)
    good = (cluster.data / "pg_hba.conf").read_text()
    (cluster.data / "pg_hba.conf").write_text(f"{good}host all all 127.0.0.1/33 scram-sha-256\n")
    broken = prepare(cluster)
    assert broken.failed and f"pg_hba.conf:{len(good.splitlines()) + 1}: " in broken.msg
    reloaded = run_module("pg_configuration_reload", {"source": cluster.endpoint()})
    assert reloaded.failed and reloaded.configuration_errors == broken.configuration_errors
    (cluster.data / "pg_hba.conf").write_text(good)
    with (cluster.data / "lab.conf").open("a") as file:
        file.write("wal_levle = logical\n")
    broken = prepare(cluster)
    assert broken.failed and "lab.conf:" in broken.msg and "unrecognized" in broken.msg and release(cluster).failed
    assert state(cluster) == before


def test_a_reload_is_over_when_the_task_is(small):
    cluster = small(15)
    rule = (cluster.data / "pg_hba.conf").read_text()
    for _round in range(3):
        (cluster.data / "pg_hba.conf").write_text("host postgres postgres 127.0.0.1/32 scram-sha-256\n")
        reload(cluster)
        with pytest.raises(psycopg2.OperationalError):
            cluster.sql("shop", "SELECT 1")
        (cluster.data / "pg_hba.conf").write_text(rule)
        assert run_module("pg_configuration_reload", {"source": cluster.endpoint()}, check=True).changed
        with pytest.raises(psycopg2.OperationalError):
            cluster.sql("shop", "SELECT 1")
        reload(cluster)
        assert cluster.sql("shop", "SELECT 1")
