# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what the other tests stand on has to be proved first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import psycopg2
import pytest
from support import (
    ROOT,
    assert_same,
    contents,
    copy_with_pg_dump,
    differences,
    roles,
    run_module,
    run_playbook,
    shared_directory,
    start_playbook,
)

from ansible_collections.handover.postgresql.plugins.module_utils.base import endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source import migration_role
from lab import builds, every_class, sample
from lab.cluster import Cluster


@pytest.mark.parametrize("major", builds.MAJORS)
def test_server_runs(servers, major):
    cluster = servers(major)
    [(version, encoding, collation)] = cluster.sql(
        "postgres",
        "SELECT current_setting('server_version'), current_setting('server_encoding'), datcollate"
        " FROM pg_database WHERE datname = current_database()",
    )
    assert version.split(" ")[0] == cluster.build.version
    assert re.match(r"\d+", cluster.build.version)[0] == str(major)
    assert (encoding, collation) == ("UTF8", "C.UTF-8")
    # Else an assertion that there are none could not fail.
    assert len(cluster.sql("postgres", "SELECT FROM generate_series(1, 2)")) == 2
    cluster.sql("postgres", "CREATE DATABASE german TEMPLATE template0 LOCALE 'de_DE.UTF-8'")
    assert cluster.sql("german", "SELECT 'ä' < 'b' COLLATE \"default\"") == [(True,)]


# How statements of ours name settings. What UPDATE sets, and what a pooler's console does, is none of the server's.
NAMED = (r"\bSET (?:LOCAL )?([a-z_]+) *=(?!=)", r"\bset_config\('([a-z_.]+)'", r"\bcurrent_setting\('([a-z_.]+)'\)")
NO_SETTINGS = {
    "active", "began", "completed", "definitions", "done", "ended", "fingerprint", "finished", "home_definitions",
    "kind", "made", "n", "phase", "result", "role", "schema", "server_login_retry", "shapes", "started", "state",
    "types", "undo", "wave", "witness",
}  # fmt: skip
# Named after the server was seen to have them, or with its refusal taken for an answer.
ASKED_FOR = {
    "event_triggers",
    "idle_replication_slot_timeout",
    "output_plugin_libraries",
    "synchronized_standby_slots",
    "transaction_timeout",
}


@pytest.mark.parametrize("major", builds.MAJORS)
def test_every_major_knows_the_settings_that_we_name(servers, major):
    texts = [path.read_text() for path in sorted((ROOT / "plugins").rglob("*.py"))]
    named = {name for text in texts for pattern in NAMED for name in re.findall(pattern, text)}
    assert named >= {"lock_timeout", "check_function_bodies"}, "the patterns find what is there"
    named |= {*endpoint.SESSION_SETTINGS, *endpoint.PINNED_SETTINGS}
    since = [(version, name) for version, names in endpoint.SESSION_SETTINGS_SINCE.items() for name in names]
    since += [(version, name) for name, version in migration_role.SETTINGS.items()]
    named |= {name for version, name in since if major * 10000 >= version}
    known = {name for (name,) in servers(major).sql("postgres", "SELECT name FROM pg_settings")}
    ours = {name for name in named if name.startswith("handover.")}  # any session may make such up
    assert named - ours - NO_SETTINGS - ASKED_FOR - known == set()


