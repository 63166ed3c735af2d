# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that the tests of a run share, and sweeping them."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psycopg2 import sql

from lab import builds
from lab.cluster import Cluster


def sweep(cluster: Cluster) -> None:
    """Drop whatever tests made on a server: databases, subscriptions, slots, roles, tablespaces, settings."""
    if not cluster.running:
        cluster.start()
    with contextlib.closing(cluster.connect()) as session, session.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')")
        databases = [name for (name,) in cursor.fetchall()]
        _drop_subscriptions(cluster, cursor)
        cursor.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
        cursor.execute("SELECT slot_name FROM pg_replication_slots")
        for (slot,) in cursor.fetchall():
            _until_done(cursor, "SELECT pg_drop_replication_slot(%s)", [slot])
        for name in databases:
            cursor.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        cursor.execute("DROP SCHEMA IF EXISTS handover CASCADE")  # what rehearsals found
        _drop_roles(cluster, cursor)
        cursor.execute("ALTER SYSTEM RESET ALL")
        cursor.execute("SELECT pg_reload_conf()")


def _until_done(cursor: Any, query: str, params: list[Any], attempts: int = 100) -> None:
    """A walsender that was told to end may hold its slot a moment longer."""
    for attempt in range(attempts):
        try:
            cursor.execute(query, params)
            return
        except Exception:
            if attempt == attempts - 1:
                raise
            time.sleep(0.05)


def _drop_subscriptions(cluster: Cluster, cursor: Any) -> None:
    cursor.execute("SELECT datname, subname FROM pg_subscription JOIN pg_database AS d ON d.oid = subdbid")
    for database, name in cursor.fetchall():
        subscription = sql.Identifier(name)
        for statement in (
            "ALTER SUBSCRIPTION {} DISABLE",
            "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
            "DROP SUBSCRIPTION {}",
        ):
            cluster.sql(database, sql.SQL(statement).format(subscription))


def _drop_roles(cluster: Cluster, cursor: Any) -> None:
    cursor.execute("SELECT rolname FROM pg_roles WHERE oid >= 16384")
    made = [sql.Identifier(name) for (name,) in cursor.fetchall()]
    cursor.execute("SELECT spcname FROM pg_tablespace WHERE oid >= 16384")
    for (name,) in cursor.fetchall():
        cursor.execute(sql.SQL("DROP TABLESPACE {}").format(sql.Identifier(name)))
    for database in ("postgres", "template1") if made else ():
        cluster.sql(database, sql.SQL("DROP OWNED BY {} CASCADE").format(sql.SQL(", ").join(made)))
    if made:
        cursor.execute(sql.SQL("DROP ROLE {}").format(sql.SQL(", ").join(made)))


class Servers:
    """The servers of a test run: each is made when first asked for, and shared by all tests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._clusters: dict[str, Cluster] = {}
        self._asked_for: set[str] = set()

    def __call__(self, major: int, name: str = "") -> Cluster:
        """A running server of this major; ``name`` tells several of one major apart."""
        key = f"{major}{name and '-'}{name}"
        if key not in self._clusters:
            self._clusters[key] = self.make(major, self.directory / key)
        self._asked_for.add(key)
        self._clusters[key].start()
        return self._clusters[key]

    def make(self, major: int, directory: Path, **options: Any) -> Cluster:
        directory.mkdir(parents=True, exist_ok=True)
        return Cluster(builds.build(major), directory, **{"scram_rounds": 1, **options})

    def sweep(self) -> None:
        """Drop what was made on the servers that were asked for since the last sweep.

        Subscriptions first, or they would go on reading from the slots of a server that is swept before theirs.
        """
        for key in self._asked_for:
            self._clusters[key].start()
            with contextlib.closing(self._clusters[key].connect()) as session, session.cursor() as cursor:
                _drop_subscriptions(self._clusters[key], cursor)
        while self._asked_for:
            sweep(self._clusters[self._asked_for.pop()])

    def destroy(self) -> None:
        for cluster in self._clusters.values():
            cluster.destroy()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def directory_of_this_run(place: Path) -> Iterator[Path]:
    """A directory there that servers can reach, as long as the block runs; those of killed runs are removed."""
    for left in place.glob("tests-*"):
        pid = left.name.partition("-")[2]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    made = place / f"tests-{os.getpid()}"
    made.mkdir()
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
