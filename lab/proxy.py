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

It is a process of its own, which takes commands as lines of JSON on its standard input, answers each with a line, and
ends with that input: with the process that started it, however that went.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from typing import Any

from lab.builds import CHECKOUT
from lab.cluster import free_port

HOST = "127.0.0.1"
CHUNK = 1 << 16
ON_THE_WAY = 1 << 23  # bytes of one direction that may be under way at once: 1 s of delay still carries 8 MB/s
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST


class ProxyError(Exception):
    """The proxy's process does not start or does not answer."""


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

    def _say(self, **words: Any) -> None:
        with self._lock:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            self._await_answer()

    def _await_answer(self) -> None:
        if not self._process.stdout.readline():
            raise ProxyError(f"the proxy of port {self.to} at port {self.port} has ended")


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
        self._tasks: set[asyncio.Task] = set()  # the loop itself keeps weak references only

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(self._serve, HOST, self.port, backlog=200)

    async def obey(self, words: dict[str, Any]) -> None:
        """One command."""
        self.delay = words.get("delay", self.delay)
        if "held" in words:
            self.flows.clear() if words["held"] else self.flows.set()
        if "cut" in words:
            self._reset(words["cut"])
        if "listen" in words:
            await self.listen()

    def _reset(self, refuse: bool) -> None:
        if refuse and self.server:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await self.flows.wait()
            far_reader, far_writer = await asyncio.open_connection(HOST, self.to)
            self._begin(reader, far_writer)
            self._begin(far_reader, writer)
            return
        writer.close()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.writers.add(writer)
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end; the other one learns of that as over a real network."""
        chunks: asyncio.Queue = asyncio.Queue(ON_THE_WAY // CHUNK)
        deliver = asyncio.create_task(self._deliver(chunks, writer))
        try:
            while data := await reader.read(CHUNK):
                await chunks.put((asyncio.get_running_loop().time() + self.delay, data))
        except OSError:
            pass
        await chunks.put((0, b""))
        await deliver
        self.writers.discard(writer)

    async def _deliver(self, chunks: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        broken = False
        while True:
            due, data = await chunks.get()
            if (late := due - loop.time()) > 0:
                await asyncio.sleep(late)
            await self.flows.wait()
            if not data:
                writer.close()
                return
            try:
                if not broken:
                    writer.write(data)
                    await writer.drain()
            except OSError:
                broken = True  # what else comes is read and forgotten, or the reader would never see its end


async def _serve(port: int, to: int) -> None:
    ways = _Ways(port, to)
    await ways.listen()
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("{}", flush=True)
    while line := await commands.readline():
        await ways.obey(json.loads(line))
        print("{}", flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
