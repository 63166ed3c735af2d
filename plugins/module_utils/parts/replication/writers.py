# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactions that write while something is taken away from their tables."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

PATIENCE = 1.0  # seconds; a statement that has been writing for so long has looked up everything
PAUSE = 0.01  # seconds

# pg_locks shows everybody's locks to every role, unlike what pg_stat_activity tells of others' sessions.
WRITING = """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
STILL_THERE = "SELECT count(*) FROM pg_locks WHERE virtualxid = ANY(%s)"


def outlast(connection, patience: float = PATIENCE) -> None:
    """Return when who is writing to the database now has ended that transaction, or ``patience`` seconds later."""
    deadline = time.monotonic() + patience
    writing = [one for (one,) in rows(connection, WRITING)]
    while writing and value(connection, STILL_THERE, (writing,)) and time.monotonic() < deadline:
        time.sleep(PAUSE)
