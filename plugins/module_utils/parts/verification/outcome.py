# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a comparison found: every object is equal, different, unknown, or left out with a reason; nothing is nothing."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import unquoted

LISTED = 500  # objects of each list in a result; all are counted


@dataclass(frozen=True)
class Exclusion:
    """Objects that the operator leaves out: patterns of the class and of the name, as a shell has them."""

    kind: str
    name: str
    reason: str

    def covers(self, kind: str, name: str) -> bool:
        """Whether this object is meant."""
        patterns = {self.name, unquoted(self.name)}  # whatever is quoted in it
        return fnmatch.fnmatchcase(kind, self.kind) and any(fnmatch.fnmatchcase(name, one) for one in patterns)


@dataclass
class Outcome:
    """The sum of a comparison.

    ``counts``: by class, how many objects were ``equal``, ``different``, ``unknown``, ``left_out``;
    ``different``: ``{"class", "object", ...}`` with what is not the same; ``unknown`` and ``left_out``: each with a
    ``reason``; ``notices``: what else one has to know. ``why_lacking(class, name)`` is why the target is to lack an
    object, empty where it is not.
    """

    exclusions: list[Exclusion] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    different: list[dict[str, Any]] = field(default_factory=list)
    unknown: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    why_lacking: Callable[[str, str], str] = lambda _kind, _name: ""

    def excluded(self, kind: str, name: str) -> bool:
        """Whether the operator leaves this out; it is recorded then."""
        for exclusion in self.exclusions:
            if exclusion.covers(kind, name):
                self.leave_out(kind, name, exclusion.reason)
                return True
        return False

    def covered(self, kind: str, name: str) -> bool:
        """The same, without a record."""
        return any(exclusion.covers(kind, name) for exclusion in self.exclusions)

    def look_at(self, kind: str) -> None:
        """A class is looked at, though there may be none of it."""
        self._count(kind, "equal", 0)

    def equal(self, kind: str) -> None:
        """An object that is the same on both ends."""
        self._count(kind, "equal")

    def differ(self, kind: str, name: str, **what: Any) -> None:
        """An object that is not, with what is known about it."""
        self._count(kind, "different")
        self.different.append({"class": kind, "object": name, **what})

    def lack(self, kind: str, name: str, problem: str) -> None:
        """An object that the target does not have: left out where that is what the operator wants."""
        if reason := self.why_lacking(kind, name):
            self.leave_out(kind, name, reason)
        else:
            self.differ(kind, name, problem=problem)

    def miss(self, kind: str, name: str, reason: str) -> None:
        """An object at which one could not look."""
        self._count(kind, "unknown")
        self.unknown.append({"class": kind, "object": name, "reason": reason})

    def leave_out(self, kind: str, name: str, reason: str) -> None:
        """An object that is not to be compared."""
        self._count(kind, "left_out")
        self.left_out.append({"class": kind, "object": name, "reason": reason})

    def _count(self, kind: str, column: str, count: int = 1) -> None:
        found = self.counts.setdefault(kind, {"equal": 0, "different": 0, "unknown": 0, "left_out": 0})
        found[column] += count

    @property
    def verdict(self) -> str:
        """``different``; else ``incomplete`` where something is unknown; else ``equal``."""
        return "different" if self.different else "incomplete" if self.unknown else "equal"

    def as_result(self) -> dict[str, Any]:
        """The counts and the lists, shortened, the verdict first."""
        lists = {name: getattr(self, name) for name in ("different", "unknown", "left_out")}
        return {
            "verdict": self.verdict,
            "classes": dict(sorted(self.counts.items())),
            **{name: found[:LISTED] for name, found in lists.items()},
            "not_listed": {name: len(found) - LISTED for name, found in lists.items() if len(found) > LISTED},
        }
