# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lane's servers, pooler and network, and the database that is handed over again and again."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg2

from lab import bank, builds
from lab.cluster import Cluster, ClusterError, give
from lab.pooler import Pooler
from lab.proxy import Proxy

NAME, TEMPLATE = "shop", "shop_as_it_begins"
DISK = 640  # megabytes of each server's own disk, where we may mount one
# Whose PgBouncer, other than the source's: a recent one that was led from 16 or later to an older server refuses
# clients from then on: it sets scram_iterations there, which the older one does not know.
POOLERS = {14: 15}
SETTINGS = {
    "wal_receiver_timeout": "4s",
    "wal_sender_timeout": "4s",
    "wal_retrieve_retry_interval": "100ms",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
    "max_connections": 100,
    "tcp_user_timeout": "5s",
    "log_checkpoints": "off",
}

CONTENT = """
CREATE TABLE bank.probe (id integer PRIMARY KEY, n bigint NOT NULL);
INSERT INTO bank.probe SELECT i, 0 FROM generate_series(1, 2) AS i;
CREATE TABLE bank.scan (number bigint PRIMARY KEY, document oid NOT NULL);
CREATE TABLE bank.event (id bigint GENERATED ALWAYS AS IDENTITY, month integer NOT NULL, words text,
    PRIMARY KEY (id, month)) PARTITION BY LIST (month);
CREATE TABLE bank.event_1 PARTITION OF bank.event FOR VALUES IN (1);
CREATE TABLE bank.event_2 PARTITION OF bank.event FOR VALUES IN (2);
INSERT INTO bank.event (month, words) SELECT 1 + i % 2, md5(i::text) FROM generate_series(1, 2000) AS i;
CREATE TABLE bank.product (code text PRIMARY KEY, price numeric, tags text[], made timestamptz);
INSERT INTO bank.product SELECT 'p' || i, i * 1.01, ARRAY['a', i::text], '2024-01-01'::timestamptz + i * interval '1h'
    FROM generate_series(1, 3000) AS i;
CREATE INDEX product_price ON bank.product (price);
CREATE TABLE bank.line (product text REFERENCES bank.product, number integer, amount integer,
    PRIMARY KEY (product, number));
INSERT INTO bank.line SELECT 'p' || i, n, i * n FROM generate_series(1, 500) AS i, generate_series(1, 3) AS n;
CREATE TABLE bank.keyless (i integer NOT NULL UNIQUE, words text);
ALTER TABLE bank.keyless REPLICA IDENTITY USING INDEX keyless_i_key;
INSERT INTO bank.keyless SELECT i, 'word ' || i FROM generate_series(1, 300) AS i;
CREATE UNLOGGED TABLE bank.passing (i integer PRIMARY KEY);
INSERT INTO bank.passing SELECT generate_series(1, 200);
CREATE SEQUENCE bank.ticket START 1000 INCREMENT 5;
CREATE FUNCTION bank.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON bank.product FOR EACH ROW EXECUTE FUNCTION bank.touch();
CREATE VIEW bank.cheap AS SELECT code FROM bank.product WHERE price < 100;
SELECT lo_from_bytea(7000 + i, convert_to('document ' || i, 'UTF8')) FROM generate_series(1, 3) AS i;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA bank TO clerk;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA bank TO clerk;
"""
# What nobody changes, as a digest: the same at whatever end is the home.
# Columns by name, as others may be added.
STILL = """
WITH found AS (
    SELECT 'event' AS what, concat_ws(' ', id, month, words) AS row FROM bank.event UNION ALL
    SELECT 'product', concat_ws(' ', code, price, tags, made) FROM bank.product UNION ALL
    SELECT 'line', concat_ws(' ', product, number, amount) FROM bank.line UNION ALL
    SELECT 'keyless', concat_ws(' ', i, words) FROM bank.keyless UNION ALL
    SELECT 'documents', concat_ws(' ', oid, lo_get(oid)) FROM pg_largeobject_metadata WHERE oid BETWEEN 7001 AND 7003)
SELECT what, count(*), md5(string_agg(row, ',' ORDER BY row COLLATE "C")) FROM found GROUP BY what ORDER BY what
"""
PASSING = "SELECT count(*) FROM bank.passing"  # a crash empties it
REMAINS = """
SELECT d.datname, s.subname FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid"""


