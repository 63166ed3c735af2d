# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords are where they belong and nowhere else: looked for in all places that others can read."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from dumps import CLIENTS, done, look_at_roles
from faults import watching
from psycopg2 import sql
from support import Cluster, Running, create_database, run_module, run_playbook, start_module

# No quotes and backslashes, or they would look otherwise where a secret must not be.
OURS, ROLES = "p%ss:w0rd of the migrator ü", "a new password for the role"
VERBOSE = {"_ansible_verbosity": 4, "_ansible_debug": True}
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
CENSORED = re.compile(MASKED + r"|[^*\s]\*{8}|\*{8}[^*\s]")
CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.+Z]*")
LOUD = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_error_statement": "debug5",
    "log_connections": "on",
    "log_parameter_max_length_on_error": "-1",
}


@contextlib.contextmanager
def spied_upon(running: Running, temporary: Path, secrets: list[str]) -> Iterator[list[str]]:
    """Look at every process of this machine, and at every temporary file, for as long as the block runs."""
    found: list[str] = []
    over = threading.Event()

    def look(place: Path, what: str) -> None:
        with contextlib.suppress(OSError):
            content = (place / what).read_bytes()
            found.extend(f"{place}/{what}" for secret in secrets if secret.encode() in content)

    def spy() -> None:
        while not over.is_set():
            for place in Path("/proc").glob("[0-9]*"):
                look(place, "cmdline")
                look(place, "environ")
            for place in temporary.rglob("*"):
                with contextlib.suppress(OSError):
                    if place.stat().st_mode & 0o077 or place.is_symlink():
                        found.append(f"{place} is open to others")
            time.sleep(0.002)

    thread = threading.Thread(target=spy)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def run_and_spy(name: str, temporary: Path, secrets: list[str], check: bool = False, **arguments: object):
    """The result of a module, which leaves no temporary file outside the folder that Ansible removes after it."""
    ours, elsewhere = temporary / "of-the-task", temporary / "elsewhere"
    for place in (ours, elsewhere):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = {"_ansible_tmpdir": str(ours), "client_directory": CLIENTS, **arguments}
    running = start_module(name, given, check, env={"TMPDIR": str(elsewhere)}, cold=True)
    with spied_upon(running, temporary, secrets) as found:
        result = running.wait()
    assert found == []
    assert list(elsewhere.iterdir()) == []
    assert list(ours.iterdir()) == []
    output = running.stdout + running.stderr
    assert not [secret for secret in secrets if secret in output or json.dumps(secret)[1:-1] in output]
    return result


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def make_migrator(cluster: Cluster) -> None:
    """A role whose password is to be looked for, also in the log, so that it must not get there in this way."""
    create = sql.SQL("CREATE ROLE migrator SUPERUSER LOGIN PASSWORD {}")
    with contextlib.closing(cluster.connect()) as session, session.cursor() as cursor:
        cursor.execute("SET log_statement = 'none'; SET log_min_duration_statement = -1")
        cursor.execute(create.format(sql.Literal(OURS)))


@pytest.fixture(scope="module")
def source(all_servers, run_directory):
    """A source that these tests share."""
    cluster = all_servers.make(15, run_directory / "secrets")
    cluster.start()
    make_migrator(cluster)
    cluster.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the application'; CREATE ROLE plain LOGIN")
    cluster.sql("postgres", "CREATE DATABASE app OWNER app")
    cluster.sql("app", "CREATE TABLE t (id int PRIMARY KEY, word text); ALTER TABLE t OWNER TO app")
    cluster.sql("app", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 50000) AS i")
    yield cluster
    cluster.destroy()


@pytest.fixture
def target(new_cluster):
    """A target that logs all that it is told."""
    cluster = new_cluster(18, settings=LOUD)
    make_migrator(cluster)
    return cluster


