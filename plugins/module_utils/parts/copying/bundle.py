# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of many little tables in one answer of the source, as a server that is far takes longer to be asked than to
send them.

The server makes a value of all rows of a table, each as record_send gives it: the number of columns, and of each its
type's oid, its length and its binary form. Without the oids that is a row of COPY's binary format (PostgreSQL
documentation, COPY, File Formats).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from itertools import groupby

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, keep, sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import encoded
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece

LITTLE = 1 << 17  # bytes of a table
BYTES = 4 << 20  # of all tables in one answer
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
SAVEPOINT = "SAVEPOINT handover_bundle"
BACK = "ROLLBACK TO SAVEPOINT handover_bundle"


def bundles(pieces: list[Piece], is_binary: Callable[[Piece], bool]) -> list[list[Piece]]:
    """The pieces in their order, those together whose rows can come in one answer."""

    def is_fit(piece: Piece) -> bool:
        return piece.is_whole and piece.size <= LITTLE and not piece.table.evaluates and is_binary(piece)

    found: list[list[Piece]] = []
    for fits, group in groupby(pieces, is_fit):
        size = None
        for piece in group:
            if size is None or size + piece.size > BYTES or not fits:
                found.append([])
                size = 0
            found[-1].append(piece)
            size += piece.size
    return found


def read(source: Connection, pieces: list[Piece]) -> list[tuple[int, bytes]]:
    """Of each piece, the number of rows, and what COPY would have sent in binary form. Raises psycopg2.Error; then the
    transaction is where it was before ``BACK``.
    """
    parts = [_rows_of(number, piece) for number, piece in enumerate(pieces)]
    query = sql.SQL("COPY ({} ORDER BY 1) TO STDOUT WITH (FORMAT binary)").format(sql.SQL(" UNION ALL ").join(parts))
    answer = io.BytesIO()
    keep(source, SAVEPOINT)
    if pieces[0].path is not None:
        keep(source, pieces[0].planned_with(source))
    with source.cursor() as cursor:
        cursor.copy_expert(encoded(source, query), answer)
    return [(rows, HEADER + b"".join(_without_oids(records)) + END) for rows, records in _values(answer.getvalue())]


def _rows_of(number: int, piece: Piece) -> sql.Composable:
    columns = sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in piece.table.columns)
    query = "SELECT {}, count(*), string_agg(record_send(ROW({})), '') FROM ({}) AS s"
    return sql.SQL(query).format(sql.Literal(number), columns, piece.planned_query())


def _values(answer: bytes) -> Iterator[tuple[int, bytes]]:
    """(rows, records) of each line."""
    place = len(HEADER)
    while answer[place : place + 2] != END:
        rows, size = struct.unpack_from("!qi", answer, place + 14)  # after two lengths, and the line's number
        place += 26 + max(size, 0)
        yield rows, answer[place - max(size, 0) : place]


def _without_oids(records: bytes) -> Iterator[bytes]:
    place, end = 0, len(records)
    while place < end:
        columns = int.from_bytes(records[place : place + 4], "big")
        place += 4
        yield columns.to_bytes(2, "big")
        for _column in range(columns):
            size = int.from_bytes(records[place + 4 : place + 8], "big", signed=True)
            start, place = place + 4, place + 8 + max(size, 0)
            yield records[start:place]
