# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight as a whole: it changes nothing, says what it did not see, and fails for what it is told to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path

import psycopg2
import pytest
from preflights import NEVER, Report, look
from psycopg2 import sql
from support import COLLECTIONS, Cluster, contents, create_database, roles, run_module, start_module

from lab import sample

READS = re.compile(
    r"(PREPARE \w+ AS )?\s*SELECT|EXECUTE handover_look|WITH|SHOW|SET|BEGIN|ROLLBACK|COMMIT|COPY \(SELECT .* TO STDOUT",
    re.DOTALL,
)
NASTY = ["x; drop", "-d", "host=evil", "Ünïcode\"'", "{{ 1 + 1 }}", "new\nline", "\x1b[31m"]
TABLES = 10_000


@pytest.fixture(scope="module")
def sampled(all_servers, run_directory):
    """A server of 15 with the sample application, which stays there from test to test."""
    source = all_servers.make(15, run_directory / "sampled")
    source.start()
    sample.create(source.connect, "shop", scale=0.01)
    yield source
    source.destroy()


@pytest.fixture
def target(servers) -> Cluster:
    return servers(18)


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def endpoint_of_reader(cluster: Cluster, *grants: str) -> dict:
    """A role with no attribute at all."""
    return cluster.managed_admin("reader", attributes=(), grants=grants)


# --- nothing changes -------------------------------------------------------------------------------------------------


def everything(cluster: Cluster, *databases: str) -> list:
    """Contents of databases, roles, slots, the server's own configuration file, and the next transaction id."""
    found = []
    for dbname in ("postgres", *databases):
        with contextlib.closing(cluster.connect(dbname)) as session:
            found.append(contents(session))
    with contextlib.closing(cluster.connect()) as session:
        found.append(roles(session))
    found.append(cluster.sql("postgres", "SELECT slot_name FROM pg_replication_slots"))
    found.append((cluster.data / "postgresql.auto.conf").read_text())
    found.append(cluster.sql("postgres", "SELECT pg_snapshot_xmax(pg_current_snapshot())"))
    return found


def statements(log: str) -> list[str]:
    """What was run, out of the log of a server with log_statement = all."""
    return [one.strip() for one in re.findall(r"LOG:  (?:statement|execute \S+): (.*(?:\n\t.*)*)", log)]


def read_only(statement: str) -> str:
    """What a session sets default_transaction_read_only to, in the statement that makes all its settings."""
    names, values = (re.findall(r"'([^']*)'", array) for array in re.findall(r"ARRAY\[(.*?)\]", statement)[:2])
    return dict(zip(names, values))["default_transaction_read_only"]


@pytest.mark.parametrize(("major", "to"), [(13, 18), (18, 18)])
def test_nothing_changes_on_either_server(new_cluster, major, to):
    """Every statement reads, none takes a transaction id (a write needs one), and all is as it was."""
    settings = {"log_statement": "all", "autovacuum": "off"}
    source, target = new_cluster(major, settings=settings), new_cluster(to, settings=settings)
    sample.create(source.connect, "shop", scale=0.05)
    create_database(source, "b")
    source.sql("b", "CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n")
    create_database(target, "b")
    before = everything(source, "shop", "b"), everything(target, "b")
    logged = [len(cluster.log.read_text()) for cluster in (source, target)]

    report = look(source.endpoint(), target.endpoint(), measure="read")

    seen = [statements(cluster.log.read_text()[start:]) for cluster, start in zip((source, target), logged)]
    assert all(len(run) > 20 for run in seen), "the log shows what was run"
    assert not [one for run in seen for one in run if not READS.match(one)]
    assert {read_only(one) for run in seen for one in run if re.search(r"set_config(?s:.*)ARRAY", one)} == {"on"}
    assert (everything(source, "shop", "b"), everything(target, "b")) == before
    assert report.report["databases"][0]["estimate"]["sampled_table"] == "public.big"


def test_measured_writing_leaves_nothing(sampled, target):
    create_database(target, "b")
    before = everything(target, "b")[:-1]
    report = look(sampled.endpoint(), target.endpoint(), ["shop"], measure="write")
    assert everything(target, "b")[:-1] == before
    assert report.report["databases"][0]["estimate"]["write_bytes_per_second"] > 0


