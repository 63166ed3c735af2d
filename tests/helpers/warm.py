# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that start without loading Python, Ansible and psycopg2 anew, which is most of what a short one costs.

A process imports all of that once; each module is a fork of it: a process with a session, files, environment and
exit status of its own, which can be killed, stopped and waited for as any other. What Python reads as it begins, and
what ``/proc/PID/environ`` shows, are those of the process that it came from.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
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
        self._environment: Mapping[str, str] = {}
        self._process: subprocess.Popen | None = None
        self._orders: socket.socket | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def opened(self, environment: Mapping[str, str]) -> Iterator[None]:
        """Modules may be started while the block runs."""
        self._environment, self.open = environment, True
        yield
        self.open = False
        if self._process:
            self._orders.close()
            self._process.wait()
            self._process = None

    def start(self, module: str, environment: Mapping[str, str], stdin: IO, stdout: IO, stderr: IO) -> Fork:
        """Start a module."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps({"module": module, "environment": dict(environment)}).encode()
        with theirs, self._lock:
            if not self._process:
                self._begin()
            files = array.array("i", [file.fileno() for file in (theirs, stdin, stdout, stderr)])
            self._orders.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        return Fork(ours, module)

    def _begin(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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


def serve(orders: socket.socket) -> str:
    """Fork at each order. Returns in each fork, with the name of the module that it is; this process never does."""
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


def become(order: dict, files: list[int]) -> str:
    """Be a process like one that was started with these files and this environment."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    return order["module"]


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
    module = serve(channel)
    from ansible.module_utils import basic

    sys.argv[:] = ["-c", module]
    # As Ansible's own wrapper does it; the second assignment matters to ansible-core 2.19 and later only.
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
    runpy.run_module(f"{MODULES}.{module}", run_name="__main__")
