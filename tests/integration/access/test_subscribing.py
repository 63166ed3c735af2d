# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target subscribes by a role of few rights, whose password no server writes down."""

from __future__ import annotations

import pytest
from cutovers import eventually_same
from dumps import done, refused
from migrations import copy_roles, finished, in_step, migrate, traces
from psycopg2 import sql
from support import create_database, run_module

SECRET = "p%ss 'w0rd\\ of the way"
TABLES = "CREATE TABLE t (id int PRIMARY KEY, word text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 50) AS i"
LOGGING = {
    "default": [],
    "ddl": ["log_statement = 'ddl'"],
    "all": ["log_statement = 'all'", "log_min_duration_statement = 0"],
}


@pytest.fixture
def fenced_in(servers, tmp_path):
    """``(source, target, admin)``: a database whose owner owns no table and lets nobody else in, and the target's
    administrator, who is no superuser.
    """

    def make(major: int, **roles):
        source, target = servers(15), servers(major)
        source.sql("postgres", "CREATE ROLE shop_owner; CREATE ROLE keeper")
        create_database(source, "shop")
        source.sql("shop", TABLES + "; ALTER TABLE t OWNER TO keeper; ALTER DATABASE shop OWNER TO shop_owner")
        source.sql("postgres", "REVOKE ALL ON DATABASE shop FROM PUBLIC")
        admin = target.managed_admin(grants=["pg_create_subscription"])
        target.sql("postgres", "ALTER ROLE doadmin REPLICATION")
        copy_roles(source, admin, tmp_path)
        return source, target, admin

    return make


@pytest.mark.parametrize("major", [16, 17, 18])
def test_the_first_run_is_in_step_where_the_owner_of_the_database_owns_no_table(fenced_in, major):
    source, target, admin = fenced_in(major)
    in_step(source, admin, databases=["shop"])
    source.sql("shop", "INSERT INTO t VALUES (51, 'y')")
    eventually_same(lambda: target.sql("shop", "SELECT max(id) FROM t"), [(51,)])
    assert target.sql("postgres", "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'") == [
        ("shop_owner",)
    ]
    done(migrate(source, admin, databases=["shop"], state="stopped"))
    finished(source, admin, databases=["shop"])
    assert traces(source, "shop") == traces(target, "shop") == []


def test_a_database_on_which_the_role_may_not_subscribe_is_refused_before_the_copy(fenced_in):
    source, target, admin = fenced_in(16)
    source.sql("postgres", "REVOKE CREATE ON DATABASE shop FROM shop_owner")
    found = refused(migrate(source, admin, databases=["shop"]), "permission denied for database shop")
    assert "GRANT CREATE" in found.remedy and "doadmin" in found.remedy
    assert target.sql("shop", "SELECT to_regclass('public.t')") == [(None,)]
    assert not source.sql("shop", "SELECT FROM pg_publication") and not source.sql(
        "shop", "SELECT FROM pg_replication_slots"
    )


@pytest.mark.parametrize(
    ("case", "logging"), [("superuser", "default"), ("other", "default"), ("other", "ddl"), ("other", "all")]
)
def test_no_log_has_the_password_whether_the_subscription_fails_or_not(fenced_in, case, logging):
    source, target, admin = fenced_in(18)
    end = target.endpoint() if case == "superuser" else admin
    source.sql("postgres", sql.SQL("CREATE ROLE way SUPERUSER LOGIN PASSWORD {}").format(sql.Literal(SECRET)))
    before = {cluster: cluster.log.stat().st_size for cluster in (source, target)}
    for setting in LOGGING[logging]:
        for cluster in before:
            cluster.sql("postgres", f"ALTER SYSTEM SET {setting}")
            cluster.sql("postgres", "SELECT pg_reload_conf()")
    given = {"databases": ["shop"], "replication": {"user": "way", "password": SECRET}}
    wrong = {"host": "127.0.0.1", "port": 1}
    try:
        refused(migrate(source, end, **given | {"replication": given["replication"] | wrong}), "cannot subscribe")
        refused(migrate(source, end, **given | {"replication": {"user": "way", "password": SECRET + "x"}}), "password")
        in_step(source, end, **given)
        there = {"source": source.endpoint(), "target": end, "databases": ["shop"], "require_verification": False}
        back = {"user": "way", "password": SECRET}
        target.sql("postgres", sql.SQL("CREATE ROLE way SUPERUSER LOGIN PASSWORD {}").format(sql.Literal(SECRET)))
        refused(
            run_module("pg_cutover", {**there, "reverse": True, "reverse_replication": back | wrong}),
            "creating it failed",
        )
        assert done(run_module("pg_cutover", {**there, "reverse_replication": back})).databases[0]["way_back"]
    finally:
        for cluster in before:
            cluster.sql("postgres", "ALTER SYSTEM RESET log_statement")
            cluster.sql("postgres", "ALTER SYSTEM RESET log_min_duration_statement")
            cluster.sql("postgres", "SELECT pg_reload_conf()")
    for cluster, size in before.items():
        log = cluster.log.read_bytes()[size:].decode(errors="replace")
        assert "handover_unseen" in log or logging == "default" or cluster is source or case == "superuser"
        lines = [line for line in log.splitlines() if "0rd" in line and "CREATE ROLE way" not in line]
        assert not lines
