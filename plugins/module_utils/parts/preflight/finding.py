# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding, and the register of checks that make them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

# Worst first. A check that could not look says unknown, never ok.
LEVELS = ("blocker", "warning", "unknown", "info", "ok")
METHODS = ("dump", "continuous")
GIVE_TARGET = "Give target."


@dataclass
class Finding:
    """The outcome of one check: for one database, or for the servers where ``database`` is None.

    ``objects`` are named as SQL would name them; ``seen`` says what was looked at and found, ``consequence`` what it
    would break, ``remedy`` the exact SQL or command that mends it; ``methods`` are those that it concerns.
    """

    level: str
    seen: str
    consequence: str = ""
    remedy: str = ""
    objects: list[str] = field(default_factory=list)
    methods: tuple = METHODS
    id: str = ""
    database: str | None = None
    waived: str | None = None  # the operator's reason

    def as_result(self) -> dict:
        """JSON types."""
        return {**vars(self), "methods": list(self.methods)}  # asdict() would copy each value, of thousands


@dataclass(frozen=True)
class Check:
    """One function and what is known of it beforehand; the table in docs/findings.md is made of these."""

    id: str
    title: str
    methods: tuple
    needs_target: bool
    per_database: bool
    function: Callable[[Any], Iterable[Finding]]

    def run(self, subject) -> list[Finding]:
        """Findings of one subject (a Pair, or a Database of it); exactly one ``ok`` if the function has none."""
        return self._signed(list(self.function(subject)) or [Finding("ok", self.title)], subject)

    def unknown(self, subject, reason: str) -> list[Finding]:
        """What is said where the check could not look."""
        remedy = GIVE_TARGET if self.needs_target and subject.target is None else "Check this by hand."
        return self._signed([Finding("unknown", f"Not checked: {self.title} {reason}", remedy=remedy)], subject)

    def _signed(self, findings: list[Finding], subject) -> list[Finding]:
        for finding in findings:
            finding.id = self.id
            finding.methods = tuple(one for one in finding.methods if one in self.methods)
            finding.database = getattr(subject, "name", None)
        return findings


CHECKS: list[Check] = []


def server_check(check_id: str, title: str, methods: tuple = METHODS, needs_target: bool = False):
    """Register a function of a Pair that yields what is not as it should be; nothing means ok.

    ``title`` is what an ``ok`` says: the state that was looked for.
    """
    return _register(check_id, title, methods, needs_target, False)


def database_check(check_id: str, title: str, methods: tuple = METHODS, needs_target: bool = False):
    """The same for a function of a Database."""
    return _register(check_id, title, methods, needs_target, True)


def _register(check_id: str, title: str, methods: tuple, needs_target: bool, per_database: bool):
    def register(function):
        CHECKS.append(Check(check_id, title, methods, needs_target, per_database, function))
        return function

    return register
