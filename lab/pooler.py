# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer in front of a lab server."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2

from lab.builds import Build
from lab.cluster import SUPERUSER, Cluster, ClusterError, free_port, give, tie_to_this_process, unprivileged

CONSOLE = "pgbouncer"  # database and administrator of the admin console


class Pooler:
    """PgBouncer that pools every database of ``cluster`` by ``session``, ``transaction`` or ``statement``.

    Any role of the server logs in with its own password: PgBouncer asks the server for the SCRAM secret. Roles in
    ``users`` it knows by their passwords, so that they log in to whatever server their database leads to.
    ``build`` is the one whose pgbouncer runs (default: the cluster's).
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: Path | str,
        mode: str = "transaction",
        build: Build | None = None,
        port: int | None = None,
        users: Mapping[str, str] | None = None,
        **settings: str | int,
    ) -> None:
        self.cluster = cluster
        self.directory = Path(directory).resolve()
        self.mode = mode
        self.build = build or cluster.build
        self.port = port or free_port()
        self.settings = settings
        self.users = dict(users or {})
        self.databases: dict[str, Cluster] = {}  # those that lead elsewhere
        self.password = secrets.token_urlsafe(18)
        self.log = self.directory / "log"
        self._process: subprocess.Popen | None = None
        self._tie: subprocess.Popen | None = None

    def __enter__(self) -> Pooler:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, timeout: float = 20) -> None:
        """Start PgBouncer; it ends with this process.

        :raises ClusterError: when its console does not answer within ``timeout`` seconds.
        """
        self._write_configuration()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.build.program("pgbouncer"), self.directory / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": os.defpath},
                start_new_session=True,
                **unprivileged(),
            )
        self._tie = tie_to_this_process(self._process.pid)
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(psycopg2.OperationalError):
                self.console("SHOW VERSION")
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"PgBouncer does not start:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End PgBouncer and every connection through it."""
        for process in (self._tie, self._process):
            if process:
                process.send_signal(signal.SIGKILL)
                process.wait()
        if self._tie:
            self._tie.stdin.close()
        self._tie = self._process = None

    def destroy(self) -> None:
        """Stop PgBouncer and remove its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def lead(self, dbname: str, cluster: Cluster) -> None:
        """Write down that a database is on this server now; PgBouncer knows it after its next RELOAD."""
        self.databases[dbname] = cluster
        self._write_configuration()

    def endpoint(self, dbname: str = "postgres", **more: object) -> dict[str, Any]:
        """The cluster's endpoint, through the pooler."""
        return {**self.cluster.endpoint(dbname, **more), "port": self.port}

    def console_endpoint(self) -> dict[str, Any]:
        """Connection parameters of the admin console."""
        return {"host": "127.0.0.1", "port": self.port, "user": CONSOLE, "password": self.password, "dbname": CONSOLE}

    def console(self, command: str) -> list[dict[str, Any]]:
        """What the admin console answers: ``SHOW POOLS``, ``PAUSE``, ``RESUME``, ``RELOAD``, ..."""
        with contextlib.closing(psycopg2.connect(**self.console_endpoint())) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []

    def _write_configuration(self) -> None:
        """``pgbouncer.ini`` and its list of users, owned by the user it runs as."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": self.mode,
            "auth_type": "scram-sha-256",
            "auth_file": self.directory / "users",
            "auth_user": SUPERUSER,
            "admin_users": CONSOLE,
            "max_client_conn": 500,
            "default_pool_size": 10,
            "ignore_startup_parameters": "extra_float_digits,options",
            **self.settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        entries = (
            "".join(f"{name} = host=127.0.0.1 port={cluster.port}\n" for name, cluster in self.databases.items())
            + f"* = host=127.0.0.1 port={self.cluster.port}\n"
        )
        self._write("pgbouncer.ini", f"[databases]\n{entries}[pgbouncer]\n{lines}")
        users = {SUPERUSER: self.cluster.password, CONSOLE: self.password, **self.users}
        self._write("users", "".join(f'"{name}" "{password}"\n' for name, password in users.items()))

    def _write(self, name: str, content: str) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(content)
        give(path)
