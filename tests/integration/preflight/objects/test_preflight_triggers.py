# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of triggers, rules, indexes and constraints."""

from __future__ import annotations

import psycopg2
import pytest
from preflights import look, mend
from support import create_database

DEFECTS = """
CREATE TABLE orders (id integer PRIMARY KEY, total integer);
CREATE TABLE items (id integer PRIMARY KEY, "order" integer REFERENCES orders);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE TRIGGER "Always" AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER on_replica AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER normal AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER off AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE orders ENABLE ALWAYS TRIGGER "Always";
ALTER TABLE orders ENABLE REPLICA TRIGGER on_replica;
ALTER TABLE orders DISABLE TRIGGER off;
CREATE RULE also AS ON INSERT TO orders DO ALSO NOTIFY orders;
CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION note();
CREATE TABLE twice (a integer, b integer);
INSERT INTO twice VALUES (1, 1), (1, 2);
ALTER TABLE twice ADD CONSTRAINT small CHECK (a < 10) NOT VALID;
ALTER TABLE twice ADD CONSTRAINT of_order FOREIGN KEY (b) REFERENCES orders NOT VALID;
CREATE DOMAIN percent AS integer;
ALTER DOMAIN percent ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
CREATE TABLE unchecked (id integer REFERENCES orders);
ALTER TABLE unchecked DISABLE TRIGGER ALL;
"""
SOUND = """
CREATE TABLE orders (id integer PRIMARY KEY, total integer CHECK (total > 0));
CREATE TABLE items (id integer PRIMARY KEY, "order" integer REFERENCES orders);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER normal AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION audit();
CREATE VIEW seen AS SELECT * FROM orders;
CREATE RULE instead AS ON INSERT TO seen DO INSTEAD NOTHING;
CREATE TABLE parent (a integer NOT NULL);
CREATE TABLE child () INHERITS (parent);
"""
CHECKS = (
    "triggers_in_apply",
    "replica_sessions",
    "disabled_triggers",
    "event_triggers",
    "guarded_definitions",
    "login_triggers",
    "rules",
    "invalid_indexes",
    "unvalidated_constraints",
    "unchecked_foreign_keys",
    "inherited_not_null",
)


@pytest.fixture(scope="module", params=[13, 18])
def source(request, all_servers):
    """(server, a database with every defect, one without)"""
    cluster = all_servers(request.param, "triggers")
    names = create_database(cluster), create_database(cluster)
    for dbname, statements in zip(names, (DEFECTS, SOUND)):
        cluster.sql(dbname, statements)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        cluster.sql(names[0], 'CREATE UNIQUE INDEX CONCURRENTLY "Twice a" ON twice (a)')
    yield cluster, *names
    all_servers.sweep()


@pytest.fixture(scope="module")
def report(source, all_servers):
    cluster, *names = source
    return look(cluster.endpoint(), all_servers(18).endpoint(), names)


def test_nothing_is_found_where_nothing_is(source, report):
    for check in CHECKS:
        assert report.levels(check, database=source[2]) == {"ok"}, check


def test_what_fires_in_apply(source, report):
    assert report.objects("triggers_in_apply", "info") == {'"Always" ON public.orders', "on_replica ON public.orders"}
    assert report.of("triggers_in_apply", "info")[0]["methods"] == ["continuous"]
    assert report.objects("disabled_triggers", "info") == {"off ON public.orders"}
    assert report.objects("rules", "info") == {"also ON public.orders"}


def test_sessions_that_fire_no_triggers(source):
    cluster, _defects, dbname = source
    cluster.sql(dbname, f"ALTER DATABASE {dbname} SET session_replication_role = replica")
    found = look(cluster.endpoint(), None, [dbname]).of("replica_sessions", "blocker")
    assert found[0]["objects"] == ["everybody"] and found[0]["methods"] == ["continuous"]
    mend(cluster, dbname, found)
    assert look(cluster.endpoint(), None, [dbname]).levels("replica_sessions") == {"ok"}


def test_event_triggers_are_for_superusers(source, report, all_servers):
    cluster, dbname, _sound = source
    assert report.objects("event_triggers", "info") == {"noted"}
    assert report.levels("guarded_definitions") == {"ok"}, "a superuser's sessions pass them"
    admin = all_servers(18).managed_admin("adm")
    assert look(cluster.endpoint(), admin, [dbname]).objects("event_triggers", "warning") == {"noted"}
    assert look(cluster.endpoint(), None, [dbname]).objects("event_triggers", "info") == {"noted"}


def test_invalid_indexes(source, report):
    cluster, dbname, _sound = source
    assert report.objects("invalid_indexes", "warning") == {'public."Twice a"'}
    assert 'Unique: public."Twice a".' in report.of("invalid_indexes", "warning")[0]["seen"]
    cluster.sql(dbname, "DELETE FROM twice WHERE b = 2")
    mend(cluster, dbname, report.of("invalid_indexes", "warning"))
    assert look(cluster.endpoint(), None, [dbname]).levels("invalid_indexes") == {"ok"}


def test_constraints_that_were_not_validated(source, report):
    cluster, dbname, _sound = source
    assert report.objects("unvalidated_constraints", "info") == {
        "small ON public.twice",
        "of_order ON public.twice",
        "positive ON DOMAIN public.percent",
    }
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        mend(cluster, dbname, report.of("unvalidated_constraints", "info"))
    cluster.sql(dbname, "DELETE FROM twice")
    mend(cluster, dbname, report.of("unvalidated_constraints", "info"))
    assert look(cluster.endpoint(), None, [dbname]).levels("unvalidated_constraints") == {"ok"}


def test_foreign_keys_that_nobody_checks(source, report):
    cluster, dbname, _sound = source
    assert report.objects("unchecked_foreign_keys", "warning") == {"unchecked_id_fkey ON public.unchecked"}
    cluster.sql(dbname, "INSERT INTO unchecked VALUES (42)")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        mend(cluster, dbname, report.of("unchecked_foreign_keys", "warning"))
    cluster.sql(dbname, "DELETE FROM unchecked")
    mend(cluster, dbname, report.of("unchecked_foreign_keys", "warning"))
    assert look(cluster.endpoint(), None, [dbname]).levels("unchecked_foreign_keys") == {"ok"}


def test_children_with_nulls_that_their_parents_forbid(source):
    cluster, _defects, dbname = source
    if cluster.build.major >= 18:  # no longer to be had
        return
    cluster.sql(dbname, "ALTER TABLE child ALTER a DROP NOT NULL")
    report = look(cluster.endpoint(), None, [dbname])
    assert report.objects("inherited_not_null", "warning") == {"public.child.a"}
    cluster.sql(dbname, "INSERT INTO child VALUES (NULL)")
    cluster.sql(dbname, "ANALYZE child")
    report = look(cluster.endpoint(), None, [dbname])
    assert report.objects("inherited_not_null", "blocker") == {"public.child.a"}
    with pytest.raises(psycopg2.errors.NotNullViolation):
        mend(cluster, dbname, report.of("inherited_not_null"))
    cluster.sql(dbname, "DELETE FROM child")
    mend(cluster, dbname, report.of("inherited_not_null"))
    assert look(cluster.endpoint(), None, [dbname]).levels("inherited_not_null") == {"ok"}
