# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that were made and changed while a database was replicated, and who may log in where afterwards."""

from __future__ import annotations

import json

import psycopg2
import pytest
from cutovers import cut_over, handed_over, options
from dumps import refused
from migrations import copy_roles, in_step
from support import create_database, run_module

FIRST = """
    CREATE ROLE app LOGIN PASSWORD 'the first of app'; CREATE ROLE quiet LOGIN PASSWORD 'always the same';
    CREATE ROLE readers; CREATE ROLE former LOGIN CREATEDB PASSWORD 'of somebody who left';
    CREATE ROLE writers; CREATE ROLE gone; GRANT writers TO app; GRANT readers TO former WITH ADMIN OPTION;
    ALTER ROLE quiet SET work_mem = '9MB'"""
SECOND = """
    ALTER ROLE app PASSWORD 'the second of app' CONNECTION LIMIT 7; GRANT readers TO app;
    ALTER ROLE app SET work_mem = '5MB'; ALTER ROLE former NOLOGIN NOCREATEDB;
    CREATE ROLE "New one" LOGIN PASSWORD 'of the new one'; COMMENT ON ROLE readers IS 'they read';
    REVOKE writers FROM app; REVOKE ADMIN OPTION FOR readers FROM former; ALTER ROLE quiet RESET work_mem;
    DROP ROLE gone"""
# What nothing takes away from the new home, and what is said of it.
KEPT = (
    "login of former", "membership of app in writers", "ADMIN OPTION of former in readers", "setting work_mem of quiet",
    "dropped from the old home, and are still at the new one: gone",
)  # fmt: skip
NAMED = ("app (", "password", "connection_limit", "membership", "setting", "New one (role", "readers (comment)")
MOVER = {"user": "mover", "password": "a mover's own password"}
SECRETS = ("the second of app", "of the new one", "SCRAM-SHA-256$")
HASHES = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('app', 'quiet', 'New one') ORDER BY 1"


def may_log_in(cluster, user, password):
    try:
        cluster.connect("shop", user=user, password=password).close()
    except psycopg2.OperationalError as error:
        assert "password authentication failed" in str(error), error
        return False
    return True


@pytest.fixture
def changed(servers, tmp_path):
    """``changed(15, 17)``: source and target in step, and roles that became others since."""

    def make(source_major, target_major, managed=False, mover=False):
        source, target = servers(source_major), servers(target_major, "target")
        create_database(source, "shop")
        source.sql("postgres", FIRST)
        source.sql("shop", "CREATE TABLE t (id int PRIMARY KEY); GRANT ALL ON t TO app")
        as_role = target
        if managed:
            as_role = target.managed_admin(
                "doadmin", ("CREATEDB", "CREATEROLE", "REPLICATION"), ["pg_create_subscription"]
            )
        if mover:
            source.sql("postgres", "CREATE ROLE mover LOGIN REPLICATION PASSWORD 'a mover''s own password'")
            source.sql("shop", "ALTER TABLE t OWNER TO mover; ALTER DATABASE shop OWNER TO mover")
        copy_roles(source, as_role, tmp_path)
        in_step(source.endpoint(**MOVER) if mover else source, as_role, databases=["shop"])
        source.sql("shop", SECOND)
        source.sql("shop", 'GRANT SELECT ON t TO "New one"')
        return source, target, as_role

    return make


def assert_no_hash(result):
    text = json.dumps(result.data)
    assert not [one for one in SECRETS if one in text], text


@pytest.mark.parametrize(("majors", "managed"), [((13, 15), False), ((16, 18), False), ((15, 17), True)], ids=str)
def test_brought_over_again(changed, majors, managed):
    """The application logs in at the new home as it did at the old one, in both directions."""
    source, target, as_role = changed(*majors, managed)
    before = target.sql("postgres", "SELECT rolname FROM pg_roles ORDER BY 1")
    forecast = cut_over(source, as_role, check=True)
    assert forecast.databases[0]["ready"] and any("New one" in one for one in forecast.databases[0]["roles"])
    assert target.sql("postgres", "SELECT rolname FROM pg_roles ORDER BY 1") == before, "check mode changes nothing"
    kept = refused(cut_over(source, as_role, roles="compare"), *NAMED)
    result = cut_over(source, as_role)
    found = handed_over(result)
    for one in (forecast, kept, result):
        assert_no_hash(one)
    assert found["roles"] and any("Roles were brought over again" in one for one in found["notices"])
    for notices in (forecast.databases[0]["notices"], found["notices"]):
        assert not [words for words in KEPT if words not in " ".join(notices)], "nothing is taken away, but it is said"
    if not managed:  # else it hides them
        assert target.sql("postgres", HASHES) == source.sql("postgres", HASHES)
    assert may_log_in(target, "app", "the second of app") and may_log_in(target, "New one", "of the new one")
    assert not may_log_in(target, "app", "the first of app") and may_log_in(target, "quiet", "always the same")

    target.sql("postgres", "ALTER ROLE app PASSWORD 'the third of app'; CREATE ROLE services_own LOGIN")
    found = handed_over(cut_over(source, as_role, direction="back"))
    assert not any("beyond" in one or "dropped" in one for one in found["notices"]), found["notices"]
    hidden = any("may not read passwords on the target" in one for one in found["notices"])
    assert hidden if managed else may_log_in(source, "app", "the third of app"), "and back"
    assert source.sql("postgres", "SELECT 1 FROM pg_roles WHERE rolname IN ('services_own', 'doadmin')") == []
    assert source.sql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'former'") == [(False,)]


def test_left_alone(changed):
    """Named roles, and passwords that are to be others; what was compared and is the same is no change."""
    source, target, as_role = changed(14, 17)
    given = {"skip_roles": ["New one", "readers"], "role_passwords": {"app": "of app at its new home"}}
    found = refused(cut_over(source, as_role, roles="compare", **given), "app (connection_limit, password, setting)")
    assert "New one" not in found.msg
    handed_over(cut_over(source, as_role, **given))
    assert may_log_in(target, "app", "of app at its new home")
    assert target.sql("postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'New one'") == []
    handed_over(cut_over(source, as_role, direction="back", roles="compare", skip_roles=["app"]))
    assert may_log_in(source, "app", "the second of app")
    target.sql("postgres", "ALTER ROLE quiet CONNECTION LIMIT 3")
    assert "roles" not in handed_over(cut_over(source, as_role, roles="ignore"))
    assert target.sql("postgres", "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'quiet'") == [(3,)]


def test_a_source_that_hides_hashes(changed):
    """What cannot be compared is said."""
    source, target, _as_role = changed(16, 17, mover=True)
    given = {**options(source, target), "source": source.endpoint(**MOVER), "roles": "compare"}
    found = run_module("pg_cutover", given, check=True)
    assert found.databases, found.msg
    found = found.databases[0]
    assert any("may not read passwords on the source" in one for one in found["notices"])
    gate = next(one for one in found["gates"] if one["gate"] == "roles")
    assert not gate["ok"] and "New one (role" in gate["problem"] and "password" not in gate["problem"], gate
