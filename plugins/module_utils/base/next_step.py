# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes next in a migration, by the state that it is in: one sentence for each, for all playbooks."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.typesetting import on_one_line, wrap

WIDTH = 100
NAME = "handover.postgresql."
RUN = f"ansible-playbook ... {NAME}"

STEPS: dict[str | None, str] = {
    None: "Unknown until the target can be reached.",
    "none": f"{RUN}replicate, which begins a migration.",
    "running": "Wait: a run is working on it.",
    "errors": "Fix the errors first.",
    "copying": f"{RUN}replicate, which goes on with the copy.",
    "catching_up": f"{RUN}replicate, which waits until the target is in step.",
    "joining": f"{RUN}replicate -e handover_refresh=true, for tables that were made or dropped since.",
    "altered": f"{RUN}replicate -e handover_follow_schema=true, for what was altered since; or run the same statements "
    f"on the target, then {NAME}replicate.",
    "renamed": "Rename the tables back on the source.",
    "in_step": f"{RUN}verify, then {NAME}cutover.",
    "verified": f"{RUN}cutover.",
    "different": f"Fix what differs, then {RUN}verify.",
    "incomplete": f"See to what is unknown, then {RUN}verify; or, if you know better, {NAME}cutover.",
    "handed_over": f"{RUN}finish, when all is well; or {NAME}rollback.",
    "one_way": f"{RUN}finish, when all is well; there is no way back.",
    "rolled_back": f"{RUN}cutover, to hand over again; or {NAME}stop.",
    "stopped": f"{RUN}finish, which removes the traces; or {NAME}replicate, which begins anew.",
    "finished": "nothing: it is finished.",
    "abandoned": "nothing: what there was is undone.",
    "prepared": f"{RUN}replicate.",
    "rehearsed": f"{RUN}migrate, or the method of your choice.",
    "to_dump": f"Stop the application's writes, then {RUN}dump -e handover_source_is_quiet=true.",
    "to_replicate": f"{RUN}prepare_source, then {NAME}replicate.",
    "under_way": f"{RUN}status, for the migration that is under way.",
    "no_target": f"Set handover_target, then {RUN}preflight.",
    "steps_left": f"{RUN}dump, for the steps that were left out.",
    "dumped": f"Point the application at the target, then {RUN}finish.",
    "trial_dump": "Stop the application's writes, and dump again with handover_source_is_quiet, handover_force and "
    "handover_replace set to true, and the database in handover_replace_databases.",
}


def of(situation: str | None) -> str:
    """The sentence for a situation of STEPS, for ``again:NAME``, a playbook that failed, and for ``check:NAME``, one in
    check mode. A sentence stays what it is.
    """
    kind, _colon, playbook = (situation or "").partition(":")
    if kind == "again":
        return f"Fix the causes, then {RUN}{playbook}."
    if kind == "check":
        return f"{RUN}{playbook}, without --check."
    return STEPS.get(situation) or str(situation)


def after_comparison(verdict: str, migration: dict[str, Any] | None, in_part: bool) -> str:
    """After both ends were compared, as a whole or ``in_part``; ``migration`` has phase and direction."""
    if verdict == "different":
        return of(verdict)
    if migration is None or migration["phase"] == "stopped":
        following = of("dumped")
    else:
        following = of_status({**migration, "verified": None if in_part else {"verdict": "equal"}})
    return following if verdict == "equal" else f"See to what is unknown. If that is right: {following}"


def of_status(status: dict[str, Any]) -> str:
    """The same, of what is known of a migration; only ``phase`` and ``direction`` must be there."""
    return of(_situation(status))


def _situation(status: dict[str, Any]) -> str | None:
    if status.get("running"):
        return "running"
    if status.get("errors"):
        return "errors"
    phase = status["phase"]
    if phase == "handed_over":
        forward = phase if status.get("way_back", True) else "one_way"
        return "rolled_back" if status["direction"] == "back" else forward
    if phase not in ("copying", "catching_up", "in_step"):
        return phase
    changes = {one["change"] for one in status.get("drift") or []}
    if changes:
        return _of_drift(changes)
    verified = status.get("verified") or {}
    if phase != "in_step" or not verified or verified.get("outdated"):
        return phase
    return {"equal": "verified"}.get(verified["verdict"], verified["verdict"])


def _of_drift(changes: set[str]) -> str:
    if "renamed" in changes:
        return "renamed"
    return "joining" if changes <= {"new", "gone", "replaced"} else "altered"


def lines(found: dict[str, str | None]) -> list[str]:
    """``next: ...`` for all databases at once, or for those that have the same in common; ``found`` are situations."""
    databases: dict[str, list[str]] = {}
    for database, situation in found.items():
        databases.setdefault(of(situation), []).append(database)
    alone = len(databases) == 1
    texts = [
        f"next: {sentence}" if alone else f"next, for {', '.join(names)}: {sentence}"
        for sentence, names in databases.items()
    ]
    return [line for text in texts for line in wrap(on_one_line(text), WIDTH, " " * 6)]
