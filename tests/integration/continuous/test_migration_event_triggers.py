# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event triggers of the application: they forbid its definitions and write what it did, and know nothing of ours."""

from __future__ import annotations

import contextlib
import re

import psycopg2
import pytest
from cutovers import cut_over, handed_over
from dumps import CLIENTS, databases, done, export, finish, one, refused, restore
from migrations import in_step, migrate, stopped, traces
from preflights import look, mend
from support import create_database, run_module

SHOP = """
    CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'x' FROM generate_series(1, 20);
    CREATE TABLE done (id serial PRIMARY KEY, command text);
    CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        IF coalesce(current_setting('deploy.allowed', true), '') <> 'yes' THEN
            RAISE EXCEPTION 'no DDL outside a deployment (%)', tg_tag;
        END IF; END $$;
    CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.done (command) VALUES (tg_tag); END $$;
    CREATE FUNCTION rename() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE one record; BEGIN
        FOR one IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' LOOP
            EXECUTE format('COMMENT ON TABLE %s IS %L', one.object_identity, 'made here');
        END LOOP; END $$"""
GUARDS = """
    CREATE EVENT TRIGGER "No DDL" ON ddl_command_start EXECUTE FUNCTION no_ddl();
    CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION note();
    CREATE EVENT TRIGGER renamed ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION rename();
    CREATE EVENT TRIGGER no_drop ON sql_drop EXECUTE FUNCTION no_ddl();
    CREATE EVENT TRIGGER idle ON ddl_command_start EXECUTE FUNCTION no_ddl();
    ALTER EVENT TRIGGER idle DISABLE;
    COMMENT ON EVENT TRIGGER "No DDL" IS 'ask for a deployment'"""
STATE = """
    SELECT evtname, evtevent, evtenabled, evttags, obj_description(oid, 'pg_event_trigger'), xmin = ANY (
        SELECT xmin FROM pg_event_trigger WHERE evtname = 'idle') FROM pg_event_trigger ORDER BY 1"""
STATE_THERE = STATE.replace(", xmin = ANY (\n        SELECT xmin FROM pg_event_trigger WHERE evtname = 'idle')", "")
DONE = "SELECT command FROM done ORDER BY id"
MAJORS = [(13, 17), (18, 16)]


@pytest.fixture
def ends(servers):
    """``ends(15, 17)``: source and target; what guards the databases is gone before these are dropped."""
    made = []

    def start(source_major, target_major):
        made.extend([servers(source_major), servers(target_major, "target")])
        return made

    yield start
    for cluster in made:
        if cluster.sql("postgres", "SELECT 1 FROM pg_database WHERE datname = 'shop'"):
            more = UNSEEN if cluster.build.major >= 17 else {}
            for (name,) in cluster.sql("shop", "SELECT quote_ident(evtname) FROM pg_event_trigger", **more):
                cluster.sql("shop", f"DROP EVENT TRIGGER {name}", **more)


def guarded(cluster, before=GUARDS):
    create_database(cluster, "shop")
    cluster.sql("shop", SHOP)
    if before:
        cluster.sql("shop", before)
    return cluster


def assert_guarded(cluster, dbname="shop"):
    """They hold for the application, superusers included."""
    for statement in ("CREATE TABLE another (i int)", "DROP TABLE t"):
        with pytest.raises(psycopg2.errors.RaiseException):
            cluster.sql(dbname, statement)


@pytest.mark.parametrize("majors", MAJORS, ids=str)
def test_from_begin_to_end(ends, majors):
    """Replicate, cutover, rollback, and the end, under guards that were there before."""
    source, target = ends(*majors)
    guarded(source)
    before = source.sql("shop", STATE)
    in_step(source, target, databases=["shop"])
    assert_guarded(source)
    assert_guarded(target)
    source.sql("shop", "INSERT INTO done (command) VALUES ('by the application')")
    handed_over(cut_over(source, target))
    assert target.sql("shop", DONE) == [("by the application",)]
    target.sql("shop", "INSERT INTO done (command) VALUES ('at the new home')")
    handed_over(cut_over(source, target, direction="back"))
    assert source.sql("shop", DONE) == [("by the application",), ("at the new home",)]
    done(migrate(source, target, databases=["shop"], state="finished", without_cutover=True, lift_fence=True))
    assert traces(source, "shop") == traces(target, "shop") == []
    assert source.sql("shop", STATE) == before
    assert target.sql("shop", STATE_THERE) == source.sql("shop", STATE_THERE)
    assert target.sql("shop", DONE) == source.sql("shop", DONE)
    assert target.sql("shop", "SELECT obj_description('t'::regclass)") == [(None,)]
    assert_guarded(source)
    assert_guarded(target)


