# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What checks look at: the pair of servers, and each database of the source, over sessions that can only read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import read_capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import read_server, rows, value

REPORTED_SETTINGS = (
    "wal_level",
    "max_replication_slots",
    "max_wal_senders",
    "max_logical_replication_workers",
    "max_sync_workers_per_subscription",
    "max_worker_processes",
    "max_slot_wal_keep_size",
    "listen_addresses",
    "ssl",
    "shared_preload_libraries",
)


class Side:
    """One of the two servers: its endpoint, one session, and what is read of it once."""

    def __init__(self, endpoint: Endpoint, connection):
        self.endpoint = endpoint
        self.connection = connection

    def rows(self, query: str, parameters=None) -> list[tuple]:
        return rows(self.connection, query, parameters)

    def value(self, query: str, parameters=None):
        return value(self.connection, query, parameters)

    @cached_property
    def server(self):
        return read_server(self.connection)

    @cached_property
    def capabilities(self):
        return read_capabilities(self.connection)

    @cached_property
    def settings(self) -> dict[str, str]:
        """All settings that the role may see, in their base units."""
        return dict(self.rows("SELECT name, setting FROM pg_settings"))

    def describe(self) -> dict:
        """What the report says of a server."""
        role = self.capabilities
        return {
            **self.server.as_result(),
            "role": {
                "name": role.role,
                "superuser": role.superuser,
                "createdb": role.createdb,
                "createrole": role.createrole,
            },
            "settings": {name: self.settings[name] for name in REPORTED_SETTINGS if name in self.settings},
        }

    def number(self, setting: str) -> int | None:
        """A numeric setting, or None where the server has no such, or does not show it."""
        return int(self.settings[setting]) if setting in self.settings else None


@dataclass
class Options:
    """What the operator decides about the migration to come."""

    method: str = "auto"
    client_directory: list | None = None


@dataclass
class Pair:
    """The servers. ``target`` is None where none was given."""

    source: Side
    target: Side | None
    databases: list[str]
    options: Options = field(default_factory=Options)


class Database(Side):
    """One database of the source; ``pair`` leads to the servers."""

    def __init__(self, pair: Pair, name: str, connection):
        super().__init__(pair.source.endpoint, connection)
        self.pair = pair
        self.name = name

    @property
    def target(self) -> Side | None:
        return self.pair.target
