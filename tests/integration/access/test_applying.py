# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom changes are applied: what a table's owner made part of it is run by nobody who may do more."""

from __future__ import annotations

import psycopg2
import pytest
from cutovers import eventually_same
from dumps import done, refused
from migrations import in_step, migrate, traces
from psycopg2 import sql
from support import create_database, run_module

# Every row says who checked it.
SCHEMA = """
    CREATE UNLOGGED TABLE seen (who text, id int); GRANT INSERT ON seen TO PUBLIC;
    CREATE FUNCTION note(id int) RETURNS boolean LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.seen VALUES (current_user, id); RETURN true; END';
    CREATE TABLE forced (id int PRIMARY KEY CHECK (public.note(id))); ALTER TABLE forced OWNER TO landlord;
    ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE TABLE closed (id int PRIMARY KEY CHECK (public.note(id))); ALTER TABLE closed OWNER TO landlord;
    REVOKE TRUNCATE ON closed FROM landlord;
    CREATE TABLE plain (id int PRIMARY KEY CHECK (public.note(id))); ALTER TABLE plain OWNER TO tenant;
    INSERT INTO forced VALUES (1); INSERT INTO closed VALUES (2); INSERT INTO plain VALUES (3)"""


def who(cluster, identifier: int) -> list[str]:
    return [name for (name,) in cluster.sql("shop", "SELECT DISTINCT who FROM seen WHERE id = %s", [identifier])]


def test_no_superuser_applies_what_owners_may_not_write(servers):
    source, target = servers(16), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE landlord; CREATE ROLE tenant")
    create_database(source, "shop")
    source.sql("shop", SCHEMA)
    found = in_step(source, target, databases=["shop"])
    role = f"handover_{found['id']}_apply"
    assert len(found["waves"]) == 2
    assert any("public.closed, public.forced" in notice and role in notice for notice in found["notices"])
    source.sql("shop", "INSERT INTO forced VALUES (11); INSERT INTO closed VALUES (12); INSERT INTO plain VALUES (13)")
    eventually_same(lambda: [who(target, number) for number in (11, 12, 13)], [[role], [role], ["tenant"]])
    source.sql("shop", "TRUNCATE closed; DELETE FROM forced")
    assert not in_step(source, target, databases=["shop"])["changed"]
    eventually_same(lambda: target.sql("shop", "SELECT count(*) FROM closed"), [(0,)])
    assert target.sql("shop", "SELECT count(*) FROM forced") == [(0,)]

    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    assert done(run_module("pg_verify", ends)).databases[0]["verdict"] == "equal"
    handed = done(run_module("pg_cutover", {**ends, "reverse": True})).databases[0]
    assert any(role in notice for notice in handed["notices"]), handed["notices"]
    target.sql("shop", "INSERT INTO forced VALUES (21); INSERT INTO closed VALUES (22); INSERT INTO plain VALUES (23)")
    eventually_same(lambda: [who(source, number) for number in (21, 22, 23)], [[role]] * 3)
    may = "SELECT rolsuper, rolconnlimit, rolbypassrls FROM pg_roles WHERE rolname = %s"
    assert source.sql("postgres", may, [role]) == target.sql("postgres", may, [role]) == [(False, 0, True)]
    target.sql("postgres", sql.SQL("ALTER ROLE {} PASSWORD 'x'").format(sql.Identifier(role)))
    with pytest.raises(psycopg2.OperationalError, match="too many connections for role"):
        target.connect("shop", user=role, password="x")

    done(run_module("pg_cutover", {**ends, "direction": "back", "require_verification": False}))
    source.sql("shop", "INSERT INTO forced VALUES (31); INSERT INTO plain VALUES (33)")
    eventually_same(lambda: [who(target, number) for number in (31, 33)], [[role], [role]])
    done(migrate(source, target, databases=["shop"], state="finished", lift_fence=True, without_cutover=True))
    assert traces(source, "shop") == traces(target, "shop") == []


def test_a_source_whose_role_is_no_superuser_takes_the_way_back_as_the_owners(servers):
    source, target = servers(16), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE landlord; CREATE ROLE tenant")
    admin = source.managed_admin(attributes=["REPLICATION"], grants=["pg_create_subscription"])
    source.sql("postgres", "GRANT landlord, tenant TO doadmin")
    target.sql("postgres", "CREATE ROLE doadmin")
    create_database(source, "shop")
    source.sql("shop", SCHEMA + "; ALTER TABLE seen OWNER TO landlord; ALTER DATABASE shop OWNER TO doadmin")
    source.sql("shop", "DROP TABLE forced; GRANT TRUNCATE ON closed TO landlord")
    in_step(admin, target, databases=["shop"])
    before = source.log.stat().st_size
    ends = {"source": admin, "target": target.endpoint(), "databases": ["shop"], "require_verification": False}
    wrong = {"reverse": True, "reverse_replication": {"host": "127.0.0.1", "port": 1}}
    refused(run_module("pg_cutover", {**ends, **wrong}), "creating it failed")
    done(run_module("pg_cutover", {**ends, "reverse": True}))
    target.sql("shop", "INSERT INTO closed VALUES (22); INSERT INTO plain VALUES (23)")
    eventually_same(lambda: [who(source, number) for number in (22, 23)], [["landlord"], ["tenant"]])
    assert target.password.encode() not in source.log.read_bytes()[before:]
