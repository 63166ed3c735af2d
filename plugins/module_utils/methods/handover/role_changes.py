# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles are no part of what is replicated: what became of them since they were brought over is brought over again
before the window, or keeps it shut. Nothing is taken away from a role of the new home, and none is dropped.
"""

from __future__ import annotations

import threading

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import referenced_roles, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import (
    ATTRIBUTES,
    read_roles,
    read_roles_and_hashes,
    row_versions,
)

SHOWN = 10  # roles named in a message
TURN = threading.Lock()  # roles are the server's: databases side by side bring the same ones


def look(passage: Passage) -> role_import.Plan:
    """What the new home lacks of the roles of old, as far as it takes it; the rest is noted. Changes nothing."""
    params, forward = passage.params, passage.route.direction == FORWARD
    data, hashes = read_roles_and_hashes(passage.old)
    versions = row_versions(passage.source) if forward else None
    if hashes is None:
        side = passage.route.old.endpoint.side
        passage.note(f"This role may not read passwords on the {side}: passwords that were changed there stay behind.")
    options = role_import.RoleOptions(
        password_hashes=hashes or {},
        role_passwords=params["role_passwords"],
        skip_roles=tuple(params["skip_roles"]),
        altered=_altered(passage, versions),
    )
    plan = role_import.plan(passage.new, data if forward else _coming_back(passage, data), options)
    _note(passage, "could not be given to roles of the new home", plan.left_out)
    _note(passage, "is what roles of the new home have beyond those of the old one", plan.kept)
    if forward:
        _note_dropped(passage, versions)
    unknown = [one["role"] for one in plan.password_unknown]
    if unknown:
        passage.note(f"It is unknown whether these roles have the same passwords: {some(unknown, SHOWN)}.")
    return plan


def describe(plan: role_import.Plan) -> str:
    """``app (password), clerk (role, membership)``, without any value."""
    found = {}
    for one in plan.changes:
        found.setdefault(one["role"] or "all roles", {})[one["attribute"]] = None
    return some([f"{role} ({', '.join(attributes)})" for role, attributes in found.items()], SHOWN)


def bring(passage: Passage) -> None:
    """Bring them over, all or nothing, as far as another database of this run has not done so. Raises HandoverError."""
    if not passage.roles.statements:
        return
    with TURN:
        plan = passage.roles = look(passage)
        if not plan.statements:
            return
        role_import.apply(passage.new, plan)
        if passage.route.direction == FORWARD:
            versions = row_versions(passage.source)
            migration_journal.add_event(passage.journal, passage.route.migration.id, "roles", versions=versions)
        passage.note(f"Roles were brought over again: {describe(plan)}.")


def _altered(passage: Passage, now: dict[str, str] | None) -> frozenset | None:
    """Roles of the source that were altered since the migration began, or since they were brought over again, if that
    can be told: by these a new password is known where the target shows none. ``now`` are their row_versions.
    """
    recorded = _recorded(passage) if now is not None else None
    if now is None or recorded is None:
        return None
    return frozenset(name for name, version in now.items() if recorded.get(name) != version)


def _recorded(passage: Passage) -> dict[str, str] | None:
    """What tells each role of the source from what it was when it was brought over last, if that is known."""
    recorded = migration_journal.last_event(passage.journal, passage.route.migration.id, "roles")
    return recorded.get("versions") if recorded else None


def _coming_back(passage: Passage, data: dict) -> dict:
    """What the source's roles became at the target, and roles that the database needs since. A target has roles of its
    own, and its roles may have what was taken from the source's, as nothing is taken away there: that stays there.
    """
    theirs = read_roles(passage.new)
    there = {role["name"]: role for role in theirs["roles"]}
    new = set(referenced_roles(passage.old)) - {value(passage.old, "SELECT current_user::text")} - set(there)
    kept = {name: {attribute: role[attribute] for attribute in ATTRIBUTES} for name, role in there.items()}
    return {
        **data,
        "roles": [{**role, **kept.get(role["name"], {})} for role in data["roles"] if role["name"] in new | set(there)],
        "memberships": [
            one for one in data["memberships"]
            if {one["role"], one["member"]} & new and {one["role"], one["member"]} <= new | set(there)
        ] + theirs["memberships"],
        "settings": [one for one in data["settings"] if one["role"] in new] + theirs["settings"],
    }  # fmt: skip


def _note(passage: Passage, what: str, entries: list[dict]) -> None:
    if entries:
        passage.note(f"This {what}: {some(list(map(_shown, entries)), SHOWN)}.")


def _shown(entry: dict) -> str:
    """``login of former``, ``membership of app in readers``, ``setting work_mem of app``."""
    role, what, detail = entry["role"] or "all roles", entry["attribute"], entry.get("detail")
    if what.startswith("membership"):
        return f"{what.replace('membership_admin', 'ADMIN OPTION')} of {role} in {detail}"
    return f"{what} {detail} of {role}" if detail else f"{what} of {role}"


def _note_dropped(passage: Passage, now: dict[str, str] | None) -> None:
    """Roles that were there when the migration began, and are not any more."""
    recorded = _recorded(passage)
    gone = sorted(set(recorded or ()) - set(now or recorded or ()))
    there = {role["name"] for role in read_roles(passage.new)["roles"]} if gone else set()
    if left := [name for name in gone if name in there]:
        passage.note(f"Roles were dropped from the old home, and are still at the new one: {some(left, SHOWN)}.")
