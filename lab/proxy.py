# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network that is far, slow to answer, silent or cut, between any client and a server on loopback.

    with Proxy(server.port) as network:
        psycopg2.connect(host="127.0.0.1", port=network.port, ...)
        network.delay(0.02)  # every byte arrives 20 ms later, in both directions
        network.hold()       # nothing arrives any more; connections stay open, as with a cable that is unplugged
        network.cut()        # connections are reset, new ones refused
        network.mend()       # all is well again; what was held arrives
        network.trips()      # the round trips since the last time of asking

A round trip is one change of direction and back: a client says something after the server has spoken, and hears the
beginning of an answer. Opening a connection is one, too, and takes the time of one.

It is a process of its own, which takes commands as lines of JSON on its standard input, answers each with a line, and
ends with that input: with the process that started it, however that went.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lab.builds import CHECKOUT
from lab.cluster import free_port

HOST = "127.0.0.1"
CHUNK = 1 << 16
ON_THE_WAY = 1 << 23  # bytes of one direction that may be under way at once: 1 s of delay still carries 8 MB/s
SHOWN = 100  # bytes of what was said
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST


class ProxyError(Exception):
    """The proxy's process does not start or does not answer."""


class Trip(NamedTuple):
    """When it began and ended, by time.monotonic(), on which connection, and the beginning of what was said."""

    asked: float
    answered: float
    connection: int
    said: str


class Proxy:
    """One way to a server: clients that connect to ``port`` arrive at ``to`` on loopback."""

    def __init__(self, to: int, port: int | None = None) -> None:
        self.to = to
        self.port = port or free_port()
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Proxy:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> Proxy:
        """Begin to listen.

        :raises ProxyError: when the port is taken.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.proxy", str(self.port), str(self.to)],
            cwd=CHECKOUT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        self._await_answer()
        return self

    def stop(self) -> None:
        """End it, and every connection through it."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def delay(self, seconds: float) -> None:
        """From now on every byte takes that long, each way, in connections that are open as well."""
        self._say(delay=seconds)

    def hold(self) -> None:
        """Let nothing arrive, in either direction; new connections open and get no answer."""
        self._say(held=True)

    def cut(self, refuse: bool = True) -> None:
        """Reset every connection, and ``refuse`` new ones."""
        self._say(cut=refuse)

    def mend(self) -> None:
        """As at the beginning: no delay, nothing held or refused. Connections that are open go on."""
        self._say(delay=0, held=False, listen=True)

    def trips(self) -> list[Trip]:
        """The round trips that ended since the last time of asking, in the order of their ends."""
        return [Trip(*one) for one in self._say(trips=True)["trips"]]

    def _say(self, **words: Any) -> dict[str, Any]:
        with self._lock:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            return self._await_answer()

    def _await_answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise ProxyError(f"the proxy of port {self.to} at port {self.port} has ended")
        return json.loads(line)


def chain(trips: Iterable[tuple[Trip, float]]) -> float:
    """How much of ``(trip, weight)`` came one after the other: the greatest sum of weights of trips of which each began
    when the one before had ended. Trips of several proxies can be mixed, as their clock is the same.
    """
    ends, sums = [float("-inf")], [0.0]  # the best sum of what ended by then
    for trip, weight in sorted(trips, key=lambda one: one[0].answered):
        best = weight + sums[bisect.bisect_right(ends, trip.asked) - 1]
        ends.append(trip.answered)
        sums.append(max(best, sums[-1]))
    return sums[-1]


# --- in the process --------------------------------------------------------------------------------------------------


class _Ways:
    """All connections of the process."""

    def __init__(self, port: int, to: int) -> None:
        self.port, self.to = port, to
        self.delay = 0.0
        self.flows = asyncio.Event()
        self.flows.set()
        self.writers: set[asyncio.StreamWriter] = set()
        self.server: asyncio.AbstractServer | None = None
        self.trips: list[tuple[float, float, int, str]] = []
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task] = set()  # the loop itself keeps weak references only

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(self._serve, HOST, self.port, backlog=200)

    async def obey(self, words: dict[str, Any]) -> dict[str, Any]:
        """The answer to one command."""
        self.delay = words.get("delay", self.delay)
        if "held" in words:
            self.flows.clear() if words["held"] else self.flows.set()
        if "cut" in words:
            self._reset(words["cut"])
        if "listen" in words:
            await self.listen()
        if "trips" not in words:
            return {}
        found, self.trips = self.trips, []
        return {"trips": found}

    def _reset(self, refuse: bool) -> None:
        if refuse and self.server:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = time.monotonic() + 2 * self.delay
        talk = _Talk(next(self._numbers), opened)
        self.trips.append((time.monotonic(), opened, talk.number, "connect"))
        with contextlib.suppress(OSError):
            await self.flows.wait()
            far_reader, far_writer = await asyncio.open_connection(HOST, self.to)
            self._begin(reader, far_writer, talk.client_says, lambda: None, opened)
            self._begin(far_reader, writer, lambda _data: None, lambda: talk.client_hears(self.trips))
            return
        writer.close()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *how: Any) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.writers.add(writer)
        task = asyncio.create_task(self._carry(reader, writer, *how))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        said: Callable[[bytes], None],
        heard: Callable[[], None],
        opened: float = 0,
    ) -> None:
        """One direction, until its end; the other one learns of that as over a real network. Nothing sets out before
        the connection is ``opened``.
        """
        chunks: asyncio.Queue = asyncio.Queue(ON_THE_WAY // CHUNK)
        deliver = asyncio.create_task(self._deliver(chunks, writer, heard))
        try:
            while data := await reader.read(CHUNK):
                said(data)
                await chunks.put((max(time.monotonic(), opened) + self.delay, data))
        except OSError:
            pass
        await chunks.put((0, b""))
        await deliver
        self.writers.discard(writer)

    async def _deliver(self, chunks: asyncio.Queue, writer: asyncio.StreamWriter, heard: Callable[[], None]) -> None:
        broken = False
        while True:
            due, data = await chunks.get()
            if (late := due - time.monotonic()) > 0:
                await asyncio.sleep(late)
            await self.flows.wait()
            if not data:
                writer.close()
                return
            heard()
            try:
                if not broken:
                    writer.write(data)
                    await writer.drain()
            except OSError:
                broken = True  # what else comes is read and forgotten, or the reader would never see its end


class _Talk:
    """Who of one connection spoke last."""

    def __init__(self, number: int, opened: float) -> None:
        self.number = number
        self.opened = opened
        self.asked: float | None = None
        self.said = ""

    def client_says(self, data: bytes) -> None:
        """Begins a round trip, unless one is under way."""
        if self.asked is None:
            self.asked, self.said = max(time.monotonic(), self.opened), data[:SHOWN].decode(errors="replace")

    def client_hears(self, trips: list[tuple[float, float, int, str]]) -> None:
        """Ends it."""
        if self.asked is not None:
            trips.append((self.asked, time.monotonic(), self.number, self.said))
            self.asked = None


async def _serve(port: int, to: int) -> None:
    ways = _Ways(port, to)
    await ways.listen()
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("{}", flush=True)
    while line := await commands.readline():
        print(json.dumps(await ways.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
