# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of what logical replication takes a server has, and how much of it is in use (PostgreSQL, 29.11)."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side

FIXED_PROCESSES = (
    "archiver", "autovacuum launcher", "autovacuum worker", "background writer", "checkpointer", "client backend",
    "io worker", "logger", "slotsync worker", "standalone backend", "startup", "walreceiver", "walsender",
    "walsummarizer", "walwriter",
)  # fmt: skip


@dataclass(frozen=True)
class Capacity:
    """How many of something a server may have, and how many it has; None where that is not visible."""

    setting: str
    most: int | None
    used: int

    @property
    def free(self) -> int:
        return self.most - self.used


def slots(side: Side) -> Capacity:
    """Replication slots, physical ones too."""
    used = side.value("SELECT count(*)::int FROM pg_replication_slots")
    return Capacity("max_replication_slots", side.number("max_replication_slots"), used)


def senders(side: Side) -> Capacity:
    """WAL senders: standbys, subscribers, backups."""
    used = side.value("SELECT count(*)::int FROM pg_stat_replication")
    return Capacity("max_wal_senders", side.number("max_wal_senders"), used)


def apply_workers(side: Side) -> Capacity:
    """Workers of subscriptions: those that run, or one for each that is enabled."""
    used = side.value("""
        SELECT greatest((SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL),
                        (SELECT count(subname) FROM pg_subscription WHERE subenabled))::int""")
    return Capacity("max_logical_replication_workers", side.number("max_logical_replication_workers"), used)


def worker_processes(side: Side) -> Capacity:
    """Background workers; where the role may not see what processes are, the launcher and apply workers alone."""
    seen = side.value(
        "SELECT count(*)::int FROM pg_stat_activity WHERE backend_type <> ALL (%s)", (list(FIXED_PROCESSES),)
    )
    used = max(seen, 1 + apply_workers(side).used)
    return Capacity("max_worker_processes", side.number("max_worker_processes"), used)


def origins(side: Side) -> Capacity:
    """Replication origins, one for each subscription. Before 18 the setting for slots limits both, each on its own."""
    used = side.value("SELECT count(*)::int FROM pg_replication_origin")
    if side.server.major >= 18:
        return Capacity("max_active_replication_origins", side.number("max_active_replication_origins"), used)
    return Capacity("max_replication_slots", side.number("max_replication_slots"), max(used, slots(side).used))
