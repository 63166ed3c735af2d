# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an endpoint is the server itself or a connection pooler before it."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value

ROUNDS = 4


def refuse_transaction_pooler(endpoint: Endpoint, dbname: str) -> None:
    """Raise HandoverError where server sessions change between transactions: snapshots and settings would be lost.

    In transaction mode two connections that are open at the same time are served by the same server process,
    or one connection by several. In session mode each keeps its own.
    """
    first, second = endpoint.connect(dbname, read_only=True), endpoint.connect(dbname, read_only=True)
    try:
        pids = [
            [value(connection, "SELECT pg_backend_pid()") for connection in (first, second)] for _i in range(ROUNDS)
        ]
    finally:
        first.close()
        second.close()
    if len({tuple(pair) for pair in pids}) > 1 or pids[0][0] == pids[0][1]:
        raise HandoverError(
            f"Between this machine and {endpoint.describe(dbname)} is a connection pooler in transaction mode.",
            f"Give the server's own host and port as {endpoint.side} (services often list it as the direct connection), "
            "or a pool in session mode.",
        )
