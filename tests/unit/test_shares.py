# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How databases are shared out among hosts, and what is said of each where a module said nothing."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.filter.of_each import of_each
from ansible_collections.handover.postgresql.plugins.filter.shares import LITTLE, TOGETHER, shares


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 30, 200])
@pytest.mark.parametrize("forks", [0, 1, 5, 50])
def test_each_database_is_in_one_share_and_none_is_shared_before_all_forks_have_work(count, forks):
    names = [f"n{number}" for number in range(count)]
    found = shares(names, dict.fromkeys(names, 8 << 20), forks)
    assert [name for share in found for name in share] == names
    assert all(1 <= len(share) <= TOGETHER for share in found)
    assert 2 * len(found) >= min(count, forks)
    assert len(found) == count or count > forks


def test_large_ones_and_those_of_unknown_size_are_alone_and_first():
    sizes = {"a": 1, "large": LITTLE + 1, "b": LITTLE, "unknown": None}
    assert shares([*sizes, "missing"], sizes, 1) == [["large"], ["unknown"], ["missing"], ["a", "b"]]


def test_a_call_without_results_is_said_of_each_database():
    assert of_each({"skipped": True, "changed": False}, ["a"]) == {"results": []}
    lost = of_each({"unreachable": True, "msg": "Failed to connect"}, ["a", "b"])["results"]
    assert [(one["item"], one["failed"], one["msg"]) for one in lost] == [
        ("a", True, "Failed to connect"),
        ("b", True, "Failed to connect"),
    ]
