# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook where the schema was changed since the last look."""

from __future__ import annotations

from cutovers import homes, make_bank
from support import run_playbook


def test_the_playbook_stops_for_what_was_not_followed(servers):
    """It looks before it does anything; what it says is what is to be done."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    source.sql("shop", "ALTER TABLE bank.account ADD more int")
    variables = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_databases": ["shop"],
        "handover_require_verification": False,
        "handover_follow_schema": True,
    }
    given = {"all": {"hosts": {"lab": variables}}}
    stopped = run_playbook("handover.postgresql.cutover", given)
    assert stopped.failed and "Nothing was changed." in stopped.stdout and "bank.account" in stopped.stdout, stopped
    assert "source" in homes(source, target)
    followed = run_playbook("handover.postgresql.watch", given)
    assert not followed.failed, followed
    done = run_playbook("handover.postgresql.cutover", given)
    assert not done.failed and homes(source, target) == ["target"], done
