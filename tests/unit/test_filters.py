# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What filters say of what they cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.handover.postgresql.plugins.filter.lead_pooler import lead_pooler
from ansible_collections.handover.postgresql.plugins.filter.pairs import pairs
from ansible_collections.handover.postgresql.plugins.filter.removals import removals
from ansible_collections.handover.postgresql.plugins.filter.render_report import render_report
from ansible_collections.handover.postgresql.plugins.filter.render_status import render_status

ROOT = Path(__file__).resolve().parents[2]


def test_the_remedy_is_said():
    with pytest.raises(AnsibleFilterError, match=r"no section \[databases\]\. Name the file"):
        lead_pooler("[pgbouncer]\n", {"shop": {"host": "db.example.com"}})


@pytest.mark.parametrize("render", [render_report, render_status])
def test_an_unknown_form_is_refused(render):
    with pytest.raises(AnsibleFilterError, match="not html"):
        render({}, form="html")


GROUPS = {"all": ["db1", "db2", "web"], "handover_pairs": ["db1", "db2"], "ungrouped": ["web"]}


@pytest.mark.parametrize(
    ("hosts", "found"),
    [("", "handover_pairs"), (None, "handover_pairs"), ("web", "web"), ("db*:!db1", "db*:!db1"), (["db2"], ["db2"])],
)
def test_a_playbook_runs_on_the_pairs_or_on_what_is_asked_for(hosts, found):
    assert pairs(GROUPS, hosts) == found
    assert pairs({"all": ["web"]}, "") == "all"


@pytest.mark.parametrize(("groups", "hosts"), [(GROUPS, "shpo"), (GROUPS, "db1:!db*"), ({"all": []}, "")])
def test_a_playbook_without_hosts_is_an_error(groups, hosts):
    with pytest.raises(AnsibleFilterError, match=r"No host of the inventory matches .*handover_hosts"):
        pairs(groups, hosts)


@pytest.mark.parametrize("path", sorted((ROOT / "playbooks").glob("*.yml")), ids=lambda path: path.stem)
def test_every_playbook_refuses_a_pattern_without_hosts(path):
    first = yaml.safe_load(path.read_text())[0]
    assert "import_playbook" in first or "handover.postgresql.pairs(handover_hosts" in first["hosts"]


def test_removals_are_counted_and_named():
    statements = [
        'ALTER SUBSCRIPTION "handover_1_w1" DISABLE', 'ALTER SUBSCRIPTION "handover_1_w1" SET (slot_name = NONE)',
        'DROP SUBSCRIPTION "handover_1_w1"', "SELECT pg_drop_replication_slot('handover_1_w1')",
        "SELECT pg_drop_replication_slot('handover_1_w2')", 'DROP TRIGGER handover_fence ON "a"."b"',
        "DO $$ BEGIN IF EXISTS (SELECT 1)\nTHEN EXECUTE 'ALTER TABLE x REPLICA IDENTITY DEFAULT'; END IF; END $$",
        "ALTER TABLE public.y REPLICA IDENTITY NOTHING", 'DROP TABLE handover."migration"', "DROP SCHEMA handover",
        'ALTER ROLE "a ""b" LOGIN', "SELECT 1",
    ]  # fmt: skip
    assert removals(statements) == (
        "subscription handover_1_w1; 2 slots handover_1_w1, handover_1_w2; schema handover; "
        'role a "b allowed to connect again; 1 trigger; 2 replica identities put back; 1 table of the journal; '
        "1 other statement"
    )
    assert removals([]) == ""


def test_a_removal_that_is_tried_twice_is_named_once():
    assert removals(['DROP ROLE "a b"', 'DROP ROLE IF EXISTS "a b"']) == "role a b"
