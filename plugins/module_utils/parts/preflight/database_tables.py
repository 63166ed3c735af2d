# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a database, read once for all checks."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS


@dataclass(frozen=True)
class DatabaseTable:
    """A table, partitioned or not.

    ``name`` is quoted, ``kind`` and ``persistence`` are pg_class.relkind and relpersistence, ``rows`` is the planner's
    estimate (None if the table was never analyzed), ``heap_bytes`` the size of its main part, ``toast_bytes`` that of
    values out of line, indexes and maps of free space aside.
    """

    oid: int
    name: str
    kind: str
    persistence: str
    is_partition: bool
    rows: int | None
    heap_bytes: int
    toast_bytes: int

    @property
    def bytes(self) -> int:
        """Both parts."""
        return self.heap_bytes + self.toast_bytes

    @property
    def is_empty(self) -> bool:
        """Whether it has no rows for certain: no page was ever written since it was made or truncated."""
        return self.heap_bytes == 0


# pg_relation_size() would wait for whoever alters a table, so those have the size that the planner knows.
TABLES = f"""
    WITH locked AS (
        SELECT DISTINCT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
    own AS (SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name FROM {OWN_RELATIONS} AND c.relkind IN ('r', 'p')),
    sized AS (
        SELECT own.*,
               CASE WHEN locked.relation IS NULL THEN pg_relation_size(own.oid)
                    ELSE own.relpages * current_setting('block_size')::bigint END AS heap_bytes,
               CASE WHEN t.oid IS NULL THEN 0 WHEN locked.relation IS NULL THEN pg_relation_size(t.oid)
                    ELSE t.relpages * current_setting('block_size')::bigint END AS toast_bytes
        FROM own LEFT JOIN locked ON locked.relation = own.oid LEFT JOIN pg_class AS t ON t.oid = own.reltoastrelid)
    SELECT oid::bigint, name, relkind::text, relpersistence::text, relispartition,
           CASE WHEN reltuples > 0 OR (reltuples = 0 AND (relpages > 0 OR heap_bytes = 0)) THEN reltuples::bigint END,
           heap_bytes::bigint, toast_bytes::bigint
    FROM sized ORDER BY name"""


def read_tables(side) -> list[DatabaseTable]:
    """All tables that are not an extension's, ordered by name; temporary ones aside."""
    return [DatabaseTable(*row) for row in side.rows(TABLES)]