def test_a_role_that_may_not_write_measures_no_writing(sampled, target):
    reader = endpoint_of_reader(target)
    report = look(sampled.endpoint(), reader, ["shop"], measure="write")
    assert report.report["databases"][0]["estimate"]["write_bytes_per_second"] is None
    [found] = report.of("write_rate")
    assert found["level"] == "unknown"
    target.sql("postgres", found["remedy"])
    report = look(sampled.endpoint(), reader, ["shop"], measure="write")
    assert report.report["databases"][0]["estimate"]["write_bytes_per_second"] > 0
    assert report.levels("write_rate") == {"ok"}
    target.sql("postgres", "REVOKE CREATE ON DATABASE postgres FROM reader")


# --- what is estimated -----------------------------------------------------------------------------------------------


def test_estimate_is_near_the_truth(servers, target, tmp_path):
    source = servers(13)
    dbname = create_database(source)
    source.sql(
        dbname,
        """
        CREATE TABLE small AS SELECT n FROM generate_series(1, 1000) AS n;
        CREATE TABLE big AS SELECT n, n % 7 AS seven, md5(n::text),
            CASE WHEN n % 100 = 0 THEN (SELECT string_agg(md5((n + i)::text), '') FROM generate_series(1, 100) AS i) END
        FROM generate_series(1, 400000) AS n""",
    )
    report = look(source.endpoint(), target.endpoint(), [dbname], measure="write")
    estimate = report.report["databases"][0]["estimate"]
    args = {"source": source.endpoint(), "dump_directory": str(tmp_path / "dump"), "databases": [dbname], "jobs": 1}
    export = run_module("pg_dump_export", args).databases[0]
    assert estimate["sampled_table"] == "public.big"
    assert estimate["dump_bytes"] == pytest.approx(export["bytes"], rel=0.1)
    size = source.sql(dbname, "SELECT pg_database_size(current_database())")[0][0]
    assert estimate["target_bytes"] == pytest.approx(size, rel=0.02)  # autovacuum may have come by
    assert 0 < estimate["export_seconds"] < 300
    assert 0 < estimate["copy_seconds"] < 300


def test_too_little_to_measure_is_not_measured(servers, target):
    source = servers(15)
    dbname = create_database(source)
    source.sql(dbname, "CREATE TABLE small (id integer)")
    report = look(source.endpoint(), target.endpoint(), [dbname], measure="read")
    estimate = report.report["databases"][0]["estimate"]
    assert {name for name, value in estimate.items() if value is not None} == {"target_bytes"}


def test_a_table_that_somebody_alters_does_not_hold_it_up(servers, target):
    source = servers(16)
    dbname = create_database(source)
    source.sql(dbname, "CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n")
    with contextlib.closing(source.connect(dbname, autocommit=False)) as session, session.cursor() as cursor:
        cursor.execute("LOCK big")
        started = time.monotonic()
        report = look(source.endpoint(), target.endpoint(), [dbname], measure="read")
    assert time.monotonic() - started < 20
    assert report.report["databases"][0]["tables"] == 1
    assert report.report["databases"][0]["estimate"]["read_bytes_per_second"] is None


# --- what cannot be seen ---------------------------------------------------------------------------------------------


def test_only_the_source(sampled):
    report = look(sampled.endpoint(), None, ["shop"])
    assert report.report["target"] is None
    assert report.levels("target_connection") == {"unknown"}
    assert report.levels("same_server") == {"unknown"}
    assert report.levels("wal_level") != {"unknown"}
    [database] = report.report["databases"]
    assert "could not look" in database["reasons"][-1]


def test_a_target_that_cannot_be_reached_is_a_finding(sampled, target):
    wrong = target.endpoint(password="not this one at all")
    result = run_module("pg_preflight", {"source": sampled.endpoint(), "target": wrong, "databases": ["shop"]})
    assert result.failed
    assert result.msg.startswith("Not feasible for shop: dump and continuous. In the way: ")
    [found] = Report({"report": result.report}).of("target_connection")
    assert found["level"] == "blocker"
    assert "password authentication failed" in found["seen"]
    assert found["remedy"] == "Check target.user and target.password."
    assert found["seen"].endswith(".")
    assert Report({"report": result.report}).levels("same_server") == {"unknown"}


