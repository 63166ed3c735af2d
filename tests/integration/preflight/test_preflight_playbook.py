# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of the preflight, run as users run it: what a person sees, and the files."""

from __future__ import annotations

import json
import re

import pytest
from dumps import CLIENTS
from support import create_database, run_playbook

PREFLIGHT = "handover.postgresql.preflight"
LOOK = "handover.postgresql.preflight : Look at the servers and the databases"
REMEDY = 'ALTER TABLE public."Order" REPLICA IDENTITY FULL;'


@pytest.fixture
def inventory(tmp_path):
    """``inventory(pair={...})`` is an inventory of these pairs, all on this machine."""

    def make(**pairs):
        variables = {
            "ansible_connection": "local",
            "handover_client_directory": CLIENTS,
            "handover_report_directory": f"{tmp_path}/reports",
        }
        return {"all": {"vars": variables, "hosts": pairs}}

    return make


@pytest.fixture
def pair(servers):
    """A source with a table that cannot be replicated, and a target."""
    source = servers(15)
    create_database(source, "shop")
    source.sql("shop", 'CREATE TABLE "Order" (id integer)')
    return {"handover_source": source.endpoint(), "handover_target": servers(18).endpoint()}


def changed(result):
    return {task["task"].rpartition(" : ")[2] for task in result.tasks if task["result"].get("changed")}


def test_what_a_person_sees(inventory, pair, servers, tmp_path):
    """And again: a second run changes nothing but what it says."""
    source = servers(15)
    create_database(source, "{{ 7 * 7 }}")
    source.sql("{{ 7 * 7 }}", 'CREATE TABLE "{% for %}" (id integer)')
    result = run_playbook(PREFLIGHT, inventory(pair=pair), args=["-vvv"])
    assert not result.failed, result
    assert "\nPreflight of pair\n=================\nsource  127.0.0.1:" in result.stdout
    assert "\nDatabase shop\n-------------\n" in result.stdout
    assert "Recommended method: dump. In the way of continuous: replica_identity." in result.stdout
    assert "\nblocker  replica_identity" in result.stdout
    assert REMEDY in result.stdout, "as SQL, without escapes"
    assert "\nDatabase {{ 7 * 7 }}\n" in result.stdout and 'public."{% for %}"' in result.stdout, "no templates"
    lines = result.stdout.partition("Preflight of pair")[2].partition("\nok: [pair]")[0].splitlines()
    assert not [line for line in lines if len(line) > 100 and " " in re.sub("'.*'", "", line.strip())]
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "pair-preflight.json",
        "pair-preflight.md",
        "pair.html",
    ]
    report = json.loads((tmp_path / "reports" / "pair-preflight.json").read_text())
    assert report == result.results(LOOK)[0].report
    assert f"`{REMEDY}" in (tmp_path / "reports" / "pair-preflight.md").read_text()
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in (tmp_path / "reports").iterdir())

    again = run_playbook(PREFLIGHT, inventory(pair=pair), diff=True)
    assert not again.failed
    assert not changed(again)


def test_check_mode_shows_the_same_and_writes_no_file(inventory, pair, tmp_path):
    result = run_playbook(PREFLIGHT, inventory(pair=pair), check=True, diff=True)
    assert not result.failed and not result.changed
    assert REMEDY in result.stdout
    assert not (tmp_path / "reports").exists()


def test_it_is_shown_before_it_fails(inventory, pair, tmp_path):
    strings = {"handover_method": "continuous", "handover_jobs": "2"}  # as surveys of AWX give them
    result = run_playbook(PREFLIGHT, inventory(pair=pair), extra_vars=strings)
    assert result.failed
    assert [failure["msg"].partition(" The findings")[0] for failure in result.failures] == [
        "Not feasible for shop: continuous. In the way: replica_identity."
    ]
    assert result.stdout.index(REMEDY) < result.stdout.index("Not feasible for shop")
    assert (tmp_path / "reports" / "pair-preflight.md").exists()


def shown(result, host):
    """What the run showed of one pair."""
    return result.stdout.partition(f"Preflight of {host}\n")[2].partition("\nPreflight of ")[0]


def test_pairs_are_looked_at_one_by_one(inventory, pair):
    """Each with its own variables; one that cannot be looked at fails with what to do, and stops no other."""
    waivers = [{"id": "replica_identity", "database": "shop", "reason": "Copied at the cutover."}]
    waived = {**pair, "handover_method": "continuous", "handover_waive": waivers}
    pairs = {
        "waived": waived,
        "strict": {**waived, "handover_fail_on": "findings[?waived]"},
        "alone": {"handover_source": pair["handover_source"]},
        "lost": {**pair, "handover_source": {**pair["handover_source"], "password": "not this one at all"}},
        "empty": {},
    }
    result = run_playbook(PREFLIGHT, inventory(**pairs))
    failed = {task["host"]: task["result"]["msg"] for task in result.tasks if task["status"] == "failed"}
    assert failed.keys() == {"strict", "lost", "empty"}
    assert "findings[?waived]" in failed["strict"] and "handover_source" in failed["empty"]
    assert "Check source.user and source.password." in failed["lost"]
    assert re.search("^waived   replica_identity +blocker: ", shown(result, "waived"), re.MULTILINE)
    assert "Waived: Copied at the cutover." in shown(result, "waived")
    assert "\ntarget  not looked at\n" in shown(result, "alone")
    assert "Not checked without a target: " in shown(result, "alone")
    assert shown(result, "strict") and not shown(result, "lost") and not shown(result, "empty")


PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - handover.postgresql.pg_preflight:
        source: "{{ handover_source }}"
      register: looked
    - ansible.builtin.assert:
        that:
          - looked.report | handover.postgresql.query_report(query) == ['replica_identity']
          - looked.report | handover.postgresql.render_report(form='markdown') is match('# Preflight of the migration')
      vars:
        query: findings[?level=='blocker' && contains(methods, 'continuous')].id
    - ansible.builtin.debug:
        msg: "{{ looked.report | handover.postgresql.query_report('findings[?') }}"
"""


def test_the_same_queries_in_playbooks(inventory, pair, tmp_path):
    (tmp_path / "own.yml").write_text(PLAYBOOK)
    result = run_playbook(tmp_path / "own.yml", inventory(pair=pair), warnings=True)
    assert result.failed
    [failure] = result.failures
    assert "not a JMESPath expression: findings[?" in str(failure), failure
