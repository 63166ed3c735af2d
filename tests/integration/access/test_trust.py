# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is named like ours, and was made by somebody who is not us, is refused by name and never run."""

from __future__ import annotations

import contextlib
import json

import pytest
from dumps import done, refused
from migrations import in_step, migrate, stopped
from preflights import look
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

MADE = "CREATE SCHEMA handover; COMMENT ON SCHEMA handover IS 'handover.postgresql: journal'"
MARKED = MADE.replace("handover;", "handover AUTHORIZATION app;", 1)
COLUMNS = "(id text PRIMARY KEY, target jsonb, started timestamptz DEFAULT now(), undo text[])"
RECORD = f"CREATE TABLE handover.migration {COLUMNS}"
OURS = f"{MADE}; {RECORD}"
BODY = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'"
NOTE = f"CREATE FUNCTION public.note() {BODY}; ALTER FUNCTION public.note() OWNER TO app"
TRIGGER = "CREATE TRIGGER note BEFORE INSERT ON handover.migration FOR EACH ROW EXECUTE FUNCTION public.note()"
FENCE = f"CREATE FUNCTION handover.fence() {BODY}; ALTER FUNCTION handover.fence() OWNER TO app"

CASES = {
    "nothing": (MADE, None),
    "ours": (OURS, None),
    "readable": (f"{OURS}; GRANT USAGE ON SCHEMA handover TO app; GRANT SELECT ON handover.migration TO app", None),
    "the schema": (MARKED, "app owns schema handover"),
    "a table": (f"{OURS}; ALTER TABLE handover.migration OWNER TO app", "app owns handover.migration"),
    "the right to make": (f"{OURS}; GRANT CREATE ON SCHEMA handover TO app", "app has CREATE on schema handover"),
    "everybody's": (f"{OURS}; GRANT INSERT ON handover.migration TO PUBLIC", "PUBLIC has INSERT on handover.migration"),
    "a column": (f"{OURS}; GRANT UPDATE (undo) ON handover.migration TO app", "app has UPDATE on handover.migration"),
    "a trigger": (f"{OURS}; {NOTE}; {TRIGGER}", "app has a trigger on handover.migration"),
    "a function": (f"{MADE}; {FENCE}", "app owns handover.fence()"),
}


@pytest.mark.parametrize("major", [13, 16, 18])
def test_who_may_have_written_to_our_schema(servers, major):
    cluster = servers(major)
    cluster.sql("postgres", "CREATE ROLE app")
    for case, (statements, words) in CASES.items():
        dbname = create_database(cluster)
        cluster.sql(dbname, statements)
        with contextlib.closing(Endpoint("source", {**cluster.endpoint(), "dbname": dbname}).connect()) as session:
            assert trust.strangers(session) == ([words] if words else []), case


@pytest.fixture
def pair(servers):
    """A database of a role that is no superuser, on 15, and a target of 18."""
    source, target = servers(15), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'app'")
    create_database(source, "shop")
    source.sql(
        "shop", "ALTER DATABASE shop OWNER TO app; CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO app"
    )
    return source, target


def everything(cluster, dbname: str) -> list:
    return cluster.sql(dbname, "SELECT oid::int8, relname, relacl::text FROM pg_class WHERE oid >= 16384 ORDER BY 1")


def test_a_schema_that_is_not_ours_is_refused_on_the_source(pair):
    source, target = pair
    source.sql("shop", f"{MARKED}; {RECORD}")
    before = everything(source, "shop")
    [finding] = look(source.endpoint(), target.endpoint(), ["shop"]).of("handover_schema")
    assert finding["level"] == "blocker" and "app owns schema handover" in finding["seen"]
    for state in ("replicating", "stopped", "finished"):
        refused(migrate(source, target, databases=["shop"], state=state), "app owns schema handover")
    assert everything(source, "shop") == before
    assert not source.sql("shop", "SELECT FROM pg_publication")


