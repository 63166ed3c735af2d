# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pooler before the server: sessions that it shares with the application are not touched, its own are used."""

from __future__ import annotations

from contextlib import closing

import pytest
from support import run_module

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
            arguments.update({"directory": str(tmp_path)} if module != "pg_preflight" else {})
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
    args = {"source": front.endpoint(name), "databases": [name], "directory": str(tmp_path)}
    result = run_module("pg_dump_export", args)
    assert result.changed
    with closing(front.cluster.connect(name, port=front.port)) as session, session.cursor() as application:
        application.execute(SETTINGS)
        assert application.fetchone() == ("off", '"$user", public')
