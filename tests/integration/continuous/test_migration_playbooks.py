# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks around a continuous migration, run as users run them."""

from __future__ import annotations

import json

import pytest
from dumps import CLIENTS
from migrations import in_step
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed
from support import create_database, run_playbook

from ansible_collections.handover.postgresql.plugins.plugin_utils.page import store
from lab import catalogs

STATUS, WATCH, STOP, FINISH, MIGRATE = (
    f"handover.postgresql.{name}" for name in ("status", "watch", "stop", "finish", "migrate")
)


@pytest.fixture
def inventory(tmp_path):
    """``inventory(source, target, ...)`` is an inventory of one pair on this machine."""

    def make(source, target, **variables):
        given = {
            "ansible_connection": "local",
            "handover_source": source.endpoint(),
            "handover_target": target.endpoint(),
            "handover_client_directory": CLIENTS,
            "handover_dump_directory": f"{tmp_path}/dumps",
            "handover_replication_password_file": f"{tmp_path}/none",
            "handover_report_directory": f"{tmp_path}/reports",
        }
        here = {"ansible_connection": "local", "ansible_become": False}
        away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        groups = {"handover_pairs": {"pair": {**given, **variables}}, "servers": {"here": here, "away": away}}
        return {"all": {"children": {name: {"hosts": hosts} for name, hosts in groups.items()}}}

    return make


def succeeded(result):
    assert not result.failed, (result.stdout[-3000:], result.stderr[-2000:])
    return result


def tables(cluster, dbname, rows=50):
    create_database(cluster, dbname)
    cluster.sql(dbname, "CREATE TABLE t (i int PRIMARY KEY, v text)")
    cluster.sql(dbname, "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, %s) AS i", [rows])


def test_status_watch_stop_finish(servers, inventory, tmp_path):
    source, target = servers(15), servers(18, "target")
    tables(source, "shop")
    create_database(source, "other")
    clean = catalogs.of_server(source)
    in_step(source, target, databases=["shop"])
    pair = inventory(source, target)

    result = succeeded(run_playbook(STATUS, pair))
    assert "\nDatabase shop: in step\n----------------------\n" in result.stdout
    assert "\nNo migration: other.\n" in result.stdout
    assert "\nnext     ansible-playbook ... handover.postgresql.verify" in result.stdout
    reports = tmp_path / "reports"
    assert sorted(path.name for path in reports.iterdir()) == ["pair-status.json", "pair-status.md", "pair.html"]
    kept = json.loads((reports / "pair-status.json").read_text())
    assert [one["phase"] for one in kept["databases"]] == ["none", "in_step"]
    assert "## Database shop: in step" in (reports / "pair-status.md").read_text()

    looked = run_playbook("handover.postgresql.preflight", pair, extra_vars={"handover_report_directory": ""}).stdout
    assert "next, for shop: ansible-playbook ... handover.postgresql.status, for the migration" in looked, looked

    # as a survey of AWX gives them
    strings = {"handover_max_duration": "0s", "handover_min_free_space": "1GB", "handover_stop_on": []}
    result = run_playbook(WATCH, pair, extra_vars=strings)
    assert result.failed and "shop" in result.failures[0]["msg"]
    assert "warning: age: The migration is " in result.stdout
    assert "unknown: free_space: SQL does not show" in result.stdout
    assert len(catalogs.of_server(source)["slots"]) == 1
    on_its_host = {"handover_source_host": "here", "handover_min_free_space": "1kB"}
    metrics = {"handover_metrics_directory": str(tmp_path)}
    result = succeeded(run_playbook(WATCH, pair, extra_vars={**on_its_host, **metrics}))
    assert "ok: free_space, age, slot, apply_errors, continuity, drift, lag\n" in result.stdout
    text = (tmp_path / "handover_pair.prom").read_text()
    found = {(one.name, *one.labels.values()): one.value for family in parsed(text) for one in family.samples}
    assert found["handover_guard_level", "pair", "shop", "lag"] == 0
    assert found["handover_phase", "pair", "shop", "in_step"] == 1

    result = succeeded(run_playbook(STOP, pair))
    assert result.changed and "pair, database other: nothing to remove\n" in result.stdout
    assert "pair, database shop: removed\n" in result.stdout
    assert catalogs.changes(clean, catalogs.of_server(source)) == []
    assert "\nDatabase shop: stopped\n" in succeeded(run_playbook(STATUS, pair)).stdout

    result = run_playbook(FINISH, pair, tags=["target"])
    assert result.failed and "without_cutover" in result.failures[0]["msg"]
    result = succeeded(run_playbook(FINISH, pair, tags=["target"], extra_vars={"handover_without_cutover": "true"}))
    assert result.changed and catalogs.traces(catalogs.of_database(target, "shop")) == []
    assert target.sql("shop", "SELECT count(*) FROM t") == [(50,)]

    page = store.read((reports / "pair.html").read_text())
    assert [run["playbook"] for run in page["runs"]] == ["status", "watch", "stop", "status", "finish"]
    [shop] = page["status"]["databases"]
    assert shop["phase"] == "stopped" and shop["seen"]["phase"] == "none"
    assert shop["samples"] and shop["slowest_tables"][0]["table"] == "public.t", "they outlive the journal"
    assert run_playbook(FINISH, pair, tags=["target"], check=True).stdout
    assert store.read((reports / "pair.html").read_text()) == page, "check mode writes nothing"


