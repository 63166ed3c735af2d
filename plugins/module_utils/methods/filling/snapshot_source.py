# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database of the source as one snapshot shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint, sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    Snapshot,
    enter_snapshot,
)

LOCK_WAIT_TIMEOUT = 480000  # ms


@dataclass(frozen=True)
class SnapshotSource:
    """``session`` stands in the snapshot; whoever made it closes it. ``patience`` is how long a table may stay locked,
    in milliseconds.
    """

    endpoint: Endpoint
    dbname: str
    snapshot: Snapshot
    session: Connection
    patience: int

    @property
    def begin(self) -> str:
        """The statement that puts a transaction of another session into the snapshot."""
        name = sql.Literal(self.snapshot.name).as_string(self.session)
        return f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {name}"

    def connect(self) -> Connection:
        """A session outside of any transaction."""
        return self.endpoint.connect(self.dbname, read_only=True, lock_timeout=self.patience)


def patience_of(params: dict[str, Any]) -> int:
    """How long a table may stay locked, in milliseconds."""
    return params.get("lock_wait_timeout") or LOCK_WAIT_TIMEOUT


def enter(endpoint: Endpoint, session: Connection, snapshot: Snapshot, params: dict[str, Any]) -> SnapshotSource:
    """The database of the session, which is outside of any transaction, as another session's snapshot shows it."""
    enter_snapshot(session, snapshot)
    return SnapshotSource(endpoint, session.info.dbname, snapshot, session, patience_of(params))
