# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing over and back while clients write who remember what was acknowledged to them."""

from __future__ import annotations

import contextlib
import threading

import psycopg2
import pytest
from cutovers import (
    CLERK,
    USERS,
    await_commits,
    await_step,
    cut_over,
    eventually_same,
    handed_over,
    hold_at,
    homes,
    let_go,
    make_bank,
    refusal,
    start_cutover,
)
from faults import await_that
from migrations import finished, stopped, traces

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import opened
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import (
    COMMITTED,
    READY,
    find_routes,
)
from lab.bank import Bank

LEDGER = "SELECT count(*), sum(id), (SELECT sum(balance) FROM bank.account) FROM bank.ledger"
# It would stop what comes back, if it fired for that.
TRIGGER = """
    CREATE FUNCTION public.loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'It fired.'; END $$;
    CREATE TRIGGER loud BEFORE UPDATE ON bank.account FOR EACH ROW EXECUTE FUNCTION public.loud();
    ALTER TABLE bank.account ENABLE ALWAYS TRIGGER loud"""
TRACES = """
    SELECT (SELECT array_agg(subname::text ORDER BY 1) FROM pg_subscription),
        (SELECT array_agg(slot_name::text ORDER BY 1) FROM pg_replication_slots),
        (SELECT array_agg(pubname::text ORDER BY 1) FROM pg_publication)"""


@pytest.mark.parametrize(("old", "new"), [(13, 17), (15, 19), (16, 18), (18, 19), (19, 19)])
def test_there_and_back_and_there_again(servers, pooler, old, new):
    source, target = servers(old), servers(new, "target" if old == new else "")
    make_bank(source, target)
    front = pooler(source, users=USERS)
    through = {"endpoint": front.endpoint(**CLERK), "rate": 200}
    beside = {"endpoint": source.endpoint(**CLERK), "then": target.endpoint(**CLERK), "rate": 60}
    with Bank(**through) as pooled, Bank(**beside, transferring=2, appending=1) as direct:
        for direction, home in (("forward", "target"), ("back", "source"), ("forward", "target")):
            await_commits(pooled)
            found = handed_over(cut_over(source, target, front, direction=direction, sequence_margin=1000))
            assert found["way_back"] and found["poolers"][0]["leads_to_new"], found
            assert homes(source, target) == [home]
            await_commits(pooled)
            await_commits(direct, 3)
    assert pooled.failures == []
    assert {failure.sqlstate for failure in direct.failures} == {"25006"}
    for load in (pooled, direct):
        assert load.acknowledged and load.problems(target.connect("shop")) == []
        assert not load.unknown
    eventually_same(lambda: source.sql("shop", LEDGER), target.sql("shop", LEDGER))
    finished(source, target, databases=["shop"])
    assert traces(target, "shop") == []


@pytest.mark.parametrize(("old", "new"), [(15, 19), (19, 19)])
def test_an_administrator_hands_over_and_back(servers, old, new):
    """Who is no superuser of the target; on the source it is one."""
    source, target = servers(old), servers(new, "target" if old == new else "")
    admin = target.managed_admin(
        attributes=["CREATEDB", "CREATEROLE", "REPLICATION"], grants=["pg_create_subscription"]
    )
    make_bank(source, target, as_role=admin)
    for direction, home in (("forward", target), ("back", source), ("forward", target)):
        found = handed_over(cut_over(source, admin, direction=direction))
        assert found["way_back"], found
        home.sql("shop", "UPDATE bank.account SET balance = balance + 1 WHERE id = 1")
        assert homes(source, target) == ["target" if home is target else "source"]
    eventually_same(lambda: source.sql("shop", LEDGER), target.sql("shop", LEDGER))
    finished(source, admin, databases=["shop"])
    assert traces(target, "shop") == []


def test_what_is_where_after_each_handover(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    wave = source.sql("shop", TRACES)[0][1]
    source.sql("shop", TRIGGER)
    ends = [Endpoint.from_options("source", source.endpoint()), Endpoint.from_options("target", target.endpoint())]
    params = {"databases": ["shop"], "ignore_databases": [], "rename": {}, "direction": "forward"}
    (seen_before,) = find_routes(*ends, params)
    found = handed_over(cut_over(source, target))
    with opened([seen_before], params, 1, 0) as (passage,):  # by a run that waited for its turn
        assert (seen_before.status, passage.route.status) == (READY, COMMITTED)
    target.sql("shop", "UPDATE bank.account SET balance = balance + 1 WHERE id = 1")
    account = "SELECT balance FROM bank.account WHERE id = 1"
    eventually_same(lambda: source.sql("shop", account), target.sql("shop", account))
    back = [f"handover_{found['id']}_back"]
    assert source.sql("shop", TRACES) == [(back, None, None)]
    assert target.sql("shop", TRACES) == [(None, back, back)]
    again = cut_over(source, target)
    assert not again.changed and not again.failed

    handed_over(cut_over(source, target, direction="back"))
    following = [f"handover_{found['id']}_w2"]
    assert wave != following
    assert source.sql("shop", TRACES) == [(None, following, following)]
    assert target.sql("shop", TRACES) == [(following, None, None)]
    assert target.sql("shop", "SELECT phase, direction FROM handover.migration") == [("handed_over", "back")]
    assert not cut_over(source, target, direction="back").changed
    stopped(source, target, databases=["shop"])
    assert source.sql("shop", "SELECT tgenabled FROM pg_trigger WHERE tgname = 'loud'") == [("A",)]


def test_the_fence_holds(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    handed_over(cut_over(source, target))
    for begin in (
        "BEGIN",
        "BEGIN READ WRITE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "SET default_transaction_read_only = off; BEGIN",
    ):
        assert refusal(source, begin=begin) == "25006"
    with source.connect("shop") as session, session.cursor() as cursor:
        for statement in (
            "TRUNCATE bank.ledger",
            "DELETE FROM bank.ledger",
            "COPY bank.account FROM PROGRAM 'true'",
            "INSERT INTO bank.ledger VALUES (1, 1, 1, 1, '') ON CONFLICT DO NOTHING",
        ):
            with pytest.raises(Exception, match=f'handed over to 127.0.0.1:{target.port}, database "shop"') as error:
                cursor.execute(statement)
            assert error.value.pgcode == "25006"
            session.rollback()
    session.close()


@pytest.mark.parametrize("level", ["READ COMMITTED", "SERIALIZABLE"])
def test_who_waited_for_the_locks_meets_the_fence(servers, level, tmp_path):
    """Also where the transaction's snapshot is older."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    running = start_cutover(source, target, env=hold_at(tmp_path / "hold", "commit"))
    await_step(tmp_path / "hold", running)
    with contextlib.closing(source.connect("shop", autocommit=False)) as session, session.cursor() as cursor:
        cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}; SELECT count(*) FROM bank.account")
        pid, refused = session.info.backend_pid, []

        def write():
            try:
                cursor.execute("UPDATE bank.account SET balance = 0 WHERE id = 1")
            except psycopg2.Error as error:
                refused.append(error.pgcode)

        writer = threading.Thread(target=write)
        writer.start()
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
        await_that(lambda: source.sql("shop", waits, [pid]), "the writer to wait")
        let_go(tmp_path / "hold")
        handed_over(running.wait())
        writer.join()
    assert refused == ["25006"]
