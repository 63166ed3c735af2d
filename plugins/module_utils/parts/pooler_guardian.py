# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child program that outlives us for a moment: it resumes paused poolers when we die before we could.

PgBouncer keeps a database paused after the session that asked for it is gone. So whoever is about to pause starts this
program first, and tells it at the end that all is well. What it needs to know comes through a pipe, never in its
arguments or its environment; the kernel closes the pipe whatever ends us.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2

PATIENCE = 300.0  # seconds during which a pooler that cannot be reached is tried again
PAUSE = 0.5  # seconds between two attempts
RELOAD, DONE = "reload", "done"


class Guardian:
    """The child program. ``poolers`` are ``{"parameters": libpq's, "databases": names on the console}``."""

    def __init__(self, poolers: list[dict]):
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # signals for our process group are not for it
            text=True,
        )
        self._tell(json.dumps(poolers))
        self.ready = self._process.stdout.readline().strip() == "ready"

    def reload_first(self) -> None:
        """From now on, a pooler is to load its configuration before it is resumed: the switch is decided."""
        self._tell(RELOAD)

    def dismiss(self) -> None:
        """Nothing is paused any more."""
        self._tell(DONE)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is gone: then we are alone responsible
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def command(parameters: dict, statements: list[str]) -> None:
    """Run statements on an admin console, each by itself; one that is refused does not stop the others."""
    with contextlib.closing(psycopg2.connect(**parameters)) as session:
        session.autocommit = True
        for statement in statements:
            with contextlib.suppress(psycopg2.DatabaseError), session.cursor() as cursor:
                cursor.execute(statement)


def quoted(name: str) -> str:
    """A database's name for the console."""
    return '"' + name.replace('"', '""') + '"'


def main() -> None:
    """Wait for the end of our parent, and do what it could not do any more."""
    poolers = json.loads(sys.stdin.readline())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    said = set()
    for line in sys.stdin:
        said.add(line.strip())
    if DONE in said:
        return
    deadline = time.monotonic() + PATIENCE
    while poolers and time.monotonic() < deadline:
        poolers = [one for one in poolers if not _resumed(one, RELOAD in said)]
        time.sleep(PAUSE if poolers else 0)


def _resumed(pooler: dict, reload: bool) -> bool:
    resume = [f"RESUME {quoted(name)}" for name in pooler["databases"]]
    try:
        command(pooler["parameters"], ["RELOAD", *resume] if reload else resume)
    except psycopg2.Error:
        return False
    return True
