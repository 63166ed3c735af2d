# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows from one server to the other: COPY TO STDOUT there, a pipe, COPY FROM STDIN here.

libpq leaves the interpreter's lock while it waits, so a thread on each side of the pipe keeps both servers busy. What
is in memory is one pipe for each piece under way, whatever the tables' sizes.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import queue
import threading
import time
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import keep, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, one_line
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import OF_ITS_ROWS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import bundle
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import encoded, execute
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable

PIPE_BYTES = 1 << 20
SET_PIPE_SIZE = 1031  # fcntl's F_SETPIPE_SZ, which Python names from 3.10 on
CHUNK = 1 << 16
AHEAD = 2  # pieces of a batch that the source may have sent before the target takes them


class Flow:
    """What goes through all relays of a run: ``total`` bytes so far, and no more than ``rate`` bytes a second, if that
    is neither None nor 0.
    """

    def __init__(self, rate: int | None = None):
        self.rate = rate
        self.total = 0
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self._stopped = threading.Event()
        self._under_way: set[UnderWay] = set()

    def open(self, one: UnderWay) -> None:
        """A piece is under way."""
        with self._lock:
            self._under_way.add(one)

    def close(self, one: UnderWay) -> None:
        """It has arrived, or will not."""
        with self._lock:
            self._under_way.discard(one)

    def under_way(self) -> list[tuple[Piece, int]]:
        """Pieces with the bytes that have gone through."""
        with self._lock:
            return [(one.piece, one.bytes) for one in self._under_way]

    def pass_on(self, count: int) -> None:
        """Account for bytes, after waiting for their turn."""
        with self._lock:
            self.total += count
            if not self.rate:
                return
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self.rate
            pause = self._free_at - now
        self._stopped.wait(pause)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._stopped.set()


class UnderWay:
    """A piece, and the bytes of it that have gone through."""

    def __init__(self, piece: Piece):
        self.piece = piece
        self.bytes = 0


class _Inlet(UnderWay):
    """The end of a pipe from which the target reads one piece; ``rows`` and ``error`` are the source's."""

    def __init__(self, piece: Piece, flow: Flow):
        super().__init__(piece)
        self.rows: int | None = None
        self.error: Exception | None = None
        self._flow = flow
        self._descriptor, self.outlet = os.pipe()
        with contextlib.suppress(OSError):  # not Linux, or more than this user may have
            fcntl.fcntl(self.outlet, SET_PIPE_SIZE, PIPE_BYTES)
        flow.open(self)

    def read(self, size: int) -> bytes:
        """For psycopg2. The end of the pipe is the end of the rows only if the source says so too."""
        data = os.read(self._descriptor, size)
        if not data and self.rows is None:
            raise OSError("the source did not send everything")
        if data:
            self.bytes += len(data)
            self._flow.pass_on(len(data))
        return data

    def close(self) -> None:
        self._flow.close(self)
        os.close(self._descriptor)


class _Packet:
    """The same of a piece that is here already."""

    error = None

    def __init__(self, piece: Piece, flow: Flow, rows: int, content: bytes):
        self.piece = piece
        self.rows = rows
        self.bytes = len(content)
        self._flow = flow
        self._content = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        data = self._content.read(size)
        if data:
            self._flow.pass_on(len(data))
        return data

    def close(self) -> None:
        self._content.close()


