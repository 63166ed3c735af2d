# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive and the target that it was fitted to: all that is known before a database is filled from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts import clients
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    Capabilities,
    read_capabilities,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import (
    STATISTICS,
    Contents,
    Entry,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import jobs_for
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import


@dataclass
class FittedArchive:
    """``connection`` is the maintenance session on the target, ``client`` the pg_restore for it.

    ``origin`` describes the database on the source: what origin.describe says, ``source``, ``dump_id``, and
    ``client``, the version of pg_dump. ``missing_roles`` are those that are not carried over: what concerned them was
    taken out of the archive.
    ``unchecked`` are the foreign keys that were made without a look at the rows. ``toast_compression`` is what loading
    sets, if anything.
    """

    target: Endpoint
    connection: Connection
    params: dict[str, Any]
    origin: dict[str, Any]
    capabilities: Capabilities
    client: clients.Client
    jobs: int
    fitting: Fitting
    missing_roles: set[str]
    unchecked: list[Entry] = field(default_factory=list)
    toast_compression: str | None = None

    @property
    def contents(self) -> Contents:
        return self.fitting.contents

    @property
    def has_statistics(self) -> bool:
        """Whether the planner's statistics come along."""
        return any(entry.desc in STATISTICS for entry in self.fitting.remaining())

    def roles_to_import(self) -> list[str]:
        """Roles that the target does not have, and that something cannot be made without."""
        spared = self.params["no_owner"] and self.params["no_privileges"]
        needed = self.origin["roles_named" if spared else "roles_referenced"]
        return sorted(set(needed) - self.capabilities.roles - self.missing_roles)

    def wanted(self, entries: list[Entry]) -> list[Entry]:
        """Those of the entries that are not skipped by now."""
        return [entry for entry in entries if not self.fitting.is_skipped(entry)]

    def arguments(self, parallel: bool) -> list[str]:
        """Arguments of pg_restore that the options ask for."""
        arguments = ["--no-tablespaces"] if self.params["no_tablespaces"] else []
        arguments += ["--no-owner"] if self.params["no_owner"] else []
        arguments += [f"--jobs={self.jobs}"] if parallel and self.jobs > 1 else []
        return arguments + list(self.params["restore_extra_args"])


def prepare(
    target: Endpoint, connection: Connection, params: dict[str, Any], origin: dict[str, Any], contents: Contents
) -> FittedArchive:
    """Choose the client, and fit the archive. Raises HandoverError where rows would be lost."""
    capabilities = read_capabilities(connection)
    client = clients.choose_for_restore(
        clients.find_clients(params["client_directory"]),
        clients.major_of(origin["client"]),
        capabilities.major,
        params["client_directory"],
    )
    jobs = jobs_for(params["jobs"], sum(entry.desc == "TABLE DATA" for entry in contents.entries))
    fitting = Fitting(contents, params["exclude_extensions"], origin.get("extension_members"))
    fitting.leave_out(params.get("leave_out") or [])
    fitting.fit(capabilities, params["no_privileges"])
    missing = _roles_left_behind(origin, params) - capabilities.roles
    for name in sorted(missing):
        fitting.forget(name, "the target does not have this role")
    return FittedArchive(target, connection, params, origin, capabilities, client, jobs, fitting, missing)


def _roles_left_behind(origin: dict[str, Any], params: dict[str, Any]) -> set[str]:
    """Roles that are not carried over: their objects go to the connecting role, their grants are taken out."""
    reserved = {name for name in origin["roles_referenced"] if role_import.RESERVED.fullmatch(name)}
    return {origin["bootstrap_role"], *params["skip_roles"], *reserved}