def test_without_the_source_there_is_no_report(target):
    result = run_module("pg_preflight", {"source": target.endpoint(password="not this one at all")})
    assert result.failed and "report" not in result
    assert result.unreachable_side == "source"


def test_a_database_to_which_one_cannot_connect_is_a_finding(servers, target):
    source = servers(17)
    for name in ("open", "shut"):
        create_database(source, name)
    source.sql("postgres", "REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
    report = look(endpoint_of_reader(source), target.endpoint())
    [found] = report.of("database_connection", database="shut")
    assert found["level"] == "blocker"
    assert "CONNECT" in found["remedy"]
    assert report.levels("database_connection", "open") == {"ok"}
    shut = next(one for one in report.report["databases"] if one["database"] == "shut")
    assert shut["tables"] is None
    assert shut["recommended_method"] is None
    source.sql("postgres", "GRANT CONNECT ON DATABASE shut TO reader")
    assert look(endpoint_of(source, report), target.endpoint()).levels("database_connection") == {"ok"}


def endpoint_of(cluster: Cluster, report: Report) -> dict:
    """The role of an earlier look, with a password that is known again."""
    name = report.report["source"]["role"]["name"]
    cluster.sql("postgres", sql.SQL("ALTER ROLE {} PASSWORD 'known again by now'").format(sql.Identifier(name)))
    return cluster.endpoint(user=name, password="known again by now")


def test_a_source_without_databases_is_refused(servers):
    result = run_module("pg_preflight", {"source": servers(14).endpoint()})
    assert result.failed and "has no database" in result.msg and "report" not in result


# --- roles -----------------------------------------------------------------------------------------------------------

# How to find out that a role may do something: by doing it.
ATTEMPTS = {
    "read_password_hashes": "SELECT rolpassword FROM pg_authid",
    "set_session_replication_role": "SET session_replication_role = replica",
    "create_roles": "CREATE ROLE made_in_passing",
    "read_subscription_connections": "SELECT subconninfo FROM pg_subscription",
    "create_subscriptions": "CREATE SUBSCRIPTION s CONNECTION 'host=h password=p' PUBLICATION p"
    " WITH (connect = false, slot_name = none)",
}


def may(endpoint: dict, statement: str) -> bool:
    with contextlib.closing(psycopg2.connect(**endpoint)) as session, session.cursor() as cursor:
        try:
            cursor.execute(statement)
        except psycopg2.errors.InsufficientPrivilege:
            return False
        return True


@pytest.mark.parametrize("major", [13, 15, 16, 18])
def test_what_a_role_may_is_what_it_can_do(servers, major):
    cluster = servers(major)
    dbname = create_database(cluster)
    grants = ["pg_read_all_data", "pg_create_subscription", "pg_monitor"]
    admin = cluster.managed_admin(grants=grants, dbname=dbname)
    endpoints = [cluster.endpoint(dbname), admin, endpoint_of_reader(cluster)]
    cluster.sql("postgres", sql.SQL("GRANT CREATE ON DATABASE {} TO doadmin").format(sql.Identifier(dbname)))
    for endpoint in endpoints:
        role = look(endpoint, None, [dbname]).report["source"]["role"]
        assert role["name"] == endpoint["user"]
        attempted = {what: may(endpoint, statement) for what, statement in ATTEMPTS.items()}
        assert attempted == {what: role["may"][what] for what in ATTEMPTS}
    assert look(endpoints[0], None, [dbname]).report["source"]["provider_hints"] == [
        {"provider": "DigitalOcean", "signs": ["role doadmin"]}
    ]


def test_an_ordinary_role_on_both_ends(servers, target):
    """It is told what it lacks, not sent away."""
    source = servers(15)
    dbname = create_database(source)
    source.sql(dbname, "CREATE TABLE hidden (id integer)")
    report = look(endpoint_of_reader(source), endpoint_of_reader(target), [dbname])
    assert report.report["source"]["role"]["attributes"] == []
    [database] = report.report["databases"]
    assert database["recommended_method"] is None
    assert {"public.hidden"} == report.objects("select_privileges", "blocker")
    assert database["bytes"] > 0 and database["tables"] == 1


# --- fail_on and waive -----------------------------------------------------------------------------------------------


def test_default_fails_for_the_chosen_method_only(new_cluster, target):
    source = new_cluster(16, settings={"wal_level": "replica"})
    create_database(source, "shop")
    given = {"source": source.endpoint(), "target": target.endpoint()}
    for method, failed in (("auto", False), ("dump", False), ("continuous", True)):
        result = run_module("pg_preflight", {**given, "method": method})
        assert bool(result.failed) == failed, result.msg
        [database] = result.report["databases"]
        assert database["recommended_method"] == (None if failed else "dump")
        assert "wal_level" in database["obstacles"]["continuous"]
    assert "Not feasible for shop: continuous." in result.msg and "wal_level" in result.msg
    assert [one["database"] for one in result.failed_on] == ["shop"]

    waiver = {"id": "wal_level", "reason": "The restart is planned."}
    result = run_module("pg_preflight", {**given, "method": "continuous", "waive": [waiver]})
    assert not result.failed, result.msg
    [found] = Report(result).of("wal_level")
    assert (found["level"], found["waived"]) == ("blocker", "The restart is planned.")
    assert result.report["summary"]["waived"] == 1
    assert result.report["summary"]["blocker"] == 0


def test_fail_on(servers, target):
    source = servers(15)
    dbname = create_database(source)
    given = {"source": source.endpoint(), "target": target.endpoint(), "databases": [dbname]}
    for expression in ("findings[?level=='no such']", "`false`", "`null`", "`{}`", "findings[0].missing"):
        assert not run_module("pg_preflight", {**given, "fail_on": expression}).failed
    result = run_module("pg_preflight", {**given, "fail_on": "findings[?id=='wal_level'].level"})
    assert result.failed and result.failed_on == ["ok"] and "findings[?id" in result.msg
    assert result.report["databases"][0]["database"] == dbname
    result = run_module("pg_preflight", {**given, "fail_on": "findings[?"})
    assert result.failed and "not a JMESPath expression" in result.msg and "report" not in result
    result = run_module("pg_preflight", {**given, "fail_on": "length(summary.ok)"})
    assert result.failed and "does not fit the report" in result.msg


def test_waivers(servers, target):
    source = servers(15)
    for name in ("a", "b"):
        create_database(source, name)
        source.sql(name, "CREATE TABLE one (id integer); CREATE TABLE two (id integer)")
    accepted = {"id": "replica_identity", "reason": "They are copied at the cutover."}
    waivers = [
        {**accepted, "database": "a", "objects": ["public.two", "public.one", "public.three"]},
        {**accepted, "database": "b", "objects": ["public.one"]},
        {"id": "replica_identities", "reason": "A slip of the pen."},
    ]
    report = look(source.endpoint(), target.endpoint(), waive=waivers)
    assert [(one["database"], one["waived"]) for one in report.of("replica_identity")] == [
        ("b", None),
        ("a", "They are copied at the cutover."),
    ] or {one["database"]: one["waived"] for one in report.of("replica_identity")} == {
        "a": "They are copied at the cutover.",
        "b": None,
    }
    methods = {one["database"]: one["recommended_method"] for one in report.report["databases"]}
    assert methods == {"a": "continuous", "b": "dump"}
    stale = report.of("waivers")
    assert {one["database"] for one in stale} == {"b", None}
    assert all(one["level"] == "warning" for one in stale)
    assert any("no check of this id" in one["seen"] for one in stale)


def test_without_jmespath(servers, tmp_path):
    source = servers(15)
    dbname = create_database(source)
    (tmp_path / "jmespath.py").write_text("raise ImportError")
    env = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(COLLECTIONS)))}
    given = {"source": source.endpoint(), "databases": [dbname]}
    result = run_module("pg_preflight", {**given, "fail_on": NEVER}, env=env)
    assert result.failed and "jmespath" in result.msg and "pip install jmespath" in result.remedy
    assert run_module("pg_preflight", given, env=env).report


