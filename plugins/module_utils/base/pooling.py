# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a connection pooler stands before the server, and of which mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection

ROUNDS = 4


def is_pooled(connection: Connection) -> bool:
    """Whether the process that answers is another one than the server announced when the session began.

    A pooler announces a number of its own, with which it recognises requests to cancel.
    """
    return _process(connection) != connection.info.backend_pid


def shares_sessions(connection: Connection, other: Connection) -> bool:
    """Whether two idle connections through a pooler do not keep a server process each: transaction mode."""
    processes = [(_process(connection), _process(other)) for _i in range(ROUNDS)]
    return len(set(processes)) > 1 or processes[0][0] == processes[0][1]


def _process(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_backend_pid()")
        ((process,),) = cursor.fetchall()
        return int(process)
