# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as processes that can be stopped at a moment, killed and waited for: modules, and now and then playbooks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import builds

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
GUARDIAN = b"handover.guardian import main"
POLL = 0.002


def environment(place: Path) -> dict[str, str]:
    """Of a migrator: the newest client programs, this checkout as the collection, nothing of the caller's PG*."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "ANSIBLE"))}
    clients = builds.build(builds.CLIENT_MAJOR).bin
    path = os.pathsep.join((str(Path(sys.executable).parent), str(clients), os.environ.get("PATH", os.defpath)))
    return {**inherited, "PATH": path, "PYTHONPATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8", "TMPDIR": str(place)}


def link_collection() -> None:
    """Make this checkout importable as the collection."""
    place = COLLECTIONS / "ansible_collections" / "handover" / "postgresql"
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        place.symlink_to(ROOT, target_is_directory=True)


class Job:
    """A process that does one job; ``place`` is its directory."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        self.place = place
        self.pid = 0
        self.status: int | None = None
        self._ended = threading.Event()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    @property
    def reached(self) -> str:
        """Where it was stopped, if it was."""
        with contextlib.suppress(OSError):
            return (self.place / "reached").read_text()
        return ""

    def await_moment(self, timeout: float) -> bool:
        """Whether it has come to the moment before its end."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (self.place / "reached").exists():
                return True
            if not self.running:
                return (self.place / "reached").exists()
            time.sleep(POLL)
        return False

    def let_go(self) -> None:
        """Let it go on from its moment."""
        (self.place / "go").touch()

    def wait(self, timeout: float) -> bool:
        """Whether it ended in time."""
        return self._ended.wait(timeout)

    def ended(self, status: int) -> None:
        self.status = status
        self._ended.set()

    def send(self, number: int) -> None:
        """A signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def family(self) -> dict[int, bytes]:
        """Process ids and command lines of its session, and of guardians, which lead their own."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                command = (place / "cmdline").read_bytes()
                if int(fields[3]) == self.pid or (GUARDIAN in command and self._is_ours(place)):
                    found[int(place.name)] = command
        return found

    def _is_ours(self, place: Path) -> bool:
        """Its temporary directory is the lane's."""
        return f"TMPDIR={self.place.parent}".encode() in (place / "environ").read_bytes().split(b"\0")

    def guardians(self) -> list[int]:
        """Process ids of programs that would finish a window of this lane."""
        return [pid for pid, command in self.family().items() if GUARDIAN in command]

    def end(self) -> None:
        """kill -9 of all of it."""
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)

    @property
    def output(self) -> str:
        """What it printed."""
        return "".join(self._text(name) for name in ("stdout", "stderr"))

    def _text(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return (self.place / name).read_text(errors="replace")
        return ""

    @property
    def result(self) -> dict[str, Any] | None:
        """What the module returned, or None when it was killed before that."""
        with contextlib.suppress(ValueError):
            return json.loads(self._text("stdout"))
        return None

    @property
    def events(self) -> int:
        """How many events it had, 0 when it was killed."""
        return int(self._text("events") or 0)


class Playbook(Job):
    """The same through ansible-playbook, whose processes are known by a variable of their environment."""

    @property
    def mark(self) -> str:
        """The variable."""
        return f"CHAOS_PLAYBOOK={self.place}"

    def family(self) -> dict[int, bytes]:
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                if self.mark.encode() in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = (place / "cmdline").read_bytes()
        return found

    @property
    def result(self) -> dict[str, Any] | None:
        if self.status is None or self.status < 0:
            return None
        failed = self.status != 0
        return {"failed": failed, "msg": self._text("stdout")[-3000:] if failed else "", "remedy": "see the task"}


class Nursery:
    """Where jobs come from: a warm interpreter that forks, and ansible-playbook."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._pid_known = threading.Event()
        place.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            env=environment(place),
            cwd="/",
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            stderr=(place / "warm").open("w"),
        )
        if not self._process.stdout.readline():
            raise RuntimeError(f"the interpreter does not start: {(place / 'warm').read_text()}")
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, name: str, module: str, arguments: Mapping[str, Any], at: Any = None, hold: bool = False) -> Job:
        """A module's process; ``at`` and ``hold`` as for the warm interpreter."""
        job, number = self._another(Job, name)
        order = {"number": number, "module": module, "arguments": dict(arguments), "at": at, "hold": hold}
        with self._lock:
            self._pid_known.clear()
            self._process.stdin.write(json.dumps({**order, "place": str(job.place)}) + "\n")
            self._process.stdin.flush()
            if not self._pid_known.wait(20):
                raise RuntimeError(f"the interpreter does not fork: {(self.place / 'warm').read_text()}")
        return job

    def start_playbook(self, name: str, playbook: str, inventory: Mapping[str, Any], extra: Mapping[str, Any]) -> Job:
        """A playbook of the collection."""
        job, _number = self._another(Playbook, name)
        for file, content in (("inventory.json", inventory), ("extra.json", extra)):
            (job.place / file).touch(mode=0o600)
            (job.place / file).write_text(json.dumps(content))
        (job.place / "ansible.cfg").touch()
        command = [
            "ansible-playbook",
            "-i",
            f"{job.place}/inventory.json",
            "-e",
            f"@{job.place}/extra.json",
            f"handover.postgresql.{playbook}",
        ]
        settings = {
            "ANSIBLE_CONFIG": f"{job.place}/ansible.cfg",
            "ANSIBLE_HOME": f"{job.place}/home",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_REMOTE_TEMP": f"{job.place}/remote",
            "CHAOS_PLAYBOOK": str(job.place),
            "ANSIBLE_PIPELINING": "1",  # killed, Ansible leaves modules with their arguments in files otherwise
        }
        process = subprocess.Popen(
            command,
            cwd="/",
            env={**environment(self.place), **settings},
            stdin=subprocess.DEVNULL,
            stdout=(job.place / "stdout").open("w"),
            stderr=(job.place / "stderr").open("w"),
            start_new_session=True,
        )
        job.pid = process.pid
        threading.Thread(target=lambda: job.ended(process.wait()), daemon=True).start()
        return job

    def _another(self, kind: type[Job], name: str) -> tuple[Any, int]:
        number = next(self._numbers)
        job = self.jobs[number] = kind(name, self.place / f"{number}-{name}")
        (job.place / "tmp").mkdir(parents=True)
        return job, number

    def forget(self) -> None:
        """Those that have ended, with their files."""
        for number in [number for number, job in self.jobs.items() if not job.running]:
            subprocess.run(["rm", "-rf", str(self.jobs.pop(number).place)], check=True)

    def _listen(self) -> None:
        for line in self._process.stdout:
            told = json.loads(line)
            job = self.jobs.get(told["number"])
            if "pid" in told and job:
                job.pid = told["pid"]
                self._pid_known.set()
            elif job:
                job.ended(told["status"])

    def close(self) -> None:
        """End all of them."""
        for job in self.jobs.values():
            if job.running and job.pid:
                job.end()
        self._process.kill()
        self._process.wait()
