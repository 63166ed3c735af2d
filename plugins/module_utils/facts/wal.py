# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server writes, or begins to write by itself, what logical slots need."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value


def levels_for_logical_slots(connection: Connection) -> tuple[str, ...]:
    """The values of wal_level with which a logical slot can be made, the least first.

    From 19 on a server with replica writes what the first slot needs as soon as there is one, without a restart; that
    is what its setting effective_wal_level shows.
    """
    query = "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'effective_wal_level')"
    rises = connection.info.server_version >= 190000 and value(connection, query)
    return ("replica", "logical") if rises else ("logical",)


def obstacle_to_logical_slots(connection: Connection, side: str) -> str:
    """Why no logical slot can be made here, as far as wal_level goes; empty if one can."""
    level, levels = value(connection, "SELECT current_setting('wal_level')"), levels_for_logical_slots(connection)
    return "" if level in levels else f"wal_level of the {side} is {level}; logical slots need {' or '.join(levels)}."
