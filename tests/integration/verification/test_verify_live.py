# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_verify of databases that are used: both ends are compared at one instant, and nobody gets an error."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cutovers import CLERK, await_commits, cut_over, handed_over, make_bank
from dumps import done, one
from faults import watching
from migrations import copy_roles, in_step
from support import run_module

from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import descriptions
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from lab import sample
from lab.bank import Bank
from lab.workload import Workload


def verify(source, target, check=False, **options):
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    return run_module("pg_verify", {**ends, **options}, check=check)


@pytest.fixture
def replicated(servers, tmp_path):
    """``replicated(15, 18)`` is a pair that is in step."""

    def make(old: int, new: int):
        source, target = servers(old), servers(new)
        sample.create(source.connect, "shop", scale=0.05)
        copy_roles(source, target, tmp_path)
        in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
        return source, target

    return make


@pytest.mark.parametrize(("old", "new"), [(13, 17), (15, 18)])
def test_both_are_equal_while_they_are_written(replicated, old, new):
    source, target = replicated(old, new)
    emptied = {"class": "rows", "name": "public.never_filled", "reason": "the clients truncate it"}
    with Workload(source.endpoint(), "shop", rate=200, clients=3) as clients:
        for _run in range(3):
            before = clients.committed
            found = one(done(verify(source, target, verify_exclude=[emptied])))
            assert found["verdict"] == "equal", found
            assert clients.committed > before
            assert found["instant"]["live"] is True and found["instant"]["attempts"] >= 1
            assert 0 < found["waited_ms"] < 2000
    assert not clients.failures
    left_out = {entry["object"]: entry["reason"] for entry in found["left_out"]}
    assert "cutover" in left_out["shop.review"]
    assert any(name.endswith(" large objects") and "cutover" in reason for name, reason in left_out.items())
    assert found["classes"]["rows"]["equal"] > 20
    [(verified,)] = target.sql("shop", "SELECT verified FROM handover.migration")
    assert verified["verdict"] == "equal" and verified["equal"] is True
    assert verified["unknown"] == verified["different"] == 0
    assert verified["at"] == found["oldest_instant"] == found["instant"]["target"]["time"]


def test_what_replication_lost_is_found_while_both_are_written(replicated):
    source, target = replicated(16, 18)
    with Workload(source.endpoint(), "shop", rate=100, clients=2):
        lost = "SET session_replication_role = replica; DELETE FROM shop.country WHERE code = 'DE';"
        target.sql(
            "shop",
            f"{lost} DELETE FROM logistics.stock WHERE (warehouse, product) IN ("
            "SELECT warehouse, product FROM logistics.stock LIMIT 2)",
        )
        result = verify(source, target)
    [database] = result.databases
    found = {one["object"]: one for one in database["different"]}
    assert set(found) == {"logistics.stock", "shop.country"}
    assert found["logistics.stock"]["counts"]["missing"] == 2
    assert found["shop.country"]["missing"] == [{"code": "DE"}]
    assert database["instant"]["live"] is True
    [(verified,)] = target.sql("shop", "SELECT verified FROM handover.migration")
    assert verified["equal"] is False and verified["different"] == 2


def test_what_is_dropped_after_the_instant_stops_nothing(servers):
    """As an application does with large objects. The servers have no identity for what is gone."""
    server = servers(17)
    server.sql("postgres", "CREATE DATABASE shop")
    made = (f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql RETURN 1" for name in ("kept", "dropped"))
    server.sql("shop", f"SELECT lo_create(7001); COMMENT ON LARGE OBJECT 7001 IS 'scan'; {'; '.join(made)}")
    with contextlib.closing(server.connect("shop", autocommit=False)) as session:
        session.set_session(isolation_level="REPEATABLE READ")
        with session.cursor() as cursor:
            cursor.execute("SELECT FROM pg_class LIMIT 1")
        server.sql("shop", "SELECT lo_unlink(7001); DROP FUNCTION dropped()")
        outcome = Outcome()
        descriptions.compare({"source": session, "target": session}, outcome, descriptions.Looks(), None)
    assert not outcome.different and not outcome.unknown
    assert outcome.counts["owners"]["equal"] >= 2  # of kept() and the database


def test_a_writer_in_the_way_is_waited_for_and_then_named(replicated):
    source, target = replicated(16, 18)
    with contextlib.closing(source.connect("shop")) as writer, writer.cursor() as cursor:
        cursor.execute("BEGIN; UPDATE shop.country SET name = name || '!' WHERE code = 'DE'")
        result = verify(source, target, lock_patience=2, lock_timeout=100)
        assert result.failed and str(writer.info.backend_pid) in result.msg and "shop.country" in result.msg
        with watching(source) as watch, ThreadPoolExecutor() as beside:
            verifying = beside.submit(verify, source, target, lock_patience=60, lock_timeout=100)
            watch.await_attempts(writer)
            cursor.execute("COMMIT")
            found = one(done(verifying.result()))
    assert found["verdict"] == "equal" and found["instant"]["attempts"] > 1
    assert 100 <= found["waited_ms"] < 5000


def test_a_target_that_does_not_apply_is_not_compared(replicated):
    source, target = replicated(16, 18)
    for (name,) in target.sql("shop", "SELECT subname FROM pg_subscription"):
        target.sql("shop", f"ALTER SUBSCRIPTION {name} DISABLE")
    began = time.monotonic()
    result = verify(source, target, lock_patience=2)
    assert result.failed and "do not reach" in result.msg and time.monotonic() - began < 30
    source.sql("shop", "UPDATE shop.country SET name = name || '!' WHERE code = 'DE'")  # nobody is locked out
    checked = one(done(verify(source, target, check=True)))
    assert checked["instant"] == {"live": True, "locks": checked["instant"]["locks"], "publisher": "source"}
    assert checked["instant"]["locks"] > 20


def test_the_way_back_is_compared_too(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    verified = one(done(verify(source, target)))
    assert verified["verdict"] == "equal"
    for direction, home in (("forward", target), ("back", source)):
        handed_over(cut_over(source, target, direction=direction, require_verification=None))
        with Bank(endpoint=home.endpoint(**CLERK), rate=60) as clients:
            await_commits(clients)
            found = one(done(verify(source, target)))
            await_commits(clients)
        assert not clients.failures
        assert found["verdict"] == "equal" and found["instant"]["live"] is True, found


def test_a_table_that_is_not_replicated_is_unknown(replicated):
    source, target = replicated(16, 18)
    for cluster in (source, target):
        cluster.sql("shop", "CREATE TABLE public.later (id int PRIMARY KEY)")
    found = one(done(verify(source, target)))
    assert found["verdict"] == "incomplete"
    assert [(entry["class"], entry["object"]) for entry in found["unknown"]] == [("rows", "public.later")]
