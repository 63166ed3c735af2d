# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what goes on at the source: a quiet one, and one where much does."""

from __future__ import annotations

import contextlib
import time

import psycopg2
import pytest
from preflights import look, run_script
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight import activity

HERE = (
    "prepared_transactions",
    "long_transactions",
    "transaction_age",
    "wraparound_vacuum",
    "locked_tables",
    "scheduled_jobs",
)


@contextlib.contextmanager
def transaction(cluster, dbname, *statements):
    """An open transaction; its session may be gone at the end."""
    session = cluster.connect(dbname, autocommit=False)
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    try:
        yield session
    finally:
        session.close()


@pytest.mark.parametrize("major", [13, 18])
def test_a_quiet_source(servers, major):
    source = servers(major)
    report = look(source.endpoint(), None, [create_database(source)])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)


def test_open_ends(new_cluster):
    """Some seconds have to pass: a transaction is not long before."""
    source = new_cluster(15, settings={"max_prepared_transactions": 4})
    for name in ("shop", "other"):
        source.sql("postgres", f"CREATE DATABASE {name}")
        source.sql(name, "CREATE TABLE t (i int)")
    for number, name in enumerate(("shop", "other")):
        with transaction(source, name, "INSERT INTO t VALUES (1)", f"PREPARE TRANSACTION 'it''s {number}'"):
            pass
    admin = source.managed_admin("reader")
    with (
        transaction(source, "shop", "INSERT INTO t VALUES (1)") as writer,
        transaction(source, "shop", "SELECT count(*) FROM t") as reader,
    ):
        report = look(source.endpoint(), None, ["shop"])
        assert report.levels("long_transactions") == {"ok"}
        time.sleep(activity.LONG)
        report = look(source.endpoint(), None, ["shop"])
        hidden = look(admin, None, ["shop"])
        assert hidden.levels("long_transactions") == {"unknown"} and "pg_read_all_stats" in str(
            hidden.of("long_transactions")
        )
        pids = {kind: f"process {session.info.backend_pid}" for kind, session in (("w", writer), ("r", reader))}
        assert report.objects("long_transactions", "warning") == {pids["w"]}
        assert report.objects("long_transactions", "info") == set(pids.values())
        assert "idle in transaction" in report.of("long_transactions", "warning")[0]["seen"]

        blocker = report.of("prepared_transactions", "blocker")[0]
        assert blocker["objects"] == ["'it''s 0'", "'it''s 1'"] and blocker["methods"] == ["continuous"]
        warning = report.of("prepared_transactions", "warning")[0]
        assert warning["objects"] == ["'it''s 0'"] and warning["methods"] == ["dump"]

        run_script(source, "postgres", report.of("long_transactions", "info")[0]["remedy"].partition("\n")[2])
    for name, statement in zip(("shop", "other"), blocker["remedy"].splitlines()[1:]):
        run_script(source, name, statement)
    report = look(source.endpoint(), None, ["shop"])
    assert report.levels("long_transactions") == report.levels("prepared_transactions") == {"ok"}


def test_locked_tables(servers):
    source = servers(15)
    dbname = create_database(source)
    source.sql(dbname, 'CREATE TABLE "T" (i int); CREATE TABLE wanted (i int); CREATE TABLE free (i int)')
    with (
        transaction(source, dbname, 'LOCK TABLE "T"') as holder,
        transaction(source, dbname, "SELECT count(*) FROM wanted"),
        contextlib.closing(psycopg2.connect(**source.endpoint(dbname), async_=True)) as waiter,
    ):
        psycopg2.extras.wait_select(waiter)
        with waiter.cursor() as cursor:
            cursor.execute("TRUNCATE wanted")
        deadline = time.monotonic() + 10
        while not source.sql(dbname, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started = time.monotonic()
        report = look(source.endpoint(), None, [dbname])
        assert time.monotonic() - started < 60, "it waits no longer than it has to"
        assert report.objects("locked_tables", "warning") == {'public."T"', "public.wanted"}
        [finding] = report.of("locked_tables")
        assert f"process {holder.info.backend_pid} (postgres, idle in transaction)" in finding["seen"]
        run_script(source, dbname, finding["remedy"].partition("\n")[2])
    assert look(source.endpoint(), None, [dbname]).levels("locked_tables") == {"ok"}


def test_old_transaction_ids(new_cluster):
    """A forgotten transaction holds up VACUUM while others use up ids; then VACUUM runs, slowly."""
    settings = {"freeze_max_age": 100000, "naptime": "1s", "vacuum_cost_delay": 100, "vacuum_cost_limit": 1}
    source = new_cluster(15, settings={f"autovacuum_{name}": value for name, value in settings.items()})
    source.sql("postgres", "CREATE DATABASE shop")
    source.sql("shop", "CREATE TABLE big AS SELECT generate_series(1, 300000) AS i")
    burn = "DO $$ BEGIN FOR i IN 1..210000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    with transaction(source, "shop", "SELECT pg_current_xact_id()"):
        source.sql("shop", burn)
        report = look(source.endpoint(), None, ["shop"])
        [finding] = report.of("transaction_age", "warning")
        assert "shop" in finding["objects"] and "VACUUM (FREEZE)" in finding["remedy"]
    deadline = time.monotonic() + 60
    while not report.of("wraparound_vacuum", "info"):
        assert time.monotonic() < deadline, "no VACUUM to prevent wraparound was seen"
        report = look(source.endpoint(), None, ["shop"])
    assert "prevent wraparound" in report.of("wraparound_vacuum")[0]["seen"]
    assert look(source.managed_admin(), None, ["shop"]).levels("wraparound_vacuum") == {"unknown"}


def test_jobs_of_schedulers(servers):
    """The tables of pg_cron and pgAgent as their extensions make them, as far as jobs are concerned."""
    source = servers(15)
    dbname = create_database(source)
    source.sql(dbname, "CREATE SCHEMA cron CREATE TABLE job (jobid bigserial, active bool, jobname name)")
    source.sql(dbname, "INSERT INTO cron.job (active, jobname) VALUES (true, 'night'), (true, NULL), (false, 'off')")
    source.sql(dbname, "CREATE SCHEMA pgagent CREATE TABLE pga_job (jobid serial, jobname text, jobenabled bool)")
    source.sql(dbname, "INSERT INTO pgagent.pga_job (jobname, jobenabled) VALUES ('off', false)")
    [finding] = look(source.endpoint(), None, [dbname]).of("scheduled_jobs", "warning")
    assert finding["objects"] == ["2", "night"] and "2 jobs of pg_cron" in finding["seen"]
    run_script(source, dbname, finding["remedy"].partition("\n")[2])
    assert look(source.endpoint(), None, [dbname]).levels("scheduled_jobs") == {"ok"}
