# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a table of which no query is planned (facts/planning.py), looked at as COPY writes them.

COPY gives all rows each time, and not their places: the table is read for the buckets, for the rows of those that
differ, and, if rows were changed, once more for these. Nothing is kept but numbers of buckets, hashes and keys.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts import planning
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.copied_rows import (
    as_newest,
    written_otherwise,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.keys import (
    ROWS_LOOKED_AT,
    VALUE_LENGTH,
    Row,
    Search,
    Value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import TablePair

ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
BYTES = 4 * (VALUE_LENGTH + 1)  # hold as many characters, however these are written, and one that may be cut


class Copies(Search):
    """All is hashed here. Rows without a key have no name. Columns that COPY leaves out are not looked at."""

    def __init__(self, connection: Connection, pair: TablePair, side: str) -> None:
        self._connection, self._table = connection, pair.tables[side]
        columns = {one.name: one for one in pair.copied(side)}
        key = pair.tables["source"].key  # both ends take that of the source
        self._key = key if columns.keys() >= set(key) else ()
        self.keyed = self.names_rows = bool(self._key)
        self._names = [*self._key, *(name for name in columns if name not in self._key)]
        self._otherwise = written_otherwise([columns[name] for name in self._names])

    def buckets(self, mask: int) -> dict[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}

        def add(_row: bytes, key_hash: int, row_hash: int) -> None:
            count, total = found.get(key_hash & mask, (0, 0))
            found[key_hash & mask] = count + 1, total + row_hash

        self._read(add)
        return found

    def rows(self, mask: int, chosen: list[int]) -> list[Row]:
        found: list[Row] = []
        buckets = set(chosen)

        def add(row: bytes, key_hash: int, row_hash: int) -> None:
            if key_hash & mask in buckets and len(found) < 2 * ROWS_LOOKED_AT:
                values = row.split(b"\t", len(self._key))
                key = {name: _text(one) or "" for name, one in zip(self._key, values)}
                found.append(Row(key, key_hash, row_hash))

        self._read(add)
        return found

    def values(self, wanted: list[Row], show: bool) -> list[dict[str, Value]]:
        found: dict[int, dict[str, Value]] = {row.key_hash: {} for row in wanted}

        def add(row: bytes, key_hash: int, _row_hash: int) -> None:
            if key_hash in found:
                texts = [_text(one[:BYTES], VALUE_LENGTH) if show else None for one in row.split(b"\t")]
                hashes = map(_hash, as_newest(row, self._otherwise).split(b"\t"))
                values = {name: Value(*each) for name, each in zip(self._names, zip(hashes, texts))}
                found[key_hash] = dict(sorted(values.items()))

        self._read(add)
        return [found[row.key_hash] for row in wanted]

    def _read(self, see: Callable[[bytes, int, int], None]) -> None:
        """``see(row, hash of its key, hash of all)`` for every row."""
        width = len(self._key)

        def look(line: bytes) -> None:
            row = line[:-1]
            newest = as_newest(row, self._otherwise)
            hashed = _hash(newest)
            see(row, _hash(b"\t".join(newest.split(b"\t", width)[:width])) if width else hashed, hashed)

        planning.copy_rows(self._connection, self._table.identity, self._names, look)


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _text(value: bytes, length: int | None = None) -> str | None:
    """A value in COPY's text as a query would show it. Bytes of no encoding are shown as they are escaped."""
    if value == b"\\N":
        return None
    plain = ESCAPE.sub(lambda found: ESCAPED.get(found[1], found[1]), value) if b"\\" in value else value
    return plain.decode(errors="backslashreplace")[:length]
