# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A list in groups, where servers take many things in one statement, but not any number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def in_groups(items: Sequence[Item], size: int) -> list[list[Item]]:
    """The items in their order, ``size`` of them in each group but the last."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
