# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A schema that pg_dump describes before the wave's snapshot is there counts only if nothing was changed in between."""

from __future__ import annotations

import contextlib

import pytest
from dumps import one
from faults import await_that, watching
from migrations import assert_kept_up, start_migration
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp

MADE = """
    CREATE ROLE staff; CREATE SCHEMA app;
    CREATE TYPE app.mood AS ENUM ('well'); CREATE DOMAIN app.amount AS int; CREATE TYPE app.pair AS (a int, b int);
    CREATE SEQUENCE app.numbers; CREATE TABLE app.item (id int PRIMARY KEY, name text, mood app.mood);
    CREATE TABLE app.part (id int, item int) PARTITION BY RANGE (id);
    CREATE TABLE app.part_1 (id int, item int);
    CREATE FUNCTION app.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE VIEW app.names AS SELECT name FROM app.item; CREATE EXTENSION pg_trgm;
    CREATE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far"""
CHANGES = """
    ALTER TABLE app.item ADD more int
    ALTER TABLE app.item ALTER name SET STORAGE EXTERNAL
    ALTER TABLE app.item ALTER name SET (n_distinct = 5)
    ALTER TABLE app.item SET (fillfactor = 90)
    ALTER TABLE app.part OWNER TO staff
    ALTER TABLE app.item CLUSTER ON item_pkey
    ALTER TABLE app.item ENABLE ROW LEVEL SECURITY
    CREATE POLICY own ON app.item USING (true)
    CREATE INDEX ON app.item (name)
    CREATE STATISTICS app.both ON id, name FROM app.item
    ALTER TABLE app.item ADD CHECK (id > 0)
    ALTER TABLE app.part ATTACH PARTITION app.part_1 FOR VALUES FROM (0) TO (9)
    CREATE TRIGGER noted BEFORE INSERT ON app.item FOR EACH ROW EXECUTE FUNCTION app.noted()
    ALTER TABLE app.item DISABLE TRIGGER noted
    CREATE RULE quiet AS ON DELETE TO app.names DO INSTEAD NOTHING
    GRANT SELECT (name) ON app.item TO staff
    GRANT EXECUTE ON FUNCTION app.one() TO staff
    ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO staff
    COMMENT ON COLUMN app.item.name IS 'x'
    COMMENT ON DATABASE {database} IS 'x'
    ALTER SEQUENCE app.numbers OWNED BY app.item.id
    ALTER SEQUENCE app.numbers INCREMENT 2
    CREATE OR REPLACE FUNCTION app.one() RETURNS int LANGUAGE sql AS 'SELECT 2'
    CREATE OR REPLACE VIEW app.names AS SELECT name, id FROM app.item
    ALTER TYPE app.mood ADD VALUE 'ill'
    ALTER DOMAIN app.amount ADD CHECK (VALUE > 0)
    ALTER TYPE app.pair ADD ATTRIBUTE c int
    ALTER EXTENSION pg_trgm ADD FUNCTION app.one()
    ALTER EXTENSION pg_trgm DROP FUNCTION app.one()
    CREATE USER MAPPING FOR staff SERVER there OPTIONS (a 'b')
    ALTER USER MAPPING FOR staff SERVER there OPTIONS (SET a 'c')
    ALTER SERVER there OPTIONS (a 'b')
    CREATE CAST (app.pair AS app.mood) WITH INOUT
    ALTER DATABASE {database} SET work_mem = '8MB'
    ALTER ROLE staff RENAME TO people
    DROP VIEW app.names
    CREATE VIEW app.names AS SELECT name FROM app.item
    TRUNCATE app.item
"""
OURS = """
    CREATE SCHEMA handover; COMMENT ON SCHEMA handover IS 'x';
    CREATE TABLE handover.migration (id serial PRIMARY KEY, text text DEFAULT 'x' CHECK (text <> ''));
    CREATE TYPE handover.kind AS ENUM ('x'); CREATE FUNCTION handover.fence(handover.kind) RETURNS int
        LANGUAGE sql AS 'SELECT 1';
    CREATE PUBLICATION handover_0123456789_w1 FOR TABLE handover.migration, app.item;
    CREATE TEMP TABLE scratch (id serial PRIMARY KEY, words text);
    INSERT INTO app.item VALUES (1, repeat('x', 10000)); SELECT nextval('app.numbers')"""


@pytest.mark.parametrize("major", [13, 18])
def test_every_change_shows_and_nothing_of_ours(servers, major):
    """Also what only a dependency, a column's privileges or another role's name tells."""
    cluster = servers(major)
    cluster.sql("postgres", "CREATE DATABASE stamped")
    with contextlib.closing(cluster.connect("stamped")) as session, session.cursor() as cursor:
        cursor.execute(MADE)
        seen = [read_stamp(session)]
        for statement in [OURS, "VACUUM ANALYZE", "VACUUM FREEZE", "DROP SCHEMA handover CASCADE"]:
            cursor.execute(statement)
            assert read_stamp(session) == seen[0], statement
        for statement in CHANGES.strip().splitlines():
            cursor.execute(statement.strip().format(database="stamped"))
            seen.append(read_stamp(session))
            assert seen[-1] != seen[-2], statement


def test_what_is_changed_meanwhile_arrives(servers):
    """pg_dump is done before the wave's snapshot is there, and the schema is another one by then."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql("yard", "CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)")
    with watching(source) as watch, contextlib.closing(source.connect("yard")) as blocker, blocker.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE item IN SHARE UPDATE EXCLUSIVE MODE")  # nobody publishes it
        running = start_migration(source, target, databases=["yard"])
        watch.await_blocked(blocker)
        reading = "SELECT pid FROM pg_stat_activity WHERE application_name = 'handover' AND state LIKE 'idle in tr%%'"
        await_that(lambda: not watch.ask(reading), "the end of pg_dump")
        source.sql("yard", "ALTER TABLE other ADD more int DEFAULT 5; CREATE VIEW seen AS SELECT more FROM other")
        cursor.execute("COMMIT")
        found = one(running.wait())
    assert found["phase"] == "in_step", found
    assert_kept_up(source, target, "yard", found)
