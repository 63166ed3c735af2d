# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are above and below which."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Shape


def with_ancestors(shapes: dict[int, Shape], oids: set[int]) -> set[int]:
    """These tables, and all above them."""
    ahead, found = list(oids), set()
    while ahead:
        one = ahead.pop()
        if one in shapes and one not in found:
            found.add(one)
            ahead += shapes[one].parents
    return found


def below(shapes: dict[int, Shape]) -> dict[int, list[Shape]]:
    """The tables below each."""
    found: dict[int, list[Shape]] = {}
    for oid, shape in shapes.items():
        for above in with_ancestors(shapes, set(shape.parents)):
            found.setdefault(above, []).append(shapes[oid])
    return found


def depth(shapes: dict[int, Shape], oid: int) -> int:
    """How many parents there are above: what is done to them is done to what is below."""
    parents = [one for one in shapes[oid].parents if one in shapes]
    return 1 + max((depth(shapes, one) for one in parents), default=-1)
