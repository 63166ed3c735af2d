# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks prepare_source and finish where nobody reaches the source's host: SQL, and instructions."""

from __future__ import annotations

from source_hosts import refused, succeeded
from sources import setting, state
from support import run_playbook

ROLE = "handover_pair"


def pair(cluster, tmp_path, **variables) -> dict:
    """An inventory of one pair, with a password that is generated."""
    given = {
        "ansible_connection": "local",
        "handover_source": cluster.endpoint(),
        "handover_target": {},
        "handover_target_addresses": "127.0.0.1",
        "handover_replication_tls": "false",
        "handover_replication_password_file": f"{tmp_path}/handover/password",
        **variables,
    }
    return {"all": {"hosts": {"pair": given}}}


def prepare(inventory: dict, **options):
    return run_playbook("handover.postgresql.prepare_source", inventory, **options)


def finish(inventory: dict, **options):
    return run_playbook("handover.postgresql.finish", inventory, tags=["source"], **options)


def test_without_the_host_it_stops_with_what_is_left_to_do(small, tmp_path):
    cluster = small(15)
    (cluster.data / "pg_hba.conf").write_text("host postgres postgres 127.0.0.1/32 scram-sha-256\n")
    cluster.sql("postgres", "SELECT pg_reload_conf()")
    before = state(cluster)
    inventory = pair(cluster, tmp_path)
    line = f"host shop {ROLE} 127.0.0.1/32 scram-sha-256"

    checked = succeeded(prepare(inventory, check=True, diff=True))
    assert "to do: Put into" in checked.stdout and line in checked.stdout and state(cluster) == before
    assert "next: ansible-playbook ... handover.postgresql.prepare_source, without --check." in checked.stdout
    assert not (tmp_path / "handover").exists()

    stopped = refused(prepare(inventory), line, "before all other lines", "Restart the server: wal_level is replica")
    assert stopped.changed and "wal_level = 'logical'" in (cluster.data / "postgresql.auto.conf").read_text()
    password = (tmp_path / "handover" / "password").read_text().strip()
    assert (tmp_path / "handover" / "password").stat().st_mode & 0o777 == 0o600 and password not in stopped.stdout

    cluster.restart()
    hba = (cluster.data / "pg_hba.conf").read_text()
    (cluster.data / "pg_hba.conf").write_text(f"{line}\n{hba}")
    cluster.sql("postgres", "SELECT pg_reload_conf()")
    again = succeeded(prepare(inventory))
    assert not again.changed and "next: ansible-playbook ... handover.postgresql.replicate." in again.stdout
    assert cluster.sql("shop", "SELECT current_user", user=ROLE, password=password) == [(ROLE,)]

    left = refused(finish(inventory), f"These lines still name the role {ROLE}: remove pg_hba.conf:1, and run")
    assert "wal_level: logical -> replica, with the next restart" in left.stdout
    assert state(cluster) == before and not (tmp_path / "handover" / "password").exists()
    refused(finish(inventory), "pg_hba.conf:1")
    (cluster.data / "pg_hba.conf").write_text(hba)
    assert not succeeded(finish(inventory)).changed


def test_a_source_that_somebody_manages(small, tmp_path):
    cluster = small(16)
    cluster.sql("postgres", "CREATE ROLE rdsadmin")
    inventory = pair(cluster, tmp_path)
    refused(prepare(inventory), "wal_level = logical is needed", "rds.logical_replication")
    assert setting(cluster, "wal_level") == "replica" and (ROLE,) in state(cluster)

    admin = cluster.managed_admin(attributes=["CREATEDB", "CREATEROLE", "REPLICATION"])
    cluster.sql("postgres", "ALTER DATABASE shop OWNER TO doadmin")
    for name, text in {"wal_level": "logical", "max_replication_slots": 9, "max_wal_senders": 9}.items():
        cluster.sql("postgres", f"ALTER SYSTEM SET {name} = '{text}'")
    cluster.restart()
    succeeded(finish(inventory))
    inventory = pair(cluster, tmp_path, handover_source=admin, handover_both_ways="no")
    refused(prepare(inventory), "trusted sources", "127.0.0.1", "handover_source_is_ready: true")
    assert not succeeded(prepare(inventory, extra_vars={"handover_source_is_ready": "true"})).changed
    assert succeeded(finish(inventory)).changed


def test_a_source_that_is_gone_or_was_never_made_ready(small, tmp_path):
    cluster = small(17)
    inventory = pair(cluster, tmp_path, handover_target_addresses=[])
    assert not succeeded(finish(inventory)).changed
    inventory["all"]["hosts"]["pair"]["handover_source"]["port"] = 1
    gone = succeeded(finish(inventory))
    assert not gone.changed and "the source was not looked at" in gone.stdout
    addresses = {"handover_target_addresses": ["127.0.0.1"]}
    refused(finish(inventory, extra_vars=addresses), "Check source.host")
    said = succeeded(finish(inventory, extra_vars={**addresses, "handover_source_is_gone": "true"}))
    assert "the source was not looked at" in said.stdout


def test_files_without_ssh(small, tmp_path):
    cluster = small(17, settings={"allow_alter_system": "off"})
    inventory = pair(cluster, tmp_path)
    refused(prepare(inventory), "Put into postgresql.conf", "wal_level = 'logical'; ")
    with (cluster.data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = 9\n" for name in ("max_replication_slots", "max_wal_senders"))
        file.write("wal_level = 'logical'\nmax_logical_replication_workers = 4\nmax_worker_processes = 12\n")
    cluster.restart()
    assert not succeeded(prepare(inventory)).changed
    refused(finish(inventory), "Take out of the configuration files", "wal_level = 'logical'")
