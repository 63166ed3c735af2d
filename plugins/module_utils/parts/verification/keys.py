# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows of a table differ: narrowed down to keys, in a bounded number; values only on request.

Rows are sorted into buckets by a hash of their key (of the whole row where there is none), the same on both ends. The
digests of the buckets say which of them differ, and only the rows of those are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    SEEDS,
    relation,
    row_text,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import Pair

KEYS = 20  # rows that are named of a table
ROWS_A_BUCKET = 500
BUCKETS = (16, 1 << 17)
ROWS_LOOKED_AT = 200_000  # of the buckets that differ
VALUE_LENGTH = 200  # characters of a value that is shown


@dataclass(frozen=True)
class Row:
    """A row in a bucket that differs: its key as text by column (or its place, ``ctid``), and hashes of key and row."""

    key: dict
    key_hash: int
    row_hash: int


def narrow(connections: dict, pair: Pair, show_values: bool) -> dict:
    """What is not the same: ``rows`` by side, and up to KEYS keys each that are ``missing`` on the target, ``extra``
    there, or ``changed``, with the columns; ``more`` if there are or may be others.
    """
    buckets = max(BUCKETS[0], min(BUCKETS[1], pair.digests["source"].rows // ROWS_A_BUCKET))
    chosen, complete = _differing_buckets(connections, pair, buckets)
    found = {side: _rows(connection, pair, side, buckets, chosen) for side, connection in connections.items()}
    missing, extra, changed = _apart(found["source"], found["target"], bool(pair.tables["source"].key))
    result = {
        "rows": {side: pair.digests[side].rows for side in ("source", "target")},
        "missing": [row.key for row in missing[:KEYS]],
        "extra": [row.key for row in extra[:KEYS]],
        "changed": [_changed(connections, pair, row, show_values) for row in changed[:KEYS]],
        "more": not complete or max(map(len, (missing, extra, changed))) > KEYS,
    }
    if complete:
        result["counts"] = {"missing": len(missing), "extra": len(extra), "changed": len(changed)}
    return result


def _key_text(pair: Pair, side: str):
    """SQL for what sorts rows into buckets; both ends take the key of the source."""
    table, form = pair.tables[side], pair.form
    key = pair.tables["source"].key
    columns = tuple(column for column in table.columns if column.name in key) if key else None
    return row_text(table, form, columns)


def _differing_buckets(connections: dict, pair: Pair, buckets: int) -> tuple[list[int], bool]:
    """Numbers of buckets that differ, as many as may be looked at, and whether that is all of them."""
    digests = {}
    for side, connection in connections.items():
        statement = sql.SQL(
            "SELECT hashtextextended(k, {seed}) & {mask}, count(*), sum(hashtextextended(r, {seed}))"
            " FROM (SELECT {key} AS k, {row} AS r FROM {table} OFFSET 0) AS rows GROUP BY 1"
        ).format(
            seed=sql.Literal(SEEDS[0]),
            mask=sql.Literal(_mask(buckets)),
            key=_key_text(pair, side),
            row=row_text(pair.tables[side], pair.form),
            table=relation(pair.tables[side]),
        )
        digests[side] = {bucket: (count, total) for bucket, count, total in rows(connection, statement)}
    source, target = digests["source"], digests["target"]
    chosen, looked_at = [], 0
    for bucket in sorted({*source, *target}):
        if source.get(bucket) != target.get(bucket):
            looked_at += max(source.get(bucket, (0,))[0], target.get(bucket, (0,))[0])
            if looked_at <= ROWS_LOOKED_AT or not chosen:
                chosen.append(bucket)
    return chosen, looked_at <= ROWS_LOOKED_AT


def _mask(buckets: int) -> int:
    """The bits of a hash that number about as many buckets."""
    return (1 << max(buckets - 1, 1).bit_length()) - 1


def _rows(connection, pair: Pair, side: str, buckets: int, chosen: list[int]) -> list[Row]:
    """All rows of the chosen buckets."""
    table, key = pair.tables[side], pair.tables["source"].key
    shown = key or ("ctid",)
    numbers = [sql.SQL(f"c{number}") for number in range(len(shown))]
    statement = sql.SQL(
        "SELECT hashtextextended(k, {seed}), hashtextextended(r, {seed}), {numbers}"
        " FROM (SELECT {key} AS k, {row} AS r, {texts} FROM {table}"
        " WHERE hashtextextended({key}, {first}) & {mask} = ANY ({chosen}) LIMIT {limit}) AS rows"
    ).format(
        seed=sql.Literal(SEEDS[1]),
        first=sql.Literal(SEEDS[0]),
        numbers=sql.SQL(", ").join(numbers),
        key=_key_text(pair, side),
        row=row_text(table, pair.form),
        texts=sql.SQL(", ").join(
            sql.SQL("format('%s', t.{}) AS {}").format(sql.Identifier(name), number)
            for name, number in zip(shown, numbers)
        ),
        table=relation(table),
        mask=sql.Literal(_mask(buckets)),
        chosen=sql.SQL("{}::bigint[]").format(sql.Literal(chosen)),
        limit=sql.Literal(2 * ROWS_LOOKED_AT),
    )
    return [Row(dict(zip(shown, values)), *hashes) for *hashes, values in _split(rows(connection, statement))]


def _split(found: list[tuple]):
    """(key hash, row hash, values) of each."""
    return ((key_hash, row_hash, values) for key_hash, row_hash, *values in found)


def _apart(source: list[Row], target: list[Row], keyed: bool) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows that are missing on the target, extra there, or changed; equal rows without a key cancel out in number."""
    ours, theirs = _by_hash(source), _by_hash(target)
    missing, extra, changed = [], [], []
    for key_hash in sorted({*ours, *theirs}):
        here, there = ours.get(key_hash, []), theirs.get(key_hash, [])
        if keyed and len(here) == len(there) == 1:
            changed += here if here[0].row_hash != there[0].row_hash else []
        else:
            missing += here[len(there) :]
            extra += there[len(here) :]
    return missing, extra, changed


def _by_hash(found: list[Row]) -> dict[int, list[Row]]:
    groups = {}
    for row in found:
        groups.setdefault(row.key_hash, []).append(row)
    return groups


def _changed(connections: dict, pair: Pair, row: Row, show_values: bool) -> dict:
    """``{"key", "columns": [...]}`` of a row, with ``values`` by column and side on request."""
    columns = pair.tables["source"].columns
    digests, values = {}, {}
    for side, connection in connections.items():
        table = pair.tables[side]
        hashes = sql.SQL(", ").join(
            sql.SQL("hashtextextended({}, {})").format(row_text(table, pair.form, (column,)), sql.Literal(SEEDS[0]))
            for column in columns
        )
        texts = sql.SQL(", ").join(
            sql.SQL("left(t.{}::text, {})").format(sql.Identifier(column.name), sql.Literal(VALUE_LENGTH))
            for column in columns
        )
        is_it = sql.SQL(" AND ").join(
            sql.SQL("t.{} = {}").format(sql.Identifier(name), sql.Literal(text)) for name, text in row.key.items()
        )
        query = sql.SQL("SELECT {} FROM {} WHERE {}")
        found = rows(connection, query.format(hashes, relation(table), is_it))
        if len(found) != 1:  # a key that is not equal to itself, or another's
            return {"key": row.key, "columns": []}
        digests[side] = found[0]
        if show_values:
            values[side] = rows(connection, query.format(texts, relation(table), is_it))[0]
    apart = [number for number, one in enumerate(digests["source"]) if one != digests["target"][number]]
    result = {"key": row.key, "columns": [columns[number].name for number in apart]}
    if show_values:
        result["values"] = {
            columns[number].name: {side: values[side][number] for side in ("source", "target")} for number in apart
        }
    return result
