# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles read from one server and fitted to another, as superuser and as a managed service's administrator."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import replace

import psycopg2
import pytest
from psycopg2 import sql

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.databases import read_properties
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import (
    as_sql,
    read_password_hashes,
    read_roles,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_import import (
    RoleOptions,
    apply,
    plan,
    plan_database_settings,
)
from lab import builds
from lab.cluster import Cluster

NASTY = ["x; drop", "a b", "-d", "host=evil", "Ünïcode\"'", "back\\slash", "new\nline", "%s %(x)s"]
PAIRS = [(13, 18, True), (16, 18, True), (13, 15, False), (15, 16, False), (18, 18, False)]


@pytest.fixture
def clusters(servers):
    """``clusters(15, "source")``; settings that belong to no role are put back after the test."""
    used = []

    def cluster(major: int, end: str) -> Cluster:
        used.append(servers(major, end))
        return used[-1]

    yield cluster
    for one in used:
        one.sql("postgres", "ALTER ROLE ALL RESET ALL")


def run(connection, text: str, *names: str, **values: str) -> list[tuple] | None:
    """One statement; names become identifiers, values literals."""
    identifiers = map(sql.Identifier, names)
    literals = {name: sql.Literal(given) for name, given in values.items()}
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(text).format(*identifiers, **literals))
        return cursor.fetchall() if cursor.description is not None else None


def connect(cluster: Cluster, user: str = "postgres", password: str | None = None):
    """A session as our modules make it."""
    return Endpoint.from_options("target", cluster.endpoint(user=user, password=password)).connect()


def admin(cluster: Cluster):
    """A session of a managed service's administrator."""
    return Endpoint.from_options("target", cluster.managed_admin("adm")).connect()


def fill(cluster: Cluster) -> None:
    """Roles of every kind."""
    session = cluster.connect()
    for name in NASTY:
        run(session, "CREATE ROLE {} LOGIN PASSWORD {password}", name, password=f"of {name}")
        run(session, "COMMENT ON ROLE {} IS {comment}", name, comment=f"c {name}")
    run(session, "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'b' VALID UNTIL '2031-05-06 07:08:09.123+02'")
    run(session, "CREATE ROLE maker CREATEROLE CREATEDB LOGIN NOINHERIT CONNECTION LIMIT 7")
    run(session, "CREATE ROLE repl REPLICATION LOGIN PASSWORD 'r'")
    run(session, "CREATE ROLE byp BYPASSRLS VALID UNTIL 'infinity'")
    run(session, "SET password_encryption = 'md5'")
    run(session, "CREATE ROLE old LOGIN PASSWORD 'o'")
    for name in ("rds_superuser", "grp", "grp2"):
        run(session, "CREATE ROLE {}", name)
    run(session, "GRANT pg_monitor TO {}", NASTY[0])
    run(session, "GRANT grp TO maker WITH ADMIN OPTION")
    run(session, "GRANT grp TO {}", NASTY[4])
    run(session, "GRANT grp2 TO grp")
    run(session, "GRANT rds_superuser TO {}", NASTY[1])
    if cluster.build.major >= 16:
        run(session, "GRANT grp TO {} WITH INHERIT TRUE, SET FALSE", NASTY[1])
        run(session, "GRANT grp TO {} GRANTED BY maker", NASTY[2])
        run(session, "GRANT grp TO {} WITH INHERIT FALSE GRANTED BY maker", NASTY[4])
    run(session, "ALTER ROLE {} SET search_path TO \"$user\", 'A b', public", NASTY[0])
    run(session, "ALTER ROLE {} SET search_path TO ''", NASTY[1])
    run(session, "ALTER ROLE {} SET \"TimeZone\" TO 'Europe/Berlin'", NASTY[4])
    run(session, "ALTER ROLE {} SET app.jwt_secret TO 'sesame'", NASTY[4])
    run(session, "ALTER ROLE grp SET log_statement TO 'all'")
    run(session, "ALTER ROLE ALL SET idle_in_transaction_session_timeout TO '1h'")
    run(session, "ALTER ROLE {} IN DATABASE postgres SET statement_timeout TO '5s'", NASTY[0])
    if cluster.build.major < 14:
        run(session, "ALTER ROLE grp SET operator_precedence_warning TO 'on'")