def test_servers_are_swept(servers, database):
    cluster = servers(15)
    cluster.sql("postgres", 'CREATE ROLE "a role"; CREATE ROLE member IN ROLE "a role"')
    name = database(cluster, 'Ünïcode"', 'OWNER "a role"')
    cluster.sql(name, "CREATE TABLE t (i int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t")
    cluster.sql(name, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    cluster.sql("postgres", "GRANT CREATE ON DATABASE postgres TO member")
    cluster.kill()
    servers.sweep()
    assert cluster.sql("postgres", "SELECT count(*) FROM pg_database")[0][0] == 3
    assert cluster.sql("postgres", "SELECT count(*) FROM pg_roles WHERE oid >= 16384")[0][0] == 0
    assert cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots")[0][0] == 0


@pytest.mark.parametrize(("old", "new"), [(13, 15), (14, 18), (16, 18)])
def test_contents_of_a_copy_are_equal(servers, database, old, new):
    source, target = servers(old), servers(new, "copy")
    summary = sample.create(source.connect, "shop", scale=0.02)
    database(target, "shop")
    copy_with_pg_dump(source, target, "shop")
    with closing(source.connect("shop")) as one, closing(target.connect("shop")) as other:
        before, after = contents(one), contents(other)
    tables = [
        name
        for name, relation in before["relations"].items()
        if relation["relkind"] in ("r", "p") and relation["partition_bound"] is None
    ]
    assert sum(before["rows"][name]["rows"] for name in tables) == summary["rows"]
    # A dump without --create carries nothing of the database itself, and 15 changed who may do what in "public".
    assert_same(before, after, ignore=["database/.*"])


@pytest.mark.parametrize(("old", "new"), [(13, 18), (15, 17), (18, 18)])
def test_contents_know_every_class(servers, database, run_directory, old, new):
    """Only classes that client programs carry in full between these majors, so that all must be equal."""
    source, target = servers(old), servers(new, "copy")
    outcome = every_class.create(source.connect, "every")
    assert len(outcome["made"]) > 50
    place = shared_directory(run_directory, f"space-{old}-{new}")
    target.sql("postgres", "CREATE TABLESPACE every_space LOCATION %s", [str(place)])
    database(target, "every")
    copy_with_pg_dump(source, target, "every")
    with closing(source.connect("every")) as one, closing(target.connect("every")) as other:
        # Whether these two are linked to "<" depends on the order in which operators are made.
        assert_same(contents(one), contents(other), ignore=["database/.*", r"operators/every\.>=?\(.*"])


CHANGES = [
    "UPDATE t SET word = 'other' WHERE id = 2",
    "DELETE FROM t WHERE id = 3",
    "SELECT nextval('t_id_seq')",
    "ALTER TABLE t ALTER word DROP NOT NULL",
    "ALTER TABLE t ALTER word SET STATISTICS 7",
    "ALTER TABLE t DROP CONSTRAINT short",
    "ALTER TABLE t OWNER TO other",
    "GRANT SELECT (word) ON t TO other",
    "REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC",
    "COMMENT ON COLUMN t.word IS 'changed'",
    "COMMENT ON VIEW v IS 'changed'",
    "DROP INDEX t_word",
    "CREATE OR REPLACE VIEW v AS SELECT id, word FROM t WHERE id > 1",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "ALTER TABLE t DISABLE TRIGGER same",
    "ALTER POLICY mine ON t USING (id > 1)",
    "ALTER TYPE mood ADD VALUE 'so-so' BEFORE 'bad'",
    "SELECT lo_put(4711, 0, 'x')",
    "SELECT lo_unlink(4711)",
    "ALTER DATABASE {} SET work_mem = '7MB'",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO other",
    "ALTER SEQUENCE t_id_seq CACHE 5",
    "CREATE STATISTICS s ON id, word FROM t",
    "CREATE PUBLICATION p FOR TABLE t",
]


def test_contents_show_every_change(servers, database):
    cluster = servers(18)
    name = database(cluster)
    cluster.sql("postgres", "CREATE ROLE other")
    cluster.sql(
        name,
        """CREATE TABLE t (id serial PRIMARY KEY, word text NOT NULL CONSTRAINT short CHECK (length(word) < 9));
        CREATE INDEX t_word ON t (word); CREATE VIEW v AS SELECT id, word FROM t; CREATE TYPE mood AS ENUM ('bad');
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
        CREATE POLICY mine ON t USING (id > 0); SELECT lo_from_bytea(4711, 'large');
        INSERT INTO t (word) SELECT 'word ' || i FROM generate_series(1, 5) AS i""",
    )
    with closing(cluster.connect(name)) as session:
        before = contents(session)
        assert differences(before, contents(session)) == []
    for change in CHANGES:
        cluster.sql(name, change.format(name))
        with closing(cluster.connect(name)) as session:
            after = contents(session)
        assert differences(before, after), change
        before = after


def test_roles_show_every_change(servers):
    cluster = servers(16)
    cluster.sql("postgres", "CREATE ROLE a LOGIN PASSWORD 'one'; CREATE ROLE b; GRANT a TO b")
    with closing(cluster.connect()) as session:
        before = roles(session)
    assert before["memberships"] == {
        "b in a": {"member": "b", "role": "a", "admin": False, "inherit": True, "set": True}
    }
    for change in (
        "ALTER ROLE a PASSWORD 'two'",
        "ALTER ROLE b SET work_mem = '7MB'",
        "COMMENT ON ROLE a IS 'x'",
        "GRANT a TO b WITH ADMIN OPTION",
        "ALTER ROLE b CONNECTION LIMIT 3",
    ):
        cluster.sql("postgres", change)
        with closing(cluster.connect()) as session:
            after = roles(session)
        assert len(differences(before, after)) == 1
        before = after


def test_a_server_is_another_one_than_that_it_is_a_copy_of(run_directory):
    """initdb ran once for both; what tells them apart also holds in their WAL, from which one recovers."""
    made = []
    for major, rounds in ((13, 4096), (13, 1), (19, 4096), (19, 1)):
        with Cluster(builds.build(major), run_directory / f"copy-{len(made)}", scram_rounds=rounds) as cluster:
            cluster.sql("postgres", "CREATE TABLE kept (i int)")
            cluster.kill()
            cluster.start()
            cluster.sql("postgres", "TABLE kept")
            [(identifier, kept)] = cluster.sql(
                "postgres",
                "SELECT system_identifier, rolpassword FROM pg_control_system(), pg_authid WHERE rolname = 'postgres'",
            )
            assert kept.startswith(f"SCRAM-SHA-256${rounds}:")
            with pytest.raises(psycopg2.OperationalError, match="password"):
                cluster.connect(password=made[-1][1] if made else "wrong")
        made.append((identifier, cluster.password))
        cluster.destroy()
    assert len({identifier for identifier, _password in made}) == len(made)


def test_tls_is_verified(new_cluster, authority, wrong_authority):
    cluster = new_cluster(17, tls=authority.server(), hba=["hostssl all all 127.0.0.1/32 scram-sha-256"])
    with closing(cluster.connect(sslmode="verify-full", sslrootcert=str(authority.root))) as session:
        assert session.info.ssl_in_use
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        cluster.connect(sslmode="verify-full", sslrootcert=str(wrong_authority.root))
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        cluster.connect(sslmode="disable")


@pytest.mark.parametrize("major", [13, 18])
def test_pooler_pools(servers, pooler, major):
    cluster = servers(major)
    admin = cluster.managed_admin()
    front = pooler(cluster, mode="transaction")
    with closing(psycopg2.connect(**{**admin, "port": front.port})) as session, session.cursor() as cursor:
        cursor.execute("SELECT current_user, inet_server_port()")
        assert cursor.fetchone() == ("doadmin", cluster.port)
    assert "doadmin" in {pool["user"] for pool in front.console("SHOW POOLS")}


def test_managed_admin_is_no_superuser(servers):
    for major in (15, 16):
        cluster = servers(major)
        admin = cluster.managed_admin(grants=["pg_create_subscription", "pg_monitor"])
        with closing(psycopg2.connect(**admin)) as session, session.cursor() as cursor:
            cursor.execute("SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user")
            assert cursor.fetchone() == (False, True, True)
            cursor.execute("SELECT count(*) FROM pg_auth_members WHERE member = current_user::regrole")
            assert cursor.fetchone() == (2 if major == 16 else 1,)


@pytest.mark.parametrize("outlive", [False, True])
def test_servers_end_with_the_process_that_started_them(run_directory, outlive):
    directory = run_directory / f"outlive-{outlive}"
    script = f"""
        import os, signal
        from lab import builds, cluster
        server = cluster.Cluster(builds.build(16), {str(directory)!r})
        server.start(outlive={outlive})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=builds.CHECKOUT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = Cluster(builds.build(16), directory)
    try:
        deadline = time.monotonic() + 10
        while left.running and not outlive and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left.running is outlive
        if outlive:
            assert left.sql("postgres", "SELECT 1") == [(1,)]
    finally:
        left.destroy()
    assert not left.running


def test_embedded_builds_have_what_the_demo_needs():
    for major, build in builds.embedded().items():
        assert build.version.split(".")[0] == str(major)
        assert all(build.has(name) for name in ("initdb", "postgres", "pg_dump", "pg_restore", "psql"))


def test_modules_are_run():
    result = run_module("pg_dump_export", {"unknown_option": 1})
    assert result.failed
    assert "missing required arguments" in result.msg
    assert result.no_such_field is None


def test_whole_family_is_killed(tmp_path):
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        "[{name: Wait, hosts: localhost, gather_facts: false, tasks:"
        " [{name: Wait, ansible.builtin.command: {argv: [sleep, '300']}, changed_when: false}]}]"
    )
    running = start_playbook(playbook, {"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}})
    sleeper = running.await_program("sleep")
    running.kill_family()
    assert running.family() == {}
    assert not os.path.exists(f"/proc/{sleeper}/exe")


def test_playbooks_are_recorded(tmp_path):
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(
        textwrap.dedent("""
        - name: Two hosts
          hosts: all
          gather_facts: false
          tasks:
            - name: Say it
              ansible.builtin.debug:
                msg: "{{ word }} {{ more }}"
            - name: Change it
              ansible.builtin.copy:
                dest: "{{ where }}/{{ inventory_hostname }}"
                content: "x"
                mode: "0600"
            - name: Fail on one
              ansible.builtin.fail:
                msg: as wanted
              when: inventory_hostname == 'two'
        """)
    )
    variables = {"ansible_connection": "local", "word": "hello"}
    inventory = {"all": {"hosts": {"one": {}, "two": {}}, "vars": variables}}
    extra = {"more": "world", "where": str(tmp_path)}
    result = run_playbook(playbook, inventory, check=True, extra_vars=extra)
    assert not os.path.exists(tmp_path / "one")
    result = run_playbook(playbook, inventory, extra_vars=extra)
    assert result.failed
    assert result.stats["one"]["changed"] == 1
    assert result.stats["two"]["failures"] == 1
    assert [said.msg for said in result.results("Say it")] == ["hello world"] * 2
    assert [failure["msg"] for failure in result.failures] == ["as wanted"]
    assert len(result.results("ansible.builtin.copy")) == 2
    with pytest.raises(AssertionError, match="a password is in this text"):
        run_playbook(playbook, inventory, extra_vars={**extra, "more_password": "abcdefghijkl", "more": "abcdefghijkl"})
