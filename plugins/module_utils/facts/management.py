# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps the configuration of a server, where that is not simply its administrator."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.providers import provider_hints

# Each shows by a session of its own, a library that it has the server load, or a file that it writes.
PROGRAMS = {
    "Patroni": (
        r"session Patroni.*|file .*/(postgresql\.base|patroni\.dynamic)\..*",
        "Change settings, and pg_hba under postgresql, with patronictl edit-config; restart with patronictl restart.",
    ),
    "repmgr": (
        r"session repmgr.*|library repmgr",
        "Change settings and pg_hba.conf on every node, standbys first, and restart as repmgr's documentation says.",
    ),
    "pg_auto_failover": (
        r"session pg_auto(ctl|_failover).*|library pgautofailover|file .*/postgresql-auto-failover.*\.conf",
        "Change settings and pg_hba.conf on every node, and restart the secondary first, in maintenance.",
    ),
    "CloudNativePG": (
        r"session cnpg_.*|setting cnpg\..*",
        "Change spec.postgresql.parameters and spec.postgresql.pg_hba of the Cluster; it restarts what it has to.",
    ),
    "Stolon": (
        r"file .*/stolon-.*\.conf",
        "Change pgParameters and pgHBA with stolonctl update; it restarts servers if automaticPgRestart is on.",
    ),
}
SERVICES = {
    "Amazon RDS or Aurora": "Set rds.logical_replication and the rest in the parameter group, and reboot the instance.",
    "Azure": "Set them among the server's parameters, and restart it there.",
    "Google Cloud SQL": "Set the flag cloudsql.logical_decoding and the rest on the instance; this restarts it.",
}


@dataclass(frozen=True)
class Manager:
    """Its name, and how settings are changed with it."""

    name: str
    advice: str


def manager_of(connection: Connection) -> Manager | None:
    """The manager of which there are signs, or None. Signs are hints: the operator can decide otherwise."""
    query = """
        WITH sign (sign) AS (
            SELECT 'session ' || application_name FROM pg_stat_activity
            UNION SELECT 'setting ' || name FROM pg_settings
            UNION SELECT 'file ' || sourcefile FROM pg_settings
            UNION SELECT 'library ' || trim(library, ' "') FROM pg_settings,
                  unnest(string_to_array(setting, ',')) AS library WHERE name = 'shared_preload_libraries')
        SELECT FROM sign WHERE sign ~* ('^(' || %s || ')$') LIMIT 1"""
    for name, (signs, advice) in PROGRAMS.items():
        if rows(connection, query, (signs,)):
            return Manager(name, advice)
    for hint in provider_hints(connection):
        name = hint["provider"]
        return Manager(name, SERVICES.get(name, f"Change settings in the console or with the tools of {name}."))
    return None