# --- names, secrets, size --------------------------------------------------------------------------------------------


def test_nasty_names(servers, target):
    source = servers(18)
    for name in NASTY:
        create_database(source, name)
        source.sql(name, f"CREATE TABLE {quote(name)} ({quote(name).replace('%', '%%')} integer)")
    report = look(source.endpoint(), target.endpoint(), measure="read")
    assert {one["database"] for one in report.report["databases"]} == set(NASTY)
    assert not [one for one in report.findings if one["level"] == "unknown" and "syntax" in one["seen"]]
    for name in NASTY:
        [found] = report.of("replica_identity", database=name)
        [table] = found["objects"]
        assert source.sql(name, f"SELECT count(*) FROM {table}") == [(0,)]


def test_secrets_of_the_servers_are_not_reported(servers, target):
    source = servers(17)
    dbname = create_database(source)
    source.sql(
        dbname,
        """
        CREATE EXTENSION postgres_fdw;
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (password 'far-away-secret')""",
    )
    source.sql(
        dbname,
        """
        CREATE SUBSCRIPTION sub CONNECTION 'host=h password=subscribed-secret' PUBLICATION p
        WITH (connect = false, slot_name = none)""",
    )
    source.sql(dbname, "ALTER SYSTEM SET primary_conninfo = 'password=standby-secret'")
    source.sql(dbname, "SELECT pg_reload_conf()")
    source.sql(dbname, "CREATE ROLE hashed PASSWORD 'x'")
    source.sql(
        dbname,
        """
        CREATE FUNCTION f() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
        AS $$SELECT 1 -- password=function-secret $$""",
    )
    text = json.dumps(look(source.endpoint(), target.endpoint(), [dbname]).report)
    assert not re.findall(r"[\w-]+-secret", text)
    assert "SCRAM-SHA-256$" not in text


