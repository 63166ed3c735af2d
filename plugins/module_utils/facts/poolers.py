# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an endpoint is the server itself or a connection pooler before it."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value

ROUNDS = 4


def refuse_transaction_pooler(endpoint: Endpoint, dbname: str) -> None:
    """Raise HandoverError where server sessions change between transactions: snapshots and settings would be lost.

    In transaction mode two connections that are open at the same time are served by the same server process,
    or one connection by several. In session mode each keeps its own.
    """
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(contextlib.closing(endpoint.connect(dbname, read_only=True))) for _i in range(2)
        ]
        pids = [tuple(value(session, "SELECT pg_backend_pid()") for session in sessions) for _i in range(ROUNDS)]
    if len(set(pids)) > 1 or pids[0][0] == pids[0][1]:
        raise HandoverError(
            f"Between this machine and {endpoint.describe(dbname)} is a connection pooler in transaction mode.",
            f"Give the server's own host and port as {endpoint.side} (services list it as the direct connection), "
            "or a pool in session mode.",
        )
