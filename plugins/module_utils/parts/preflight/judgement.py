# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from findings: which of them the operator accepts, which methods are feasible, which one is best."""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    CHECKS,
    METHODS,
    Finding,
)

ELSEWHERE = "home"  # the id of the check whose blocker says that the database lives elsewhere by now
STALE = "waivers"  # the id of findings about waivers themselves

# The best first, with what speaks for it once nothing stands in its way.
PREFERENCE = {
    "continuous": "the application goes on while the data is copied, and waits only for a moment at the cutover",
    "dump": "the application has to stand still: writes after the snapshot of the dump are not carried over",
}


def waive(findings: list[Finding], waivers: list[dict]) -> None:
    """Mark what the operator accepts. A waiver that matches nothing becomes a finding itself."""
    for waiver in waivers:
        matching = [finding for finding in findings if _matches(finding, waiver)]
        for finding in matching:
            finding.waived = waiver["reason"]
        if not matching:
            findings.append(_stale(waiver))


def _matches(finding: Finding, waiver: dict) -> bool:
    """The same id and database, and no object beyond those that the waiver names, if it names any."""
    if finding.level == "ok" or finding.id != waiver["id"]:
        return False
    if waiver.get("database") not in (None, finding.database):
        return False
    if not waiver.get("objects"):
        return True
    return bool(finding.objects) and set(finding.objects) <= set(waiver["objects"])


def _stale(waiver: dict) -> Finding:
    known = waiver["id"] in {check.id for check in CHECKS}
    return Finding(
        "warning",
        f"The waiver for {waiver['id']} matches no finding." + ("" if known else " There is no check of this id."),
        "Its finding is gone, or it names other objects; one day it may hide another finding.",
        "Remove it from waive, or correct it.",
        list(waiver.get("objects") or []),
        id=STALE,
        database=waiver.get("database"),
    )


def by_database(findings: list[Finding]) -> Callable[[str], list[Finding]]:
    """A function that returns those of one database, with those of the servers: many databases have many of them."""
    groups: dict[str | None, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.database, []).append(finding)
    return lambda database: [*groups.get(None, ()), *groups.get(database, ())]


def next_of(findings: list[Finding]) -> str | None:
    """The state of a database, by which the playbook that is next is known; None if no migration of it has begun."""
    has_begun = any(finding.id == ELSEWHERE and finding.level == "info" for finding in findings)
    return "under_way" if has_begun else None


def recommend(findings: list[Finding], database: str, method: str) -> dict:
    """What the report says of the methods for one database; ``method`` is the operator's choice, or auto.

    ``{"feasible_methods": [...], "recommended_method": None or one, "reasons": [sentences],
    "obstacles": {method: [ids]}}``. A method is feasible if no blocker that is not waived concerns it.
    """
    obstacles = _by_method(findings, database, "blocker")
    unknown = _by_method(findings, database, "unknown")
    feasible = [one for one in METHODS if not obstacles[one]]
    wanted = [one for one in PREFERENCE if method in ("auto", one)]
    if method == "auto" and ELSEWHERE in obstacles["continuous"]:
        wanted.remove("dump")  # of a database that is not in use here, it is taken by who says so
    best = next((one for one in wanted if one in feasible), None)
    reasons = [f"In the way of {one}: {', '.join(obstacles[one])}." for one in wanted if obstacles[one]]
    if best:
        reasons.append(f"With {best}, {PREFERENCE[best]}.")
    if best and unknown[best]:
        reasons.append(f"{counted(len(unknown[best]), 'check')} could not look, so this may be incomplete.")
    return {"feasible_methods": feasible, "recommended_method": best, "reasons": reasons, "obstacles": obstacles}


def _by_method(findings: list[Finding], database: str, level: str) -> dict[str, list[str]]:
    """Ids of what is not waived and concerns this database or the servers."""
    return {
        method: sorted(
            {
                finding.id
                for finding in findings
                if finding.level == level
                and method in finding.methods
                and finding.waived is None
                and finding.database in (None, database)
            }
        )
        for method in METHODS
    }
