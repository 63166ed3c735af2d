# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every playbook ends with: what comes next, true in each state; and reports set for a terminal."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.filter.next_step import next_step
from ansible_collections.handover.postgresql.plugins.filter.plain import plain
from ansible_collections.handover.postgresql.plugins.module_utils.base import next_step as steps

EQUAL = {"verdict": "equal", "outdated": []}


@pytest.mark.parametrize(
    "status, playbook",
    [
        ({"phase": "none"}, "replicate"),
        ({"phase": "copying"}, "replicate"),
        ({"phase": "in_step"}, "verify"),
        ({"phase": "in_step", "verified": EQUAL}, "cutover"),
        ({"phase": "in_step", "verified": {**EQUAL, "outdated": ["restarted"]}}, "verify"),
        ({"phase": "in_step", "verified": {**EQUAL, "verdict": "different"}}, "verify"),
        ({"phase": "in_step", "verified": EQUAL, "drift": [{"change": "new"}]}, "replicate -e handover_refresh=true"),
        ({"phase": "in_step", "drift": [{"change": "columns"}, {"change": "new"}]}, "replicate"),
        ({"phase": "handed_over", "direction": "forward", "verified": EQUAL}, "finish"),
        ({"phase": "handed_over", "direction": "forward", "way_back": False}, "finish, when all is well; there is no"),
        ({"phase": "handed_over", "direction": "back"}, "cutover"),
        ({"phase": "stopped"}, "finish"),
    ],
)
def test_the_next_playbook_is_that_of_the_state(status, playbook):
    assert steps.of_status(status).partition("handover.postgresql.")[2].startswith(playbook)


@pytest.mark.parametrize(
    "status", [{"phase": None}, {"phase": "in_step", "running": ["x"]}, {"phase": "in_step", "errors": [1]}]
)
def test_no_playbook_is_next_where_something_else_has_to_be_done(status):
    assert "ansible-playbook" not in steps.of_status(status)


@pytest.mark.parametrize(
    "verdict, migration, in_part, said",
    [
        ("equal", None, False, "Point the application at the target"),
        (
            "equal",
            {"phase": "in_step", "direction": "forward"},
            False,
            "ansible-playbook ... handover.postgresql.cutover",
        ),
        (
            "equal",
            {"phase": "in_step", "direction": "forward"},
            True,
            "ansible-playbook ... handover.postgresql.verify",
        ),
        ("equal", {"phase": "handed_over", "direction": "forward"}, False, "finish, when all is well"),
        ("incomplete", {"phase": "in_step", "direction": "forward"}, False, "If that is right: ansible-playbook"),
        ("different", {"phase": "in_step", "direction": "forward"}, False, "Fix what differs"),
    ],
)
def test_after_a_comparison(verdict, migration, in_part, said):
    assert said in steps.after_comparison(verdict, migration, in_part)


def test_databases_in_one_state_share_a_line():
    done = [{"item": "shop", "databases": [{"database": "shop", "next": "Wait."}]}, {"item": "blog", "failed": True}]
    assert next_step(done[:1], "replicate") == "next: Wait."
    assert next_step(done, "replicate").splitlines() == [
        "next, for shop: Wait.",
        "next, for blog: Fix the causes, then ansible-playbook ... handover.postgresql.replicate.",
    ]
    assert next_step(done[:1], "replicate", True) == (
        "next: ansible-playbook ... handover.postgresql.replicate, without --check."
    )
    assert "again" not in next_step([{"database": "a", "left": {"source": []}}], "stop", False, "stopped")
    assert "Fix" in next_step([{"database": "a", "left": {"source": None}}], "stop", False, "stopped")
    assert next_step([], "stop") == ""


MARKDOWN = """# Dump of a

## Databases

- `shop`: **brought over** %s
  - 1 table

| class | equal |
|---|---:|
| rows | 12 |

```
   as it is    `x`
```
"""


def test_markdown_is_set_for_a_terminal():
    assert plain(MARKDOWN % ("word " * 20), width=60).splitlines() == [
        "Dump of a",
        "=========",
        "",
        "Databases",
        "---------",
        "",
        f"- shop: brought over {'word ' * 8}".rstrip(),
        f"  {'word ' * 11}".rstrip(),
        "  word",
        "  - 1 table",
        "",
        "class  equal",
        "-----  -----",
        "rows      12",
        "",
        "   as it is    `x`",
    ]