class _Feed:
    """A thread that lets the source send pieces, one after the other; iterating gives their inlets in order."""

    def __init__(self, source, pieces: list[Piece], how, flow: Flow):
        self._source = source
        self._pieces = pieces
        self._how = how
        self._flow = flow
        self._ready = queue.Queue(AHEAD)
        self._stopped = False
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, kind, *error) -> None:
        self._stopped = True
        if kind:
            with contextlib.suppress(psycopg2.Error):  # the session may be gone
                self._source.cancel()
        while self._thread.is_alive() or not self._ready.empty():
            with contextlib.suppress(queue.Empty):
                self._ready.get(timeout=0.05).close()
        self._thread.join()

    def __iter__(self):
        for _piece in self._pieces:
            inlet = self._ready.get()
            try:
                yield inlet
            finally:
                inlet.close()

    def _send(self) -> None:
        for group in bundle.bundles(self._pieces, lambda piece: self._how(piece.table).binary):
            if len(group) == 1 or not self._send_together(group):
                self._send_each(group)

    def _send_together(self, pieces: list[Piece]) -> bool:
        """Whether that is settled; else each by itself tells which of them it is that fails."""
        try:
            found = [] if self._stopped else bundle.read(self._source, pieces)
        except psycopg2.Error as error:
            try:
                with self._source.cursor() as cursor:
                    cursor.execute(bundle.BACK)
                return False
            except psycopg2.Error:  # there is none, and what is read outside of it is not what the snapshot shows
                self._fail(pieces[0], error)
                return True
        for piece, (rows, content) in zip(pieces, found):
            inlet = _Packet(piece, self._flow, rows, content)
            self._ready.put(inlet)
        return True

    def _fail(self, piece: Piece, error: Exception) -> None:
        inlet = _Inlet(piece, self._flow)
        inlet.error, self._stopped = error, True
        os.close(inlet.outlet)
        self._ready.put(inlet)

    def _send_each(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if self._stopped:
                return
            inlet = _Inlet(piece, self._flow)
            self._ready.put(inlet)
            outlet = os.fdopen(inlet.outlet, "wb", CHUNK)
            try:
                statement = piece.reads(self._how(piece.table).binary)
                with self._source.cursor() as cursor:
                    if piece.path is not None:
                        keep(self._source, piece.planned_with(self._source))
                    cursor.copy_expert(encoded(self._source, statement), outlet)
                    outlet.flush()
                    inlet.rows = cursor.rowcount
            except Exception as error:  # pylint: disable=broad-except
                inlet.error = error  # known before the pipe ends; raised by whoever reads
                self._stopped = True
            finally:
                with contextlib.suppress(OSError):  # nobody reads any more
                    outlet.close()


@dataclass(frozen=True)
class Manner:
    """How a table is copied: in which format, and whether its rows are frozen, which takes a TRUNCATE right before."""

    binary: bool
    freeze: bool = False


def relay(source, target, pieces: list[Piece], how, flow: Flow):
    """Copy pieces in order, and yield (piece, rows, bytes) after each. Transactions are the caller's.

    ``how(table)`` is its Manner. Raises HandoverError that names the table and the side that
    failed; the sessions may then be in any state.
    """
    with _Feed(source, pieces, how, flow) as feed:
        for inlet in feed:
            table = inlet.piece.table
            manner = how(table)
            try:
                with target.cursor() as cursor:
                    statement = inlet.piece.writes(manner.binary, manner.freeze)
                    cursor.copy_expert(encoded(target, statement), inlet, CHUNK)
                    rows = cursor.rowcount
            except psycopg2.Error as error:
                if inlet.error:  # the target's error is but the consequence
                    raise failure(table, "source", inlet.error) from None
                raise failure(table, "target", error) from None
            yield compared(inlet.piece, inlet.rows, rows), rows, inlet.bytes


def compared(piece: Piece, sent: int | None, taken: int) -> Piece:
    """The piece, if the target took as many rows as the source sent. Raises HandoverError otherwise."""
    if sent != taken:
        raise HandoverError(
            f"Table {piece.table}: the source sent {counted(sent or 0, 'row')}, and the target took {taken}.",
            "Look for a rule, a trigger or an extension on the target that removes rows.",
        )
    return piece


def copy_table(
    source, target, table: SourceTable, flow: Flow | None = None, binary: bool | None = None
) -> tuple[int, int]:
    """Copy one table, in the transactions that the sessions are in; (rows, bytes). Raises HandoverError.

    ``binary=False`` is for a target whose extensions are of other versions, see SourceTable.
    """
    wanted = table.binary and not table.extensions if binary is None else binary
    [(_piece, rows, size)] = relay(source, target, [Piece(table)], lambda _table: Manner(wanted), flow or Flow())
    return rows, size


def commit(side: str, session, table: SourceTable) -> None:
    """End the transaction that rows of this table were copied in. Raises HandoverError."""
    try:
        execute(session, "COMMIT")
    except psycopg2.Error as error:
        raise failure(table, side, error) from None


def failure(table: SourceTable, side: str, error: Exception) -> HandoverError:
    """What to say of a table when the server on this side does not go on."""
    text = one_line(error)
    code = getattr(error, "pgcode", None)
    if code is None or code.startswith("57P"):
        problem = f"The session with the {side} ended while table {table} was copied: {text}"
        return HandoverError(problem, "Check the server's log for the reason, then run this again.", table=str(table))
    if code == "55P03":
        problem = f"Table {table} stayed locked on the {side}: {text}"
        return HandoverError(problem, "End the session that holds the lock, and run this again.", table=str(table))
    problem = f"Table {table} could not be copied; the {side} says: {text}"
    facts = {"table": str(table), "sqlstate": code}
    if table.extension is None:
        return HandoverError(problem, "Fix the cause, then run this again.", **facts)
    return HandoverError(problem, OF_ITS_ROWS.format(table.extension), extension=table.extension, **facts)
