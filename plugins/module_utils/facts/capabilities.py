# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connecting role may do on this server: asked, never guessed from a provider's name."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows


@dataclass(frozen=True)
class Capabilities:
    """The connecting role, and what the server offers it."""

    role: str
    superuser: bool
    createdb: bool
    createrole: bool
    server_version: int
    roles: frozenset
    bootstrap_role: str
    extensions: frozenset

    @property
    def major(self) -> int:
        return self.server_version // 10000


def read_capabilities(connection) -> Capabilities:
    """Attributes of the current role, all roles, and the extensions whose files are installed."""
    role = rows(
        connection,
        "SELECT rolname::text, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user",
    )[0]
    roles = rows(connection, "SELECT rolname::text, oid = 10 FROM pg_roles")
    extensions = rows(connection, "SELECT name::text FROM pg_available_extensions")
    return Capabilities(
        *role,
        server_version=connection.info.server_version,
        roles=frozenset(name for name, _bootstrap in roles),
        bootstrap_role=next(name for name, bootstrap in roles if bootstrap),
        extensions=frozenset(name for (name,) in extensions),
    )
