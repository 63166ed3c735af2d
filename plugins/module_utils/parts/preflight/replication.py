# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what logical replication needs of the servers (PostgreSQL documentation, 29.11)."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair

CONTINUOUS = ("continuous",)


@server_check("wal_level", "The source writes WAL for logical replication.", CONTINUOUS)
def wal_level(pair: Pair):
    """wal_level must be logical; changing it takes a restart."""
    level = pair.source.settings.get("wal_level")
    if level != "logical":
        yield Finding(
            "blocker",
            f"wal_level is {level} on the source.",
            "No logical slot can be made.",
            "ALTER SYSTEM SET wal_level = 'logical'; then restart the source (services have a parameter for it).",
        )


@server_check("replication_slots", "The source has a free replication slot for each database.", CONTINUOUS)
def replication_slots(pair: Pair):
    """One slot a database stays for the time of the migration."""
    most, needed = pair.source.number("max_replication_slots"), len(pair.databases)
    used = pair.source.value("SELECT count(*)::int FROM pg_replication_slots")
    if most is None:
        yield Finding("unknown", "max_replication_slots of the source is not visible to this role.")
    elif most - used < needed:
        yield Finding(
            "blocker",
            f"max_replication_slots is {most} on the source, {used} are in use, {needed} databases need one each.",
            "The migration of the last databases cannot begin.",
            f"ALTER SYSTEM SET max_replication_slots = {used + needed}; then restart the source.",
        )
