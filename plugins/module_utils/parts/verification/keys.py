# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of a table differ: narrowed down to keys, in a bounded number; values only on request.

Rows are sorted into buckets by a hash of their key (of the whole row where there is none), the same on both ends. The
digests of the buckets say which of them differ, and only the rows of those are looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import TablePair

T = TypeVar("T")

KEYS = 20  # rows that are named of a table
ROWS_A_BUCKET = 500
BUCKETS = (16, 1 << 17)
ROWS_LOOKED_AT = 200_000  # of the buckets that differ
VALUE_LENGTH = 200  # characters of a value that is shown


@dataclass(frozen=True)
class Row:
    """A row in a bucket that differs: its key as text by column (or its place, ``ctid``; empty where nothing tells
    rows apart), and hashes of key and row.
    """

    key: dict[str, str]
    key_hash: int
    row_hash: int


@dataclass(frozen=True)
class Value:
    """Of a column in a row: its hash, and its text, shortened, if it is to be shown."""

    hashed: int
    text: str | None = None


class Search(ABC):
    """Looks at one end's rows of a table. ``keyed``: whether they have a key; ``names_rows``: whether all can be named.
    Numbers of buckets are those bits of a hash of the key that ``mask`` has; hashes are compared with those of the
    other end, by a search of the same class.
    """

    keyed: bool
    names_rows: bool

    @abstractmethod
    def buckets(self, mask: int) -> dict[int, tuple[int, int]]:
        """By number, how many rows are in a bucket, and a digest of them."""

    @abstractmethod
    def rows(self, mask: int, chosen: list[int]) -> list[Row]:
        """The rows of these buckets, at most 2 * ROWS_LOOKED_AT."""

    @abstractmethod
    def values(self, wanted: list[Row], show: bool) -> list[dict[str, Value]]:
        """Of each of these rows the values by column; none of a row that its key does not find."""


def narrow(searches: dict[str, Search], pair: TablePair, show_values: bool) -> dict[str, Any]:
    """What is not the same: ``rows`` by side, and up to KEYS keys each that are ``missing`` on the target, ``extra``
    there, or ``changed``, with the columns; ``more`` if there are or may be others. ``searches``: by side.
    """
    buckets = max(BUCKETS[0], min(BUCKETS[1], pair.digests["source"].rows // ROWS_A_BUCKET))
    mask = (1 << (buckets - 1).bit_length()) - 1
    chosen, complete = _differing_buckets(searches, mask)
    ours, theirs = _both(searches, lambda search: search.rows(mask, chosen))
    missing, extra, changed = _apart(ours, theirs, searches["source"].keyed)
    result: dict[str, Any] = {
        "rows": {side: pair.digests[side].rows for side in ("source", "target")},
        "missing": [row.key for row in missing[:KEYS] if row.key],
        "extra": [row.key for row in extra[:KEYS] if row.key],
        "changed": _changed(searches, changed[:KEYS], show_values),
    }
    counts = {"missing": len(missing), "extra": len(extra), "changed": len(changed)}
    result["more"] = not complete or any(count > len(result[what]) for what, count in counts.items())
    return {**result, "counts": counts} if complete else result


def _both(searches: dict[str, Search], look: Callable[[Search], T]) -> list[T]:
    """Of the source and of the target, at once."""
    return together(*(partial(look, searches[side]) for side in ("source", "target")))


def _differing_buckets(searches: dict[str, Search], mask: int) -> tuple[list[int], bool]:
    """Numbers of buckets that differ, as many as may be looked at, and whether that is all of them."""
    source, target = _both(searches, lambda search: search.buckets(mask))
    chosen: list[int] = []
    looked_at = 0
    for bucket in sorted({*source, *target}):
        if source.get(bucket) != target.get(bucket):
            looked_at += max(source.get(bucket, (0,))[0], target.get(bucket, (0,))[0])
            if looked_at <= ROWS_LOOKED_AT or not chosen:
                chosen.append(bucket)
    return chosen, looked_at <= ROWS_LOOKED_AT


def _apart(source: list[Row], target: list[Row], keyed: bool) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows that are missing on the target, extra there, or changed; equal rows without a key cancel out in number."""
    ours, theirs = _by_hash(source), _by_hash(target)
    missing: list[Row] = []
    extra: list[Row] = []
    changed: list[Row] = []
    for key_hash in sorted({*ours, *theirs}):
        here, there = ours.get(key_hash, []), theirs.get(key_hash, [])
        if keyed and len(here) == len(there) == 1:
            changed += here if here[0].row_hash != there[0].row_hash else []
        else:
            missing += here[len(there) :]
            extra += there[len(here) :]
    return missing, extra, changed


def _by_hash(found: list[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in found:
        groups.setdefault(row.key_hash, []).append(row)
    return groups


def _changed(searches: dict[str, Search], changed: list[Row], show_values: bool) -> list[dict[str, Any]]:
    """``{"key", "columns": [...]}`` of each row, with ``values`` by column and side on request."""
    if not changed:
        return []
    found = []
    for row, ours, theirs in zip(changed, *_both(searches, lambda search: search.values(changed, show_values))):
        apart = [name for name in ours if name in theirs and ours[name].hashed != theirs[name].hashed]
        found.append({"key": row.key, "columns": apart})
        if show_values:
            found[-1]["values"] = {name: {"source": ours[name].text, "target": theirs[name].text} for name in apart}
    return found
