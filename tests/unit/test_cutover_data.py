# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a cutover is typed: a mistyped name fails at once, and what is returned is documented."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.fate import Fate
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.findings import (
    CargoSize,
    Findings,
    GateAnswer,
    Measures,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage, Problem

MODULE = Path(__file__).resolve().parents[2] / "plugins" / "modules" / "pg_cutover.py"
SESSIONS = dict.fromkeys(("lock", "old", "new", "helper", "reader", "writer"))
FOUND = {
    "answers": [GateAnswer("lag"), GateAnswer("drift", "It drifted.", "Take it back.")],
    "lag_seconds": 0.1,
    "cargo": CargoSize(1, 2, 3),
    "unfenced": [],
    "fenced_roles": ["app"],
    "obstacles_to_way_back": [],
}


@pytest.mark.parametrize("data", [Measures(), Fate(), Passage(None, {}, 0, **SESSIONS)])
def test_a_mistyped_name_fails_at_once(data):
    with pytest.raises(AttributeError, match="windowms"):
        data.windowms = 1


def test_findings_are_complete_or_not_there():
    with pytest.raises(TypeError, match="fenced_roles"):
        Findings(**{name: one for name, one in FOUND.items() if name != "fenced_roles"})


def test_what_is_returned_is_documented():
    text = MODULE.read_text(encoding="utf-8").partition('RETURN = r"""')[2].partition('"""')[0]
    documented = yaml.safe_load(text)["databases"]["contains"]
    measures = Measures(**dict.fromkeys(Measures.__dataclass_fields__, 1))
    assert {*Findings(**FOUND).as_result(), *measures.as_result()} <= set(documented)
    assert Measures().as_result() == {}, "what is not known is left out"


def test_a_gate_is_closed_that_has_a_problem():
    assert [answer.gate for answer in Findings(**FOUND).closed] == ["drift"]


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        (Fate(), {"handed_over": False}),
        (Fate(has_begun=True, handed_over=None), {"unknown": True, "databases": [], "changed": False}),
        (
            Fate([{"changed": True}], has_begun=True, handed_over=True, timeline=[]),
            {"handed_over": True, "databases": [{"changed": True}], "changed": True, "timeline": []},
        ),
    ],
)
def test_an_error_tells_what_became_of_the_databases(fate, told):
    assert fate.told_by(HandoverError("It failed.", database="shop")).facts == {"database": "shop", **told}


def test_problems_that_are_left_are_told():
    facts = (
        Fate(handed_over=True, problems=[Problem("open", "It is closed.", "Open it.")]).told_by(HandoverError("")).facts
    )
    assert facts["problems"] == [{"step": "open", "problem": "It is closed.", "remedy": "Open it."}]
    assert facts["finished_at"].endswith("Z")
