# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of rows, computed by the servers: equal on all majors if and, but for an accident of hashes, only if the
rows are equal, in any order.

A row's text, made by the output functions of its types under pinned settings, is hashed to 64 bits twice, with
different seeds; the digest is the number of rows and the two sums of hashes. Sums, not XOR, so that equal rows count
each; exact (numeric), so that nothing wraps. hashtextextended is what hash partitioning rests upon, so its results are
fixed (PostgreSQL documentation, 5.12: partitions outlive pg_upgrade); it depends on the byte order of the machine,
which is why ``form_for`` asks both servers to hash something. Two different sets of rows have the same digest with a
probability of about 2^-128; no one who could choose the rows is kept from finding such sets.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, keep, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import known, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import Column, Table

SEEDS = (0, 4711)
BLOCKS = 16384  # of a table that are read by one statement: 128 MiB
ARGUMENTS = 96  # of a function are at most 100
TID_RANGES_SINCE = 140000  # before, every range of blocks would read the whole table

# What the endpoints pin, and what of the other settings can change the text of a value or of a definition.
SETTINGS = (
    "SET lc_monetary = 'C'; SET quote_all_identifiers = off; SET max_parallel_workers_per_gather = 0;"
    " SET synchronize_seqscans = off"
)
PROBE = "SELECT hashtextextended('The quick brown fox jumps over the lazy dog', 4711)"


@dataclass(frozen=True)
class Form:
    """How rows are made into text. ``portable``: the same where the databases have different encodings. ``wide``:
    also for rows whose text is larger than the 1 GiB that a value may have; slower. ``copied``: here, not there.
    """

    portable: bool = False
    wide: bool = False
    copied: bool = False


@dataclass(frozen=True)
class Digest:
    """Of a set of rows. Digests of disjoint sets add up."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, self.first + other.first, self.second + other.second)


@dataclass(frozen=True)
class Part:
    """The rows of a table in blocks from ``start`` up to, not including, ``end``; None is its beginning or end."""

    table: Table
    start: int | None = None
    end: int | None = None

    @property
    def bytes(self) -> int:
        """About what has to be read."""
        if self.start is None and self.end is None:
            return self.table.bytes
        blocks = (self.end or max(self.table.blocks, self.start or 0)) - (self.start or 0)
        return self.table.bytes * blocks // max(self.table.blocks, 1)


def configure(connection: Connection) -> None:
    """Make a session of an endpoint one whose values and definitions can be compared with those of another server."""
    keep(connection, SETTINGS)


def form_for(source: Connection, target: Connection) -> Form:
    """How the rows of these two databases can be compared. Raises HandoverError where the servers hash differently."""
    if known(source, PROBE) != known(target, PROBE):
        raise HandoverError(
            "The two servers compute different hashes of the same text, as machines of different byte order do.",
            "Compare logical dumps of both databases instead.",
        )
    encodings = {one.info.parameter_status("server_encoding") for one in (source, target)}
    return Form(portable=len(encodings) > 1)


def parts_of(table: Table, server_version: int) -> list[Part]:
    """What is read of the table by one statement each."""
    if table.blocks <= BLOCKS or server_version < TID_RANGES_SINCE:
        return [Part(table)]
    starts = list(range(0, table.blocks, BLOCKS))
    return [Part(table, start or None, end) for start, end in zip(starts, [*starts[1:], None])]


def digests(
    connection: Connection, parts: list[Part], form: Form, columns: tuple[Column, ...] | None = None
) -> list[Digest]:
    """The digest of each, of all columns or these, by one statement. Raises psycopg2.Error if one cannot be read."""
    each = [
        sql.SQL("SELECT {}, count(*), {} FROM (SELECT {} AS r FROM {} OFFSET 0) AS rows").format(
            sql.Literal(number), _sums(), row_text(part.table, form, columns), _from(part)
        )
        for number, part in enumerate(parts)
    ]
    found = rows(connection, sql.SQL(" UNION ALL ").join(each))
    return [Digest(*map(int, numbers)) for _number, *numbers in sorted(found)]


def _sums() -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("coalesce(sum(hashtextextended(r, {})), 0)").format(sql.Literal(seed)) for seed in SEEDS
    )


def row_text(table: Table, form: Form, columns: tuple[Column, ...] | None = None) -> sql.Composable:
    """SQL for the text of a row of ``t``: of all columns, or of these; no two rows that differ have the same."""
    chosen = table.columns if columns is None else columns
    if not (form.portable or form.wide):
        return sql.SQL('{} COLLATE "C"').format(_concatenated(chosen))
    text = _quoted(chosen, form)
    if form.portable:  # ASCII only, hence the same bytes in every encoding
        text = sql.SQL("encode(convert_to({}, 'UTF8'), 'escape')").format(text)
    return sql.SQL('{} COLLATE "C"').format(text)


def _quoted(columns: tuple[Column, ...], form: Form) -> sql.Composable:
    """ROW(...)::text calls every type's output function, quotes what is in it, and tells NULL from ''."""
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(_column(column, form) for column in columns))


def _concatenated(columns: tuple[Column, ...]) -> sql.Composable:
    """The same in two thirds of the time, as quotes are found byte by byte: texts stand after their length, and what
    may be anything stands last, and quoted.
    """
    pieces, others = [], tuple(column for column in columns if column.kind == "other")
    for column in columns:
        value = _column(column, Form())
        if column.kind == "text":
            pieces += [sql.SQL("octet_length({})").format(value), sql.SQL("':'"), value, sql.SQL("'|'")]
        elif column.kind != "other":
            pieces += [value, sql.SQL("'|'")]
    pieces += [_quoted(others, Form())] if others else []
    groups = [pieces[first : first + ARGUMENTS] for first in range(0, len(pieces), ARGUMENTS)]
    found = [sql.SQL("concat({})").format(sql.SQL(", ").join(group)) for group in groups]
    return found[0] if len(found) == 1 else sql.SQL("concat({})").format(sql.SQL(", ").join([sql.SQL("''"), *found]))


def _column(column: Column, form: Form) -> sql.Composable:
    name = sql.SQL("t.{}").format(sql.Identifier(column.name))
    if column.kind == "char":
        return sql.SQL("{}::int4").format(name)
    if column.kind == "lsn":
        return sql.SQL("regexp_replace({}::text, '/0+(?=[0-9A-F])', '/', 'g')").format(name)
    if not form.wide:
        return name
    if column.kind == "bytea":
        return sql.SQL("sha256({})").format(name)
    return sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN sha256(convert_to(format('%s', {0}), 'UTF8')) END").format(name)


def _from(part: Part) -> sql.Composable:
    """FROM and WHERE: ``ONLY schema.table AS t WHERE ...``."""
    conditions: list[sql.Composable] = []
    if part.start is not None:
        conditions.append(sql.SQL("t.ctid >= {}::tid").format(sql.Literal(f"({part.start},0)")))
    if part.end is not None:
        conditions.append(sql.SQL("t.ctid < {}::tid").format(sql.Literal(f"({part.end},0)")))
    return sql.SQL("{} {}").format(relation(part.table), where(conditions))


def relation(table: Table) -> sql.Composable:
    """``ONLY schema.table AS t``, or the user's part of an extension's table."""
    name = sql.SQL("ONLY {}").format(sql.Identifier(*table.identity))
    if table.condition:
        name = sql.SQL("(SELECT *, ctid FROM {} {})").format(name, sql.SQL(table.condition))
    return sql.SQL("{} AS t").format(name)


def where(conditions: list[sql.Composable]) -> sql.Composable:
    """WHERE and all of the conditions, or nothing."""
    return sql.SQL("WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