def test_ends_out_of_reach(servers, inventory):
    """What is left is shown, and the playbook fails for it; a source that is gone for good is no failure."""
    source, target = servers(15), servers(18, "target")
    tables(source, "shop")
    in_step(source, target, databases=["shop"])
    pair = inventory(source, target, handover_databases=["shop"])
    limits = {"handover_max_retained_wal": "1B", "handover_stop_on": ["retained_wal"]}
    on_its_host = {"handover_source_host": "away", "handover_min_free_space": "1kB"}
    result = run_playbook(WATCH, pair, extra_vars={**limits, **on_its_host})
    assert result.failed and "unknown: free_space: SQL does not show" in result.stdout
    assert catalogs.of_server(source)["slots"] == [], "the other guards do what they are for"
    source.stop()
    result = run_playbook(STOP, pair)
    assert result.failed and "source" in result.failures[0]["msg"]
    assert "  left on the source, in database shop:\n    DO $$" in result.stdout
    assert "SELECT pg_drop_replication_slot(" in result.stdout
    more = {"handover_without_cutover": True, "handover_source_is_gone": True}
    succeeded(run_playbook(FINISH, pair, tags=["target"], extra_vars=more))
    assert catalogs.traces(catalogs.of_database(target, "shop")) == []


def test_each_database_by_the_method_that_fits(servers, inventory):
    """The preflight decides; a second run changes nothing; what is under way goes on."""
    source, target = servers(16), servers(18, "target")
    tables(source, "live")
    tables(source, "still")
    source.sql("still", "CREATE TABLE log (v text); INSERT INTO log VALUES ('one')")  # no replica identity
    pair = inventory(source, target)
    result = run_playbook(MIGRATE, pair, extra_vars={"handover_method": "continuous"})
    assert result.failed and "replica_identity" in result.failures[0]["msg"]
    assert "ALTER TABLE public.log REPLICA IDENTITY FULL;" in result.stdout
    assert catalogs.traces(catalogs.of_server(source)) == []

    quiet = {"handover_source_is_quiet": True}
    result = succeeded(run_playbook(MIGRATE, pair, extra_vars=quiet))
    assert "- live: in step" in result.stdout and "- still: brought over." in result.stdout
    source.sql("live", "INSERT INTO t VALUES (1000, 'later')")
    again = succeeded(run_playbook(MIGRATE, pair, extra_vars=quiet))
    changed = {task["task"].rpartition(" : ")[2] for task in again.tasks if task["result"].get("changed")}
    assert not changed
    assert target.sql("live", "SELECT count(*) FROM t") == [(51,)]
    assert target.sql("still", "SELECT count(*) FROM log") == [(1,)]
    assert [slot for slot in catalogs.of_server(source)["slots"] if "'still'" in slot] == []
