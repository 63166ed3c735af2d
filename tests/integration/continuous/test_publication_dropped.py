# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publications come and go while an application writes to their tables; none of its statements may fail."""

from __future__ import annotations

import contextlib
import threading
import time

import psycopg2
import pytest
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import publication, writers

NAME = "handover_aaaaaaaaaa_w1"
TABLES = [("public", f"t{number}") for number in range(20)]


@pytest.mark.parametrize("major", [13, 18])
def test_no_statement_fails(servers, major):
    """Dropped at once, one in a hundred fails somebody here."""
    cluster = servers(major)
    dbname = create_database(cluster)
    for _schema, table in TABLES:
        cluster.sql(dbname, f"CREATE TABLE {table} (id int PRIMARY KEY, n int); INSERT INTO {table} VALUES (1, 0)")
    failures, done = [], threading.Event()

    def write() -> None:
        with contextlib.closing(cluster.connect(dbname)) as session, session.cursor() as cursor:
            while not done.is_set():
                for _schema, table in TABLES:
                    try:
                        cursor.execute(f"UPDATE {table} SET n = n + 1")
                    except psycopg2.Error as error:
                        failures.append(str(error))

    clients = [threading.Thread(target=write) for _number in range(4)]
    for client in clients:
        client.start()
    try:
        with contextlib.closing(cluster.connect(dbname)) as session:
            session.autocommit = True
            for _round in range(300):
                publication.create(session, NAME, TABLES)
                assert publication.drop(session, NAME)
    finally:
        done.set()
        for client in clients:
            client.join()
    assert not failures


def test_a_transaction_that_writes_is_waited_for(servers):
    cluster = servers(16)
    dbname = create_database(cluster)
    cluster.sql(dbname, "CREATE TABLE t (id int)")
    with contextlib.closing(cluster.connect(dbname)) as writer, contextlib.closing(cluster.connect(dbname)) as other:
        cursor = writer.cursor()
        cursor.execute("BEGIN; INSERT INTO t VALUES (1)")
        ending = threading.Timer(0.3, cursor.execute, ["COMMIT"])
        ending.start()
        began = time.monotonic()
        writers.outlast(other, patience=30)
        assert 0.2 < time.monotonic() - began < 10
        ending.join()
        cursor.execute("BEGIN; INSERT INTO t VALUES (2)")
        began = time.monotonic()
        writers.outlast(other, patience=0.2)
        assert 0.1 < time.monotonic() - began < 10
