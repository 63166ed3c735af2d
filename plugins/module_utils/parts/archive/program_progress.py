# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far pg_dump and pg_restore are with the rows, by what the server shows of their COPY commands.

Both take tables in an order that is known: with several jobs the largest first, otherwise pg_dump by schema and name,
pg_restore as the archive lists them. So whatever comes before a table that is being copied is copied, or just is.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry

PAUSE = 60.0  # seconds, after a session was refused
ALMOST = 0.99  # of a table that is still copied
SINCE = 140000  # pg_stat_progress_copy


@dataclass(frozen=True)
class RowsOfTable:
    """``bytes`` as the table, or its file in the archive, is large; ``rows`` None where nobody has counted them."""

    schema: str
    name: str
    bytes: int
    rows: int | None


class ProgramProgress:
    """``tables`` in the order in which the program takes them; ``command`` is COPY TO or COPY FROM."""

    def __init__(self, connect: Callable[[], Connection], command: str, tables: list[RowsOfTable]) -> None:
        self._connect = connect
        self._command = command
        self._tables = tables
        self._place = {(table.schema, table.name): number for number, table in enumerate(tables)}
        self._furthest = 0
        self._session: Connection | None = None
        self._next_try = 0.0
        self._looking = threading.Lock()

    def look(self) -> Extent | None:
        """None where the server does not show it, or cannot be asked."""
        with self._looking:
            if time.monotonic() < self._next_try:
                return None
            try:
                if self._session is None or self._session.closed:
                    self._session = self._connect()
                if self._session.info.server_version >= SINCE:
                    return self._extent(self._session)
            except (psycopg2.Error, HandoverError):  # no connection is left, perhaps: those who need one come first
                self._next_try = time.monotonic() + PAUSE
            return None

    def close(self) -> None:
        """The session goes, and none comes any more: a database that is renamed next must have none."""
        with self._looking:
            self._next_try = math.inf
            if self._session is not None:
                self._session.close()

    def _extent(self, session: Connection) -> Extent:
        query = """
            SELECT n.nspname::text, c.relname::text, p.tuples_processed, p.bytes_processed
            FROM pg_stat_progress_copy AS p JOIN pg_class AS c ON c.oid = p.relid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE p.datname = current_database() AND p.command = %s"""
        found = {(schema, name): amounts for schema, name, *amounts in catalog.rows(session, query, (self._command,))}
        current = {self._place[key]: amounts for key, amounts in found.items() if key in self._place}
        self._furthest = max([self._furthest, *current])
        under_way = {(self._tables[n].schema, self._tables[n].name): self._done(n, *current[n]) for n in current}
        passed = [n for n in range(self._furthest) if n not in current]
        done = sum(self._tables[n].bytes for n in passed) + sum(copied for copied, _total in under_way.values())
        total = sum(table.bytes for table in self._tables)
        return Extent((done, total), (len(passed), len(self._tables)), under_way)

    def _done(self, number: int, rows: int, size: int) -> tuple[int, int]:
        """(done, total) bytes of a table that is being copied."""
        table = self._tables[number]
        share = rows / table.rows if table.rows else size / max(table.bytes, 1)
        return int(min(share, ALMOST) * table.bytes), table.bytes


@contextlib.contextmanager
def of_dump(connect: Callable[[], Connection], connection: Connection, jobs: int) -> Iterator[ProgramProgress]:
    """That of pg_dump, for all tables of the database that ``connection`` is in."""
    query = f"""
        SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid), nullif(greatest(c.reltuples, 0), 0)::bigint
        FROM {catalog.OWN_RELATIONS} AND c.relkind = 'r'"""
    tables = [RowsOfTable(*row) for row in catalog.rows(connection, query)]
    with contextlib.closing(ProgramProgress(connect, "COPY TO", _in_order(tables, jobs))) as found:
        yield found


@contextlib.contextmanager
def of_restore(
    connect: Callable[[], Connection], entries: list[Entry], directory: str, counts: list[dict] | None, jobs: int
) -> Iterator[ProgramProgress]:
    """That of pg_restore, for the rows among the entries; ``counts`` are those of the manifest."""
    rows = {(one["schema"], one["table"]): one["rows"] for one in counts or ()}
    sizes = {
        name.partition(".dat")[0]: os.path.getsize(os.path.join(directory, name)) for name in os.listdir(directory)
    }
    tables = []
    for entry in entries:
        if entry.desc == "TABLE DATA":
            key = entry.namespace or "", entry.tag
            size = sizes.get((entry.filename or "").partition(".dat")[0], 0)
            tables.append(RowsOfTable(*key, size, rows.get(key)))
    ordered = sorted(tables, key=lambda one: -one.bytes) if jobs > 1 else tables
    with contextlib.closing(ProgramProgress(connect, "COPY FROM", ordered)) as found:
        yield found


def _in_order(tables: list[RowsOfTable], jobs: int) -> list[RowsOfTable]:
    if jobs > 1:
        return sorted(tables, key=lambda one: -one.bytes)
    return sorted(tables, key=lambda one: (one.schema.encode(), one.name.encode()))