@pytest.fixture(scope="module")
def crowded(all_servers, run_directory):
    """A server with a database of very many tables, half of which lack what a migration asks for."""
    source = all_servers.make(17, run_directory / "crowded")
    source.start()
    create_database(source, "crowd")
    source.sql(
        "crowd",
        f"""
        DO $$ BEGIN FOR i IN 1..{TABLES} LOOP
            EXECUTE format('CREATE TABLE t%s (id integer, label text)', i);
            EXECUTE format(CASE i % 2 WHEN 0 THEN 'ALTER TABLE t%s ADD PRIMARY KEY (id)'
                                      ELSE 'CREATE INDEX ON t%s (label)' END, i);
            IF i % 100 = 0 THEN COMMIT; END IF;
        END LOOP; END $$""",
    )
    source.sql("crowd", "ANALYZE pg_class, pg_attribute, pg_index, pg_depend, pg_type, pg_constraint")
    yield source
    source.destroy()


@pytest.mark.parametrize("superuser", [True, False])
def test_very_many_tables(crowded, target, superuser):
    """An ordinary role may read none of them, so that each is a finding's object."""
    source = crowded.endpoint() if superuser else endpoint_of_reader(crowded)
    args = {"source": source, "target": target.endpoint(), "databases": ["crowd"], "fail_on": NEVER}
    started = time.monotonic()
    running = start_module("pg_preflight", args, cold=True)
    memory = 0
    while running.process.poll() is None:
        with contextlib.suppress(OSError, TypeError):  # when it has just ended
            status = Path(f"/proc/{running.pid}/status").read_text()
            memory = max(memory, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]))
        time.sleep(0.02)
    seconds = time.monotonic() - started
    report = Report(running.wait())
    assert report.report["databases"][0]["tables"] == TABLES
    assert len(report.objects("replica_identity")) == TABLES / 2
    assert len(report.objects("select_privileges")) == (0 if superuser else TABLES)
    print(f"{TABLES} tables: {seconds:.1f} s, {memory / 1024:.0f} MB")
    assert seconds < 90  # 3 to 6 on an idle machine; what grows faster than the tables takes many minutes
    assert memory < 200 * 1024
