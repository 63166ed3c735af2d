# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on many tables: quick, and always the first to give way."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing.table_locks import (
    lock_tables,
    patience_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import removal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    patience,
    publication,
    replica_identity,
    writable,
)

MODE = "SHARE ROW EXCLUSIVE"
TABLES = [("public", f"t{number}") for number in range(200)]


@pytest.fixture(params=[False])
def session(request, servers, new_cluster):
    """``session()`` is one more connection to a database of 200 tables."""
    cluster = new_cluster(16, settings={"autovacuum_naptime": "1s"}) if request.param else servers(16)
    dbname = create_database(cluster)
    cluster.sql(dbname, "; ".join(f"CREATE TABLE {table} (id int)" for _schema, table in TABLES))
    with contextlib.ExitStack() as stack:

        def connect(user: str = "postgres", **options):
            connection = stack.enter_context(contextlib.closing(cluster.connect(dbname, user=user, **options)))
            connection.autocommit = True
            return connection

        yield connect


def run(connection, statement: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description is not None else []


def test_all_are_locked_against_writers_and_open_to_readers(session):
    holder, other = session(), session()
    locked = lock_tables(holder, TABLES, MODE, 500, time.monotonic() + 5)
    assert locked.attempts == 1 and locked.waited_ms < 500
    modes = run(other, "SELECT mode, count(*) FROM pg_locks WHERE relation::regclass::text ~ '^t[0-9]' GROUP BY 1")
    assert modes == [("ShareRowExclusiveLock", len(TABLES))]
    run(other, "SET lock_timeout = 50")
    assert run(other, "SELECT * FROM t7") == []
    with pytest.raises(Exception, match="lock timeout"):
        run(other, "INSERT INTO t7 VALUES (1)")
    run(holder, "ROLLBACK")
    run(other, "INSERT INTO t7 VALUES (1)")


def test_gives_way_and_tries_again(session):
    """A writer with a long transaction is in the way for a while: others wait behind us for a moment at a time."""
    holder, writer, other = session(), session(), session()
    run(writer, "BEGIN; INSERT INTO t150 VALUES (1)")
    threading.Timer(1, run, [writer, "COMMIT"]).start()
    slowest, end = 0.0, threading.Event()

    def insert():
        nonlocal slowest
        while not end.is_set():
            began = time.monotonic()
            run(other, "INSERT INTO t3 VALUES (1)")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.005)

    inserting = threading.Thread(target=insert)
    inserting.start()
    locked = lock_tables(holder, TABLES, MODE, 100, time.monotonic() + 20)
    run(holder, "ROLLBACK")
    end.set()
    inserting.join()
    assert locked.attempts > 1 and locked.waited_ms > 500
    assert 80 < locked.longest_ms < 400 and slowest < 0.4


def test_says_who_was_in_the_way(session):
    holder, writer = session(), session()
    run(writer, "BEGIN; INSERT INTO t150 VALUES (4711)")
    with pytest.raises(HandoverError) as failure:
        lock_tables(holder, TABLES, MODE, 100, time.monotonic() + 0.5)
    [blocker] = failure.value.facts["blockers"]
    assert blocker["pid"] == writer.info.backend_pid and blocker["table"] == "public.t150"
    assert f"process {writer.info.backend_pid} " in failure.value.problem
    assert "4711" not in str(failure.value.as_result()), "what it writes is nobody's business"
    assert not run(session(), f"SELECT 1 FROM pg_locks WHERE pid = {holder.info.backend_pid} AND locktype = 'relation'")
    run(writer, "ROLLBACK")
    lock_tables(holder, TABLES, MODE, 100, time.monotonic() + 1)


def test_never_waits_as_long_as_deadlock_timeout(session):
    holder, writer = session(), session()
    run(holder, "SET deadlock_timeout = 100")
    run(writer, "BEGIN; INSERT INTO t1 VALUES (1)")
    began = time.monotonic()
    with pytest.raises(HandoverError):
        lock_tables(holder, TABLES, MODE, patience_of(holder, 60_000), time.monotonic() + 0.3)
    assert time.monotonic() - began < 3


def _lock(holder) -> None:
    """As a verification has it."""
    assert lock_tables(holder, TABLES, MODE, patience_of(holder, 500), time.monotonic() + 10).attempts > 1


def _fence(holder) -> None:
    run(holder, "CREATE SCHEMA handover")
    fence.prepare(holder, fence.Fence(False, "", "aaaaaaaaaa"), holder.info.dbname, TABLES, 20)


def _amend(holder) -> None:
    def work() -> None:
        with transaction(holder) as cursor:
            cursor.execute('ALTER TABLE "public"."whole" ADD more int')

    patience.patiently(holder, work)


def _undo(holder) -> None:
    for step in removal.undo(holder, ['ALTER TABLE "public"."t9" REPLICA IDENTITY DEFAULT']):
        step.run()


@pytest.mark.parametrize("session", [True], indirect=True)
@pytest.mark.parametrize(
    "work",
    [
        _lock,
        lambda holder: publication.create(holder, "handover_aaaaaaaaaa_w1", TABLES),
        lambda holder: replica_identity.give(holder, "public", "t9", "FULL"),
        _fence,
        lambda holder: writable.refused(holder, "handover_aaaaaaaaaa_trial", TABLES),
        _undo,
        _amend,
        lambda holder: patience.execute_patiently(holder, "ALTER TABLE public.referring DROP CONSTRAINT fkey"),
    ],
    ids=["lock", "publication", "replica identity", "fence", "trial", "undo", "definition of a parent", "foreign key"],
)
def test_makes_autovacuum_go_away(session, work):
    """The server ends it for us, but only for somebody who waits longer than we let writers wait."""
    holder, other = session(), session()
    run(other, "ALTER TABLE t9 SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)")
    run(other, "ALTER TABLE t9 ADD UNIQUE (id); CREATE TABLE whole (id int) PARTITION BY RANGE (id)")
    run(other, "CREATE TABLE referring (id int CONSTRAINT fkey REFERENCES t9 (id))")
    run(other, "ALTER TABLE whole ATTACH PARTITION t9 DEFAULT; INSERT INTO t9 SELECT generate_series(1, 60000)")
    run(other, "DELETE FROM t9")
    vacuuming = "SELECT 1 FROM pg_stat_progress_vacuum WHERE relid = 't9'::regclass"
    deadline = time.monotonic() + 60
    while not run(other, vacuuming):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    began = time.monotonic()
    work(holder)
    assert time.monotonic() - began < 30 and not run(other, vacuuming)


def test_says_which_privilege_is_missing(session):
    run(session(), "CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON t1 TO reader")
    with pytest.raises(HandoverError, match="permission denied") as failure:
        lock_tables(session("reader", password="reader"), TABLES[1:2], MODE, 100, time.monotonic() + 1)
    assert "UPDATE" in failure.value.remedy
