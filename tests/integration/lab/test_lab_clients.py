# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's clients: what other tests believe of them has to be proved first."""

from __future__ import annotations

import os
import signal
import time

import pytest

from lab import bank, sample, workload
from lab.bank import Bank
from lab.workload import Workload


def wait_for(condition, timeout=60):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("major", [13, 18])
def test_every_change_is_made(servers, major):
    cluster = servers(major)
    sample.create(cluster.connect, "shop", scale=0.01)
    possible = {name for name, change in workload.CHANGES.items() if change.first <= major}
    with Workload(cluster.endpoint(), "shop", rate=2000, clients=3, pause=0.01) as load:
        wait_for(lambda: load.counts.keys() == possible)
    assert not load.failures
    assert load.committed == sum(load.counts.values()) > len(possible)


def test_the_application_makes_its_changes_through_a_pooler(servers, pooler):
    cluster = servers(16)
    sample.create(cluster.connect, "shop", scale=0.01)
    front = pooler(cluster)
    possible = {name for name, change in workload.CHANGES.items() if change.by_app}
    endpoint = front.endpoint(user="shop_app", password="sample")
    with Workload(endpoint, "shop", rate=2000, clients=3, pause=0.01, by_app=True) as load:
        wait_for(lambda: load.counts.keys() == possible)
        front.console("PAUSE shop")
        time.sleep(0.3)
        before = load.committed
        time.sleep(0.4)
        assert load.committed == before
        front.console("RESUME shop")
        wait_for(lambda: load.committed > before)
    assert not load.failures


def test_a_missing_row_and_a_lost_connection_are_failures(servers):
    cluster = servers(16)
    sample.create(cluster.connect, "shop", scale=0.01)
    with Workload(cluster.endpoint(), "shop", rate=500, clients=1, only=["odd_names"]) as load:
        cluster.sql("shop", """DELETE FROM "Lager & Größe"."Tabelle mit ""Anführung"" und 'Apostroph'" """)
        wait_for(lambda: load.failures)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'application'"
        # again, as the client may just have had no connection
        wait_for(lambda: cluster.sql("postgres", end) and {f.sqlstate for f in load.failures} > {"P0002"})
        wait_for(lambda: load.failures[-1].sqlstate == "P0002")
    assert {f.what for f in load.failures} == {"odd_names"}


def test_the_bank_remembers_what_was_acknowledged(new_cluster):
    cluster = new_cluster(15)
    cluster.sql("postgres", "CREATE DATABASE shop")
    bank.create(cluster.connect, "shop")
    with Bank(cluster.endpoint(), rate=1000) as load:
        wait_for(lambda: load.committed > 100)
        cluster.kill()
        cluster.start()
        before = load.committed
        wait_for(lambda: load.committed > before + 100)
        assert load.failures
    assert load.problems(cluster.connect("shop")) == []
    assert load.acknowledged == load.committed
    assert 0 < load.worst < 10_000


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ("DELETE FROM bank.ledger WHERE id = 5", "lost though acknowledged"),
        ("DELETE FROM bank.transfer WHERE id = 5", "lost though acknowledged"),
        ("INSERT INTO bank.ledger SELECT id + 9999, run, client, number, '', at FROM bank.ledger", "twice"),
        ("UPDATE bank.account SET balance = balance + 1 WHERE id = 7", "account 7 holds"),
        ("UPDATE bank.ledger SET number = number + 9999", "not acknowledged, but there"),
        ("UPDATE bank.transfer SET amount = amount + 1 WHERE id = 6", "instead of"),
        ("DELETE FROM bank.account WHERE balance = 10000", "accounts hold"),
    ],
)
def test_the_bank_notices(servers, harm, problem):
    cluster = servers(17)
    cluster.sql("postgres", "CREATE DATABASE shop")
    bank.create(cluster.connect, "shop")
    with Bank(cluster.endpoint(), rate=3000, transferring=1, appending=1) as load:
        wait_for(lambda: load.committed > 30)
    assert load.problems(cluster.connect("shop")) == []
    cluster.sql("shop", harm)
    assert any(problem in text for text in load.problems(cluster.connect("shop")))


def test_clients_go_where_they_are_told(servers):
    first, second = servers(16), servers(17)
    for cluster in (first, second):
        cluster.sql("postgres", "CREATE DATABASE shop")
        bank.create(cluster.connect, "shop")
    fence = """CREATE FUNCTION fence() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'database shop was handed over' USING ERRCODE = '25006'; END $$;
        CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON bank.{} FOR EACH STATEMENT EXECUTE FUNCTION fence();"""
    with Bank(first.endpoint(), rate=500, then=second.endpoint()) as load:
        first.sql("shop", fence.format("account"))
        wait_for(lambda: second.sql("shop", "SELECT 1 FROM bank.transfer LIMIT 1"))
        second.sql("shop", fence.format("account"))
        first.sql("shop", "DROP FUNCTION fence CASCADE; DELETE FROM bank.transfer")
        wait_for(lambda: first.sql("shop", "SELECT 1 FROM bank.transfer LIMIT 1"))
    assert {f.sqlstate for f in load.failures} == {"25006"}
    assert load.unknown == 0


def test_clients_end_with_the_process_that_started_them(servers):
    cluster = servers(16)
    cluster.sql("postgres", "CREATE DATABASE shop")
    bank.create(cluster.connect, "shop")
    child = os.fork()
    if child == 0:
        Bank(cluster.endpoint()).start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'application'"
    wait_for(lambda: not cluster.sql("postgres", sessions))


def test_a_pooler_leads_clients_to_another_server(servers, pooler):
    first, second = servers(15), servers(17)
    for cluster in (first, second):
        cluster.sql("postgres", "CREATE DATABASE shop")
        cluster.sql("postgres", "CREATE ROLE clerk LOGIN PASSWORD 'a clerk''s password'")
        bank.create(cluster.connect, "shop", role="clerk")
    front = pooler(first, users={"clerk": "a clerk's password"})
    with Bank(front.endpoint(user="clerk", password="a clerk's password"), rate=300) as load:
        front.lead("shop", second)
        for command in ("PAUSE shop", "RELOAD", "RESUME shop"):
            front.console(command)
        wait_for(lambda: second.sql("shop", "SELECT 1 FROM bank.transfer LIMIT 1"))
    assert not load.failures
    assert any("lost though acknowledged" in text for text in load.problems(second.connect("shop")))