def read(cluster: Cluster) -> tuple[dict, dict]:
    """The data as it comes back from a file, and the hashes."""
    session = connect(cluster)
    return json.loads(json.dumps(read_roles(session))), read_password_hashes(session)


def by_name(data: dict) -> dict:
    return {role["name"]: role for role in data["roles"]}


@pytest.mark.parametrize(("old", "new", "superuser"), PAIRS)
def test_everything_arrives_or_is_listed_and_a_second_plan_is_empty(clusters, old, new, superuser):
    source, target = clusters(old, "source"), clusters(new, "target")
    fill(source)
    data, hashes = read(source)
    session = connect(target) if superuser else admin(target)
    before, options = read(target), RoleOptions(password_hashes=hashes)
    planned = plan(session, data, options)
    assert read(target) == before, "a plan changes nothing"
    result = apply(session, planned)
    assert result["changed"]
    assert not any(secret in json.dumps(result) for secret in ("sesame", "SCRAM-", *filter(None, hashes.values())))
    assert not plan(session, data, options).statements

    lacking = {(one["role"], one["attribute"]) for one in result["left_out"]}
    arrived = by_name(read(target)[0])
    for name, role in by_name(data).items():
        if name in {one["role"] for one in result["skipped"]}:
            assert name in ("postgres", "rds_superuser")
            continue
        for attribute in set(role) - {"password"}:
            assert arrived[name][attribute] == role[attribute] or (name, attribute) in lacking, (name, attribute)
        assert arrived[name]["password"] == role["password"]
    powers = set() if superuser else {("boss", "superuser"), ("repl", "replication"), ("byp", "bypassrls")}
    assert {one for one in lacking if one[1] not in ("setting", "membership")} == powers
    assert [one["role"] for one in result["md5"]] == ["old"]
    assert [one["role"] for one in result["without_password"]] == ["maker"]
    for name in NASTY:
        target.connect(user=name, password=f"of {name}").close()

    settings = [row for row in data["settings"] if row["database"] is None]
    refused = {(row["role"], row["detail"]) for row in result["left_out"] if row["attribute"] == "setting"}
    there = read(target)[0]["settings"]
    assert all(row in there or (row["role"], row["name"]) in refused for row in settings)
    privileged = {(None, "idle_in_transaction_session_timeout"), ("grp", "log_statement"), (NASTY[4], "app.jwt_secret")}
    gone = {("grp", "operator_precedence_warning")} if old < 14 else set()
    assert refused == gone | (set() if superuser else privileged)


@pytest.mark.parametrize(("old", "new", "superuser"), PAIRS)
def test_memberships_arrive_with_their_options(clusters, old, new, superuser):
    source, target = clusters(old, "source"), clusters(new, "target")
    fill(source)
    data, hashes = read(source)
    session = connect(target) if superuser else admin(target)
    result = apply(session, plan(session, data, RoleOptions(password_hashes=hashes)))
    grantor = "postgres" if superuser else "adm"
    expected = {
        ("grp", "maker", grantor, True, False, True),
        ("grp", NASTY[4], grantor, False, True, True),
        ("grp2", "grp", grantor, False, True, True),
    }
    if old >= 16:
        by = "maker" if superuser else "adm"
        expected |= {("grp", NASTY[1], grantor, False, True, False), ("grp", NASTY[2], by, False, True, True)}
        expected |= {("grp", NASTY[4], by, False, False, True)} if superuser else set()
    if superuser or new < 16:
        expected.add(("pg_monitor", NASTY[0], grantor, False, True, True))
    keys = ("role", "member", "grantor", "admin", "inherit", "set")
    if new < 16:
        expected = {(*row[:4], None, None) for row in expected}
    arrived = {tuple(row[key] for key in keys) for row in read(target)[0]["memberships"]}
    assert {row for row in arrived if row[1] != "adm"} == expected
    listed = {(one["role"], one["detail"]) for one in result["left_out"] if one["attribute"] == "membership"}
    assert listed == {(NASTY[1], "rds_superuser")} | (set() if superuser or new < 16 else {(NASTY[0], "pg_monitor")})


