# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook replicate, run as users run it."""

from __future__ import annotations

import contextlib
import os
import signal

from dumps import CLIENTS
from faults import await_that
from support import create_database, run_playbook, start_playbook

REPLICATE = "handover.postgresql.replicate"


def make(cluster, name: str) -> None:
    """A database with a table, and a role of its own."""
    create_database(cluster, name)
    cluster.sql(name, "CREATE TABLE t (i int PRIMARY KEY)")
    cluster.sql(name, "INSERT INTO t SELECT generate_series(1, 50)")


def inventory_of(source, target, place, **variables) -> dict:
    """One pair, with these variables besides."""
    pair = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_dump_directory": f"{place}/dumps",
        "handover_client_directory": CLIENTS,
    }
    return {"all": {"hosts": {"pair": {**pair, **variables}}}}


def test_replicate(servers, tmp_path):
    source, target = servers(15), servers(17)
    for name in ("a b", "second"):
        make(source, name)
    source.sql("a b", "CREATE ROLE keeper; ALTER TABLE t OWNER TO keeper")
    source.sql("second", "CREATE TABLE keyless (i int)")
    source.sql("postgres", "CREATE ROLE mover LOGIN REPLICATION PASSWORD 'a password to keep'")
    password = tmp_path / "password"
    password.write_text("a password to keep\n")
    inventory = inventory_of(
        source,
        target,
        tmp_path,
        handover_replication_role="mover",
        handover_replication_password_file=str(password),
        handover_rehearse=False,
    )
    result = run_playbook(REPLICATE, inventory)
    assert result.failed
    assert "Not replicated: second" in result.failures[-1]["msg"]
    assert "...ignoring" not in result.stdout and '"remedy"' not in result.stdout
    assert "no_identity" in result.stdout
    assert target.sql("a b", "SELECT count(*) FROM t") == [(50,)]
    result = run_playbook(REPLICATE, inventory, extra_vars={"handover_no_identity": "copy_at_cutover"})
    assert not result.failed, result.stdout
    assert "public.keyless is not replicated" in result.stdout
    assert target.sql("postgres", "SELECT count(*) FROM pg_subscription WHERE subconninfo ~ 'user=mover'") == [(2,)]
    calls = result.results("handover.postgresql.pg_logical_migrate")
    changed = {one["item"]: one["changed"] for call in calls for one in call["results"]}
    assert changed == {"a b": False, "second": True}
    make(source, "third")
    result = run_playbook("handover.postgresql.preflight", inventory, extra_vars={"handover_databases": []})
    (report,) = [found["report"] for found in result.results("handover.postgresql.pg_preflight")]
    known = {one["database"]: one["next"] for one in report["databases"]}
    assert known == {"a b": "under_way", "second": "under_way", "third": None}
    for said in ("a b, second: ansible-playbook ... handover.postgresql.status", "third: ansible-playbook ... "):
        assert f"next, for {said}" in result.stdout


def test_little_databases_share_a_call_and_fail_by_themselves(servers, tmp_path):
    source, target = servers(15), servers(18)
    names = [f"little_{number}" for number in range(6)]
    for name in names:
        make(source, name)
    make(source, "large")
    source.sql("large", "CREATE TABLE filler AS SELECT repeat(md5(i::text), 30) AS t FROM generate_series(1, 70000) i")
    source.sql("large", "ALTER TABLE filler REPLICA IDENTITY FULL")
    create_database(target, "little_2")
    target.sql("little_2", "CREATE TABLE in_the_way (i int)")
    source.sql("little_3", "CREATE TABLE keyless (i int)")
    inventory = inventory_of(source, target, tmp_path)
    forks = {"ANSIBLE_FORKS": "2"}
    result = run_playbook(REPLICATE, inventory, env=forks)
    assert result.failed
    assert "Not replicated: little_2, little_3." in result.failures[-1]["msg"]
    assert "- little_2: NOT REPLICATED." in result.stdout and "in_the_way" in result.stdout
    calls = result.results("handover.postgresql.pg_rehearse")
    rehearsed = [[one["item"] for one in call["results"]] for call in calls]
    assert sorted(rehearsed) == [["large"], names[:3], names[3:]]
    for name in {*names, "large"} - {"little_2", "little_3"}:
        assert target.sql(name, "SELECT count(*) FROM t") == [(50,)]
    target.sql("postgres", "DROP DATABASE little_2")
    settings = {"handover_no_identity": "copy_at_cutover"}
    result = run_playbook(REPLICATE, inventory, extra_vars=settings, env=forks)
    assert not result.failed, result.stdout
    calls = result.results("handover.postgresql.pg_logical_migrate")
    changed = {one["item"]: one["changed"] for call in calls for one in call["results"]}
    assert changed == {name: name in ("little_2", "little_3") for name in [*names, "large"]}
    assert target.sql("little_2", "SELECT count(*) FROM t") == [(50,)]


def test_a_call_that_is_killed_is_no_success_for_any_of_its_databases(servers, tmp_path):
    source, target = servers(15), servers(16)
    for name in ("first", "second"):
        make(source, name)
    inventory = inventory_of(source, target, tmp_path, handover_rehearse=False, handover_progress="0")
    forks = {"ANSIBLE_FORKS": "1"}
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with contextlib.closing(source.connect("second", autocommit=False)) as holder:
        holder.cursor().execute("LOCK TABLE t")
        running = start_playbook(REPLICATE, inventory, env=forks)
        await_that(lambda: source.sql("postgres", waiting) != [(0,)], "the second database is being copied")
        for pid, command in running.family().items():
            if "AnsiballZ_pg_logical_migrate" in command:
                os.kill(pid, signal.SIGKILL)
        result = running.wait()
    assert result.failed
    assert "Not replicated: first, second." in result.failures[-1]["msg"]
    result = run_playbook(REPLICATE, inventory, env=forks)
    assert not result.failed, result.stdout
    for name in ("first", "second"):
        assert target.sql(name, "SELECT count(*) FROM t") == [(50,)]
