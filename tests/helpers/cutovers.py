# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases in step, their handovers, and who takes writes afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg2
from faults import await_that
from migrations import in_step
from support import COLLECTIONS, Cluster, Result, Running, run_module, start_module

from lab import bank
from lab.pooler import Pooler

CLERK = {"user": "clerk", "password": "a clerk's password"}
USERS = {CLERK["user"]: CLERK["password"]}

# A Python that stops when it is about to take a step of the window, or to ask for a turn, until it is let go or killed.
HOLD_AT = """
import os, sys, time

seen = []

def hold(event, arguments):
    if event == {event!r} and {step!r} in (arguments[0], ""):
        seen.append(event)
        if len(seen) <= {after}:
            return
        open({place!r} + "/reached", "w").close()
        while not os.path.exists({place!r} + "/go"):
            time.sleep(0.002)

sys.addaudithook(hold)
"""


def make_bank(source: Cluster, target: Cluster, *names: str, tables: int = 0, as_role: Any = None) -> None:
    """Databases with a bank that clerks use, in step with the target, which is reached as a role if one is given."""
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")  # or workers start late
        cluster.sql("postgres", "SELECT pg_reload_conf()")
        cluster.sql("postgres", f"CREATE ROLE clerk LOGIN PASSWORD '{CLERK['password'].replace(chr(39), chr(39) * 2)}'")
    for name in names or ("shop",):
        source.sql("postgres", f"CREATE DATABASE {name}")
        bank.create(source.connect, name, role="clerk")
        with source.connect(name) as session, session.cursor() as cursor:
            for number in range(tables):
                cursor.execute(f"CREATE TABLE more_{number} (id bigserial PRIMARY KEY, words text)")
        session.close()
        in_step(source, as_role or target, databases=[name])


def options(source: Cluster, target: Any, *poolers: Pooler, **more: Any) -> dict[str, Any]:
    """Arguments of pg_cutover; the target may be given as an endpoint."""
    consoles = [pooler.console_endpoint() for pooler in poolers]
    target = target.endpoint() if isinstance(target, Cluster) else target
    ends = {"source": source.endpoint(), "target": target, "databases": ["shop"]}
    return {**ends, "require_verification": False, "poolers": consoles, **more}


def start_cutover(
    source: Cluster, target: Any, *poolers: Pooler, env: Mapping[str, str] | None = None, **more: Any
) -> Running:
    """Start pg_cutover; the poolers lead to the new home as soon as they are told to look."""
    home = source if more.get("direction") == "back" else target
    for pooler in poolers:
        for name in more.get("databases", ["shop"]):
            pooler.lead(name, home)
    return start_module("pg_cutover", options(source, target, *poolers, **more), env=env)


def cut_over(source: Cluster, target: Any, *poolers: Pooler, check: bool = False, **more: Any) -> Result:
    """Run pg_cutover; it may fail."""
    if check:
        return run_module("pg_cutover", options(source, target, *poolers, **more), check=True)
    return start_cutover(source, target, *poolers, **more).wait()


def handed_over(result: Result) -> dict[str, Any]:
    """What it says of the only database, which was handed over."""
    assert not result.failed, result.msg
    (found,) = result.databases
    assert found["handed_over"] and not found["problems"], found
    return found


def refusal(cluster: Cluster, dbname: str = "shop", begin: str = "BEGIN") -> str:
    """The SQLSTATE with which a superuser's writing transaction is refused, or nothing."""
    session = cluster.connect(dbname)
    try:
        with session.cursor() as cursor:
            cursor.execute(begin)
            cursor.execute("UPDATE bank.account SET balance = balance WHERE id = 1")
            cursor.execute("ROLLBACK")
        return ""
    except psycopg2.Error as error:
        return error.pgcode
    finally:
        session.close()


def homes(source: Cluster, target: Cluster, dbname: str = "shop") -> list[str]:
    """Which of the two take writes."""
    return [side for side, cluster in (("source", source), ("target", target)) if not refusal(cluster, dbname)]


def hold_at(place: Path, step: str, after: int = 0, event: str = "handover.step") -> dict[str, str]:
    """The environment of a Python that stops before a step of the window, the first or one ``after`` so many."""
    place.mkdir()
    (place / "sitecustomize.py").write_text(HOLD_AT.format(event=event, step=step, place=str(place), after=after))
    return {"PYTHONPATH": f"{place}:{COLLECTIONS}"}


def hold_at_turn(place: Path) -> dict[str, str]:
    """The environment of a Python that stops before it asks for its first turn."""
    return hold_at(place, "", event="handover.turn")


def await_step(place: Path, running: Running) -> None:
    """Until it has stopped there."""
    await_that(lambda: (place / "reached").exists() or running.process.poll() is not None, "the step")
    assert (place / "reached").exists(), running.wait()


def let_go(place: Path) -> None:
    (place / "go").touch()


def await_commits(load: Any, more: int = 20) -> None:
    """Until the clients have committed that many times more."""
    wanted = load.committed + more
    await_that(lambda: load.committed >= wanted, "commits of the clients")


def eventually_same(ask: Callable[[], Any], expected: Any, timeout: float = 10) -> None:
    """What is replicated needs a moment."""
    deadline = time.monotonic() + timeout
    while (found := ask()) != expected:
        assert time.monotonic() < deadline, (found, expected)
        time.sleep(0.02)
