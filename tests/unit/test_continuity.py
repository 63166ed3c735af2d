# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is concluded from a look at both ends, each sign by itself."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity

NAME = "handover_0123456789_w1"
END = {"system": "7", "timeline": 1, "lsn": 1000, "started": "1.5"}


def sight(**ends):
    """All is well, and as it was; ``source`` and ``target`` are changes of these ends since."""
    seen = continuity.Sight(
        streams=[NAME],
        ends={side: {**END, **ends.get(side, {})} for side in continuity.SIDES},
        published={
            NAME: {"beacon": 8, "slot": {"guarded": False, "transactions": 20, "reset": None}, "present": True,
                   "whole": True, "lacking": [], "narrowed": [], "sign": "700 16400"},
        },
        subscribed={
            NAME: {"beacon": 8, "enabled": True, "failover": False, "slot": NAME, "publications": [NAME], "skip": None,
                   "sign": "900", "connection": 17, "origin": 900},
        },
    )  # fmt: skip
    before = copy.deepcopy(seen)
    before.ends = {side: dict(END) for side in continuity.SIDES}
    seen.memories = {side: copy.deepcopy(before.as_memory(signs=True)) for side in continuity.SIDES}
    return seen


def judged(seen, waves=(NAME,)):
    """(kind, side) of what is broken."""
    continuity._judge(seen, SimpleNamespace(waves=[SimpleNamespace(name=name) for name in waves]))
    return [(one["kind"], one["side"]) for one in seen.breaks]


def test_nothing_is_broken_where_all_goes_on():
    assert judged(sight()) == []
    assert judged(sight(source={"lsn": 5000}, target={"lsn": 1001, "started": "2.5"})) == []


@pytest.mark.parametrize("side", continuity.SIDES)
@pytest.mark.parametrize("change", [{"lsn": 999}, {"timeline": 2, "lsn": 5000}, {"system": "8", "lsn": 5000}])
def test_a_server_that_went_back_or_is_another(side, change):
    seen = sight(**{side: change})
    if "lsn" in change and side == "source":
        seen.subscribed[NAME]["origin"] = 1
    assert judged(seen) == [("end", side)]


@pytest.mark.parametrize("forgetful", continuity.SIDES)
def test_one_end_remembers_for_both(forgetful):
    """Who goes back in time goes back with its memory."""
    seen = sight()
    seen.subscribed[NAME]["beacon"] = 7
    seen.memories[forgetful] = {"beacons": {NAME: 7}}
    assert judged(seen) == [("beacon", "target")]


@pytest.mark.parametrize(
    ("end", "changes", "broken"),
    [
        ("subscribed", {"beacon": 7}, ("beacon", "target")),
        ("published", {"beacon": 7}, ("beacon", "source")),
        ("subscribed", {"origin": 1001}, ("beacon", "source")),
        ("subscribed", {"skip": "0/16"}, ("subscription", "target")),
        ("subscribed", {"publications": [NAME, "more"]}, ("subscription", "target")),
        ("subscribed", {"slot": "another"}, ("subscription", "target")),
        ("subscribed", {"sign": "901"}, ("subscription", "target")),
        ("published", {"present": False}, ("publication", "source")),
        ("published", {"whole": False}, ("publication", "source")),
        ("published", {"lacking": ["public.t"]}, ("publication", "source")),
        ("published", {"narrowed": ["public.t"]}, ("publication", "source")),
        ("published", {"sign": "701 16400"}, ("publication", "source")),
        ("published", {"sign": "700 16500"}, ("publication", "source")),
        ("published", {"slot": {"guarded": False, "transactions": 3, "reset": None}}, ("slot", "source")),
    ],
)
def test_each_sign(end, changes, broken):
    seen = sight()
    getattr(seen, end)[NAME].update(changes)
    assert judged(seen) == [broken]


@pytest.mark.parametrize(
    ("end", "changes"),
    [
        ("published", {"sign": "700 16390"}),  # a table was dropped
        ("subscribed", {"sign": "901", "enabled": False}),
        ("subscribed", {"sign": "901", "failover": True}),
        ("subscribed", {"sign": "901", "connection": 18}),
        ("subscribed", {"sign": None}),  # hidden
        ("published", {"slot": {"guarded": False, "transactions": 3, "reset": "2026"}}),
        ("published", {"slot": {"guarded": False, "transactions": None, "reset": None}}),
    ],
)
def test_what_loses_nothing(end, changes):
    seen = sight()
    getattr(seen, end)[NAME].update(changes)
    assert judged(seen) == []


def test_a_slot_counts_anew_after_a_restart():
    seen = sight(source={"started": "2.5"})
    seen.published[NAME]["slot"]["transactions"] = 0
    assert judged(seen) == []


def test_a_guarded_failover_is_accepted_but_not_for_the_verification():
    seen = sight(source={"timeline": 2, "lsn": 990})
    seen.subscribed[NAME]["origin"] = 980
    for memory in seen.memories.values():
        memory["slots"][NAME]["guarded"] = True
    assert judged(copy.deepcopy(seen)) == []
    assert continuity.outdated({"seen": sight().as_evidence()}, seen) == [
        "the source's server was replaced since, or went back in time"
    ]
    seen.published[NAME]["slot"] = None
    assert judged(seen) == [("end", "source")], "the slot did not come along"


def test_a_wave_that_the_target_has_forgotten():
    seen = sight()
    seen.streams, seen.subscribed, seen.published = [], {}, {}
    assert judged(seen) == [("beacon", "target")]


def test_what_was_found_once_stays():
    seen = sight()
    found = {"kind": "beacon", "side": "target", "stream": NAME, "problem": "lost", "tables": None}
    seen.memories["source"]["breaks"] = [found]
    judged(seen)
    assert seen.breaks == [found]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, None),
        ({"target": {"lsn": 2000}}, None),
        ({"target": {"started": "2.5", "lsn": 2000}}, "was restarted"),
        ({"source": {"timeline": 2, "lsn": 2000}}, "was replaced"),
        ({"source": {"system": "8", "lsn": 2000}}, "was replaced"),
        ({"target": {"lsn": 1}}, "back in time"),
    ],
)
def test_a_verification_is_bound_to_both_ends(change, word):
    found = continuity.outdated({"seen": sight().as_evidence()}, sight(**change))
    assert len(found) == (word is not None) and all(word in text for text in found)


def test_a_verification_is_bound_to_what_was_published():
    evidence = {"seen": sight().as_evidence()}
    seen = sight()
    seen.subscribed[NAME]["sign"], seen.published[NAME]["sign"] = "901", "700 16500"
    assert len(continuity.outdated(evidence, seen)) == 2
    assert continuity.outdated({"verdict": "equal"}, sight()), "one of an earlier release says nothing of it"
    assert continuity.outdated(None, sight()) == []
