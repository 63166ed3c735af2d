# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold whatever happens, besides the ledger: one home, no secret anywhere, catalogs as before."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.chaos.stage import NAME, Stage
from lab import catalogs

WRITE = "UPDATE bank.probe SET n = n + 1 WHERE id = 1"
FENCED = "SELECT count(*) FROM pg_trigger WHERE tgname = 'handover_fence' AND tgrelid = 'bank.probe'::regclass"
PROBE = {"application_name": "probe", "options": "-c lock_timeout=300ms -c statement_timeout=5s"}
BETWEEN_PROBES = 0.06
BETWEEN_SAMPLES = 0.15


def accepts(stage: Stage, side: str) -> bool | None:
    """Whether an end takes a superuser's write; None: it does not answer."""
    try:
        with contextlib.closing(stage.connect(side, **PROBE)) as session, session.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(WRITE)
            cursor.execute("ROLLBACK")
        return True
    except psycopg2.Error as error:
        return False if error.pgcode == "25006" else None


class OneHome:
    """Asks both ends all the time. Both in one transaction each: that they take a write at the same moment is proven
    by the first one's still being open when the second one is accepted, and the fence being there at both.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.armed = True  # not while the fence is lifted for good
        self.found: list[str] = []
        self.asked = 0
        self._sessions: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(30)

    def _work(self) -> None:
        while not self._stopping.wait(BETWEEN_PROBES):
            sides = ("source", "target") if self.asked % 2 else ("target", "source")
            try:
                if not self._is_fenced("target"):
                    self._forget()  # whoever replaces the target's database cannot end a superuser's session
                elif self._write(sides[0]) and self._write(sides[1]):
                    self._judge(sides)
                self.asked += 1
            except psycopg2.Error:
                self._forget()
            finally:
                self._roll_back()
        self._forget()

    def _ask(self, side: str, statement: str) -> Any:
        if side not in self._sessions:
            self._sessions[side] = self.stage.connect(side, autocommit=False, **PROBE)
        with self._sessions[side].cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description is not None else None

    def _is_fenced(self, side: str) -> bool:
        return self._ask(side, FENCED) == [(1,)]

    def _write(self, side: str) -> bool:
        try:
            self._ask(side, WRITE)
            return True
        except psycopg2.Error as error:
            if error.pgcode in ("25006", "55P03"):
                return False
            raise

    def _judge(self, sides: tuple[str, str]) -> None:
        armed = self.armed
        if self._is_fenced(sides[1]) and self._is_fenced(sides[0]) and armed and self.armed:
            self.found.append(f"both ends took a write at once, at {time.time():.3f}")

    def _roll_back(self) -> None:
        for session in self._sessions.values():
            with contextlib.suppress(psycopg2.Error):
                session.rollback()

    def _forget(self) -> None:
        for session in self._sessions.values():
            with contextlib.suppress(psycopg2.Error):
                session.close()
        self._sessions = {}


class Secrets:
    """Looks for passwords in what others may read: arguments and environments of processes, logs, files."""

    def __init__(self, stage: Stage, files: Path) -> None:
        self.words = [word.encode() for word in stage.passwords]
        self.logs = [*(cluster.log for cluster in stage.clusters.values()), stage.pooler.log]
        self.files = files
        self.found: list[str] = []
        self._read: dict[Path, int] = {}
        self._known: dict[int, tuple[str, int]] = {}  # pid: when it began, how often it was looked at
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join(10)

    def _work(self) -> None:
        while not self._stopping.wait(BETWEEN_SAMPLES):
            self._look_at_processes()

    def _look_at_processes(self) -> None:
        """New ones, three times: what they are may change with exec."""
        present = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                began = (place / "stat").read_text().rpartition(")")[2].split()[19]
                before = self._known.get(int(place.name), ("", 0))
                times = before[1] + 1 if before[0] == began else 1
                present[int(place.name)] = (began, min(times, 4))
                if times > 3:
                    continue
                command, environ = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
                self._note(command + b"\0" + environ, f"process {command[:200]!r}")
        self._known = present

    def _note(self, content: bytes, where: str) -> None:
        if any(word in content for word in self.words):
            self.found.append(f"a password is in {where}")

    def look_at_files(self) -> None:
        """Logs from where they were read last, and all files of the jobs."""
        for log in self.logs:
            with contextlib.suppress(OSError), log.open("rb") as file:
                file.seek(max(0, self._read.get(log, 0) - 200))
                content = file.read()
                self._read[log] = file.tell()
                for line in content.splitlines():
                    self._note(line, f"{log}: {self._masked(line)}")
        for path in self.files.rglob("*"):
            if path.is_file() and path.name not in ("inventory.json", "extra.json"):
                with contextlib.suppress(OSError):
                    self._note(path.read_bytes(), str(path))

    def _masked(self, line: bytes) -> str:
        for word in self.words:
            line = line.replace(word, b"<HERE>")
        return line.decode(errors="replace")[:300]


def _common(rows: list[str], admin: str) -> list[str]:
    """Without the privilege MAINTAIN, which 17 brought; what the source's superuser owns is the administrator's."""
    return [re.sub(r"\bpostgres\b", admin, row.replace("Dxtm/", "Dxt/")) for row in rows]


class Before:
    """The catalogs as they were, and what is different afterwards. Identities by number are nobody's concern."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.servers = {side: catalogs.of_server(stage.clusters[side]) for side in ("source", "target")}
        self.database = catalogs.of_database(stage.clusters["source"], NAME)

    def source(self) -> list[str]:
        """What is not on the source, or its server, as it was."""
        cluster = self.stage.clusters["source"]
        found = catalogs.changes(self.servers["source"], catalogs.of_server(cluster))
        found += catalogs.changes(self.database, catalogs.of_database(cluster, NAME))
        return [text for text in found if "large objects" not in text]

    def target(self) -> list[str]:
        """What is not on the target's server as it was, besides the database; what of it is not as on the source."""
        cluster = self.stage.clusters["target"]
        found = catalogs.changes(self.servers["target"], catalogs.of_server(cluster))
        found = [text for text in found if not ("databases:" in text and NAME in text)]
        there = catalogs.of_database(cluster, NAME)
        found += catalogs.traces(there)
        admin = self.stage.admins["target"]["user"]
        for what in ("relations", "indexes", "triggers", "publications"):
            both = catalogs.changes({what: _common(self.database[what], admin)}, {what: _common(there[what], admin)})
            found += [f"unlike the source: {text}" for text in both if "handover" not in text]
        return found


def but_for_the_fence(found: list[str]) -> list[str]:
    """What else there is: the fence is a function in schema handover, and triggers."""
    return [text for text in found if "fence" not in text and "'handover'" not in text]
