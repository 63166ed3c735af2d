# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of owners, privileges, comments and tablespaces, and that an import does what they say."""

from __future__ import annotations

import dumps
import pytest
from preflights import look
from support import create_database, shared_directory

OBJECTS = """
CREATE ROLE app;
CREATE ROLE there;
CREATE ROLE rds_superuser;
CREATE ROLE rds_replication;
ALTER DEFAULT PRIVILEGES FOR ROLE rds_replication GRANT SELECT ON TABLES TO app;
CREATE TABLE of_app (); ALTER TABLE of_app OWNER TO app;
CREATE TABLE of_there (); ALTER TABLE of_there OWNER TO there;
CREATE TABLE of_service (); ALTER TABLE of_service OWNER TO rds_superuser;
CREATE TABLE of_postgres ();
CREATE EXTENSION pg_trgm;
CREATE EXTENSION hstore;
COMMENT ON EXTENSION hstore IS 'of our own';
REVOKE EXECUTE ON FUNCTION similarity(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO app;
GRANT SELECT ON pg_catalog.pg_authid TO app;
"""
CHECKS = (
    "object_owners",
    "public_schema",
    "system_privileges",
    "extension_comments",
    "object_tablespaces",
)


@pytest.fixture(scope="module")
def source(all_servers):
    """(server, a database with everything, an empty one)"""
    cluster = all_servers(15, "ownership")
    names = create_database(cluster), create_database(cluster)
    cluster.sql(names[0], OBJECTS)
    yield cluster, *names
    all_servers.sweep()


@pytest.fixture(scope="module")
def admin(all_servers, source):
    """An administrator of a target that has one of the roles already."""
    target = all_servers(18)
    target.sql("postgres", "CREATE ROLE there")
    return target.managed_admin("adm")


def test_nothing_is_found_in_an_empty_database(source, admin):
    cluster, _everything, empty = source
    report = look(cluster.endpoint(), admin, [empty])
    for check in CHECKS:
        assert report.levels(check) == {"ok"}, check
    assert look(cluster.endpoint(), None, [empty]).levels("object_owners") == {"unknown"}


def test_what_a_managed_target_does_not_keep(source, admin, tmp_path):
    cluster, dbname, _empty = source
    report = look(cluster.endpoint(), admin, [dbname])
    assert report.objects("object_owners", "info") == {"there", "rds_superuser", "rds_replication", "postgres"}
    assert "rds_superuser: this role is not carried over" in report.about("object_owners", "rds_superuser")["seen"]
    assert "there: the target already has this role" in report.about("object_owners", "there")["seen"]
    assert report.objects("extension_comments", "info") == {"hstore"}
    assert report.objects("system_privileges", "warning") == {
        "function public.similarity(pg_catalog.text,pg_catalog.text)",
        "function pg_catalog.pg_ls_dir(pg_catalog.text)",
        "table pg_catalog.pg_authid",
    }
    dumps.done(dumps.export(cluster, tmp_path, databases=[dbname]))
    result = dumps.restore(admin, tmp_path, databases=[dbname])
    [database] = dumps.done(result).databases
    left_out = {one["object"] for one in database["skipped"] if one["class"] in ("ACL", "COMMENT")}
    assert left_out == {
        'ACL pg_catalog.FUNCTION "pg_ls_dir"("text")',
        'ACL pg_catalog.TABLE "pg_authid"',
        'COMMENT EXTENSION "hstore"',
        'COMMENT EXTENSION "pg_trgm"',
    }


def test_owners_on_the_target(source, all_servers):
    """What the import of the test before made of them."""
    _cluster, dbname, _empty = source
    owners = "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relname ~ '^of_'"
    assert dict(all_servers(18).sql(dbname, owners)) == {
        "of_app": "app",
        "of_there": "adm",
        "of_service": "adm",
        "of_postgres": "adm",
    }


def test_a_superuser_keeps_them(source, all_servers):
    cluster, dbname, _empty = source
    report = look(cluster.endpoint(), all_servers(17).endpoint(), [dbname])
    assert report.objects("object_owners") == {"rds_superuser", "rds_replication"}
    assert report.levels("system_privileges") == {"info"}
    assert report.levels("extension_comments") == {"ok"}


def test_who_may_create_in_schema_public(source, all_servers):
    cluster, *_databases = source
    dbname = create_database(cluster)
    cluster.sql(dbname, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    assert look(cluster.endpoint(), all_servers(18).endpoint(), [dbname]).levels("public_schema") == {"info"}
    cluster.sql(dbname, "DROP SCHEMA public")
    report = look(cluster.endpoint(), all_servers(18).endpoint(), [dbname])
    assert report.about("public_schema", "public")["seen"] == "The database has no schema public."

    old = all_servers(13)
    closed, opened = create_database(old), create_database(old)
    old.sql(closed, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    admin = all_servers(14).managed_admin("adm14")
    report = look(old.endpoint(), admin, [closed, opened])
    assert report.levels("public_schema", closed) == {"warning"}
    assert report.levels("public_schema", opened) == {"ok"}
    superuser = look(old.endpoint(), all_servers(14).endpoint(), [closed])
    assert superuser.levels("public_schema") == {"ok"}


def test_tablespaces(source, run_directory):
    cluster, *_databases = source
    place = shared_directory(run_directory, "preflight-space")
    cluster.sql("postgres", f"CREATE TABLESPACE \"Fast\" LOCATION '{place}'")
    dbname = create_database(cluster)
    cluster.sql(dbname, 'CREATE TABLE t (a integer PRIMARY KEY USING INDEX TABLESPACE "Fast") TABLESPACE "Fast"')
    report = look(cluster.endpoint(), None, [dbname])
    assert report.objects("object_tablespaces", "info") == {'"Fast"'}
    assert "(2 relations)" in report.of("object_tablespaces")[0]["seen"]
