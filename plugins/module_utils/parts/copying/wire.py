# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows from one server to the other as they are on the wire: what COPY TO STDOUT sends, COPY FROM STDIN reads.

Client libraries hand over row by row, which takes as long as the server needs to send it, and psycopg2 takes the
interpreter's lock for each. Here bytes go from socket to socket in large parts, and nobody looks into them: both sides
send the same messages (PostgreSQL documentation, 55.2.6). That all were sent is known by a word that the source says
behind them, which nobody else knows. libpq hears nothing of it: its session is as it was before, unless something
failed; then it has to be closed.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import socket
import struct
from collections.abc import Iterator

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, take_kept
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import encoded
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import BATCH_TABLES, Piece
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import (
    Flow,
    UnderWay,
    compared,
    failure,
)

BUFFER = 1 << 18
# Bytes that are not passed on until more came: an error may be in them, with what each statement after it is answered,
# or the word.
KEPT = BATCH_TABLES << 9
QUIET = 0.5  # seconds after which what looks like the end of an error is one
HEAD = struct.Struct("!ci")
ROW = ord("d")  # CopyData
SAMPLE = 100  # rows that tell how long others are
DONE = b"c\x00\x00\x00\x04C"  # CopyDone, and the begin of CommandComplete
ROWS = re.compile(rb"COPY (\d+)\0")
READY = b"Z\x00\x00\x00\x05"  # and a byte that says whether it is in a transaction
ERROR = re.compile(rb"E(?=\0\0..S)", re.DOTALL)
# In one question what base.pooling tells a pooler by, and whether GSSAPI encrypts.
IS_OWN_AND_PLAIN = """
    SELECT EXISTS (SELECT FROM pg_stat_gssapi WHERE pid = pg_backend_pid() AND pid = %s AND NOT encrypted)"""
SHOWN = ((b"M", ""), (b"D", "DETAIL:  "), (b"H", "HINT:  "), (b"W", "CONTEXT:  "))


def is_open(session) -> bool:
    """Whether the session's socket is a server's own, and bytes on it are what they say."""
    return not session.info.ssl_in_use and value(session, IS_OWN_AND_PLAIN, (session.info.backend_pid,))


class ServerError(Exception):
    """What a server says in the place of rows; ``pgcode`` is its SQLSTATE, None if there was only silence."""

    def __init__(self, text: str, pgcode: str | None = None):
        super().__init__(text)
        self.pgcode = pgcode

    @classmethod
    def of(cls, body: bytes, codec: str) -> ServerError:
        """From an ErrorResponse (PostgreSQL documentation, 55.8)."""
        fields = {part[:1]: part[1:].decode(codec, "replace") for part in body.split(b"\0") if part}
        lines = [f"{label}{fields[name]}" for name, label in SHOWN if name in fields]
        return cls("\n".join(lines), fields.get(b"C"))


class _End:
    """One server, at the other end of a session's socket."""

    def __init__(self, session):
        self.session = session
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.first = self.last = 0  # of what was received and not taken yet
        self.to_say = bytearray()
        self.asked = 0  # statements
        self._codec = psycopg2.extensions.encodings.get(session.info.parameter_status("client_encoding"), "utf-8")
        self.socket = socket.socket(fileno=os.dup(session.fileno()))
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()

    def ask(self, statement: bytes) -> None:
        """Run it as soon as what was asked before is done, and what the session has kept before all, by itself: who
        looks at the server sees what takes long.
        """
        for text in filter(None, (take_kept(self.session), statement)):
            self.to_say += HEAD.pack(b"Q", 5 + len(text)) + text + b"\0"
            self.asked += 1

    def speak(self) -> None:
        """As far as the server listens."""
        while self.to_say:
            try:
                del self.to_say[: self.socket.send(self.to_say)]
            except OSError:  # it is busy, or gone, which is heard
                return

    def hear(self) -> bool:
        """Whether more could be received, without waiting for it. Raises ServerError where nobody is there any more."""
        if self.first:
            self.buffer[: self.last - self.first] = self.buffer[self.first : self.last]
            self.first, self.last = 0, self.last - self.first
        try:
            count = self.socket.recv_into(self.view[self.last :])
        except BlockingIOError:
            return False
        except OSError as error:
            raise self.error() or ServerError(str(error)) from None
        if not count:
            raise self.error() or ServerError("server closed the connection unexpectedly")
        self.last += count
        return True

    def message(self) -> tuple[bytes, bytes] | None:
        """The next one, if all of it was received: its type and what is in it. Raises ServerError if it is that."""
        if self.last - self.first < HEAD.size:
            return None
        kind, size = HEAD.unpack_from(self.buffer, self.first)
        if size < 4 or size >= BUFFER:
            raise ServerError(f"server sent a message that nobody awaits ({kind!r}, {size} bytes)")
        if self.last - self.first < 1 + size:
            return None
        body = bytes(self.view[self.first + HEAD.size : self.first + 1 + size])
        self.first += 1 + size
        if kind == b"E":
            raise ServerError.of(body, self._codec)
        return kind, body

    def share_of_rows(self) -> float:
        """How much of what was received, from the begin of a message on, is rows themselves: by the first of them."""
        at, count = self.first, 0
        while count < SAMPLE and at + HEAD.size <= self.last and self.buffer[at] == ROW:
            at += 1 + HEAD.unpack_from(self.buffer, at)[1]
            count += 1
        return 1 - HEAD.size * count / max(at - self.first, 1)

    def looks_failed(self) -> bool:
        """Whether the last bytes may be those that come after an error; they may be a row's as well."""
        return self.buffer[self.last - len(READY) - 1 : self.last - 1] == READY

    def error(self) -> ServerError | None:
        """The error with which what was received ends, in the midst of rows."""
        text = self.buffer[self.first : self.last]
        for match in ERROR.finditer(text):
            at, error = match.start(), None
            while len(text) - at >= HEAD.size:
                kind, size = HEAD.unpack_from(text, at)
                if kind not in b"EZN" or size < 4 or at + 1 + size > len(text):
                    break
                if kind == b"E":
                    error = error or ServerError.of(bytes(text[at + HEAD.size : at + 1 + size]), self._codec)
                at += 1 + size
            if at == len(text):
                return error
        return None


