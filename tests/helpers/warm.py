# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that start without loading Python, Ansible and psycopg2 anew, which is most of what a short one costs.

A process imports all of that once; each module is a fork of it: a process with a session, files, environment and
exit status of its own, which can be killed, stopped and waited for as any other. What Python reads as it begins, and
what ``/proc/PID/environ`` shows, are those of the process that it came from.

Playbooks get such forks from an interpreter that is a program of a few lines. What Ansible packed of the collection is
what they run: only Ansible itself, psycopg2 and Python's library are there already.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import marshal
import os
import pkgutil
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

MODULES = "ansible_collections.handover.postgresql.plugins.modules"
LARGEST = 1 << 18  # bytes of an order
CALLS = (socket.AF_UNIX, socket.SOCK_SEQPACKET)
CLIENT = """
import _socket, marshal, posix, sys

if not sys.argv[1:] or sys.argv[1].startswith("-"):
    posix.execv(sys.executable, [sys.executable, *sys.argv[1:]])
call = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
call.connect({socket!r})
files = b"".join(file.to_bytes(4, sys.byteorder) for file in (0, 1, 2))
order = marshal.dumps((sys.argv[1:], posix.environ, posix.getcwd()))
call.sendmsg([order], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
status = int(call.recv(64))
if status < 0:
    posix.kill(posix.getpid(), -status)
posix._exit(status)
"""


# --- the side of the tests -------------------------------------------------------------------------------------------


class Fork:
    """A module's process, with as much of :class:`subprocess.Popen` as tests use."""

    def __init__(self, report: socket.socket, name: str) -> None:
        self._report = report
        self._lock = threading.Lock()
        self.args = [name]
        self.returncode: int | None = None
        self.pid = self._read(None)

    def _read(self, timeout: float | None) -> int | None:
        """The next number that the process's parent tells, or None when it tells none within so many seconds."""
        if not select.select([self._report], [], [], timeout)[0]:
            return None
        told = self._report.recv(64)
        assert told, "the process that modules are forks of is gone"
        return int(told)

    def poll(self) -> int | None:
        return self._await(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.

        :raises subprocess.TimeoutExpired: when it takes longer.
        """
        if self._await(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def wait_beside(self, other: socket.socket) -> int | None:
        """The exit status, or None when there is something to read from ``other`` before that."""
        select.select([self._report, other], [], [])
        return self.poll()

    def _await(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                self.returncode = self._read(timeout)
                if self.returncode is not None:
                    self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """The process that modules are forks of: begins with the first one, and ends with this process, however it ends."""

    def __init__(self) -> None:
        self.open = False
        self.interpreter = sys.executable  # of modules in playbooks
        self._environment: Mapping[str, str] = {}
        self._process: subprocess.Popen | None = None
        self._orders: socket.socket | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def opened(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Modules may be started while the block runs, also by ``interpreter``."""
        self._environment, self.open = environment, True
        with tempfile.TemporaryDirectory(prefix="warm-") as place, socket.socket(*CALLS) as calls:
            calls.bind(f"{place}/calls")
            calls.listen(64)
            Path(place, "client.py").write_text(CLIENT.format(socket=f"{place}/calls"))
            self.interpreter = f"{place}/python"
            with open(self.interpreter, "w", opener=lambda path, flags: os.open(path, flags, 0o700)) as file:
                file.write(
                    f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(f"{place}/client.py")} "$@"\n'
                )
            threading.Thread(target=self._answer_calls, args=[calls], daemon=True).start()
            yield
            calls.shutdown(socket.SHUT_RDWR)
        self.open = False
        if self._process:
            self._orders.close()
            self._process.wait()
            self._process, self.interpreter = None, sys.executable

    def start(self, module: str, environment: Mapping[str, str], stdin: IO, stdout: IO, stderr: IO) -> Fork:
        """Start a module."""
        order = {"module": module, "environment": dict(environment)}
        return self._start(order, [file.fileno() for file in (stdin, stdout, stderr)])

    def _start(self, order: dict, files: list[int]) -> Fork:
        ours, theirs = socket.socketpair(*CALLS)
        with theirs, self._lock:
            if not self._process:
                self._begin()
            handed = array.array("i", [theirs.fileno(), *files])
            self._orders.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
        return Fork(ours, order["module"])

    def _answer_calls(self, calls: socket.socket) -> None:
        while True:
            try:
                call, _address = calls.accept()
            except OSError:  # no more calls
                return
            threading.Thread(target=self._answer, args=[call], daemon=True).start()

    def _answer(self, call: socket.socket) -> None:
        """Be the interpreter of one command. Who called it may be killed, and what was called goes with that."""
        with call:
            content, files, _flags, _address = socket.recv_fds(call, LARGEST, 3)
            if not content:
                return
            try:
                words, variables, place = marshal.loads(content)
                environment = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
                fork = self._start(
                    {"module": words[0], "words": words, "environment": environment, "cwd": place}, files
                )
            finally:
                for file in files:
                    os.close(file)
            while (status := fork.wait_beside(call)) is None:
                fork.kill()
            with contextlib.suppress(OSError):
                call.send(str(status).encode())

    def _begin(self) -> None:
        self._orders, theirs = socket.socketpair(*CALLS)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=self._environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )


# --- the side that modules come from ---------------------------------------------------------------------------------


def serve(orders: socket.socket) -> dict:
    """Fork at each order. Returns in each fork, with the order; this process never does."""
    ears, mouth = os.pipe()
    os.set_blocking(ears, False)
    os.set_blocking(mouth, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        readable, _writable, _failed = select.select([orders, ears], [], [])
        if ears in readable:
            os.read(ears, 4096)
            _tell_ends(running)
        if orders in readable:
            order, files, _flags, _address = socket.recv_fds(orders, LARGEST, 4)
            if not order:
                os._exit(0)
            report = socket.socket(fileno=files[0])
            if pid := os.fork():
                report.send(str(pid).encode())
                running[pid] = report
                for file in files[1:]:
                    os.close(file)
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for ours in (orders, report, *running.values()):
                ours.close()
            os.close(ears)
            os.close(mouth)
            return become(json.loads(order), files[1:])


def _tell_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as report, contextlib.suppress(OSError):  # nobody may wait for it any more
            report.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(order: dict, files: list[int]) -> dict:
    """Be a process like one that was started with these files and this environment."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    return order


def interpret(words: list[str], place: str) -> None:
    """Run a Python program with its arguments, as Ansible sends modules: what it brings of the collection is used."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ansible_collections"]:
        del sys.modules[name]
    os.chdir(place)
    sys.argv[:] = words
    runpy.run_path(words[0], run_name="__main__")


def load() -> None:
    """Import what modules import, but no module: each of them is run as Ansible does it, from its first line."""
    for found in pkgutil.iter_modules([str(Path(importlib.import_module(MODULES).__path__[0]))]):
        name = f"{MODULES}.{found.name}"
        importlib.import_module(name)
        del sys.modules[name]


if __name__ == "__main__":
    del sys.path[0]  # the directory of this file
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    load()
    gc.collect()
    gc.freeze()  # forks share what is there as long as nobody counts it
    taken = serve(channel)
    if "words" in taken:
        interpret(taken["words"], taken["cwd"])
        sys.exit()

    from ansible.module_utils import basic

    sys.argv[:] = ["-c", taken["module"]]
    # As Ansible's own wrapper does it; the second assignment matters to ansible-core 2.19 and later only.
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
    runpy.run_module(f"{MODULES}.{taken['module']}", run_name="__main__")
