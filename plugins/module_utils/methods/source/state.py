# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What making a source ready and putting it back have in common: what is refused, and what is returned."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, configuration
from ansible_collections.handover.postgresql.plugins.module_utils.facts.management import Manager
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source.changes import Changes


@dataclass
class Preparation:
    """One run. ``record`` is that of the role, or None where the role is the operator's own."""

    source: Endpoint
    connection: Connection
    params: dict
    changes: Changes
    databases: list[str]
    record: dict | None
    manager: Manager | None

    @property
    def role(self) -> str:
        return self.params["replication_role"]

    def instruct(self, text: str) -> None:
        self.changes.instructions.append(text)


def refuse_standby(connection) -> None:
    """Raise HandoverError for a server on which nothing can be changed."""
    if catalog.read_server(connection).in_recovery:
        raise HandoverError(
            "The source is a standby; it gets its roles and most of its settings from its primary.",
            "Prepare the primary, and give it as source.",
        )


def refuse_broken_files(connection) -> None:
    """Raise HandoverError where a reload would be refused, or a restart fail, before anything of ours is added."""
    errors = configuration.errors_in_files(connection)
    if errors:
        raise HandoverError(
            f"The server's configuration has errors: {'; '.join(errors)}.",
            "Correct them first: the server would not load a new configuration, and could not restart.",
            configuration_errors=errors,
        )


def settings_in_files(records: list[dict]) -> dict[str, str]:
    """All settings that files on the host have to hold for these records: where they differ, the larger number."""
    found = {}
    for record in records:
        for name, entry in record["settings"].items():
            others = found.get(name, "")
            if entry["method"] == "conf_file" and not (others.isdigit() and int(others) > int(entry["set"])):
                found[name] = entry["set"]
    return dict(sorted(found.items()))


def as_lines(settings: dict[str, str]) -> list[str]:
    """Settings as a configuration file has them (PostgreSQL documentation, 20.1.2)."""
    return [f"{name} = '{text}'" for name, text in ((name, text.replace("'", "''")) for name, text in settings.items())]


def state_of_server(connection, restart: list[dict]) -> dict:
    """What whoever restarts the server has to know."""
    ours = {one["name"] for one in restart}
    return {
        "server": {**catalog.read_server(connection).as_result(), **configuration.read_process(connection)},
        "also_pending": [one for one in configuration.pending_restart(connection) if one["name"] not in ours],
        "sessions": configuration.sessions(connection) if restart else [],
    }