@pytest.mark.parametrize(("old", "new"), [(13, 13), (15, 18), (16, 18)])
def test_the_readable_file_makes_the_same_roles(clusters, tmp_path, old, new):
    source, target = clusters(old, "source"), clusters(new, "target")
    fill(source)
    cleared = "ALTER ROLE grp RESET operator_precedence_warning"  # not known to later majors
    source.sql("postgres", cleared if old < 14 else "SELECT 1")
    data, hashes = read(source)
    (tmp_path / "roles.sql").write_text(as_sql(connect(source), data, hashes))
    subprocess.run(
        [builds.build(18).program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", tmp_path / "roles.sql",
         "-h", "127.0.0.1", "-p", str(target.port), "-U", "postgres", "postgres"],
        env={**os.environ, "PGPASSWORD": target.password}, check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    arrived, arrived_hashes = read(target)
    assert arrived["roles"] == data["roles"]
    assert arrived["settings"] == data["settings"]
    assert {**arrived_hashes, "postgres": ""} == {**hashes, "postgres": ""}
    if (old >= 16) == (new >= 16):
        assert arrived["memberships"] == data["memberships"]
    without = as_sql(connect(source), data)
    assert "SCRAM-SHA-256" not in without
    assert "PASSWORD" not in without


def test_roles_of_the_target_are_converged_and_never_weakened(clusters):
    source, target = clusters(15, "source"), clusters(16, "target")
    for statement in (
        "CREATE ROLE app LOGIN PASSWORD 'p'", "ALTER ROLE app SET work_mem TO '9MB'", "CREATE ROLE mine",
        "CREATE ROLE readers", "CREATE ROLE writers", "GRANT writers TO app",
    ):  # fmt: skip
        source.sql("postgres", statement)
    session = admin(target)
    run(session, "CREATE ROLE app CREATEDB NOLOGIN CONNECTION LIMIT 3")
    run(session, "COMMENT ON ROLE app IS 'ours'")
    run(session, "ALTER ROLE app SET jit TO 'off'")
    run(session, "CREATE ROLE readers; CREATE ROLE writers; CREATE ROLE service; GRANT readers, service TO app")
    run(session, "GRANT writers TO app WITH ADMIN OPTION")
    data, hashes = read(source)
    result = apply(session, plan(session, data, RoleOptions(password_hashes=hashes, skip_roles=("mine",))))
    app = by_name(read(target)[0])["app"]
    assert (app["login"], app["createdb"], app["connection_limit"], app["comment"]) == (True, True, -1, "ours")
    assert [(one["role"], one["attribute"], one.get("detail")) for one in result["kept"]] == [
        ("app", "createdb", None), ("app", "membership", "readers"), ("app", "membership_admin", "writers"),
        ("app", "setting", "jit"),
    ]  # fmt: skip
    assert {row["name"] for row in read(target)[0]["settings"]} == {"work_mem", "jit"}
    assert {one["role"]: one["exists"] for one in result["skipped"]} == {"postgres": True, "mine": False}
    assert "mine" not in by_name(read(target)[0])


def test_passwords_of_the_operator(clusters):
    source, target = clusters(15, "source"), clusters(18, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'old'")
    data, hashes = read(source)
    plaintext = "gehe\u00a0heim ª"
    options = RoleOptions(password_hashes=hashes, role_passwords={"app": plaintext})
    session = connect(target)
    apply(session, plan(session, data, options))
    connect(target, "app", plaintext).close()
    assert not plan(session, data, options).statements
    other = replace(options, role_passwords={"app": "another"})
    assert not plan(session, data, replace(other, update_passwords="on_create")).statements
    assert [one.shown for one in plan(session, data, other).statements] == [
        "ALTER ROLE \"app\" WITH PASSWORD '********'"
    ]
    plain = admin(target)
    run(session, "GRANT app TO adm WITH ADMIN OPTION")
    unseen = plan(plain, data, other)
    assert not unseen.statements
    assert [one["role"] for one in unseen.password_unknown] == ["app"]
    apply(plain, plan(plain, data, replace(other, update_passwords="always")))
    connect(target, "app", "another").close()


def test_a_server_that_refuses_a_password_leaves_the_role_without(clusters):
    source, target = clusters(15, "source"), clusters(18, "target")
    source.sql("postgres", "CREATE ROLE twin LOGIN PASSWORD 'twin'")
    source.sql("postgres", "CREATE ROLE unlike LOGIN PASSWORD 'other'")
    data, hashes = read(source)
    admin(target).close()
    target.sql("postgres", "ALTER ROLE adm SET session_preload_libraries TO passwordcheck")
    session = connect(target, "adm", renewed(target))
    result = apply(session, plan(session, data, RoleOptions(password_hashes=hashes)))
    assert [(one["role"], one["attribute"]) for one in result["left_out"]] == [("twin", "password")]
    assert [one["role"] for one in result["without_password"]] == ["twin"]
    assert "equal user name" in result["without_password"][0]["reason"]


def renewed(cluster: Cluster) -> str:
    cluster.sql("postgres", "ALTER ROLE adm PASSWORD 'renewed'")
    return "renewed"


def test_unreadable_hashes_are_told_from_missing_ones(clusters):
    source, target = clusters(15, "source"), clusters(18, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'old'")
    session = admin(source)
    assert read_password_hashes(session) is None
    data = read_roles(session)
    assert by_name(data)["app"]["password"] == {"state": "unreadable", "kind": None}
    planned = plan(connect(target), data, RoleOptions(skip_roles=("adm",)))
    assert planned.without_password == [
        {"role": "app", "reason": "The connecting role may not read its hash on the source."}
    ]


@pytest.mark.parametrize("major", [13, 18])
def test_a_role_that_was_made_for_a_migration_does_not_come_along(clusters, major):
    cluster = clusters(major, "source")
    cluster.sql(
        "postgres",
        """
        CREATE ROLE app; CREATE ROLE ours LOGIN REPLICATION PASSWORD 'of the migration' IN ROLE app;
        ALTER ROLE ours SET statement_timeout = 0; GRANT CONNECT ON DATABASE postgres TO ours;
        COMMENT ON ROLE ours IS 'handover.postgresql: {}'""",
    )
    with contextlib.closing(cluster.connect()) as session:
        found = {
            "roles": read_roles(session),
            "hashes": read_password_hashes(session),
            "database": read_properties(session, "postgres"),
        }
    assert "app" in json.dumps(found) and "ours" not in json.dumps(found)
    cluster.sql("postgres", "REVOKE CONNECT ON DATABASE postgres FROM ours")


def test_hashes_stay_out_of_a_superusers_log(clusters):
    source, target = clusters(15, "source"), clusters(18, "target")
    fill(source)
    data, hashes = read(source)
    target.sql("postgres", "ALTER ROLE postgres SET log_statement TO 'all'")
    target.sql("postgres", "ALTER ROLE postgres SET log_min_duration_statement TO 0")
    with contextlib.closing(connect(target)) as session:
        apply(
            session, plan(session, data, RoleOptions(password_hashes=hashes, role_passwords={"maker": "in the clear"}))
        )
    target.sql("postgres", "SELECT 'the log is on'")
    target.sql("postgres", "ALTER ROLE postgres RESET ALL")
    log = target.log.read_text()
    assert "the log is on" in log
    assert not any(secret in log for secret in ("in the clear", *filter(None, hashes.values())))


def test_settings_of_a_database_follow_it_under_another_name(clusters):
    source, target = clusters(13, "source"), clusters(18, "target")
    fill(source)
    source.sql("postgres", "ALTER DATABASE postgres SET work_mem TO '7MB'")
    data, hashes = read(source)
    source.sql("postgres", "ALTER DATABASE postgres RESET work_mem")
    session = admin(target)
    options = RoleOptions(password_hashes=hashes)
    apply(session, plan(session, data, options))
    run(session, "CREATE DATABASE {}", "a b")
    try:
        result = apply(session, plan_database_settings(session, data, "postgres", options, "a b"))
        assert result["left_out"] == []
        assert not plan_database_settings(session, data, "postgres", options, "a b").statements
        rows = [(row["role"], row["name"], row["value"]) for row in read_roles(session)["settings"] if row["database"]]
        assert sorted(rows, key=str) == [(NASTY[0], "statement_timeout", "5s"), (None, "work_mem", "7MB")]
    finally:
        session.close()
        target.sql("postgres", 'DROP DATABASE "a b"')


def test_a_server_that_takes_nothing_is_an_error_and_not_a_long_list(clusters):
    source, target = clusters(15, "source"), clusters(18, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN")
    session = connect(target)
    run(session, "SET default_transaction_read_only = on")
    with pytest.raises(HandoverError, match="read-only transaction"):
        plan(session, read(source)[0], RoleOptions())
    assert session.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE


@pytest.fixture(params=[13, 18])
def owned(request, clusters):
    """A target with an administrator that made some owners, and owners that it may not have."""
    target = clusters(request.param, "target")
    session = admin(target)
    target.sql("postgres", "GRANT CREATE ON DATABASE postgres TO adm")
    for name in NASTY:
        run(session, "CREATE ROLE {}", name)
    target.sql("postgres", "CREATE ROLE above SUPERUSER")
    yield target, session
    session.close()


def test_owners_are_held_for_the_block_only(owned):
    target, session = owned
    before = read(target)
    with memberships.temporary_memberships(session, [*NASTY, "above", "missing"]) as held:
        assert sorted(held.taken) == sorted(NASTY)
        assert [one["role"] for one in held.refused] == ["above", "missing"]
        run(session, "CREATE SCHEMA s")
        for name in NASTY:
            run(session, "CREATE TABLE s.t (a int)")
            run(session, "GRANT CREATE, USAGE ON SCHEMA s TO {}", name)
            run(session, "ALTER TABLE s.t OWNER TO {}", name)
            run(session, "CREATE INDEX ON s.t (a)")
            run(session, "DROP TABLE s.t")
        run(session, "DROP SCHEMA s")
    assert held.left_behind == ""
    assert read(target) == before
    with pytest.raises(KeyError), memberships.temporary_memberships(session, NASTY):
        raise KeyError
    assert read(target) == before


def test_parallel_runs_do_not_take_owners_from_each_other(owned):
    target, session = owned
    before = read(target)
    with contextlib.closing(connect(target, "adm", renewed(target))) as other:
        first = memberships.temporary_memberships(session, NASTY)
        first.__enter__()
        with memberships.temporary_memberships(other, NASTY) as held:
            first.__exit__(None, None, None)
            assert sorted(held.taken) == sorted(NASTY)
            run(other, "CREATE TABLE pg_temp.t (a int)")
            run(other, "SET ROLE {}", NASTY[0])
            run(other, "RESET ROLE")
    assert by_name(read(target)[0]).keys() == by_name(before[0]).keys()
    assert read(target)[0]["memberships"] == before[0]["memberships"]


def test_a_killed_runs_memberships_are_found_and_dropped(owned):
    target, session = owned
    before = read(target)[0]["memberships"]
    killed = connect(target, "adm", renewed(target))
    with memberships.temporary_memberships(killed, NASTY) as held:
        assert memberships.drop_leftovers(session) == [], "its run lives"
        target.sql("postgres", "SELECT pg_terminate_backend(%s)", [killed.info.backend_pid])
    assert held.left_behind
    assert read(target)[0]["memberships"] != before
    assert len(memberships.drop_leftovers(session)) == 1
    assert read(target)[0]["memberships"] == before
