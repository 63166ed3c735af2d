# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of all tables of two databases, compared by digests over several sessions at once.

Each end is read by its own sessions in its own order of blocks; as digests of parts add up, the parts of the two ends
need not be the same. Small tables share statements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import for_each, together
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import copied_rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    Digest,
    Form,
    Part,
    digests,
    parts_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import Column, Table

TOGETHER = 64  # tables of one statement at most,
TOGETHER_BYTES = 1 << 23  # and what they hold
# A row, or a value of it, is larger than a value may be: program_limit_exceeded, out_of_memory, internal_error.
TOO_LARGE = ("54000", "53200", "XX000")
AGAIN = "too large for one value; it is read again in another form"  # a problem that nobody sees


@dataclass
class TablePair:
    """A table on both ends. ``digests``: by side, none before it is complete; ``problem``: why it could not be read,
    with the side; ``form``: how it was read. Of a table that was copied, ``computed`` are digests of the generated
    columns by side, and ``unread`` says which of these could not be read, and why.
    """

    tables: dict[str, Table]
    form: Form
    digests: dict[str, Digest] = field(default_factory=dict)
    computed: dict[str, Digest] = field(default_factory=dict)
    problem: str | None = None
    unread: str | None = None

    @property
    def generated(self) -> frozenset[str]:
        """Columns that one of the ends computes, and COPY leaves out."""
        return frozenset(one.name for table in self.tables.values() for one in table.columns if one.generated)

    def copied(self, side: str) -> list[Column]:
        """The columns that COPY gives on both ends."""
        return [one for one in self.tables[side].columns if one.name not in self.generated]

    @property
    def identity(self) -> tuple[str, str]:
        return self.tables["source"].identity

    @property
    def complete(self) -> bool:
        """Whether both ends have been read."""
        return len(self.digests) == 2

    @property
    def equal(self) -> bool:
        """Whether nothing is known to differ."""
        return self.complete and self.seen("source") == self.seen("target")

    def seen(self, side: str) -> Digest:
        """Of all that could be read on both ends."""
        return self.digests[side] + (self.computed[side] if len(self.computed) == 2 else Digest())


Statement = list[tuple[TablePair, Part]]  # what is read together


class Reading:
    """One pass over tables. ``connect(side)`` gives a session in the snapshot of that side, whose server has that of
    the ``versions``; ``jobs`` for each side;
    ``on_complete(pair)`` is called as soon as a table is complete, one at a time, by any thread.
    """

    def __init__(
        self,
        connect: Callable[[str], Connection],
        versions: dict[str, int],
        jobs: int,
        max_rate: int | None,
        on_complete: Callable[[TablePair], object],
    ) -> None:
        self._connect = connect
        self._versions = versions
        self._jobs = jobs
        self.max_rate = max_rate
        self._on_complete = on_complete
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._pairs: list[TablePair] = []
        self._read_bytes = 0  # on both sides

    def read(self, pairs: list[TablePair]) -> None:
        """Fill in the digests, or the problem, of each. Raises what ended a session."""
        self._pairs = pairs
        self._read(pairs)
        again = [pair for pair in pairs if pair.problem is AGAIN]
        for pair in again:
            pair.form, pair.problem, pair.digests = replace(pair.form, wide=True), None, {}
        self._read(again)

    def extent(self) -> Extent:
        """How far it is, asked by any thread: bytes of one side."""
        total = sum(table.bytes for pair in self._pairs for table in pair.tables.values())
        compared = sum(pair.complete for pair in self._pairs)
        return Extent((min(self._read_bytes, total) // 2, total // 2), (compared, len(self._pairs)))

    def _read(self, pairs: list[TablePair]) -> None:
        def read_side(side: str) -> None:
            try:
                self._read_side(side, pairs)
            except BaseException:
                self._stop.set()
                raise

        together(lambda: read_side("source"), lambda: read_side("target"))

    def _read_side(self, side: str, pairs: list[TablePair]) -> None:
        remaining: dict[tuple[str, str], int] = {}
        rate = Rate(self.max_rate)
        work = _statements(side, pairs, self._versions[side])
        for statement in work:
            for pair, _part in statement:
                remaining[pair.identity] = remaining.get(pair.identity, 0) + 1
        sums: dict[tuple[str, str], Digest] = {}

        def add(pair: TablePair, digest: Digest) -> None:
            with self._lock:
                sums[pair.identity] = sums.get(pair.identity, Digest()) + digest
                remaining[pair.identity] -= 1
                if not remaining[pair.identity]:
                    pair.digests[side] = sums[pair.identity]
                    if pair.complete and pair.problem is None:
                        self._on_complete(pair)

        def run(session: Connection, statement: Statement) -> None:
            if not self._stop.is_set():
                _run(session, side, statement, add, rate)
                with self._lock:
                    self._read_bytes += sum(part.bytes for _pair, part in statement)

        for_each(lambda: self._connect(side), work, run, self._jobs)


def _statements(side: str, pairs: list[TablePair], server_version: int) -> list[Statement]:
    """What is read together, largest tables first."""
    found: list[Statement] = []
    small: Statement = []
    size = 0
    for pair in sorted(pairs, key=lambda pair: pair.tables["source"].bytes, reverse=True):
        table = pair.tables[side]
        if pair.form.copied:
            found.append([(pair, Part(table))])
            continue
        if table.bytes > TOGETHER_BYTES:
            found += [[(pair, part)] for part in parts_of(table, server_version)]
            continue
        if small and (len(small) == TOGETHER or size + table.bytes > TOGETHER_BYTES or small[0][0].form != pair.form):
            found.append(small)
            small, size = [], 0
        small.append((pair, Part(table)))
        size += table.bytes
    return found + ([small] if small else [])


def _run(
    session: Connection, side: str, statement: Statement, add: Callable[[TablePair, Digest], None], rate: Rate
) -> None:
    """Read what belongs together; if that fails, each by itself, so that one table does not take others with it."""
    wanted = [(pair, part) for pair, part in statement if pair.problem is None]
    if not wanted:
        return
    form = wanted[0][0].form
    try:
        with passing(session):
            found = [_copied(session, side, wanted[0][0], rate)] if form.copied else []
            found = found or digests(session, [part for _pair, part in wanted], form)
    except psycopg2.Error as error:
        if session.closed:
            raise
        if len(wanted) > 1:
            for one in wanted:
                _run(session, side, [one], add, rate)
            return
        pair = wanted[0][0]
        too_large = error.pgcode in TOO_LARGE and not pair.form.wide
        pair.problem = AGAIN if too_large else f"{side}: {one_line(error)}"
        return
    for (pair, _part), digest in zip(wanted, found):
        add(pair, digest)
    if not form.copied:
        rate.spend(sum(part.bytes for _pair, part in wanted))


def _copied(session: Connection, side: str, pair: TablePair, rate: Rate) -> Digest:
    """A table of which no query is to be planned."""
    table = pair.tables[side]
    generated = [one for one in table.columns if one.name in pair.generated]
    if generated:
        try:
            with passing(session):
                pair.computed[side] = copied_rows.digest_of_generated(session, table, generated, pair.form)
        except psycopg2.Error as error:
            if session.closed:
                raise
            pair.unread = f"{side}: generated columns {', '.join(sorted(pair.generated))}: {one_line(error)}"
    return copied_rows.digest(session, table, pair.copied(side), rate)
