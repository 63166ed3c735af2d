# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of the rehearsal, run as the guide says it, with what is refused and then accepted."""

from __future__ import annotations

from dumps import CLIENTS, databases
from rehearsals import left, made
from support import run_playbook

REFUSED = """
    CREATE TABLE orders (id int PRIMARY KEY);
    CREATE VIEW sessions AS SELECT buffers_backend FROM pg_stat_bgwriter"""
WAIVER = {"id": "rehearsal", "database": "shop", "objects": ["VIEW public.sessions"], "reason": "Monitoring brings it."}


def test_what_is_refused_is_shown_and_may_be_accepted(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    made(source, "shop", REFUSED)
    pair = {
        "ansible_connection": "local",
        "handover_client_directory": CLIENTS,
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_databases": ["shop"],
        "handover_report_directory": str(tmp_path),
    }
    refused = run_playbook("handover.postgresql.rehearse", {"all": {"hosts": {"pair": pair}}})
    assert refused.failed and "VIEW public.sessions" in refused.stdout and "buffers_backend" in refused.stdout
    pair["handover_waive"] = [WAIVER]
    accepted = run_playbook("handover.postgresql.rehearse", {"all": {"hosts": {"pair": pair}}})
    assert not accepted.failed, accepted
    assert "waived: VIEW public.sessions" in accepted.stdout and WAIVER["reason"] in accepted.stdout
    for name in ("pair-rehearsal.md", "pair-rehearsal.json", "pair.html"):
        assert WAIVER["reason"] in (tmp_path / name).read_text()
    assert left(target) == left(source) == [] and databases(target) == set()
