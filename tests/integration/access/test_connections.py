# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way to reach a server works for our sessions and for child programs; every way not to is told with a remedy."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from dumps import CLIENTS, done, export, one, refused, restore
from psycopg2 import sql
from support import run_module

from lab.cluster import give

PASSWORDS = [
    "back\\slash:colon'quote\"and more",
    " %20 spaces % and $signs; \t",
    "Grüße ☃ 密码 at=host?x&y#z/@",
    "*:*:*:*:\\:\\\\",
]
CERTIFIED = ["hostssl all certified 127.0.0.1/32 cert", "hostssl all all 127.0.0.1/32 scram-sha-256"]


@pytest.fixture(scope="module")
def server(all_servers, run_directory, authority):
    """A server that takes TLS only, with a small database; nothing is changed on it but by roles of a test's own."""
    cluster = all_servers.make(17, run_directory / "tls", tls=authority.server("localhost"), hba=CERTIFIED)
    cluster.init()
    root = cluster.directory / "root.crt"
    shutil.copyfile(authority.root, root)
    give(root)
    cluster.settings["ssl_ca_file"] = str(root)
    cluster.start()
    cluster.sql("postgres", "CREATE ROLE certified SUPERUSER LOGIN")
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql("app", "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    yield cluster
    cluster.destroy()


def export_app(endpoint: dict, directory: Path, env: dict | None = None, **options):
    """Export the small database, which takes our sessions and pg_dump."""
    given = {"source": endpoint, "dump_directory": str(directory), "client_directory": CLIENTS, "databases": ["app"]}
    return run_module("pg_dump_export", {**given, **options}, env=env)


def rows(result) -> int:
    return one(result)["rows"]


# --- what does not work ----------------------------------------------------------------------------------------------

WRONG = {
    "password": ({"password": "certainly not this"}, ["password authentication failed", "source.password"]),
    "no password": ({"password": None}, ["no password supplied", "Set source.password"]),
    "role": ({"user": "nobody"}, ["password authentication failed", "source.user"]),
    "host": ({"host": "no-such-host.invalid"}, ["no-such-host.invalid", "Check source.host"]),
    "port": ({"port": 1}, ["refused", "source.port"]),
    "no TLS": ({"sslmode": "disable"}, ["no encryption", "source.sslmode: require"]),
    "no authority": ({"sslmode": "verify-full", "sslrootcert": "/nowhere"}, ["/nowhere", "Set source.sslrootcert"]),
    "name": ({"sslmode": "verify-full", "sslrootcert": "ROOT"}, ["does not match host name", "verify-ca"]),
    "authority": ({"sslmode": "verify-full", "sslrootcert": "WRONG"}, ["certificate verify failed", "sslrootcert"]),
    "no certificate": ({"user": "certified"}, ["client certificate", "Set source.sslcert and source.sslkey"]),
    "uri": ({"uri": "postgresql://a%zz:secret phrase@h/d"}, ["source.uri is not a connection URI", "percent-encoded"]),
    "no uri": ({"uri": "host=a password=secretphrase"}, ["does not begin with postgresql://"]),
    "said twice": ({"uri": "postgresql://postgres@h/d"}, ["set the same thing twice", "Remove source."]),
    "line break": ({"password": "two\nlines of it"}, ["line break"]),
    "carriage return": ({"password": "the end of it\r"}, ["line break"]),
    "service and sslpassword": ({"service": "x", "sslpassword": "y"}, ["sslpassword", "service file"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_connection_is_refused_with_a_remedy(server, authority, wrong_authority, tmp_path, case):
    changes, words = WRONG[case]
    roots = {"ROOT": str(authority.root), "WRONG": str(wrong_authority.root)}
    endpoint = {**server.endpoint(), **{name: roots.get(value, value) for name, value in changes.items()}}
    result = refused(export_app(endpoint, tmp_path / "dump"), *words)
    assert "secret phrase" not in str(result) and "secretphrase" not in str(result)
    assert not (tmp_path / "dump").exists()


def test_target_is_named_in_its_errors(server, tmp_path):
    endpoint = {**server.endpoint(), "password": "certainly not this"}
    refused(restore(endpoint, tmp_path), "the target", "target.password")


def test_server_without_tls_is_refused_where_tls_is_required(servers, tmp_path):
    endpoint = {**servers(15).endpoint(), "sslmode": "require"}
    refused(export_app(endpoint, tmp_path), "does not support SSL", "source.sslmode: disable")


def test_missing_database_is_named(server, tmp_path):
    refused(export(server, tmp_path, databases=["app", "nope"]), "no database 'nope'", "'app'")


def test_any_database_does_for_what_concerns_the_server(server, tmp_path):
    """A URI from a console names a database that may not be there any more, or not yet."""
    assert rows(export_app(server.endpoint("gone"), tmp_path)) == 10


# --- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(PASSWORDS)))
def test_any_password_reaches_child_programs(servers, tmp_path, number):
    """In the option and, percent-encoded, in a URI; for pg_dump and for pg_restore."""
    cluster, password = servers(18), PASSWORDS[number]
    create = sql.SQL("CREATE ROLE special SUPERUSER LOGIN PASSWORD {}")
    cluster.sql("postgres", create.format(sql.Literal(password)))
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql("app", "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    option = cluster.endpoint(user="special", password=password)
    uri = {"uri": f"postgresql://special:{quote(password, safe='')}@127.0.0.1:{cluster.port}/postgres"}
    assert rows(export_app(option, tmp_path / "option")) == 10
    assert rows(export_app(uri, tmp_path / "uri", include=["databases"])) == 10
    for directory, endpoint in (("option", uri), ("uri", option)):
        renamed = {"rename": {"app": f"from_{directory}"}}
        imported = restore(endpoint, tmp_path / directory, include=["databases"], **renamed)
        assert one(imported)["rows_compared"] == 10


def test_verified_tls(server, authority, tmp_path):
    endpoint = {**server.endpoint(), "host": "localhost", "sslmode": "verify-full", "sslrootcert": str(authority.root)}
    assert rows(export_app(endpoint, tmp_path)) == 10


@pytest.fixture
def certificate(authority, tmp_path):
    """Options of a client certificate whose key is encrypted."""
    signed = authority.client("certified")
    place = tmp_path / "certificate"
    place.mkdir(mode=0o700)
    certificate, key = signed.install(place, "client")
    secret = "encrypted key's password: #1"
    encryption = serialization.BestAvailableEncryption(secret.encode())
    plain = serialization.load_pem_private_key(signed.key, None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(plain.private_bytes(pem, pkcs8, encryption))
    return {"user": "certified", "sslcert": str(certificate), "sslkey": str(key), "sslpassword": secret}


def test_encrypted_client_certificate(server, authority, certificate, tmp_path):
    endpoint = {"host": "localhost", "port": server.port, "sslmode": "verify-full", **certificate}
    endpoint["sslrootcert"] = str(authority.root)
    assert rows(export_app(endpoint, tmp_path / "dump")) == 10
    wrong = {**endpoint, "sslpassword": "not the key's password"}
    refused(export_app(wrong, tmp_path / "none"), "Check source.sslkey and source.sslpassword")


def test_service_file(server, tmp_path):
    file = tmp_path / "services"
    file.touch(mode=0o600)
    file.write_text(
        f"[old-home]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\npassword={server.password}\nsslmode=require\n"
    )
    env = {"PGSERVICEFILE": str(file)}
    assert rows(export_app({"service": "old-home"}, tmp_path / "dump", env)) == 10
    result = export_app({"service": "elsewhere"}, tmp_path / "none", env)
    refused(result, 'definition of service "elsewhere" not found', "Check source.service")


@pytest.mark.parametrize("given", [None, "the right one"])
def test_pass_file(server, tmp_path, given):
    """A password that is given wins over one in the file, for child programs too."""
    in_file = "of another role, or outdated" if given else server.password
    file = tmp_path / "pgpass"
    file.touch(mode=0o600)
    file.write_text(f"127.0.0.1:{server.port}:*:postgres:{in_file}\n")
    endpoint = {**server.endpoint(), "passfile": str(file), "password": server.password if given else None}
    assert rows(export_app(endpoint, tmp_path / "dump")) == 10


def test_import_through_a_pool_in_session_mode(servers, pooler, tmp_path):
    """The pool keeps sessions in a database open after we left them, also in the one that is to be renamed."""
    cluster = servers(18)
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql("app", "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    front = pooler(cluster, mode="session")
    assert rows(export_app(front.endpoint(), tmp_path)) == 10
    imported = restore(front.endpoint(), tmp_path, include=["databases"], rename={"app": "new"})
    assert one(imported)["rows_compared"] == 10


# --- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [13, 18])
def test_missing_rights_are_named(servers, tmp_path, major):
    cluster = servers(major)
    cluster.sql("postgres", "CREATE ROLE owner; CREATE ROLE reader LOGIN PASSWORD 'of the reader'")
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql(
        "app",
        """
        CREATE SCHEMA closed; CREATE TABLE closed.t (i int);
        CREATE TABLE "Not Mine" (i int); CREATE SEQUENCE numbers; CREATE TABLE mine (i int);
        CREATE TABLE guarded (i int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
        SELECT lo_from_bytea(4711, 'large'); GRANT SELECT ON mine, guarded TO reader""",
    )
    reader = cluster.endpoint(user="reader", password="of the reader")
    lacking = [
        'table public."Not Mine"',
        "sequence public.numbers",
        "large object 4711",
        "table closed.t",
        "table public.guarded",
    ]
    result = refused(export_app(reader, tmp_path), *lacking, "BYPASSRLS")
    assert len(result.unreadable_objects) == len(lacking)
    assert "public.mine" not in result.msg
    cluster.sql("postgres", "ALTER ROLE reader BYPASSRLS")
    cluster.sql("app", "GRANT USAGE ON SCHEMA closed TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA closed TO reader")
    cluster.sql("app", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader; GRANT SELECT ON numbers TO reader")
    cluster.sql("app", "GRANT SELECT ON LARGE OBJECT 4711 TO reader")
    done(export_app(reader, tmp_path))


@pytest.mark.parametrize("check_disk", [True, False])
@pytest.mark.parametrize("what", ["plain", "ONLY parts"])
def test_locked_table_is_waited_for_no_longer_than_told(servers, tmp_path, what, check_disk):
    """``parts`` is partitioned: only pg_dump locks it."""
    cluster = servers(15)
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql("app", "CREATE TABLE plain (i int); CREATE TABLE parts (i int) PARTITION BY LIST (i)")
    with contextlib.closing(cluster.connect("app", autocommit=False)) as session:
        session.cursor().execute(f"LOCK TABLE {what} IN ACCESS EXCLUSIVE MODE")
        result = export_app(cluster.endpoint(), tmp_path, lock_wait_timeout=300, check_disk=check_disk)
        refused(result, what.rpartition(" ")[2], "lock_wait_timeout")
        if what == "plain":
            assert f"process {session.info.backend_pid}" in result.msg
    done(export_app(cluster.endpoint(), tmp_path))


# --- settings of roles and databases ---------------------------------------------------------------------------------

HOSTILE = {
    "statement_timeout": "50ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "50ms",
    "idle_session_timeout": "50ms",
    "transaction_timeout": "50ms",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "nowhere",
    "row_security": "on",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "client_min_messages": "debug5",
    "xmloption": "document",
}


def set_all(cluster, of: str) -> None:
    for name, value in HOSTILE.items():
        cluster.sql("postgres", sql.SQL(f"ALTER {of} SET {{}} = {{}}").format(sql.Identifier(name), sql.Literal(value)))


def digest(cluster) -> list[tuple]:
    """Of the rows, whatever the database's settings are."""
    wanted = {
        "search_path": "public",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "client_encoding": "UTF8",
        "statement_timeout": "0",
        "transaction_timeout": "0",
    }
    options = " ".join(f"-c {name}={value}" for name, value in wanted.items())
    return cluster.sql("app", "SELECT md5(string_agg(t::text, '' ORDER BY id)), count(*) FROM t", options=options)


@pytest.mark.parametrize("create", [True, False])
def test_settings_of_roles_and_databases_break_nothing(servers, tmp_path, create):
    source, target = servers(18), servers(18, "target")
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'of the boss'")
        set_all(cluster, "ROLE boss")
    source.sql("postgres", "CREATE DATABASE app")
    source.sql(
        "app",
        """
        CREATE TABLE t (id int PRIMARY KEY, at timestamptz, span interval, bytes bytea, word text);
        INSERT INTO t
        SELECT i, now(), '-1 day 2 hours', '\\x00ff', repeat('ü\\', 100) FROM generate_series(1, 40000) AS i;
        CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t""",
    )
    set_all(source, "DATABASE app")
    boss = {"user": "boss", "password": "of the boss"}
    assert rows(export_app(source.endpoint(**boss), tmp_path)) == 40000
    if not create:
        target.sql("postgres", "CREATE DATABASE app")
        set_all(target, "DATABASE app")
    imported = one(restore(target.endpoint(**boss), tmp_path, create=create, jobs=2))
    assert imported["rows_compared"] == 40000
    assert digest(target) == digest(source)
