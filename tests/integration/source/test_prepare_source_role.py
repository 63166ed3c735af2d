# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that pg_source_prepare makes for the target: its password, what it may do, and whose it is."""

from __future__ import annotations

import contextlib
import json

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extras import LogicalReplicationConnection
from sources import PASSWORD, RECORD, ROLE, prepare, release, state


def test_the_password_is_sent_as_a_verifier_and_not_logged(small):
    cluster = small(17, settings={"log_statement": "all"})
    prepare(cluster)
    prepare(cluster, replication_password="another one, also long")
    log = cluster.log.read_text()
    assert f'CREATE ROLE "{ROLE}"' not in log and "SCRAM-SHA-256$" not in log and PASSWORD not in log
    stored = cluster.sql("postgres", f"SELECT rolpassword FROM pg_authid WHERE rolname = '{ROLE}'")
    assert stored[0][0].startswith("SCRAM-SHA-256$4096:")
    assert cluster.sql("shop", "SELECT 1", user=ROLE, password="another one, also long")


def test_the_password_of_a_role_in_use_stays(small):
    cluster = small(15)
    prepare(cluster)
    with contextlib.closing(cluster.connect("shop", user=ROLE, password=PASSWORD)):
        changed = prepare(cluster, replication_password="another one, also long")
        assert changed.failed and "1 of its sessions" in changed.msg
        assert release(cluster).failed
    assert cluster.sql("shop", "SELECT 1", user=ROLE, password=PASSWORD)


def test_the_role_is_kept_as_it_has_to_be(small):
    timeouts = {"statement_timeout": "5s", "wal_sender_timeout": "3s"}
    cluster = small(18, settings={"wal_level": "logical", **timeouts})
    before = state(cluster)
    prepare(cluster)
    replication = cluster.endpoint("shop", user=ROLE, password=PASSWORD)
    session = psycopg2.connect(**replication, connection_factory=LogicalReplicationConnection)
    with contextlib.closing(session), session.cursor() as cursor:
        for name, text in (("statement_timeout", "0"), ("transaction_timeout", "0"), ("wal_sender_timeout", "1min")):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone()[0] == text
    cluster.sql("postgres", f"ALTER ROLE {ROLE} NOREPLICATION; ALTER ROLE {ROLE} RESET statement_timeout")
    assert len(prepare(cluster).statements) == 2 and not prepare(cluster).changed
    cluster.sql("shop", f"CREATE SCHEMA theirs AUTHORIZATION {ROLE}")
    owner = release(cluster)
    assert owner.failed and "owns objects in shop" in owner.msg
    cluster.sql("shop", "DROP SCHEMA theirs")
    release(cluster)
    assert state(cluster) == before


def test_a_role_of_the_operators_is_not_touched(small):
    cluster = small(15)
    cluster.sql("postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    before = state(cluster)
    refused = prepare(cluster)
    assert refused.failed and "was not made for this migration" in refused.msg and release(cluster).failed
    looked = prepare(cluster, create_replication_role=False, replication_password=None, settings_method="instructions")
    assert f'Run: ALTER ROLE "{ROLE}" REPLICATION;' in looked.instructions and not looked.changed
    assert not release(cluster, create_replication_role=False).changed and state(cluster) == before
    assert prepare(cluster, create_replication_role=False, settings_method="alter_system").failed


@pytest.mark.parametrize("major", [13, 16])
def test_reading_all_tables_only_when_asked(small, major):
    cluster = small(major)
    before = state(cluster)
    cluster.sql("shop", 'CREATE SCHEMA "S x"; CREATE TABLE "S x".t (i serial); CREATE TABLE u (i int)')
    acls = "SELECT relname, relacl::text, nspacl::text FROM pg_class AS c, pg_namespace AS n WHERE n.oid = relnamespace"
    acls += " ORDER BY 1"
    tables = cluster.sql("shop", acls)
    prepare(cluster)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cluster.sql("shop", "SELECT FROM u", user=ROLE, password=PASSWORD)
    assert prepare(cluster, replication_select=True).changed and not prepare(cluster, replication_select=True).changed
    cluster.sql("shop", 'SELECT FROM u; SELECT FROM "S x".t; SELECT FROM "S x".t_i_seq', user=ROLE, password=PASSWORD)
    cluster.sql("shop", "CREATE TABLE later (i int)")
    prepare(cluster, replication_select=True)
    cluster.sql("shop", "SELECT FROM later", user=ROLE, password=PASSWORD)
    cluster.sql("shop", "DROP TABLE later")
    release(cluster)
    assert state(cluster) == before
    if major >= 14:
        assert cluster.sql("shop", acls) == tables


def test_the_record_is_not_somebody_elses_comment(small):
    cluster = small(15)
    prepare(cluster)
    record = json.loads(cluster.sql("postgres", RECORD)[0][0].partition(":")[2])
    assert record["databases"] == ["shop"] and record["settings"]["wal_level"] == {
        "former": None,
        "set": "logical",
        "method": "alter_system",
    }
    cluster.sql("postgres", sql.SQL("COMMENT ON ROLE {} IS 'handover.postgresql: x'").format(sql.Identifier(ROLE)))
    assert "is not a record of the collection" in prepare(cluster).msg
