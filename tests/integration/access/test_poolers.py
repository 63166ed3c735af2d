# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pooler before the server: sessions that it shares with the application are not touched, its own are used; and what
PgBouncer takes amiss about a pause.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, closing

import psycopg2
import pytest
from cutovers import (
    CLERK,
    USERS,
    await_commits,
    await_step,
    handed_over,
    hold_at,
    homes,
    let_go,
    make_bank,
    options,
    start_cutover,
)
from faults import await_that
from support import run_module

from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import guardian
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import open_poolers
from lab.bank import Bank

SETTINGS = "SELECT current_setting('default_transaction_read_only'), current_setting('search_path')"


@pytest.mark.parametrize("module", ["pg_dump_export", "pg_preflight", "pg_restore_import"])
def test_a_shared_session_is_left_as_the_application_needs_it(servers, database, pooler, tmp_path, module):
    cluster = servers(15)
    name = database(cluster)
    front = pooler(cluster, mode="transaction")
    with closing(front.cluster.connect(name, port=front.port)) as session:
        session.autocommit = True
        with session.cursor() as application:
            application.execute(SETTINGS)
            before = application.fetchone()
            side = "target" if module == "pg_restore_import" else "source"
            arguments = {side: front.endpoint(name), "databases": [name]}
            arguments.update({"dump_directory": str(tmp_path)} if module != "pg_preflight" else {})
            result = run_module(module, arguments)
            assert result.failed
            assert "connection pooler in transaction mode" in result.msg and f"as {side}" in result.remedy
            application.execute(SETTINGS)
            assert application.fetchone() == before == ("off", '"$user", public')
            application.execute("CREATE TABLE still_writable (i int)")
    assert len(front.console("SHOW SERVERS")) <= 2, "the sessions were really shared"


def test_a_pool_in_session_mode_does(servers, database, pooler, tmp_path):
    cluster = servers(15)
    name = database(cluster)
    cluster.sql(name, "CREATE TABLE t AS SELECT 1 AS i")
    front = pooler(cluster, mode="session")
    args = {"source": front.endpoint(name), "databases": [name], "dump_directory": str(tmp_path)}
    result = run_module("pg_dump_export", args)
    assert result.changed
    with closing(front.cluster.connect(name, port=front.port)) as session, session.cursor() as application:
        application.execute(SETTINGS)
        assert application.fetchone() == ("off", '"$user", public')


class Caller(threading.Thread):
    """A client that connects, unless it has, and asks something; ``answer`` is None until it has one."""

    def __init__(self, front, session=None, **more) -> None:
        super().__init__(daemon=True)
        self.front, self.session, self.answer = front, session, None
        self.more = {"port": front.port, **CLERK, **more}
        self.start()

    def run(self) -> None:
        try:
            session = self.session or self.front.cluster.connect("shop", **self.more)
            with closing(session), session.cursor() as cursor:
                cursor.execute("SELECT 'served'")
                (self.answer,) = cursor.fetchone()
        except psycopg2.Error as error:
            self.answer = str(error)


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_nobody_waits_for_a_login_that_a_pause_cut_off(servers, pooler, tmp_path, shared):
    """PgBouncer logs in for new clients, and for min_pool_size, also while a database is paused. What is cut off then
    counts as failed: clients would wait for server_login_retry, and who asks just then would be turned away.
    """
    source, target = servers(15), servers(18)
    make_bank(source, target)
    front = pooler(source, users=USERS, server_login_retry=300, min_pool_size=6)
    configured = front.console("SHOW CONFIG")
    through = {"port": front.port, **CLERK}
    with ExitStack() as stack:
        if shared:
            others = stack.enter_context(closing(front.cluster.connect("postgres", port=front.port)))
            others.cursor().execute("SELECT 1")
        idle = front.cluster.connect("shop", **through)
        load = stack.enter_context(Bank(front.endpoint(**CLERK), rate=100))
        await_commits(load)
        running = start_cutover(source, target, front, env=hold_at(tmp_path / "hold", "resume"))
        await_step(tmp_path / "hold", running)
        newcomer = Caller(front)
        time.sleep(0.7)  # two rounds of PgBouncer's maintenance
        target.configure(pre_auth_delay=0 if shared else 1)
        stack.callback(target.configure, pre_auth_delay=0)
        let_go(tmp_path / "hold")
        time.sleep(0.3)
        late = Caller(front, idle)
        handed_over(running.wait())
        await_commits(load)
        await_that(lambda: newcomer.answer and late.answer, "answers", timeout=20)
    assert (newcomer.answer, late.answer, load.failures) == ("served", "served", [])
    assert front.console("SHOW CONFIG") == configured


@pytest.mark.parametrize("said", [None, "RESUME"])
def test_what_was_paused_is_resumed_by_whoever_comes_next(servers, pooler, said):
    """Wherever a run died in its resuming."""
    cluster = servers(15)
    cluster.sql("postgres", "CREATE DATABASE shop")
    front = pooler(cluster)
    configured = front.console("SHOW CONFIG")
    with open_poolers([front.console_endpoint()]) as poolers:
        for one in poolers:
            one.choose({"shop"})
        poolers.prepare()
        [record] = json.loads(json.dumps(poolers.as_records()))
        poolers.await_logins()
        poolers.pause(time.monotonic() + 10)
    if said:
        front.console(said)
    client = Caller(front, user="postgres", password=cluster.password)
    assert guardian._resumed(record, False)
    await_that(lambda: client.answer, "an answer", timeout=10)
    assert client.answer == "served"
    assert front.console("SHOW CONFIG") == configured


def test_processes_that_share_a_port_are_refused(servers, pooler):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    front = pooler(source, users=USERS, so_reuseport=1)
    refused = run_module("pg_cutover", options(source, target, front))
    assert refused.failed and "so_reuseport" in refused.msg
    assert homes(source, target) == ["source", "target"]


def test_a_pooler_that_was_restarted_knows_the_new_home_too_early(servers, pooler, tmp_path):
    source, target = servers(15), servers(18)
    make_bank(source, target)
    front = pooler(source, users=USERS)
    running = start_cutover(source, target, front, env=hold_at(tmp_path / "hold", "pause"))
    await_step(tmp_path / "hold", running)
    front.stop()
    front.start()
    let_go(tmp_path / "hold")
    assert "loaded its new entries" in running.wait().msg
    front.lead("shop", source)
    assert "RELOAD it if its file is right" in run_module("pg_cutover", options(source, target, front)).msg
    front.console("RELOAD")
    handed_over(start_cutover(source, target, front).wait())
