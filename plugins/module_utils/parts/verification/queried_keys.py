# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a table, looked at by queries."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    SEEDS,
    relation,
    row_text,
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


class Queries(Search):
    """The server hashes, and only what differs travels. Rows without a key are named by their place."""

    def __init__(self, connection: Connection, pair: TablePair, side: str, rate: Rate) -> None:
        self._connection, self._table, self._form = connection, pair.tables[side], pair.form
        self._rate = rate
        self._key = pair.tables["source"].key  # both ends take that of the source
        self.keyed, self.names_rows = bool(self._key), True
        columns = tuple(one for one in self._table.columns if one.name in self._key) if self._key else None
        self._key_text = row_text(self._table, self._form, columns)

    def buckets(self, mask: int) -> dict[int, tuple[int, int]]:
        statement = sql.SQL(
            "SELECT hashtextextended(k, {seed}) & {mask}, count(*), sum(hashtextextended(r, {seed}))"
            " FROM (SELECT {key} AS k, {row} AS r FROM {table} OFFSET 0) AS rows GROUP BY 1"
        ).format(
            seed=sql.Literal(SEEDS[0]),
            mask=sql.Literal(mask),
            key=self._key_text,
            row=row_text(self._table, self._form),
            table=relation(self._table),
        )
        return {bucket: (count, total) for bucket, count, total in self._read(statement)}

    def rows(self, mask: int, chosen: list[int]) -> list[Row]:
        shown = self._key or ("ctid",)
        numbers = [sql.SQL(f"c{number}") for number in range(len(shown))]
        statement = sql.SQL(
            "SELECT hashtextextended(k, {seed}), hashtextextended(r, {seed}), {numbers}"
            " FROM (SELECT {key} AS k, {row} AS r, {texts} FROM {table}"
            " WHERE hashtextextended({key}, {first}) & {mask} = ANY ({chosen}) LIMIT {limit}) AS rows"
        ).format(
            seed=sql.Literal(SEEDS[1]),
            first=sql.Literal(SEEDS[0]),
            numbers=sql.SQL(", ").join(numbers),
            key=self._key_text,
            row=row_text(self._table, self._form),
            texts=sql.SQL(", ").join(
                sql.SQL("format('%s', t.{}) AS {}").format(sql.Identifier(name), number)
                for name, number in zip(shown, numbers)
            ),
            table=relation(self._table),
            mask=sql.Literal(mask),
            chosen=sql.SQL("{}::bigint[]").format(sql.Literal(chosen)),
            limit=sql.Literal(2 * ROWS_LOOKED_AT),
        )
        found = self._read(statement)
        return [Row(dict(zip(shown, values)), key_hash, row_hash) for key_hash, row_hash, *values in found]

    def _read(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """What reads all of the table."""
        found = rows(self._connection, statement)
        self._rate.spend(self._table.bytes)
        return found

    def values(self, wanted: list[Row], show: bool) -> list[dict[str, Value]]:
        columns = self._table.columns
        hashes = sql.SQL(", ").join(
            sql.SQL("hashtextextended({}, {})").format(row_text(self._table, self._form, (one,)), sql.Literal(SEEDS[0]))
            for one in columns
        )
        texts = sql.SQL(", ").join(_shown(one.name) if show else sql.SQL("NULL") for one in columns)
        query = sql.SQL("SELECT ARRAY[{}], ARRAY[{}]::text[] FROM {} WHERE ").format(
            hashes, texts, relation(self._table)
        )
        each = []
        for row in wanted:
            is_it = sql.SQL(" AND ").join(
                sql.SQL("t.{} = {}").format(sql.Identifier(name), sql.Literal(text)) for name, text in row.key.items()
            )
            found = rows(self._connection, query + is_it)
            # Another number of rows has a key that is not equal to itself, or to another's.
            each.append(_by_name([one.name for one in columns], *found[0]) if len(found) == 1 else {})
        return each


def _shown(name: str) -> sql.Composable:
    """SQL for a value as its type writes it. A cast to text may be the application's."""
    return sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN left(format('%s', {0}), {1}) END").format(
        sql.SQL("t.{}").format(sql.Identifier(name)), sql.Literal(VALUE_LENGTH)
    )


def _by_name(names: list[str], hashes: list[int], texts: list[str | None]) -> dict[str, Value]:
    return {name: Value(hashed, text) for name, hashed, text in zip(names, hashes, texts)}
