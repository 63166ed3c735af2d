# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What checks look at: the pair of servers, and each database of the source, over sessions that can only read."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    read_role,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    database_sizes,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.providers import provider_hints
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.database_tables import (
    DatabaseTable,
    read_tables,
)

# Those that decide about a migration, and that our own session does not change for itself.
REPORTED_SETTINGS = (
    "data_checksums",
    "effective_wal_level",
    "idle_replication_slot_timeout",
    "listen_addresses",
    "max_active_replication_origins",
    "max_connections",
    "max_logical_replication_workers",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_sync_workers_per_subscription",
    "max_wal_senders",
    "max_wal_size",
    "max_worker_processes",
    "output_plugin_libraries",
    "password_encryption",
    "server_encoding",
    "shared_preload_libraries",
    "ssl",
    "wal_level",
    "wal_sender_timeout",
)


def describe(side: Side) -> dict:
    """What the report says of a server; settings with their units."""
    query = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s) ORDER BY name"
    return {
        "address": f"{side.connection.info.host}:{side.connection.info.port}",
        **side.server.as_result(),
        "provider_hints": provider_hints(side.connection),
        "role": read_role(side.connection),
        "settings": dict(side.rows(query, (list(REPORTED_SETTINGS),))),
    }


@dataclass
class PreflightOptions:
    """What the operator decides about the migration to come."""

    method: str = "auto"
    client_directory: list | None = None
    locale_map: dict = field(default_factory=dict)  # the source's name of a locale: the target's
    measure: str = "none"  # or read, or write, which reads too
    jobs: int | None = None
    target_addresses: list = field(default_factory=list)
    test_network: str = "no"  # or dblink, or subscription
    no_identity: str = "fail"  # or full, or copy_at_cutover
    poolers: list = field(default_factory=list)  # how their consoles are reached


@dataclass
class Pair:
    """The servers. ``target`` is None where none was given, or it was ``unreached``, for the reason in the error."""

    source: Side
    target: Side | None
    databases: list[str]
    options: PreflightOptions = field(default_factory=PreflightOptions)
    unreached: HandoverError | None = None
    write_rate: float | None = None  # bytes a second, where it was measured

    @property
    def sides(self) -> list[Side]:
        """The servers that were given, the source first."""
        return [side for side in (self.source, self.target) if side]


class Database(Side):
    """One database of the source; ``pair`` leads to the servers."""

    def __init__(self, pair: Pair, name: str, connection):
        super().__init__(pair.source.endpoint, connection)
        self.pair = pair
        self.name = name

    @property
    def target(self) -> Side | None:
        return self.pair.target

    def describe(self) -> dict:
        """What the report says of a database: sizes in bytes, those of tables without indexes."""
        tables = sorted((table for table in self.tables if table.kind == "r"), key=lambda table: -table.bytes)
        return {
            "database": self.name,
            "bytes": database_sizes(self.connection, [self.name])[self.name],
            "table_bytes": sum(table.bytes for table in tables),
            "large_object_bytes": self.value("SELECT pg_table_size('pg_largeobject')::bigint"),
            "tables": len(tables),
            "rows_estimated": sum(table.rows or 0 for table in tables),
            "tables_never_analyzed": sum(table.rows is None for table in tables),
            "largest_tables": [
                {"table": table.name, "bytes": table.bytes, "rows_estimated": table.rows} for table in tables[:10]
            ],
        }

    @property
    def tables(self) -> list[DatabaseTable]:
        """All tables, ordered by name."""
        return self.once(read_tables)
