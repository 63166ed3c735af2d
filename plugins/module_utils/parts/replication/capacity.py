# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of what logical replication takes a server has, and how much of it is in use (PostgreSQL, 29.11)."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import records
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side

# Those that take no place of max_worker_processes, and parallel workers, which have theirs for a moment.
FIXED_PROCESSES = (
    "archiver", "autovacuum launcher", "autovacuum worker", "background writer", "checkpointer", "client backend",
    "io worker", "logger", "parallel worker", "slotsync worker", "standalone backend", "startup", "walreceiver",
    "walsender", "walsummarizer", "walwriter",
)  # fmt: skip


IN_USE = """
    SELECT (SELECT count(*)::int FROM pg_replication_slots) AS slots,
           (SELECT count(*)::int FROM pg_stat_replication) AS senders,
           greatest((SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL),
                    (SELECT count(subname) FROM pg_subscription WHERE subenabled))::int AS apply_workers,
           (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type <> ALL (%s)) AS processes,
           (SELECT count(*)::int FROM pg_replication_origin) AS origins"""


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
    return Capacity("max_replication_slots", side.number("max_replication_slots"), side.once(_in_use)["slots"])


def senders(side: Side) -> Capacity:
    """WAL senders: standbys, subscribers, backups."""
    return Capacity("max_wal_senders", side.number("max_wal_senders"), side.once(_in_use)["senders"])


def apply_workers(side: Side) -> Capacity:
    """Workers of subscriptions: those that run, or one for each that is enabled."""
    used = side.once(_in_use)["apply_workers"]
    return Capacity("max_logical_replication_workers", side.number("max_logical_replication_workers"), used)


def worker_processes(side: Side) -> Capacity:
    """Background workers; where the role may not see what processes are, the launcher and apply workers alone."""
    used = max(side.once(_in_use)["processes"], 1 + side.once(_in_use)["apply_workers"])
    return Capacity("max_worker_processes", side.number("max_worker_processes"), used)


def origins(side: Side) -> Capacity:
    """Replication origins, one for each subscription. Before 18 the setting for slots limits both, each on its own."""
    used = side.once(_in_use)["origins"]
    if side.connection.info.server_version >= 180000:
        return Capacity("max_active_replication_origins", side.number("max_active_replication_origins"), used)
    return Capacity("max_replication_slots", side.number("max_replication_slots"), max(used, slots(side).used))


def _in_use(side: Side) -> dict[str, int]:
    """All of it, asked at once."""
    [[found]] = records(side.connection, (IN_USE, (list(FIXED_PROCESSES),)))
    return found
