# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what a role may read: on a server where it may read next to nothing."""

from __future__ import annotations

import pytest
from preflights import look, mend
from support import create_database

OBJECTS = """
CREATE ROLE {0}_owner;
CREATE SCHEMA "se cret";
CREATE TABLE "se cret".one (id serial);
CREATE TABLE hidden (id serial);
CREATE TABLE shown (id integer);
CREATE TABLE policed (id integer);
ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
CREATE TABLE forced (id integer);
ALTER TABLE forced OWNER TO {0}_owner;
ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT ON shown, policed, forced TO {0};
SELECT lo_from_bytea(4711, 'x'), lo_from_bytea(4712, 'y'), lo_from_bytea(4713, 'z');
GRANT SELECT ON LARGE OBJECT 4712 TO {0};
GRANT SELECT ON LARGE OBJECT 4713 TO PUBLIC;
CREATE EXTENSION postgres_fdw;
CREATE SERVER "far away" FOREIGN DATA WRAPPER postgres_fdw;
CREATE USER MAPPING FOR PUBLIC SERVER "far away" OPTIONS (user 'x', password 'y');
CREATE USER MAPPING FOR {0} SERVER "far away" OPTIONS (user 'x', password 'y');
CREATE USER MAPPING FOR {0}_owner SERVER "far away";
GRANT USAGE ON FOREIGN SERVER "far away" TO {0};
"""


@pytest.fixture(scope="module", params=[13, 17])
def source(request, all_servers):
    """(server, database, endpoint of a role that is not superuser)"""
    cluster = all_servers(request.param, "access")
    dbname = create_database(cluster)
    endpoint = cluster.managed_admin("reader", attributes=["CREATEDB"])
    cluster.sql(dbname, OBJECTS.format("reader"))
    yield cluster, dbname, endpoint
    all_servers.sweep()


def test_what_the_role_cannot_read(source, all_servers):
    """Run first: the remedies change what the other test sees."""
    cluster, dbname, endpoint = source
    report = look(endpoint, all_servers(18).endpoint(), [dbname])
    assert report.objects("select_privileges", "blocker") == {
        '"se cret".one',
        '"se cret".one_id_seq',
        "public.hidden",
        "public.hidden_id_seq",
        "large object 4711",
    }
    assert report.objects("row_security", "blocker") == {"public.policed", "public.forced"}
    assert report.objects("user_mappings", "warning") == {
        'USER MAPPING FOR PUBLIC SERVER "far away"',
        'USER MAPPING FOR reader_owner SERVER "far away"',
    }
    assert report.objects("forced_row_security", "info") == {"public.forced"}

    mend(cluster, dbname, report.of("select_privileges") + report.of("row_security"))
    report = look(endpoint, None, [dbname])
    assert report.levels("select_privileges") == {"ok"}
    assert report.levels("row_security") == {"ok"}
    assert report.levels("forced_row_security") == {"unknown"}


def test_a_superuser_reads_everything(source, all_servers):
    cluster, dbname, _endpoint = source
    report = look(cluster.endpoint(), all_servers(14).endpoint() if cluster.build.major == 13 else None, [dbname])
    assert report.levels("select_privileges") == {"ok"}
    assert report.levels("row_security") == {"ok"}
    assert report.levels("user_mappings") == {"ok"}
    assert report.levels("forced_row_security") == {"ok" if cluster.build.major == 13 else "unknown"}


def test_policies_that_nobody_bypasses(source, all_servers):
    cluster, dbname, _endpoint = source
    admin = all_servers(18).managed_admin("adm")
    report = look(cluster.endpoint(), admin, [dbname])
    assert report.objects("forced_row_security", "blocker") == {"public.forced"}
    mend(cluster, dbname, report.of("forced_row_security"))
    assert look(cluster.endpoint(), admin, [dbname]).levels("forced_row_security") == {"ok"}


def test_many_schemas_are_granted_at_once(source):
    cluster, dbname, endpoint = source
    for number in range(5):
        cluster.sql(dbname, f"CREATE SCHEMA s{number}; CREATE TABLE s{number}.t ()")
    finding = look(endpoint, None, [dbname]).about("select_privileges", "s4.t")
    assert ("GRANT pg_read_all_data TO reader;" in finding["remedy"]) is (cluster.build.major >= 14)
    mend(cluster, dbname, [finding])
    report = look(endpoint, None, [dbname])
    assert report.objects("select_privileges") <= {"s3.t", "s4.t"}  # a remedy shows the first few
