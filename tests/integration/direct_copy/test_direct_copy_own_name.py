# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that something in them knows by name: they are filled under it, and incomplete until all is there."""

from __future__ import annotations

import pytest
from copies import arguments
from dumps import databases, done, export, one, refused, restore
from faults import dies_at
from support import create_database, start_module

BY_NAME = "CREATE TABLE t (i int PRIMARY KEY, of regdatabase); INSERT INTO t VALUES (1, %s::regdatabase), (2, NULL)"
NAME = """
    CREATE TABLE t (i int PRIMARY KEY, of regdatabase DEFAULT {0}::regdatabase);
    INSERT INTO t SELECT i FROM generate_series(1, 3) AS i; CREATE VIEW v AS SELECT {0}::regdatabase AS of"""
NAME = 'own na"me'


@pytest.fixture
def by_name(servers):
    source, target = servers(19), servers(19, "target")
    create_database(source, NAME)
    source.sql(NAME, BY_NAME, ['"own na""me"'])
    return source, target


def bring(source, target, place, direct, env=None, **options):
    """By direct copy, or by dump; it may fail, or be killed by what ``env`` says."""
    given = arguments(source, target, {"databases": [NAME], **options})
    if not direct:
        done(export(source, place, databases=[NAME], target_version=19))
        given = {**given, "dump_directory": str(place)}
        del given["source"]
    running = start_module("pg_direct_copy" if direct else "pg_restore_import", given, env=env)
    return running.process.wait(60) if env else running.wait()


def assert_there(target):
    assert target.sql(NAME, "SELECT i, of::text FROM t ORDER BY 1") == [(1, '"own na""me"'), (2, None)]
    assert databases(target) == {NAME}


@pytest.mark.parametrize("superuser", [True, False])
@pytest.mark.parametrize("direct", [False, True])
def test_it_is_filled_under_its_own_name(by_name, tmp_path, direct, superuser):
    source, target = by_name
    end = target if superuser else target.managed_admin()
    found = one(bring(source, end, tmp_path, direct))
    assert found["changed"] is True
    assert_there(target)
    assert not done(bring(source, end, tmp_path, direct)).changed


@pytest.mark.parametrize("direct", [False, True])
def test_killed_it_is_incomplete_and_ours(by_name, tmp_path, direct):
    source, target = by_name
    bring(source, target, tmp_path, direct, env=dies_at(tmp_path / "kill", "subprocess.Popen", "pg_restore"))
    assert databases(target) == {NAME}
    assert target.sql(NAME, "SELECT completed FROM handover.restore") == [(None,)]
    assert one(bring(source, target, tmp_path, direct))["changed"]
    assert_there(target)


@pytest.mark.parametrize("direct", [False, True])
def test_what_is_the_operators_is_replaced_by_name_only(by_name, tmp_path, direct):
    source, target = by_name
    create_database(target, NAME)
    target.sql(NAME, "CREATE TABLE of_the_operator ()")
    refused(bring(source, target, tmp_path, direct), "has a database", "of_the_operator")
    found = one(bring(source, target, tmp_path, direct, replace=True, replace_databases=[NAME]))
    assert found["changed"]
    assert_there(target)


def test_what_is_refused_is_listed_by_the_names_of_the_source(servers, tmp_path):
    """Also where the name of a role holds the one that the database has on the target."""
    source, target = servers(19), servers(19, "target")
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE app_owner")
    create_database(source, "shop", "OWNER app_owner")
    source.sql("shop", "CREATE TABLE t (of regdatabase)")
    done(export(source, tmp_path, target_version=19))
    imported = one(restore(target.managed_admin(), tmp_path, rename={"shop": "app"}, include=["databases"]))
    assert 'ALTER DATABASE "shop" OWNER TO "app_owner"' in [entry["object"] for entry in imported["skipped"]]
