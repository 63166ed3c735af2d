# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces in which tables are copied, and the statements that read and write each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable

TID_SCAN_SINCE = 140000  # before, each piece of a table would read all of it
SMALL = 1 << 20  # bytes; below, the cost of a transaction is more than that of the rows
# Names in values, as those of regclass, are written with their schema: it runs without the path it was planned with.
UNSET = """
    WITH unset AS MATERIALIZED (SELECT pg_catalog.set_config('search_path', '', true))
    SELECT s.* FROM unset, ({}) AS s"""
LAST_PAGES = 8  # of a table, of which half of a sample is
BATCH_TABLES = 64
BATCH_BYTES = 16 << 20
LEAST_PIECE = 128 << 20


@dataclass(frozen=True)
class Piece:
    """A table, or a range of its pages: from ``first`` up to, but not including, ``last`` (None: to the end); or a
    ``sample`` of so many of its rows; ``by_ranges``: of its first and last pages, planned by
    the application's search_path, ``path``: to plan a query servers look into functions of the table's indexes.
    """

    table: SourceTable
    first: int | None = None
    last: int | None = None
    sample: int | None = None
    by_ranges: bool = False
    path: str | None = None

    @property
    def is_whole(self) -> bool:
        return self.first is None

    @property
    def size(self) -> int:
        """Bytes, about."""
        if self.is_whole:
            return self.table.size
        return self.table.size * ((self.last or self.table.pages) - self.first) // max(1, self.table.pages)

    def reads(self, binary: bool):
        """The COPY statement that the source runs."""
        relation = self.table.identifier
        if self.is_whole and self.last is None and self.sample is None and not self.table.condition:
            return sql.SQL("COPY {}{} TO STDOUT{}").format(relation, _columns(self.table), _options(binary))
        return sql.SQL("COPY ({}) TO STDOUT{}").format(self.planned_query(), _options(binary))

    def planned_query(self) -> sql.Composable:
        """What is read, as SELECT that can be planned by the application's search_path."""
        return self.query() if self.path is None else sql.SQL(UNSET).format(self.query())

    def planned_with(self, connection) -> bytes:
        """What sets that path before."""
        with connection.cursor() as cursor:
            return cursor.mogrify("SELECT pg_catalog.set_config('search_path', %s, true)", (self.path,))

    def query(self) -> sql.Composable:
        """What is read, as SELECT. A sample is of the first and the last pages, where these are cheap to find."""
        first = [f"ctid >= '({self.first},0)'::pg_catalog.tid"] if self.first else []
        last = [f"ctid < '({self.last},0)'::pg_catalog.tid"] if self.last else []
        if self.sample is None:
            return self._select([*first, *last])
        if not self.by_ranges:
            return self._select([], self.sample)
        bound = self.table.pages - LAST_PAGES
        half = self.sample // 2
        parts = (
            self._select([f"ctid < '({bound},0)'::pg_catalog.tid"], self.sample - half),
            self._select([f"ctid >= '({bound},0)'::pg_catalog.tid"], half),
        )
        return sql.SQL("({}) UNION ALL ({})").format(*parts)

    def _select(self, conditions: list[str], limit: int | None = None):
        table = self.table
        conditions = [table.condition.strip()[len("WHERE ") :], *conditions] if table.condition else conditions
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        query = sql.SQL("SELECT {} FROM ONLY {}").format(columns, table.identifier)
        if conditions:
            where = sql.SQL(" AND ").join([sql.SQL("(") + sql.SQL(one) + sql.SQL(")") for one in conditions])
            query += sql.SQL(" WHERE {}").format(where)
        return query + sql.SQL(" LIMIT {}").format(sql.Literal(limit)) if limit is not None else query

    def writes(self, binary: bool, freeze: bool):
        """The COPY statement that the target runs."""
        place = self.table.root if self.table.through_root else self.table.key
        relation = sql.Identifier(*place)
        return sql.SQL("COPY {}{} FROM STDIN{}").format(relation, _columns(self.table), _options(binary, freeze))


def _columns(table: SourceTable):
    """The list of columns; a table without any has none, and one that has generated columns only needs none."""
    names = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    return sql.SQL(" ({})").format(names) if table.columns else sql.SQL("")


def _options(binary: bool, freeze: bool = False):
    chosen = [word for word, wanted in (("FORMAT binary", binary), ("FREEZE true", freeze)) if wanted]
    return sql.SQL(f" WITH ({', '.join(chosen)})" if chosen else "")


def sampled(table: SourceTable, rows: int, server_version: int, path: str | None = None) -> Piece:
    """So many rows of a table."""
    cheap = server_version >= TID_SCAN_SINCE and table.pages > 2 * LAST_PAGES and bool(table.columns)
    return Piece(table, sample=rows, by_ranges=cheap and not table.condition, path=path)


def split(table: SourceTable, jobs: int, total: int, limit: int | None, server_version: int) -> list[Piece]:
    """A table in pieces, where several sessions at one table are worth it: when it is larger than ``limit`` bytes if
    that is given, else more than a fair share of the ``total`` bytes that ``jobs`` sessions have before them; for two,
    when it is most of them: otherwise frozen rows spare more.
    """
    if server_version < TID_SCAN_SINCE or not table.pages or table.condition or table.through_root:
        return [Piece(table)]
    share = limit or max(LEAST_PIECE, total // jobs // 2)
    fair = {1: math.inf, 2: max(LEAST_PIECE, total * 3 // 4)}.get(jobs, 2 * share)
    worth_it = table.size > (limit or fair)
    count = min(table.pages, math.ceil(table.size / share)) if worth_it else 1
    if count < 2:
        return [Piece(table)]
    bounds = [table.pages * number // count for number in range(count)]
    return [Piece(table, first, last) for first, last in zip(bounds, [*bounds[1:], None])]


def batches(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces, biggest first, in the groups of which each is copied in one transaction: small ones together."""
    groups = [[piece] for piece in pieces if piece.size > SMALL or not piece.is_whole]
    group = []
    for piece in (piece for piece in pieces if piece.size <= SMALL and piece.is_whole):
        if len(group) == BATCH_TABLES or sum(one.size for one in group) + piece.size > BATCH_BYTES:
            groups.append(group)
            group = []
        group.append(piece)
    return [*groups, *([group] if group else [])]
