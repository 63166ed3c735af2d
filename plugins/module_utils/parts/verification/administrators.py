# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's first superuser, whose place a service gives to nobody: what was its own belongs to the connecting role
on the target, as an import leaves it. That is no difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import bootstrap_role, value

# How names of objects hold the name of a role: what is before it and what is after it.
NAMES = {
    "default_privileges": ("", " in "),
    "settings": ("role ", " in the database"),
    "user_mappings": (" for ", ""),
}
LISTS = {"privileges", "default_privileges", "policies"}  # classes with lists in which roles are named
PUBLIC = "schema public"
Descriptions = dict[str, dict[str, Any]]  # objects of a class, by name
DATABASE_OWNER = "pg_database_owner"  # owns schema public since 15, whoever owned it before


@dataclass(frozen=True)
class Administrators:
    """``source``: the first superuser there; ``target``: the connecting role."""

    source: str
    target: str

    @classmethod
    def read(cls, connections: dict[str, Connection]) -> Administrators:
        """Of sessions by side."""
        return cls(bootstrap_role(connections["source"]), value(connections["target"], "SELECT current_user::text"))

    def objects(self, kind: str, ours: Descriptions, theirs: Descriptions) -> Descriptions:
        """The source's objects, those that are named after the one under the other's name if the target has that."""
        if kind not in NAMES or self.source == self.target:
            return ours
        before, after = NAMES[kind]
        former, now = f"{before}{self.source}{after}", f"{before}{self.target}{after}"
        found = {}
        for name, described in ours.items():
            renamed = name.replace(former, now, 1)
            found[renamed if name not in theirs and renamed in theirs else name] = described
        return found

    def described(self, kind: str, name: str, source: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
        """What the source says of an object, with the other where the target has it in the one's place."""
        if kind == "owners":
            stands_for = {self.target, *([DATABASE_OWNER] if name == PUBLIC else [])}
            if source["owner"] == self.source and target["owner"] in stands_for:
                return target
        if kind not in LISTS:
            return source
        renamed = {key: self._list(one) if isinstance(one, list) else one for key, one in source.items()}
        return {key: renamed[key] if renamed[key] == target[key] else one for key, one in source.items()}

    def _list(self, entries: list[str]) -> list[str]:
        """Grants ``role=PRIVILEGE``, or roles."""
        renamed = []
        for entry in entries:
            role, equals, privilege = entry.partition("=")
            renamed.append((self.target if role == self.source else role) + equals + privilege)
        return sorted(renamed)


NOBODY = Administrators("", "")