def test_secrets_are_nowhere(source, target, tmp_path):
    [(verifier,)] = source.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    place, temporary, secrets = tmp_path / "dump", tmp_path / "temporary", [OURS, quote(OURS, safe=""), ROLES, verifier]
    uri = f"postgresql://migrator:{quote(OURS, safe='')}@127.0.0.1:{source.port}/postgres"
    exporting = {"source": {"uri": uri}, "dump_directory": str(place), **VERBOSE}
    done(run_and_spy("pg_dump_export", temporary, secrets, True, **exporting))
    assert not place.exists()
    done(run_and_spy("pg_dump_export", temporary, secrets, **exporting))

    importing = {"target": target.endpoint(user="migrator", password=OURS), "dump_directory": str(place), **VERBOSE}
    importing["role_passwords"] = {"plain": ROLES}
    done(run_and_spy("pg_restore_import", temporary, secrets, True, **importing))
    done(run_and_spy("pg_restore_import", temporary, secrets, **importing))
    assert not done(run_and_spy("pg_restore_import", temporary, secrets, **importing)).changed
    for role, password in (("app", "of the application"), ("plain", ROLES)):
        target.sql("app", "SELECT 1", user=role, password=password)

    for name, content in files_below(place).items():
        assert OURS.encode() not in content, name
        assert (verifier.encode() in content) is (name in ("roles/roles.json", "roles/roles.sql")), name
    journal = str(target.sql("app", "SELECT r::text FROM handover.restore AS r"))
    log = target.log.read_text(errors="replace")
    for secret in (OURS, ROLES, "of the application"):
        assert secret not in journal
        assert secret not in log
    assert verifier not in journal
    assert verifier not in log, "a superuser can keep even the verifier out of the log"


def test_managed_administrator_sends_verifiers_only(source, target, tmp_path):
    """Who is not superuser cannot keep a statement out of the log, so there must be no password in it."""
    done(run_module("pg_dump_export", {"source": source.endpoint(), "dump_directory": str(tmp_path / "dump")}))
    admin = target.managed_admin()
    importing = {"target": admin, "dump_directory": str(tmp_path / "dump"), "skip_roles": ["migrator"]}
    importing["role_passwords"] = {"plain": ROLES, "app": "another new password"}
    done(run_and_spy("pg_restore_import", tmp_path / "temporary", [admin["password"], ROLES], **importing))
    target.sql("app", "SELECT 1", user="app", password="another new password")
    log = target.log.read_text(errors="replace")
    assert ROLES not in log
    assert "another new password" not in log


