# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs of servers with databases to migrate, and their inventory, for whoever has no process that could hold them.

    python3 -m lab.pairs start DIRECTORY dump continuous prepared   # DIRECTORY/inventory.json
    python3 -m lab.pairs stop DIRECTORY

A process in the background holds the servers, which end with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import bank, builds
from lab.cluster import Cluster
from lab.hosts import Network, obstacle
from lab.roots import roots

SOURCE, TARGET = 15, 17  # also of the hosts, whose root file systems are made for some majors only
PATIENCE = 600  # seconds; where nothing is cached, servers and hosts are built first


class Stand:
    """What is up in this process until ``stack`` is closed, with its files where servers can reach them."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pairs-", dir=builds.state())))
        self.directory.chmod(0o755)
        self.hosts: dict[str, dict[str, Any]] = {}
        self._clusters: dict[str, Cluster] = {}

    def cluster(self, side: str, major: int) -> Cluster:
        """The source or the target on loopback, which pairs share."""
        if side not in self._clusters:
            made = Cluster(builds.build(major), self.directory / side)
            self._clusters[side] = self.stack.enter_context(made)
        return self._clusters[side]


def dump(stand: Stand) -> dict[str, Any]:
    """A bank that is closed, and a target whose administrator is no superuser."""
    source, target = stand.cluster("source", SOURCE), stand.cluster("target", TARGET)
    source.sql("postgres", "CREATE DATABASE shop")
    bank.create(source.connect, "shop")
    admin = target.managed_admin("dump_admin", grants=["pg_monitor"])
    return {**_pair(source.endpoint(), admin, "shop"), "handover_source_is_quiet": True}


def continuous(stand: Stand) -> dict[str, Any]:
    """A bank, and a target whose administrator may subscribe, and publish for the way back."""
    source, target = stand.cluster("source", SOURCE), stand.cluster("target", TARGET)
    source.sql("postgres", "CREATE DATABASE bank")
    bank.create(source.connect, "bank")
    attributes = ("CREATEDB", "CREATEROLE", "REPLICATION")  # the last one for the way back
    admin = target.managed_admin("admin", attributes, ["pg_create_subscription"])
    return _pair(source.endpoint(), admin, "bank")


def prepared(stand: Stand) -> dict[str, Any]:
    """A host whose PostgreSQL is as Debian installs it, and another one with the target."""
    network = stand.stack.enter_context(Network(stand.directory / "network"))
    source = network.host("source", roots([SOURCE])[SOURCE])
    target = network.host("target", roots([TARGET])[TARGET])
    password = secrets.token_urlsafe(18)
    for host in (source, target):
        host.psql(f"ALTER ROLE postgres PASSWORD '{password}'")
    source.psql("CREATE DATABASE shop")
    source.psql("CREATE TABLE item (i int PRIMARY KEY); INSERT INTO item SELECT generate_series(1, 1000)", "shop")
    stand.hosts["source_host"] = dict(source.ansible(from_machine=True))
    ends = [
        {"host": "127.0.0.1", "port": host.tunnel(5432, from_machine=True), "user": "postgres", "password": password}
        for host in (source, target)
    ]
    return {
        **_pair(*ends, "shop"),
        "handover_source_host": "source_host",
        "handover_target_addresses": [target.address],
        "handover_replication": {"host": source.address, "port": 5432},
        "handover_allow_restart": True,
    }


KINDS: dict[str, Callable[[Stand], dict[str, Any]]] = {
    "dump": dump,
    "continuous": continuous,
    "prepared": prepared,
}


def _pair(source: dict[str, Any], target: dict[str, Any], dbname: str) -> dict[str, Any]:
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "handover_source": source,
        "handover_target": target,
        "handover_databases": [dbname],
        "handover_client_directory": [str(builds.build(TARGET).bin)],
    }


def inventory(stand: Stand, kinds: list[str]) -> dict[str, Any]:
    """A pair of each kind, called like it."""
    pairs = {kind: KINDS[kind](stand) for kind in kinds}
    for kind, variables in pairs.items():
        variables["handover_dump_directory"] = str(stand.directory / "files" / kind)
        variables["handover_replication_password_file"] = str(stand.directory / "files" / f"{kind}.password")
    return {"all": {"hosts": stand.hosts, "children": {"handover_pairs": {"hosts": pairs}}}}


def hold(directory: Path, kinds: list[str]) -> None:
    """Make them, say so by the inventory, and keep them until somebody ends this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.ExitStack() as stack:
        text = json.dumps(inventory(Stand(stack), kinds), indent=2)
        place = directory / "inventory.part"
        place.touch(mode=0o600)
        place.write_text(text, encoding="utf-8")
        place.rename(directory / "inventory.json")
        signal.pause()


def start(directory: Path, kinds: list[str]) -> int:
    """Have a process hold them, unless one does; returns when all are up."""
    if _holder(directory):
        return 0
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with (directory / "log").open("wb") as log:
        command = [sys.executable, "-m", "lab.pairs", "hold", str(directory), *kinds]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=builds.CHECKOUT, start_new_session=True
        )
    (directory / "pid").write_text(str(process.pid))
    deadline = time.monotonic() + PATIENCE
    while not (directory / "inventory.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(directory)
            print((directory / "log").read_text(errors="replace"), file=sys.stderr)
            return 1
        time.sleep(0.05)
    return 0


def stop(directory: Path) -> int:
    """End that process, and remove what there was."""
    if pid := _holder(directory):
        os.kill(pid, signal.SIGTERM)
        while _holder(directory):
            time.sleep(0.05)
    for name in ("inventory.json", "pid"):  # the log stays
        (directory / name).unlink(missing_ok=True)
    return 0


def _holder(directory: Path) -> int | None:
    """The process id of who holds them, if somebody does."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((directory / "pid").read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if b"lab.pairs" in Path(f"/proc/{pid}/cmdline").read_bytes() and state != "Z":
            return pid
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.pairs", description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=["start", "stop", "hold"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    given = parser.parse_args()
    directory = given.directory.resolve()
    if given.verb == "stop":
        return stop(directory)
    kinds = given.kinds or [kind for kind in KINDS if kind != "prepared" or not obstacle(builds.state())]
    if given.verb == "hold":
        hold(directory, kinds)
    return start(directory, kinds)


if __name__ == "__main__":
    sys.exit(main())
