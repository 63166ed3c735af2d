# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A warm interpreter: everything is imported, and each job is a fork of it, a process that a kill -9 hits as any other.

Orders come as lines of JSON on standard input, ``{"number", "module", "arguments", "place", "at", "hold"}``; standard
output says ``{"number", "pid"}`` and, when the process has ended, ``{"number", "status"}``. What the module prints
is in ``place``. It ends with its standard input.

A job counts its events: each statement, step of a window and child program, at most COUNTED alike of them, so that
what is asked again and again while something is awaited does not outweigh the rest. At event ``at``, a number or the
name of a step, it makes the file ``reached``, and with ``hold`` goes on when there is one called ``go``.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import selectors
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
from ansible.module_utils import basic

MODULES = "ansible_collections.handover.postgresql.plugins.modules."
NAMES = ("pg_logical_migrate", "pg_cutover", "pg_verify", "pg_migration_info")
COUNTED = 3  # events that are alike
ALIKE = 60  # characters that they have in common


class Moment:
    """Where a job is, and where it is to say so."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.place = Path(order["place"])
        self.at, self.hold = order.get("at"), order.get("hold")
        self.number = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def look(self, event: str, arguments: tuple) -> None:
        """A hook of Python's auditing."""
        if event == "handover.step":
            self._count("step " + arguments[0], arguments[0])
        elif event == "subprocess.Popen":
            self._count(f"program {os.path.basename(str(arguments[0]))}")
        elif event == "chaos.statement":
            self._count(arguments[0])

    def _count(self, what: str, name: str = "") -> None:
        with self._lock:
            self._seen[what[:ALIKE]] += 1
            if self._seen[what[:ALIKE]] > COUNTED:
                return
            self.number += 1
            if self.at is None or self.at not in (self.number, name):
                return
            self.at = None
        (self.place / "reached.new").write_text(what[:300])
        (self.place / "reached.new").rename(self.place / "reached")
        while self.hold and not (self.place / "go").exists():
            time.sleep(0.002)


def _tell_statements() -> None:
    """Statements are events from now on, in sessions that nobody wants to be special."""

    class Cursor(psycopg2.extensions.cursor):
        """psycopg2's own, but that it tells what it does."""

        def execute(self, query: Any, *parameters: Any) -> None:
            text = query.as_string(self) if hasattr(query, "as_string") else str(query)
            sys.audit("chaos.statement", " ".join(text.split()))
            super().execute(query, *parameters)

        def copy_expert(self, query: Any, *more: Any, **named: Any) -> None:
            sys.audit("chaos.statement", str(query))
            super().copy_expert(query, *more, **named)

    connect = psycopg2.connect

    def connect_and_tell(*arguments: Any, **more: Any) -> Any:
        if not more.get("connection_factory"):
            more.setdefault("cursor_factory", Cursor)
        return connect(*arguments, **more)

    psycopg2.connect = connect_and_tell


def _become(order: dict[str, Any]) -> None:
    """Run the module in this process, and end with it."""
    place = Path(order["place"])
    os.setsid()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        opened = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    faulthandler.register(signal.SIGUSR1)
    moment = Moment(order)
    sys.addaudithook(moment.look)
    given = {
        "ANSIBLE_MODULE_ARGS": {
            **order["arguments"],
            "_ansible_remote_tmp": str(place / "tmp"),
            "_ansible_verbosity": 1,
        }
    }
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps(given).encode(), "legacy"
    status = 1
    try:
        importlib.import_module(MODULES + order["module"]).main()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    finally:
        (place / "events").write_text(str(moment.number))
        sys.stdout.flush()
        sys.stderr.flush()
        basic_cleanup()
        os._exit(status)


def basic_cleanup() -> None:
    """What Python does at its end; Ansible removes its temporary files there."""
    import atexit

    atexit._run_exitfuncs()


def main() -> None:
    """Fork whenever told to."""
    for name in NAMES:
        importlib.import_module(MODULES + name)
    _tell_statements()
    ears, mouth = os.pipe()
    os.set_blocking(mouth, False)
    os.set_blocking(ears, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    numbers: dict[int, int] = {}
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin.buffer.raw, selectors.EVENT_READ, "orders")
    waiting.register(ears, selectors.EVENT_READ, "ends")
    rest = b""
    print(json.dumps({"ready": True}), flush=True)
    while True:
        for key, _events in waiting.select():
            if key.data == "ends":
                os.read(ears, 4096)
                continue
            if not (data := os.read(0, 1 << 16)):
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if not (pid := os.fork()):
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _become(order)
                numbers[pid] = order["number"]
                print(json.dumps({"number": order["number"], "pid": pid}), flush=True)
        while numbers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid in numbers:
                print(json.dumps({"number": numbers.pop(pid), "status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
