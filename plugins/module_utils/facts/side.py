# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One of the two servers over one session: what is read of it once, and asked of it by many."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    CONFORMING,
    Connection,
    Endpoint,
    is_loopback,
    sql,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    Capabilities,
    read_capabilities,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    Parameters,
    Server,
    read_server,
    rows,
    value,
)

T = TypeVar("T")
Some = TypeVar("Some", bound="Side")


class Side:
    """One of the two servers: its endpoint, one session, and what is read of it once."""

    def __init__(self, endpoint: Endpoint, connection: Connection) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self._read: dict[Callable[..., Any], Any] = {}

    def rows(self, query: str | sql.Composable, parameters: Parameters = None) -> list[tuple[Any, ...]]:
        return rows(self.connection, query, parameters)

    def value(self, query: str | sql.Composable, parameters: Parameters = None) -> Any:
        return value(self.connection, query, parameters)

    def once(self: Some, read: Callable[[Some], T]) -> T:
        """What ``read(self)`` gave the first time: for facts that several checks look at."""
        if read not in self._read:
            self._read[read] = read(self)
        return self._read[read]

    @cached_property
    def server(self) -> Server:
        return read_server(self.connection)

    @cached_property
    def capabilities(self) -> Capabilities:
        return read_capabilities(self.connection)

    @cached_property
    def settings(self) -> dict[str, str]:
        """All settings that the role may see, in their base units."""
        return dict(self.rows("SELECT name, setting FROM pg_settings"))

    @property
    def is_local(self) -> bool:
        """Whether it is reached over a socket or loopback, so that a network does not come into it."""
        return is_loopback(self.connection.info.host or "")

    @cached_property
    def sees_all_settings(self) -> bool:
        """Whether settings that are not there are not hidden either."""
        return self.value("SELECT pg_has_role('pg_read_all_settings', 'USAGE')")

    @cached_property
    def sees_all_sessions(self) -> bool:
        """Whether pg_stat_activity shows this role what the sessions of others do."""
        return self.value("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")

    @cached_property
    def defaults(self) -> dict[str, str]:
        """The settings with which a session of this role begins here, before ours changed some of them."""
        found = dict(self.rows("SELECT name, reset_val FROM pg_settings"))
        if CONFORMING in (self.connection.info.dsn_parameters.get("options") or ""):
            found["standard_conforming_strings"] = "off"  # else we had not asked for it
        return found

    def number(self, setting: str) -> int | None:
        """A numeric setting, or None where the server has no such, or does not show it."""
        return int(self.settings[setting]) if setting in self.settings else None
