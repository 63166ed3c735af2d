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
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import TablePair

ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
BYTES = 4 * (VALUE_LENGTH + 1)  # hold as many characters, however these are written, and one that may be cut


class Copies(Search):
    """All is hashed here. Rows without a key have no name. Columns that COPY leaves out are not looked at."""

    def __init__(self, connection: Connection, pair: TablePair, side: str, rate: Rate) -> None:
        self._connection, self._table, self._rate = connection, pair.tables[side], rate
        columns = {one.name: one for one in pair.copied(side)}
        key = pair.tables["source"].key  # both ends take that of the source
        self._key = key if columns.keys() >= set(key) else ()
        self.keyed = self.names_rows = bool(self._key)
        self._names = [*self._key, *(name for name in columns if name not in self._key)]
        self._otherwise = written_otherwise([columns[name] for name in self._names])

    def buckets(self, mask: int) -> dict[int, tuple[int, int]]:
        counts, totals = [0] * (mask + 1), [0] * (mask + 1)

        def add(_row: bytes, newest: bytes, key_hash: int) -> None:
            counts[key_hash & mask] += 1
            totals[key_hash & mask] += _hash(newest)

        self._read(add)
        return {number: (count, totals[number]) for number, count in enumerate(counts) if count}

    def rows(self, mask: int, chosen: list[int]) -> list[Row]:
        found: list[Row] = []
        buckets = set(chosen)

        def add(row: bytes, newest: bytes, key_hash: int) -> None:
            if key_hash & mask in buckets and len(found) < 2 * ROWS_LOOKED_AT:
                values = row.split(b"\t", len(self._key))
                key = {name: _text(one) or "" for name, one in zip(self._key, values)}
                found.append(Row(key, key_hash, _hash(newest)))

        self._read(add)
        return found

    def values(self, wanted: list[Row], show: bool) -> list[dict[str, Value]]:
        found: dict[int, dict[str, Value]] = {row.key_hash: {} for row in wanted}

        def add(row: bytes, newest: bytes, key_hash: int) -> None:
            if key_hash in found:
                texts = [_text(one[:BYTES], VALUE_LENGTH) if show else None for one in row.split(b"\t")]
                values = zip(map(_hash, newest.split(b"\t")), texts)
                found[key_hash] = dict(sorted((name, Value(*each)) for name, each in zip(self._names, values)))

        self._read(add)
        return [found[row.key_hash] for row in wanted]

    def _read(self, see: Callable[[bytes, bytes, int], None]) -> None:
        """``see(row, row as newer majors write it, hash of its key)`` for all rows."""
        width, otherwise, spend = len(self._key), self._otherwise, self._rate.spend

        def look(line: bytes) -> None:
            spend(len(line))
            row = line[:-1]
            newest = as_newest(row, otherwise)
            see(row, newest, _hash(b"\t".join(newest.split(b"\t", width)[:width]) if width else newest))

        planning.copy_rows(self._connection, self._table.identity, self._names, look)


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def _text(value: bytes, length: int | None = None) -> str | None:
    """A value in COPY's text as a query would show it. Bytes of no encoding are shown as they are escaped."""
    if value == b"\\N":
        return None
    plain = ESCAPE.sub(lambda found: ESCAPED.get(found[1], found[1]), value) if b"\\" in value else value
    return plain.decode(errors="backslashreplace")[:length]
