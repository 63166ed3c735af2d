# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What describes a database beyond its archive: what the other end needs to make it the same."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.databases import read_properties
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_data


def describe(connection, dbname: str) -> dict:
    """``properties``, ``database_settings``, ``roles_referenced``, ``roles_named``, ``bootstrap_role``,
    ``extension_members``: JSON types.
    """
    queries = (catalog.REFERENCED_ROLES, catalog.NAMED_ROLES, catalog.BOOTSTRAP_ROLE, catalog.EXTENSION_MEMBERS)
    referenced, named, [bootstrap], extensions = catalog.records(connection, *((query, None) for query in queries))
    return {
        "properties": read_properties(connection, dbname),
        "database_settings": _settings(connection, dbname),
        "roles_referenced": [role["name"] for role in referenced],
        "roles_named": [role["name"] for role in named],
        "bootstrap_role": bootstrap["name"],
        "extension_members": {extension["name"]: extension["members"] for extension in extensions},
    }


def _settings(connection, dbname: str) -> dict:
    """The settings that hold in this database only, in the shape of role_data.read_roles."""
    data = {**role_data.NO_ROLES, **role_data.read_settings(connection)}
    return {**data, "settings": role_data.database_settings(data, dbname)}
