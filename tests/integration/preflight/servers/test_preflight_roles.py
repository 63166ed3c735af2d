# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of roles: what the preflight says of them, and that the import then does just that."""

from __future__ import annotations

import subprocess

import pytest
from preflights import look
from support import create_database, run_module

HERE = (
    "role_names",
    "role_attributes",
    "role_passwords",
    "md5_passwords",
    "role_settings",
    "role_memberships",
    "roles_there",
)
ROLES = """
CREATE ROLE "Boss" SUPERUSER LOGIN PASSWORD 'b';
CREATE ROLE feeder REPLICATION LOGIN PASSWORD 'f';
CREATE ROLE maker CREATEROLE CREATEDB LOGIN PASSWORD 'm';
CREATE ROLE certified LOGIN;
CREATE ROLE rds_superuser;
SET password_encryption = 'md5';
CREATE ROLE old LOGIN PASSWORD 'o';
GRANT pg_monitor TO maker;
GRANT pg_execute_server_program TO old;
ALTER ROLE old SET log_statement TO 'all';
ALTER ROLE old SET work_mem TO '8MB';
ALTER ROLE old SET app.tenant TO '1';
"""


@pytest.mark.parametrize(("old", "new"), [(13, 15), (16, 18)])
def test_roles_without_anything_special(servers, old, new):
    source, target = servers(old), servers(new, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'p'; ALTER ROLE app SET work_mem TO '8MB'")
    report = look(source.endpoint(), target.endpoint(), [create_database(source)])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)
    admin = look(source.endpoint(), target.managed_admin(), [create_database(source)])
    for check in HERE:
        assert admin.levels(check) == {"ok"}, admin.of(check)


@pytest.mark.parametrize(("old", "new"), [(13, 15), (13, 18), (15, 17)])
def test_what_a_service_does_not_take(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    dbname = create_database(source)
    source.sql("postgres", ROLES)
    if old == 13:
        source.sql("postgres", "ALTER ROLE maker SET operator_precedence_warning TO 'on'")
    source.sql("postgres", f"ALTER ROLE maker IN DATABASE {dbname} SET session_preload_libraries TO 'auto_explain'")
    admin = target.managed_admin()
    report = look(source.endpoint(), admin, [dbname])
    assert report.objects("role_names", "info") == {"rds_superuser"}
    assert report.objects("role_attributes", "warning") == {'"Boss": SUPERUSER', "feeder: REPLICATION"}
    assert report.objects("role_passwords", "info") == {"certified"}
    assert report.objects("md5_passwords", "warning") == {"old"}
    gone = {"operator_precedence_warning: maker"} if old == 13 else set()
    assert report.objects("role_settings", "warning") == gone | {
        "log_statement: old",
        f"session_preload_libraries: maker in database {dbname}",
    }
    expected = {"pg_monitor", "pg_execute_server_program"} if new >= 16 else set()
    assert report.objects("role_memberships") == expected
    assert look(source.endpoint(), None, [dbname]).levels("role_names") == {"info", "unknown"}

    run_module("pg_dump_export", {"source": source.endpoint(), "dump_directory": str(tmp_path), "include": ["roles"]})
    done = run_module("pg_restore_import", {"target": admin, "dump_directory": str(tmp_path), "include": ["roles"]})[
        "roles"
    ]
    left_out = {(one["role"], one["attribute"]) for one in done["left_out"]}
    assert left_out >= {("Boss", "superuser"), ("feeder", "replication"), ("old", "setting")}
    assert {one["detail"] for one in done["left_out"] if one["attribute"] == "membership"} == expected
    assert {one["role"] for one in done["md5"]} == {"old"}
    assert "certified" in {one["role"] for one in done["without_password"]}

    report = look(source.endpoint(), admin, [dbname])
    assert report.objects("roles_there", "info") == {'"Boss"', "feeder", "maker", "certified", "old"}


def test_passwords_that_nobody_shows(servers):
    source = servers(15)
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'p'; CREATE ROLE nologin")
    report = look(source.managed_admin("reader"), None, [create_database(source)])
    assert report.objects("role_passwords", "warning") == {"app", "reader"}
    assert report.levels("md5_passwords") == {"unknown"}


def test_names_that_mean_somebody_else(servers):
    """The source's superuser has another name than the target's, and a role of the source has the target's."""
    source, target = servers(15), servers(16, "target")
    dbname = create_database(source)
    source.sql("postgres", "CREATE ROLE doadmin LOGIN PASSWORD 'd'; CREATE ROLE adm LOGIN PASSWORD 'd'")
    admin = target.managed_admin("adm")
    report = look(source.endpoint(), admin, [dbname])
    assert report.objects("role_names", "info") == {"doadmin", "adm"}
    target.sql("postgres", "CREATE ROLE other SUPERUSER LOGIN PASSWORD 'o'")
    target.sql("postgres", "ALTER ROLE postgres RENAME TO azuresu", user="other", password="o")
    try:
        report = look(source.endpoint(), admin, [dbname])
        assert report.objects("role_names", "info") == {"doadmin", "adm", "postgres"}
    finally:
        target.sql("postgres", "ALTER ROLE azuresu RENAME TO postgres", user="other", password="o")


def test_the_remedy_for_md5(servers):
    source = servers(17)
    source.sql("postgres", "SET password_encryption = 'md5'; CREATE ROLE \"O'Neil\" LOGIN PASSWORD 'o'")
    dbname = create_database(source)
    [finding] = look(source.endpoint(), None, [dbname]).of("md5_passwords", "warning")
    script = finding["remedy"].partition("\n")[2].rpartition("\n")[0]
    typed = script.replace('\\password "O\'Neil"', '\\password "O\'Neil"\no\no')
    done = subprocess.run(
        [source.build.program("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d",
         f"host=127.0.0.1 port={source.port} user=postgres password={source.password} dbname=postgres"],
        input=f"{typed}\n", text=True, capture_output=True, check=False,
        env={"LC_ALL": "C", **source.build.environment}, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert look(source.endpoint(), None, [dbname]).levels("md5_passwords") == {"ok"}