def carry(source, target, pieces: list[Piece], how, flow: Flow) -> Iterator[tuple[Piece, int, int]]:
    """As relay() does it, between sessions that are open, each in a transaction: no rows come after an error."""
    ends = _End(source), _End(target)
    try:
        yield from _Carriage(*ends, pieces, how, flow).run()
    finally:
        for end in ends:
            end.close()


class _Carriage:
    """Pieces in order. The target is given each as it comes, and is heard only where it has something to say."""

    def __init__(self, source: _End, target: _End, pieces: list[Piece], how, flow: Flow):
        self._source = source
        self._target = target
        self._pieces = pieces
        self._how = how
        self._flow = flow
        self._word = secrets.token_hex(16).encode()
        self._taken: list[int] = []  # rows of each piece, as the target counts them
        self._done = 0  # statements that the target is ready with

    def run(self) -> Iterator[tuple[Piece, int, int]]:
        sent = []
        self._ask()
        for piece in self._pieces:
            under_way = UnderWay(piece)
            self._flow.open(under_way)
            try:
                sent.append((under_way, self._carry(under_way)))
            finally:
                self._flow.close(under_way)
        while self._done < self._target.asked:
            self._wait([self._target])
        for number, (under_way, rows) in enumerate(sent):
            yield compared(under_way.piece, rows, self._taken[number]), rows, under_way.bytes

    def _carry(self, under_way: UnderWay) -> int:
        """All of a piece to the target; the rows that the source says it sent."""
        source, piece = self._source, under_way.piece
        while self._message(piece) != b"H":
            pass
        manner = self._how(piece.table)
        self._target.ask(encoded(self._target.session, piece.writes(manner.binary, manner.freeze)))
        self._target.speak()
        self._passed = 0
        while (at := source.buffer.find(self._word, source.first, source.last)) < 0:
            self._pass_on(under_way, source.last - KEPT)
            self._more(piece)
        done = source.buffer.rfind(DONE, source.first, at)
        rows = int(ROWS.search(source.buffer, done, at)[1])
        self._pass_on(under_way, done + len(DONE) - 1)
        under_way.bytes = self._passed - HEAD.size * (rows + manner.binary + 1)  # those of the rows alone
        source.first = at + len(self._word)
        while self._message(piece) != b"Z":
            pass
        return rows

    def _ask(self) -> None:
        """Let the source send one after the other, as fast as it is heard."""
        for piece in self._pieces:
            statement = encoded(self._source.session, piece.reads(self._how(piece.table).binary))
            self._source.ask(statement + b"; SELECT '" + self._word + b"'")
        self._source.speak()

    def _message(self, piece: Piece) -> bytes:
        """The type of the source's next message."""
        while True:
            try:
                found = self._source.message()
            except ServerError as error:
                raise failure(piece.table, "source", error) from None
            if found:
                return found[0]
            self._more(piece)

    def _more(self, piece: Piece) -> None:
        """Wait until the source has sent more."""
        source = self._source
        try:
            while not source.hear():
                quiet = QUIET if source.looks_failed() else None
                if not self._wait([source, self._target], quiet) and (error := source.error()):
                    raise error
        except ServerError as error:
            raise failure(piece.table, "source", error) from None

    def _pass_on(self, under_way: UnderWay, last: int) -> None:
        """Give the target what was received up to there."""
        source, target = self._source, self._target
        count = last - source.first
        if count <= 0:
            return
        if not self._passed:
            self._share = source.share_of_rows()
        self._flow.pass_on(count)
        self._passed += count
        under_way.bytes = int(self._passed * self._share)
        self._listen()
        while source.first < last:
            target.speak()
            try:
                if not target.to_say:
                    source.first += target.socket.send(source.view[source.first : last])
                    continue
            except OSError:  # it is busy, or gone, which is heard
                pass
            self._wait([target], talking=True)

    def _wait(self, ends: list[_End], timeout: float | None = None, talking: bool = False) -> bool:
        """Until one of them can be heard, or is ready for more. Whether it came to that in time."""
        poll = select.poll()
        for end in ends:
            poll.register(end.socket, select.POLLIN | (select.POLLOUT if talking or end.to_say else 0))
        if not poll.poll(None if timeout is None else timeout * 1000):
            return False
        for end in ends:
            end.speak()
        self._listen()
        return True

    def _listen(self) -> None:
        """Take what the target says by now."""
        try:
            while self._target.hear():
                while found := self._target.message():
                    self._taken += map(int, ROWS.findall(found[1])) if found[0] == b"C" else []
                    self._done += found[0] == b"Z"
        except ServerError as error:
            raise self._failure(error) from None

    def _failure(self, error: ServerError):
        """The target works on the piece after those that it is ready with."""
        table = self._pieces[min(len(self._taken), len(self._pieces) - 1)].table
        return failure(table, "target", error)