@pytest.mark.parametrize("majors", [(15, 17), (17, 15)], ids=str)
def test_made_while_replicating(ends, majors):
    """A code freeze does not keep the source from being freed, and not the guards from ending it."""
    source, target = ends(*majors)
    guarded(source, before="")
    in_step(source, target, databases=["shop"])
    for cluster in (source, target):
        cluster.sql("shop", GUARDS)
    state = source.sql("shop", STATE)
    assert cut_over(source, target, check=True).databases[0]["ready"]
    args = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    found = run_module("pg_migration_watch", {**args, "max_duration": "0s", "stop_on": ["age"]})
    assert found.databases[0]["stopped"]["left"] == {"source": [], "target": []}, found
    assert traces(source, "shop") == []
    done(migrate(source, target, databases=["shop"], state="finished", without_cutover=True))
    assert traces(target, "shop") == []
    assert source.sql("shop", STATE) == state
    assert_guarded(source)
    assert_guarded(target)


@pytest.mark.parametrize("transport", ["files", "direct"])
def test_finish_after_a_dump(ends, tmp_path, transport):
    """They came along, and do not keep the journal."""
    source, target = ends(14, 18)
    guarded(source)
    if transport == "files":
        done(export(source, tmp_path, databases=["shop"]))
        one(restore(target, tmp_path))
    else:
        args = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
        done(run_module("pg_direct_copy", {**args, "client_directory": CLIENTS}))
    done(finish(target, "shop"))
    assert traces(target, "shop") == []
    assert target.sql("shop", STATE_THERE) == source.sql("shop", STATE_THERE)
    assert target.sql("shop", DONE) == []
    assert_guarded(target)


def deploy(cluster, *statements):
    """What the application's own deployment may do."""
    with contextlib.closing(cluster.connect("shop")) as session, session.cursor() as cursor:
        for statement in ("SET deploy.allowed = 'yes'", *statements):
            cursor.execute(statement)


def as_mover(cluster, attributes):
    """A role that owns the database and all tables."""
    cluster.sql("postgres", f"CREATE ROLE mover LOGIN CREATEDB {attributes} PASSWORD 'a mover''s own password'")
    cluster.sql("postgres", "ALTER DATABASE shop OWNER TO mover")
    deploy(cluster, "ALTER TABLE t OWNER TO mover; ALTER TABLE done OWNER TO mover", "TRUNCATE done")
    return cluster.endpoint(user="mover", password="a mover's own password")