def test_what_somebody_else_recorded_is_not_run(pair):
    """The statement is found by everybody who looks, and run by nobody."""
    source, target = pair
    found = in_step(source, target, databases=["shop"])
    source.sql("shop", f"DROP SCHEMA handover CASCADE; SET ROLE app; {MADE}; {RECORD}")
    to = json.dumps({"database": "shop", "host": "127.0.0.1", "port": target.port, "system_identifier": "?"})
    add = "INSERT INTO handover.migration (id, target, undo) VALUES (%s, %s, ARRAY['CREATE TABLE public.was_run ()'])"
    source.sql("shop", add, [found["id"], to])
    refused(migrate(source, target, databases=["shop"], state="stopped"), "app owns")
    assert source.sql("shop", "SELECT to_regclass('public.was_run')") == [(None,)]
    source.sql("shop", "DROP SCHEMA handover CASCADE")
    done(migrate(source, target, databases=["shop"], state="stopped"))


def test_a_schema_on_the_target_that_its_owner_made_is_refused(pair):
    source, target = pair
    create_database(target, "shop")
    target.sql("shop", MARKED)
    before = everything(target, "shop")
    given = {"databases": ["shop"], "create": False}
    refused(migrate(source, target, **given), "app owns schema handover")
    findings = look(source.endpoint(), target.endpoint(), ["shop"]).of("handover_schema")
    assert "schema handover on the target" in findings[0]["seen"]
    assert everything(target, "shop") == before


def test_default_privileges_open_nothing_of_ours(pair):
    source, target = pair
    grant = "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app"
    source.sql("shop", grant)
    in_step(source, target, databases=["shop"])
    assert not in_step(source, target, databases=["shop"])["changed"]
    writable = """
        SELECT relname FROM pg_class WHERE relnamespace = 'handover'::regnamespace
        AND has_table_privilege('app', oid, 'INSERT, UPDATE, DELETE, TRIGGER')"""
    for cluster in pair:
        assert not cluster.sql("shop", writable + " AND relkind = 'r'")
    stopped(source, target, databases=["shop"])


def test_a_publication_and_a_role_of_our_names_are_not_taken_over(pair):
    source, target = pair
    admin = target.managed_admin(grants=["pg_create_subscription"])
    target.sql("postgres", "GRANT app TO doadmin WITH ADMIN OPTION, INHERIT FALSE, SET FALSE; CREATE ROLE other")
    identifier = in_step(source, target, databases=["shop"])["id"]
    stopped(source, target, databases=["shop"])
    name = f"handover_{identifier}"
    source.sql("shop", f"SET ROLE app; CREATE PUBLICATION {name}_w1")
    again = {"databases": ["shop"], "replace": True, "replace_databases": ["shop"]}
    refused(migrate(source, target, **again), f"publication {name}_w1 exists, belongs to app")
    source.sql("shop", f"DROP PUBLICATION {name}_w1")
    target.sql("postgres", "DROP DATABASE shop")
    target.sql("postgres", f"CREATE ROLE {name}_owners; GRANT {name}_owners TO other")
    refused(migrate(source, admin, databases=["shop"]), f"role {name}_owners exists, others may use it")
    target.sql("postgres", f"DROP ROLE {name}_owners")
    in_step(source, admin, databases=["shop"])
    stopped(source, admin, databases=["shop"])


def test_another_administrator_goes_on_where_the_first_may_act_as_it(pair):
    source, target = pair
    first = target.managed_admin("first", grants=["pg_create_subscription"])
    target.sql("postgres", "GRANT app TO first WITH ADMIN OPTION, INHERIT FALSE, SET FALSE")
    in_step(source, first, databases=["shop"])
    found = refused(migrate(source, target, databases=["shop"]), "first owns schema handover")
    assert "go on as that role" in found.remedy
    second = target.managed_admin("second", grants=["pg_create_subscription"])
    refused(migrate(source, second, databases=["shop"], state="stopped"), "first owns schema handover")
    assert not in_step(source, first, databases=["shop"])["changed"]
    stopped(source, first, databases=["shop"])