def test_dump_directory_is_closed_to_others(source, tmp_path):
    given = {"source": source.endpoint(), "dump_directory": str(tmp_path / "dump")}
    inherited = os.umask(0)
    try:
        done(run_module("pg_dump_export", given))
        done(run_module("pg_dump_export", {**given, "force": True, "compress": "none"}))
    finally:
        os.umask(inherited)
    everything = [tmp_path / "dump", *(tmp_path / "dump").rglob("*")]
    assert len(everything) > 10
    assert [str(path) for path in everything if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("module", ["pg_dump_export", "pg_restore_import"])
def test_killed_module_leaves_temporary_files_to_ansible_only(source, target, tmp_path, module):
    """Ansible removes the folder of a task also when its module was killed."""
    directory, ours, elsewhere = tmp_path / "dump", tmp_path / "of-the-task", tmp_path / "elsewhere"
    ours.mkdir()
    elsewhere.mkdir()
    given = {"dump_directory": str(directory), "_ansible_tmpdir": str(ours)}
    source.sql("app", "CREATE TABLE big AS SELECT i, md5(i::text) FROM generate_series(1, 1000000) AS i")  # to be seen
    exporting, importing = {"source": source.endpoint(), **given}, {"target": target.endpoint(), **given}
    if module == "pg_restore_import":
        done(run_module("pg_dump_export", exporting))
    server = source if module == "pg_dump_export" else target
    with watching(server) as watch:
        running = start_module(
            module, exporting if server is source else importing, env={"TMPDIR": str(elsewhere)}, cold=True
        )
        watch.await_query("^COPY")
        running.kill()
        watch.await_silence()
    source.sql("app", "DROP TABLE big")
    assert list(elsewhere.iterdir()) == []
    assert not [path for path in ours.rglob("*") if path.is_file() and b"SCRAM-SHA-256" in path.read_bytes()]


URIS = {
    "wrong password": "postgresql://migrator:not+the right@127.0.0.1:{}/x",
    "spoiled": "postgresql://migrator:not%the right@127.0.0.1/x",
    "unencoded @": "postgresql://migrator:not the right@pass@nowhere.invalid/x",
    "unencoded /": "postgresql://migrator:not the right/pass@nowhere.invalid/x",
    "unencoded ?": "postgresql://migrator:not the right?pass=x@nowhere.invalid/x",
}


@pytest.mark.parametrize("case", URIS)
def test_complaints_about_a_uri_hold_no_part_of_the_password(source, tmp_path, case):
    uri = URIS[case].format(source.port)
    given = {"source": {"uri": uri, "connect_timeout": 2}, "dump_directory": str(tmp_path / "dump")}
    secrets = ["not the right", "not+the", "pass@nowhere", "not%the", "pass=x"]
    result = run_and_spy("pg_dump_export", tmp_path / "temporary", secrets, **given, **VERBOSE)
    assert result.failed
    assert result.remedy


@pytest.mark.parametrize("module", ["pg_dump_export", "pg_restore_import"])
def test_errors_hold_no_secret(source, tmp_path, module):
    endpoint = source.endpoint()
    given = {"dump_directory": str(tmp_path / "dump"), **VERBOSE}
    exporting = {"source": endpoint, "databases": ["app"], "dump_extra_args": ["--nope"], **given}
    other = {"role_passwords": {"app": ROLES}, "rename": {"app": "other"}, "restore_extra_args": ["--nope"]}
    importing = {"target": endpoint, **other, **given}
    if module == "pg_restore_import":
        done(run_module("pg_dump_export", {**exporting, "dump_extra_args": []}))
    arguments = exporting if module == "pg_dump_export" else importing
    result = run_and_spy(module, tmp_path / "temporary", [source.password, ROLES], **arguments)
    assert result.failed
    assert "--nope" in result.msg


PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - handover.postgresql.pg_dump_export: {source: "{{ source }}", dump_directory: "{{ place }}"}
    - handover.postgresql.pg_restore_import:
        {target: "{{ target }}", dump_directory: "{{ place }}", role_passwords: "{{ passwords }}"}
    - handover.postgresql.pg_restore_import: {target: {uri: "{{ wrong }}"}, dump_directory: "{{ place }}"}
      ignore_errors: true
"""


def test_most_verbose_playbook_shows_no_secret(source, target, tmp_path):
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    variables = {
        "ansible_connection": "local",
        "place": str(tmp_path / "dump"),
        "source": source.endpoint(user="migrator", password=OURS),
        "target": target.endpoint(user="migrator", password=OURS),
        "passwords": {"app": ROLES},
        "wrong": f"postgresql://migrator:{quote(OURS, safe='')}x@127.0.0.1:{target.port}/postgres",
    }
    result = run_playbook(playbook, {"all": {"hosts": {"here": variables}}}, args=["-vvvvv"])
    assert not result.failed, result
    assert result.stats["here"]["ignored"] == 1
    shown = result.stdout + result.stderr + json.dumps(result.tasks)
    verifiers = [role["secret"] for role in look_at_roles(source)["roles"].values() if role["secret"]]
    assert verifiers
    for secret in (OURS, json.dumps(OURS)[1:-1], quote(OURS, safe=""), ROLES, *verifiers):
        assert secret not in shown


# Names of a database and a server's role, words of results, numbers, letters; what may be quoted wrongly.
ODD = [
    "app", "postgres", "5432", "true", "None", "a", "1", "handover", "none", "it's", 'say "x"', "b\\a\\", "100%s",
    "{{ 1 + 1 }}", "p@ss:w/rd?#&=", " blank ",
]  # fmt: skip


def test_no_password_changes_a_result(source, target, tmp_path):
    """Ansible would replace the password's letters, or its number, in every value of the result."""

    def look(password: str) -> list:
        alter = sql.SQL("ALTER ROLE odd PASSWORD {}").format(sql.Literal(password))
        for cluster in (source, target):
            cluster.sql("postgres", alter)
        uri = f"postgresql://odd:{quote(password, safe='')}@127.0.0.1:{target.port}/postgres?sslmode=disable"
        ends = {"source": source.endpoint(user="odd", password=password), "target": {"uri": uri}}
        exporting = {"source": ends["source"], "dump_directory": str(tmp_path / "none"), "include": ["databases"]}
        found = [
            run_module("pg_dump_export", {**exporting, "client_directory": CLIENTS}, check=True),
            run_module("pg_migration_info", {**ends, "databases": ["app"]}, check=True),
            run_module("pg_migration_info", {**ends, "databases": ["absent"]}, check=True),
        ]
        assert [one.failed for one in found] == [False, False, True], found
        found[0].data.pop("database_sizes")  # of a database that lives
        for given in [one.data.pop("invocation")["module_args"] for one in found]:
            assert given["source"]["password"] == given.get("target", {"uri": MASKED})["uri"] == MASKED
        return [json.loads(CLOCK.sub("", json.dumps(one.data))) for one in found]

    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE odd SUPERUSER LOGIN")
    expected = look("a password that is no word")
    assert expected[0]["selected_databases"] == [expected[1]["databases"][0]["database"]] == ["app"]
    for password in ODD:
        assert look(password) == expected, password


def test_playbooks_with_passwords_that_are_words(servers, tmp_path):
    """The source's is the name of the database, the target's a letter that all words have, the replication's a number.

    What people read is right as well: names are whole, and nothing is masked that is no secret.
    """
    source, target = servers(15), servers(18)
    for cluster, password in ((source, "shop"), (target, "e")):
        cluster.sql("postgres", f"CREATE ROLE word SUPERUSER LOGIN PASSWORD '{password}'")
    source.sql("postgres", "CREATE ROLE follower LOGIN REPLICATION PASSWORD '18'")
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE shop (e serial PRIMARY KEY); INSERT INTO shop SELECT FROM generate_series(1, 18)")
    uri = f"postgresql://word:e@127.0.0.1:{target.port}/postgres"
    variables = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(user="word", password="shop"),
        "handover_target": {"uri": uri},
        "handover_replication": {"user": "follower", "password": "18"},
        "handover_client_directory": CLIENTS,
        "handover_dump_directory": f"{tmp_path}/dumps",
        "handover_report_directory": f"{tmp_path}/reports",
        "handover_replication_password_file": f"{tmp_path}/none",
        "handover_source_is_quiet": True,
    }
    inventory = {"all": {"children": {"handover_pairs": {"hosts": {"shop": variables}}}}}

    def run(name: str, *expected: str, **more: object) -> None:
        result = run_playbook(f"handover.postgresql.{name}", inventory, extra_vars=more)
        assert not result.failed, (result.failures, result.stdout[-3000:])
        assert [text for text in expected if text not in result.stdout] == [], result.stdout
        assert not CENSORED.search(result.stdout), result.stdout

    run("dump", "- shop: brought over as copy. Compared: 18 rows in 1 table.", handover_rename={"shop": "copy"})
    run("migrate", "- shop: in step, 1 table in 1 wave,", handover_method="continuous")
    run("verify", "shop: EQUAL", "18 rows in 1 table")
    run("cutover", f'- shop: handed over to 127.0.0.1:{target.port}, database "shop" in ')
    run("finish", "shop, database shop: removed")
    assert target.sql("shop", "SELECT count(*), max(e) FROM shop") == target.sql("copy", "SELECT 18::bigint, 18")
    reports = "".join(path.read_text() for path in (tmp_path / "reports").iterdir())
    assert '"database": "shop"' in reports and not CENSORED.search(reports)
