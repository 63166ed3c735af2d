# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An exported snapshot of the source, held open so that pg_dump and our own sessions see one and the same instant."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows


@dataclass(frozen=True)
class Snapshot:
    """``name`` for SET TRANSACTION SNAPSHOT; ``lsn`` and ``time`` are those of its moment or just after."""

    name: str
    isolation: str
    lsn: str
    time: str

    def as_result(self) -> dict:
        return {"isolation": self.isolation, "lsn": self.lsn, "time": self.time}


def export_snapshot(connection, serializable_deferrable: bool) -> Snapshot:
    """Open the transaction that holds the snapshot; it is valid until the connection closes.

    Serializable and deferrable waits for a moment after which no anomaly is possible
    (PostgreSQL documentation, SET TRANSACTION); a standby cannot offer that.
    """
    isolation = "SERIALIZABLE, READ ONLY, DEFERRABLE" if serializable_deferrable else "REPEATABLE READ, READ ONLY"
    query = f"""
        BEGIN ISOLATION LEVEL {isolation};
        SELECT pg_export_snapshot(),
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text,
               to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    name, lsn, time = rows(connection, query)[0]
    return Snapshot(name, isolation.lower(), lsn, time)


def rewritten_tables(connection) -> set[tuple[str, str]]:
    """(schema, name) of tables that are in another file than when the transaction's snapshot was taken. It sees none of
    their rows after TRUNCATE or ALTER TABLE (PostgreSQL documentation, 13.6), and all of them, but in other places,
    after VACUUM FULL or CLUSTER.
    """
    query = """
        SELECT nspname::text, relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE relkind = 'r' AND relfilenode <> 0 AND pg_relation_filenode(c.oid) <> relfilenode"""
    return set(rows(connection, query))


def connect_to_snapshot(endpoint: Endpoint, dbname: str, snapshot: Snapshot | None, lock_timeout: int = 0):
    """A session that reads in the snapshot, or in one of its own where there is none."""
    connection = endpoint.connect(dbname, read_only=True, lock_timeout=lock_timeout)
    try:
        enter_snapshot(connection, snapshot)
    except BaseException:
        connection.close()
        raise
    return connection


def enter_snapshot(connection, snapshot: Snapshot | None) -> None:
    """Let the session, which is outside of any transaction, read in the snapshot, or in one of its own."""
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    with connection.cursor() as cursor:
        if snapshot:
            cursor.execute(f"{begin}; SET TRANSACTION SNAPSHOT %s", (snapshot.name,))
        else:
            cursor.execute(begin)