@pytest.mark.parametrize(("majors", "kind", "superuser"), [
    ((14, 17), "ENABLE", False), ((16, 17), "ENABLE", False), ((17, 16), "ENABLE", False),
    ((15, 17), "ENABLE ALWAYS", True),
], ids=str)  # fmt: skip
def test_refused_by_name_with_what_helps(ends, majors, kind, superuser):
    """Whose sessions cannot pass them is told so before anything is made, and gets through as the remedy says."""
    source, target = ends(*majors)
    guarded(source)
    source.sql("shop", f"""ALTER EVENT TRIGGER "No DDL" {kind}; ALTER EVENT TRIGGER noted {kind}""")
    role = as_mover(source, "SUPERUSER" if superuser else "REPLICATION")
    target.sql("postgres", "CREATE ROLE mover LOGIN")
    report = look(role, target.endpoint(), ["shop"])
    acting = {'"No DDL"', "no_drop"} if not superuser else {'"No DDL"'}
    assert report.objects("guarded_definitions", "blocker") == acting
    assert "noted" in report.objects("guarded_definitions", "warning")
    found = refused(migrate(role, target, databases=["shop"]), '"No DDL"', "no DDL outside a deployment")
    assert traces(source, "shop") == [] and "shop" not in databases(target)
    remedy = report.of("guarded_definitions", "blocker")[0]["remedy"]
    assert remedy.rstrip(".") in found.msg
    if remedy.startswith("GRANT"):
        mend(source, "shop", report.of("guarded_definitions", "blocker"))
    else:
        line = re.search("begin the body of .* with (IF .* END IF;)", remedy)[1]
        for name in ("no_ddl", "note", "rename"):
            definition = source.sql("shop", "SELECT pg_get_functiondef(%s::regproc)", [name])[0][0]
            deploy(source, definition.replace("BEGIN", f"BEGIN {line}", 1), "TRUNCATE done")
    assert look(role, target.endpoint(), ["shop"]).objects("guarded_definitions", "blocker") in (set(), acting)
    in_step(role, target, databases=["shop"])
    assert_guarded(source)
    stopped(role, target, databases=["shop"])
    assert traces(source, "shop") == [] and source.sql("shop", DONE) == []


def test_gate_of_the_cutover(ends):
    """At the new home, too: named while nothing was done, and gone as the remedy says."""
    source, target = ends(15, 17)
    guarded(source, before="")
    admin = target.managed_admin("adm", grants=("pg_create_subscription",))
    target.sql("postgres", "ALTER ROLE adm REPLICATION")
    in_step(source, admin, databases=["shop"], no_owner=True)
    target.sql("shop", GUARDS)
    found = refused(cut_over(source, admin), "On the target, Event triggers", '"No DDL"', "no DDL outside a deployment")
    statement = re.search('GRANT .* TO "adm"', found.msg)[0]
    target.sql("postgres", statement)
    handed_over(cut_over(source, admin))
    done(migrate(source, admin, databases=["shop"], state="finished"))
    assert traces(target, "shop") == []
    assert_guarded(target)


UNSEEN = {"options": "-c event_triggers=off"}  # of login triggers
OURS = "SELECT count(*) FROM logins WHERE who = 'mover'"
LOGINS = """
    CREATE TABLE logins (id serial PRIMARY KEY, who text DEFAULT session_user);
    CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.logins DEFAULT VALUES; END';
    CREATE EVENT TRIGGER logged ON login EXECUTE FUNCTION logged(); ALTER EVENT TRIGGER logged ENABLE ALWAYS"""


def test_logins_of_the_migration(ends):
    """They would write rows where others are to arrive, and lock everybody out behind the fence; the remedy helps."""
    source, target = ends(17, 18)
    guarded(source, before="")
    role, there = as_mover(source, "SUPERUSER"), as_mover_of(target)
    source.sql("shop", LOGINS)
    found = look(role, there, ["shop"]).of("login_triggers", "warning")
    assert found[0]["objects"] == ["logged"]
    for cluster in (source, target):
        mend(cluster, "postgres", found)
    assert look(role, there, ["shop"]).levels("login_triggers") == {"ok"}
    before = source.sql("shop", OURS, **UNSEEN)
    in_step(role, there, databases=["shop"])
    options = {"source": role, "target": there, "databases": ["shop"], "require_verification": False}
    handed_over(run_module("pg_cutover", options))
    with pytest.raises(psycopg2.OperationalError, match="was handed over"):
        source.connect("shop")
    handed_over(run_module("pg_cutover", {**options, "direction": "back"}))
    assert [cluster.sql("shop", OURS, **UNSEEN) for cluster in (source, target)] == [before, before]
    stopped(role, there, databases=["shop"])
    assert traces(source, "shop") == []


def as_mover_of(cluster):
    """The same role on a server that lacks the database yet."""
    cluster.sql("postgres", "CREATE ROLE mover LOGIN SUPERUSER PASSWORD 'a mover''s own password'")
    return cluster.endpoint(user="mover", password="a mover's own password")
