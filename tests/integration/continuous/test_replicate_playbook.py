# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook replicate, run as users run it."""

from __future__ import annotations

from dumps import CLIENTS
from support import create_database, run_playbook

REPLICATE = "handover.postgresql.replicate"


def make(cluster, name: str) -> None:
    """A database with a table, and a role of its own."""
    create_database(cluster, name)
    cluster.sql(name, "CREATE TABLE t (i int PRIMARY KEY)")
    cluster.sql(name, "INSERT INTO t SELECT generate_series(1, 50)")


def test_replicate(servers, tmp_path):
    source, target = servers(15), servers(17)
    for name in ("a b", "second"):
        make(source, name)
    source.sql("a b", "CREATE ROLE keeper; ALTER TABLE t OWNER TO keeper")
    source.sql("second", "CREATE TABLE keyless (i int)")
    source.sql("postgres", "CREATE ROLE mover LOGIN REPLICATION PASSWORD 'a password to keep'")
    password = tmp_path / "password"
    password.write_text("a password to keep\n")
    inventory = {
        "all": {
            "hosts": {
                "pair": {
                    "ansible_connection": "local",
                    "handover_source": source.endpoint(),
                    "handover_target": target.endpoint(),
                    "handover_dump_directory": f"{tmp_path}/dumps",
                    "handover_client_directory": CLIENTS,
                    "handover_replication_role": "mover",
                    "handover_replication_password_file": str(password),
                    "handover_rehearse": False,
                }
            }
        }
    }
    result = run_playbook(REPLICATE, inventory)
    assert result.failed
    assert "Not replicated: second" in result.failures[-1]["msg"]
    assert "...ignoring" not in result.stdout and '"remedy"' not in result.stdout
    assert "no_identity" in result.stdout
    assert target.sql("a b", "SELECT count(*) FROM t") == [(50,)]
    result = run_playbook(REPLICATE, inventory, extra_vars={"handover_no_identity": "copy_at_cutover"})
    assert not result.failed, result
    assert "public.keyless is not replicated" in result.stdout
    assert target.sql("postgres", "SELECT count(*) FROM pg_subscription WHERE subconninfo ~ 'user=mover'") == [(2,)]
    loops = result.results("handover.postgresql.pg_logical_migrate")
    changed = {one["item"]: one["changed"] for loop in loops for one in loop["results"]}
    assert changed == {"a b": False, "second": True}
