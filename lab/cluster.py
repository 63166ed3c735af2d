# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL server on loopback: made, started, stopped, killed, and asked."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from lab import blank
from lab.blank import SUPERUSER, give, unprivileged
from lab.builds import Build
from lab.tls import Certificate

PORTS = range(20000, 30000)  # below the ports that the kernel hands out to clients
HBA = ("host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256")

SETTINGS: dict[str, str | int] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": 60,
    "wal_level": "logical",
    "max_wal_senders": 20,
    "max_replication_slots": 20,
    "max_worker_processes": 24,
    "max_logical_replication_workers": 12,
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d %a ",
}


class ClusterError(Exception):
    """A server could not be made or started; the message ends with what it wrote to its log."""


def free_port() -> int:
    """A port of the lab's range that nobody listens on now."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ClusterError(f"no free port between {PORTS.start} and {PORTS.stop}")


def tie_to_this_process(pid: int) -> subprocess.Popen:
    """End process ``pid`` when this process is gone, however it went; killing what is returned unties it.

    The kernel closes the pipe with this process, and the waiting shell reads its end. The kernel's own parent-death
    signal would not do: it comes when the *thread* that started the child ends.
    """
    command = 'trap "" INT TERM HUP; read line; kill -QUIT "$0" 2>/dev/null'
    return subprocess.Popen(["sh", "-c", command, str(pid)], stdin=subprocess.PIPE, start_new_session=True)


class Cluster:
    """A server of ``build`` that lives in ``directory``; port and superuser's password are kept there, too.

    ``settings`` go over :data:`SETTINGS`; ``hba`` replaces :data:`HBA`; ``tls`` switches TLS on (Debian's builds);
    with few ``scram_rounds`` logins cost less than half.
    As a context manager it is started, and stopped at the end.
    """

    def __init__(
        self,
        build: Build,
        directory: Path | str,
        port: int | None = None,
        settings: Mapping[str, str | int] | None = None,
        initdb_args: Iterable[str] = ("--encoding=UTF8", "--locale=C.UTF-8"),
        tls: Certificate | None = None,
        hba: Iterable[str] | None = None,
        scram_rounds: int = blank.SCRAM_ROUNDS,
    ) -> None:
        self.build = build
        self.directory = Path(directory).resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.initdb_args = tuple(initdb_args)
        self.tls = tls
        self.scram_rounds = scram_rounds
        self.hba = tuple(hba or HBA)
        level = {"wal_level": "replica"} if build.major >= 19 else {}  # as it comes; logical slots need no more there
        self.settings = {**SETTINGS, **level, **(settings or {})}
        self._port_is_chosen = port is not None
        self._process: subprocess.Popen | None = None
        self._tie: subprocess.Popen | None = None
        saved = json.loads(self._record.read_text()) if self._record.exists() else {}
        self.port = port or saved.get("port") or free_port()
        self.password = saved.get("password") or secrets.token_urlsafe(18)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def _record(self) -> Path:
        """Written last, so a data directory without it is the rest of an interrupted initdb."""
        return self.directory / "cluster.json"

    # --- life --------------------------------------------------------------------------------------------------------

    def init(self) -> None:
        """Make the data directory, where there is none yet."""
        if self._record.exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o755)
        try:
            blank.make(self.build, self.initdb_args, self.data, self.password, self.scram_rounds)
        except blank.BlankError as error:
            raise ClusterError(str(error)) from error
        self._record.touch(mode=0o600)
        self._save()

    def _save(self) -> None:
        self._record.write_text(json.dumps({"port": self.port, "password": self.password, "bin": str(self.build.bin)}))

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(self.directory), "TZ": "UTC", **self.build.environment}

    def _write_configuration(self) -> None:
        settings = {**self.settings, "port": self.port}
        if self.tls:
            certificate, key = self.tls.install(self.data)
            give(certificate)
            give(key)
            settings.update(ssl="on", ssl_cert_file=certificate.name, ssl_key_file=key.name)
        lines = "".join(f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        (self.data / "lab.conf").write_text(lines)
        (self.data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in self.hba))
        give(self.data / "lab.conf")

    def start(self, outlive: bool = False, timeout: float = 60) -> None:
        """Start the server, unless it runs; it ends with this process, unless it is to ``outlive`` it.

        One that this process started before is let go when it is to outlive it after all.

        :raises ClusterError: when it does not accept connections within ``timeout`` seconds.
        """
        self.init()
        if self.running:
            if outlive:
                self._untie()
            return
        for attempt in range(5):
            self._write_configuration()
            if self._launch(outlive, timeout):
                break
            if self._port_is_chosen or attempt == 4:
                raise ClusterError(f"port {self.port} is in use")
            self.port = free_port()
        self._save()

    def _launch(self, outlive: bool, timeout: float) -> bool:
        """False when the port was taken meanwhile."""
        with self.log.open("ab") as log:
            beginning = log.tell()
            self._process = subprocess.Popen(
                [self.build.program("postgres"), "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self.directory,
                start_new_session=True,
                **unprivileged(),
            )
        if not outlive:
            self._tie = tie_to_this_process(self._process.pid)
        deadline = time.monotonic() + timeout
        while not self._accepts_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._untie()
                self._process.kill()
                self._process.wait()
                written = self.log.read_bytes()[beginning:].decode(errors="replace")
                if "Address already in use" in written:
                    return False
                raise ClusterError(f"PostgreSQL {self.build.major} in {self.directory} does not start:\n{written}")
            time.sleep(0.02)
        return True

    def _accepts_connections(self) -> bool:
        """The server itself says so in its pid file, so another server on the same port is not taken for it."""
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"
        return False

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when this server does not run.

        A process is known by its command line: where it works, root in a container may not know of another user's.
        """
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
            if os.fsencode(self.data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def stop(self, mode: str = "fast", timeout: float = 60) -> None:
        """Stop the server, also one that another process started: ``smart``, ``fast`` or ``immediate``."""
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self._untie()
        if pid := self.pid:
            os.kill(pid, signals[mode])
            self._await_end(timeout)

    def kill(self) -> None:
        """End the postmaster and every process of it with SIGKILL, as a power cut would."""
        self._untie()
        if pid := self.pid:
            os.kill(pid, signal.SIGSTOP)  # or it would start new processes meanwhile
            processes = (*_children(pid), pid)
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._await_end(10, lambda: any(_holds_connections(process) for process in processes))

    def restart(self, outlive: bool = False) -> None:
        self.stop()
        self.start(outlive=outlive)

    def configure(self, **settings: str | int) -> None:
        """Change settings of a running server and reload; what needs a restart takes effect with the next one."""
        self.settings.update(settings)
        self._write_configuration()
        if pid := self.pid:
            os.kill(pid, signal.SIGHUP)

    def reload(self, timeout: float = 60) -> None:
        """Have the configuration read anew; sessions made afterwards know it."""
        loaded = "SELECT pg_conf_load_time()"
        before, deadline = self.sql("postgres", loaded), time.monotonic() + timeout
        os.kill(self.pid, signal.SIGHUP)
        while self.sql("postgres", loaded) == before:
            if time.monotonic() > deadline:
                raise ClusterError(f"PostgreSQL {self.build.major} in {self.directory} does not reload")
            time.sleep(0.02)

    # --- its past, and its successors --------------------------------------------------------------------------------

    def save(self) -> None:
        """Keep the data directory as it is, for :meth:`go_back`; the server is stopped for that."""
        self.stop()
        subprocess.run(["cp", "-a", self.data, self.directory / "saved"], check=True)
        self.start()

    def go_back(self) -> None:
        """To what was saved, as when a backup is restored."""
        self.stop()
        shutil.rmtree(self.data)
        (self.directory / "saved").rename(self.data)
        self.start()

    def standby(self, directory: Path | str, **settings: str | int) -> Cluster:
        """A running standby that follows this server until one of them is stopped, with the same login."""
        made = Cluster(self.build, directory, settings={**self.settings, **settings}, hba=self.hba)
        made.password = self.password
        made.directory.mkdir(parents=True, mode=0o755)
        made.data.mkdir(mode=0o700)
        give(made.data)
        primary = f"host=127.0.0.1 port={self.port} user={SUPERUSER} password={self.password} dbname=postgres"
        subprocess.run(
            [self.build.program("pg_basebackup"), "-D", made.data, "-d", primary, "-R", "-X", "stream", "-c", "fast"],
            env=self._environment,
            cwd=made.directory,
            check=True,
            capture_output=True,
            **unprivileged(),
        )
        made.settings["primary_conninfo"] = primary
        made._save()
        made.start()
        return made

    def take_the_place_of(self, primary: Cluster) -> None:
        """A standby is promoted, and is reached where the former primary was, which is stopped."""
        primary.stop("immediate")
        self.stop()
        self.port, self._port_is_chosen = primary.port, True
        self.start()
        self.sql("postgres", "SELECT pg_promote()")

    def destroy(self) -> None:
        """Stop the server and remove its directory."""
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _untie(self) -> None:
        if self._tie:
            self._tie.kill()
            self._tie.wait()
            self._tie.stdin.close()
            self._tie = None

    def _await_end(self, timeout: float, lingers: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + timeout
        while self.running or lingers():
            if self._process:
                self._process.poll()
            if time.monotonic() > deadline:
                raise ClusterError(f"PostgreSQL {self.build.major} in {self.directory} does not stop")
            time.sleep(0.02)
        if self._process:
            self._process.wait()

    # --- talking to it -----------------------------------------------------------------------------------------------

    def endpoint(
        self, dbname: str = "postgres", user: str = SUPERUSER, password: str | None = None, **more: object
    ) -> dict[str, Any]:
        """Connection parameters under libpq's names, as modules and playbooks take them."""
        password = self.password if password is None else password
        return {"host": "127.0.0.1", "port": self.port, "user": user, "password": password, "dbname": dbname, **more}

    def connect(self, dbname: str = "postgres", autocommit: bool = True, **more: object) -> Any:
        """A session of psycopg2, as the superuser unless ``user`` and ``password`` say otherwise."""
        connection = psycopg2.connect(**self.endpoint(dbname, **more))
        connection.autocommit = autocommit
        return connection

    def sql(self, dbname: str, query: str | sql.Composable, params: object = None, **more: object) -> list[tuple]:
        """The rows that one query returns, in a session of its own."""
        with contextlib.closing(self.connect(dbname, **more)) as session, session.cursor() as cursor:
            cursor.execute(query, params)
            return cursor.fetchall() if cursor.description is not None else []

    def managed_admin(
        self,
        name: str = "doadmin",
        attributes: Iterable[str] = ("CREATEDB", "CREATEROLE"),
        grants: Iterable[str] = (),
        dbname: str = "postgres",
    ) -> dict[str, Any]:
        """The endpoint of a new role such as managed services hand out: an administrator who is not superuser.

        ``grants`` are predefined roles, for example ``pg_create_subscription``; those that this major lacks are left
        out, as a service of this major would.
        """
        password = secrets.token_urlsafe(18)
        role = sql.Identifier(name)
        statement = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER {} PASSWORD {}")
        kept = sql.Literal(blank.verifier(password, self.scram_rounds))
        self.sql("postgres", statement.format(role, sql.SQL(" ".join(attributes)), kept))
        known = self.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [list(grants)])
        for (granted,) in known:
            self.sql("postgres", sql.SQL("GRANT {} TO {}").format(sql.Identifier(granted), role))
        return self.endpoint(dbname, user=name, password=password)


def _holds_connections(pid: int) -> bool:
    """Whether a process that was killed is still there; what only its parent has yet to hear of has closed all."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _children(pid: int) -> list[int]:
    """All processes below ``pid``."""
    with contextlib.suppress(OSError):
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return [*direct, *(below for child in direct for below in _children(child))]
    return []