class Disk:
    """A small disk of a server's own, on which space runs out when asked; root may mount one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=0755", "tmpfs", str(place)]
        self.is_small = os.geteuid() == 0 and not subprocess.run(command, capture_output=True, check=False).returncode
        self.filler = place / "filler"

    def fill(self) -> None:
        """Take all the space there is."""
        with self.filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))

    def free(self) -> None:
        """Give it back."""
        self.filler.unlink(missing_ok=True)

    def remove(self) -> None:
        if self.is_small:
            subprocess.run(["umount", "--lazy", str(self.place)], check=False)


class Stage:
    """Two servers of these majors, a pooler, five ways between whoever talks to whom."""

    def __init__(self, place: Path, majors: tuple[int, int], superuser: bool = True) -> None:
        self.place = place
        self.majors = majors
        self.superuser = superuser
        place.mkdir(parents=True, mode=0o755)
        self.disks = {side: Disk(place / side) for side in ("source", "target")}
        self.clusters = {
            side: Cluster(
                builds.build(major),
                place / side / "server",
                settings=SETTINGS,
                initdb_args=("--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1"),
            )
            for side, major in zip(("source", "target"), majors)
        }
        for disk in self.disks.values():
            (disk.place / "server").mkdir(mode=0o755)
        self.clerk = {"user": "clerk", "password": secrets.token_urlsafe(18)}
        self._start()

    def _start(self) -> None:
        for cluster in self.clusters.values():
            cluster.start()
            cluster.sql("postgres", f"CREATE ROLE clerk LOGIN PASSWORD '{self.clerk['password']}'")
        source, target = self.clusters.values()
        self.pooler = Pooler(
            source,
            self.place / "pooler",
            users={self.clerk["user"]: self.clerk["password"]},
            build=builds.build(POOLERS.get(self.majors[0], self.majors[0])),
            default_pool_size=12,
            server_login_retry=1,
        )
        self.pooler.start()
        self.ways = {
            "migrator-source": Proxy(source.port),
            "migrator-target": Proxy(target.port),
            "target-source": Proxy(source.port),
            "source-target": Proxy(target.port),
            "clients-pooler": Proxy(self.pooler.port),
            "migrator-pooler": Proxy(self.pooler.port),
        }
        for way in self.ways.values():
            way.start()
        self.admins = {side: cluster.endpoint() for side, cluster in self.clusters.items()}
        if not self.superuser:
            grants = ["pg_create_subscription", "pg_monitor", "pg_read_all_data", "pg_signal_backend"]
            attributes = ["CREATEDB", "CREATEROLE", "REPLICATION"]
            self.admins["target"] = target.managed_admin(attributes=attributes, grants=grants)
            target.sql("postgres", "GRANT clerk TO doadmin WITH ADMIN OPTION")
        self._fill(source)

    def _fill(self, source: Cluster) -> None:
        source.sql("postgres", f"CREATE DATABASE {TEMPLATE}")
        bank.create(source.connect, TEMPLATE, role="clerk")
        source.sql(TEMPLATE, CONTENT)
        self.still = source.sql(TEMPLATE, STILL)

    @property
    def passwords(self) -> list[str]:
        """Everything that must be nowhere to be read."""
        servers = [cluster.password for cluster in self.clusters.values()]
        return list(
            {
                *servers,
                self.pooler.password,
                self.clerk["password"],
                *(admin["password"] for admin in self.admins.values()),
            }
        )

    # --- what is given to the product ---------------------------------------------------------------------------------

    def endpoint(self, side: str) -> dict[str, Any]:
        """How the migrator reaches an end."""
        return {**self.admins[side], "port": self.ways[f"migrator-{side}"].port}

    def between(self, follower: str, home: str) -> dict[str, Any]:
        """How one end reaches the other."""
        return {"host": "127.0.0.1", "port": self.ways[f"{follower}-{home}"].port}

    def console(self) -> dict[str, Any]:
        """How the migrator reaches the pooler."""
        return {**self.pooler.console_endpoint(), "port": self.ways["migrator-pooler"].port}

    def through_pooler(self) -> dict[str, Any]:
        """How clients reach it."""
        return {**self.pooler.endpoint(**self.clerk), "port": self.ways["clients-pooler"].port}

    def direct(self, side: str) -> dict[str, Any]:
        """How clients reach an end."""
        return self.clusters[side].endpoint(**self.clerk)

    # --- from cycle to cycle ------------------------------------------------------------------------------------------

    def connect(self, side: str, dbname: str = NAME, **more: Any) -> Any:
        """A superuser's session with an end, past every proxy."""
        return self.clusters[side].connect(dbname, connect_timeout=5, **more)

    def sql(self, side: str, query: Any, dbname: str = NAME, params: Any = None) -> list[tuple]:
        """The rows of one query at an end."""
        return self.clusters[side].sql(dbname, query, params, connect_timeout=5)

    def define(self, side: str, statement: str) -> None:
        """Run DDL as the owner of the tables, which are no superuser's on a managed server."""
        [(owner,)] = self.sql(side, "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'bank.product'::regclass")
        self.sql(side, f"SET transaction_read_only = off; SET lock_timeout = '2s'; SET ROLE {owner}; {statement}")

    def revive(self) -> None:
        """Everything runs, nothing is in the way."""
        for disk in self.disks.values():
            disk.free()
        for way in self.ways.values():
            way.mend()
        for side in self.clusters:
            self.await_server(side)
        if not self.pooler_answers():
            self.pooler.stop()
            self.pooler.start()

    def await_server(self, side: str, timeout: float = 40) -> None:
        """Until it answers, be it that it recovers by itself or has to be started."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.clusters[side].start()
                self.sql(side, "SELECT 1", "postgres")
                return
            except (psycopg2.Error, ClusterError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def back_up(self, side: str) -> Path:
        """A copy of a server as of now, as a standby has that is about to fall behind."""
        cluster, place = self.clusters[side], self.place / side / "copy"
        shutil.rmtree(place, ignore_errors=True)
        passwords = self.place / "pgpass"
        passwords.touch(mode=0o600)
        passwords.write_text(f"*:*:*:*:{cluster.password}\n")
        subprocess.run(
            [cluster.build.program("pg_basebackup"), "-D", place, "-c", "fast", "-X", "stream", "-h", "127.0.0.1",
             "-p", str(cluster.port), "-U", "postgres"],
            env={**os.environ, "PGPASSFILE": str(passwords)}, check=True, capture_output=True,
        )  # fmt: skip
        return place

    def fail_over(self, side: str, place: Path, promoted: bool) -> None:
        """The server is gone, and its copy takes its place: on a timeline of its own where it was ``promoted``, else as
        one that was restored by copying its disk.
        """
        cluster = self.clusters[side]
        cluster.kill()
        shutil.rmtree(cluster.data)
        place.rename(cluster.data)
        if promoted:
            (cluster.data / "standby.signal").touch()
        for path in (cluster.data, *cluster.data.rglob("*")):
            give(path)
        cluster.start()
        if promoted:
            cluster.sql("postgres", "SELECT pg_promote()")

    def pooler_answers(self) -> bool:
        with contextlib.suppress(psycopg2.Error):
            return bool(self.pooler.console("SHOW VERSION"))
        return False

    def is_fenced(self, side: str) -> bool:
        """Whether an end has the fence, open or closed."""
        with contextlib.suppress(psycopg2.Error):
            return bool(self.sql(side, "SELECT FROM pg_trigger WHERE tgname = 'handover_fence' LIMIT 1"))
        return False

    def lead(self, side: str, reload: bool = False) -> None:
        """Write down where the pooler leads to."""
        self.pooler.lead(NAME, self.clusters[side])
        if reload:
            self.pooler.console("RELOAD")

    def begin(self) -> None:
        """The database as it begins, on the source alone."""
        self.revive()
        self.lead("source", reload=True)
        for side in ("target", "source"):
            for dbname, name in self.sql(side, REMAINS, "postgres"):
                self.sql(side, f'ALTER SUBSCRIPTION "{name}" DISABLE', dbname)
                self.sql(side, f'ALTER SUBSCRIPTION "{name}" SET (slot_name = NONE)', dbname)
                self.sql(side, f'DROP SUBSCRIPTION "{name}"', dbname)
        for side in ("target", "source"):
            self.sql(side, f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)", "postgres")
            for (role,) in self.sql(side, "SELECT rolname FROM pg_roles WHERE rolname ~ '^handover_'", "postgres"):
                self.sql(side, f'DROP ROLE "{role}"', "postgres")  # of a cycle that nobody finished
        strategy = " STRATEGY file_copy" if self.majors[0] >= 15 else ""
        self.sql("source", f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}{strategy}", "postgres")
        self.sql("source", "INSERT INTO bank.passing SELECT generate_series(1, 200) ON CONFLICT DO NOTHING")

    def close(self, keep: Path | None = None) -> None:
        """End everything; ``keep`` is where logs and data go."""
        for way in self.ways.values():
            way.stop()
        self.pooler.stop()
        for cluster in self.clusters.values():
            with contextlib.suppress(ClusterError):
                cluster.stop("immediate")
        if keep:
            shutil.copytree(self.place, keep, symlinks=True, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        for disk in self.disks.values():
            disk.remove()
        shutil.rmtree(self.place, ignore_errors=True)
