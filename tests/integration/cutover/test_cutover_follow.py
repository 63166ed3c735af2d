# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook where the schema was changed since the last look."""

from __future__ import annotations

from cutovers import homes, make_bank
from support import run_playbook

ADDED = "ALTER TABLE bank.account ADD more int DEFAULT 7"


def given(source, target, **more) -> dict:
    """An inventory of the two servers."""
    variables = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_databases": ["shop"],
        "handover_follow_schema": True,
        **more,
    }
    return {"all": {"hosts": {"lab": variables}}}


def test_the_new_home_follows_before_its_gates_are_asked(servers):
    """What it would be given is shown before, and the rows on both ends are alike; the way back follows, too."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    source.sql("shop", ADDED)
    inventory = given(source, target, handover_require_verification=False)
    forecast = run_playbook("handover.postgresql.cutover", inventory, check=True)
    assert not forecast.failed and "to follow first: ALTER TABLE" in forecast.stdout, forecast
    columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'account' AND column_name = 'more'"
    assert target.sql("shop", columns) == [(0,)]
    done = run_playbook("handover.postgresql.cutover", inventory)
    assert not done.failed and homes(source, target) == ["target"], done
    assert "followed before: ALTER TABLE" in done.stdout
    rows = "SELECT md5(string_agg(a::text, ' ' ORDER BY id)) FROM bank.account AS a"
    assert source.sql("shop", rows) == target.sql("shop", rows)
    target.sql("shop", "ALTER TABLE bank.account RENAME more TO most")
    back = run_playbook("handover.postgresql.rollback", inventory)
    assert not back.failed and homes(source, target) == ["source"], back
    assert source.sql("shop", "SELECT DISTINCT most FROM bank.account") == [(7,)]


def test_the_playbook_stops_where_it_has_to_be_verified_again(servers):
    """It looks before it does anything; what it says is what is to be done."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    source.sql("shop", ADDED)
    inventory = given(source, target)
    stopped = run_playbook("handover.postgresql.cutover", inventory)
    assert stopped.failed and "Nothing was changed." in stopped.stdout and "to follow first" in stopped.stdout, stopped
    assert "source" in homes(source, target)
    for playbook in ("watch", "verify", "cutover"):
        done = run_playbook(f"handover.postgresql.{playbook}", inventory)
        assert not done.failed, done
    assert homes(source, target) == ["target"]


def test_what_has_to_be_copied_is_left_to_replicate(servers):
    """The forecast says so, as the handover itself would."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    source.sql("shop", "ALTER TABLE bank.account ALTER balance TYPE numeric(30, 4)")
    stopped = run_playbook("handover.postgresql.cutover", given(source, target, handover_require_verification=False))
    assert stopped.failed and "Nothing was changed." in stopped.stdout, stopped
    assert "handover.postgresql.replicate" in stopped.stdout and "copied anew" in stopped.stdout
    assert "source" in homes(source, target)
