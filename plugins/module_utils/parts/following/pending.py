# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which definitions rows are on their way: what the publisher will say of tables before it sends their rows.

A server says that before the first row of a table, and again when its definition was changed (PostgreSQL documentation,
54.9: Relation).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key

RELATION = ord("R")
MOST = 200_000  # messages to look at, or up to the end of the transaction that has the last of them
MESSAGES = """
    SELECT data, pg_wal_lsn_diff(lsn, '0/0')::bigint FROM pg_logical_slot_peek_binary_changes(
        %s, NULL, %s, 'proto_version', '1', 'publication_names', quote_ident(%s)) WHERE get_byte(data, 0) = %s"""


@dataclass(frozen=True)
class PendingTable:
    """A table as rows on their way have it: the publisher's oid, its name at that time, and the columns that are sent
    with their types, by oid and modifier. ``lsn`` is that of the first of them.
    """

    oid: int
    key: Key
    columns: dict[str, tuple[int, int]]
    lsn: int = 0


def read_pending(connection: Connection, stream: str) -> list[PendingTable]:
    """What the slot of that name, which nobody may be reading, would say, in its order."""
    said = rows(connection, MESSAGES, (stream, MOST, stream, RELATION))
    return [replace(parse(bytes(data)), lsn=lsn) for data, lsn in said]


def parse(message: bytes) -> PendingTable:
    """A Relation message: Byte1, Int32, String, String, Int8, Int16, and of each column Int8, String, Int32, Int32."""
    (oid,) = struct.unpack_from("!I", message, 1)
    schema, position = _text(message, 5)
    name, position = _text(message, position)
    (count,) = struct.unpack_from("!h", message, position + 1)
    position += 3
    columns = {}
    for _column in range(count):
        column, position = _text(message, position + 1)
        columns[column] = struct.unpack_from("!Ii", message, position)
        position += 8
    return PendingTable(oid, (schema or "pg_catalog", name), columns)


def _text(message: bytes, position: int) -> tuple[str, int]:
    end = message.index(b"\0", position)
    return message[position:end].decode("utf-8", "surrogateescape"), end + 1
