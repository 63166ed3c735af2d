# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migration: the source's definitions change meanwhile, and the target's follow, with follow_schema."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from dumps import done, refused
from faults import await_that, refuses_once
from followings import assert_equal, begun, followed, run_each
from migrations import migrate, start_migration
from support import Cluster, run_module

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    follow_alone,
    glance,
    joining,
)
from lab.distance import Distance

OLD, NEW = (13, 18), (18, 18)


@pytest.fixture(params=[OLD, NEW], ids=["13-18", "18-18"])
def pair(servers: Callable[[int], Cluster], request: pytest.FixtureRequest) -> tuple[Cluster, Cluster]:
    """A source and a target, in step."""
    majors = request.param
    source = servers(majors[0])
    target = servers(majors[1], 1) if majors[0] == majors[1] else servers(majors[1])
    return begun(source, target)


def test_a_release_changes_columns(pair: tuple[Cluster, Cluster]) -> None:
    """As frameworks do it: columns added, filled, required, dropped and renamed, with rows of each definition."""
    source, target = pair
    run_each(
        source,
        """
        INSERT INTO orders (id, word) VALUES (1001, 'before')
        ALTER TABLE orders ADD state text DEFAULT 'draft'; ALTER TABLE orders ALTER state SET DEFAULT 'sent'
        INSERT INTO orders (id, word) VALUES (1002, 'between')
        ALTER TABLE orders ADD seen timestamptz NOT NULL DEFAULT now(); ALTER TABLE orders ADD more int
        UPDATE orders SET more = id WHERE id % 2 = 0
        ALTER TABLE orders ADD twice int GENERATED ALWAYS AS (id * 2) STORED
        INSERT INTO orders (id, more) VALUES (1003, 1)
        ALTER TABLE orders ALTER word TYPE text; UPDATE orders SET word = repeat('longer ', 20) WHERE id = 7
        ALTER TABLE lines ALTER amount SET NOT NULL; ALTER TABLE lines ALTER amount SET DEFAULT 7
        ALTER TABLE parts ADD place text DEFAULT 'here'; INSERT INTO parts (id, at) VALUES (900, '2026-02-03')
        """,
    )
    shown = migrate(source, target, check=True, databases=["yard"], follow_schema=True)
    assert 'ALTER TABLE "public"."orders" ADD COLUMN "more" integer' in shown.databases[0]["statements"]
    assert 'ADD COLUMN "state" text' in shown.diff["after"] and shown.changed
    found = followed(source, target)
    assert found["followed"] == shown.databases[0]["statements"] and found["drift"] == []
    assert_equal(source, target)
    run_each(
        source,
        """
        UPDATE orders SET note = 'old name' WHERE id < 50
        ALTER TABLE orders RENAME note TO remark
        UPDATE orders SET remark = 'new name' WHERE id BETWEEN 40 AND 60
        ALTER TABLE orders DROP flag; INSERT INTO orders (id, more) VALUES (2001, 3)
        ALTER TABLE parts RENAME word TO title; INSERT INTO parts (id, at, title) VALUES (901, '2026-01-03', 'x')
        ALTER TABLE parts DROP place; INSERT INTO parts (id, at) VALUES (902, '2026-01-03')
        INSERT INTO lines (orders, amount) VALUES (1, 2); ALTER TABLE lines ALTER amount DROP NOT NULL
        INSERT INTO lines (orders, amount) VALUES (1, NULL)
        """,
    )
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)
    found = followed(source, target)
    assert not found["changed"] and found["followed"] == []


@pytest.mark.parametrize("refusal", [None, "ObjectInUse", "InsufficientPrivilege"])
def test_definitions_that_came_and_went(servers: Callable[[int], Cluster], tmp_path: Path, refusal: str | None) -> None:
    """Rows of theirs are on their way, and nothing in the source's catalogs tells of them any more; nor does the slot,
    for once: a worker that had just begun has it, or the role may not ask, so that names are taken on by guess.
    """
    source, target = begun(servers(15), servers(18))
    env = refuses_once(tmp_path / "refuse", "parts.following.pending.read_pending", 2, refusal) if refusal else None
    run_each(
        source,
        """
        ALTER TABLE orders ADD brief int; UPDATE orders SET brief = id, note = 'seen' WHERE id < 50
        ALTER TABLE orders DROP brief; INSERT INTO orders (id) VALUES (4001)
        ALTER TABLE orders RENAME word TO first; INSERT INTO orders (id, first) VALUES (4002, 'first')
        ALTER TABLE orders RENAME first TO second; INSERT INTO orders (id, second) VALUES (4003, 'second')
        ALTER TABLE parts ADD brief text; INSERT INTO parts (id, at, brief) VALUES (400, '2026-01-04', 'x')
        ALTER TABLE parts DROP brief; INSERT INTO parts (id, at) VALUES (401, '2026-01-04')
        ALTER TABLE lines RENAME TO rows; INSERT INTO rows (orders, amount) VALUES (4, 4)
        ALTER TABLE rows RENAME TO items; INSERT INTO items (orders, amount) VALUES (5, 5)
        """,
    )
    assert followed(source, target, env=env)["drift"] == []
    assert_equal(source, target)


@pytest.mark.parametrize("pair", [NEW], indirect=True)
def test_tables_are_renamed_and_rewritten(pair: tuple[Cluster, Cluster]) -> None:
    """What was rewritten is copied anew, in a wave of its own."""
    source, target = pair
    run_each(
        source,
        """
        ALTER TABLE orders RENAME TO sales; INSERT INTO sales (id) VALUES (3001)
        ALTER TABLE lines ALTER amount TYPE bigint USING amount * 10; INSERT INTO lines (orders, amount) VALUES (3, 1)
        ALTER TABLE sales ADD token uuid DEFAULT md5(random()::text)::uuid; INSERT INTO sales (id) VALUES (3002)
        ALTER TABLE sales ADD number bigserial; INSERT INTO sales (id) VALUES (3005)
        ALTER TABLE parts RENAME TO pieces; INSERT INTO pieces (id, at) VALUES (3003, '2026-01-03')
        """,
    )
    found = followed(source, target)
    assert len(found["waves"]) == 2 and found["drift"] == []
    source.sql("yard", "INSERT INTO sales (id) VALUES (3004); INSERT INTO lines (orders, amount) VALUES (3004, 5)")
    followed(source, target)
    assert_equal(source, target)


@pytest.mark.parametrize("pair", [OLD], indirect=True)
def test_watch_cutover_and_the_way_back_follow(pair: tuple[Cluster, Cluster]) -> None:
    source, target = pair
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    source.sql("yard", "ALTER TABLE orders ADD state text DEFAULT 'x'; UPDATE orders SET state = 'y' WHERE id < 9")
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert len(seen["followed"]) == 2 and seen["status"]["drift"] == [] and seen["not_followed"] is None
    source.sql("yard", "ALTER TABLE lines ALTER amount TYPE bigint; ALTER TABLE orders RENAME state TO status")
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert seen["followed"] == [] and "copied anew" in seen["not_followed"]
    followed(source, target)
    source.sql("yard", "ALTER TABLE parts ADD more int; INSERT INTO parts (id, at, more) VALUES (77, '2026-01-07', 8)")
    cutover = {**ends, "require_verification": False}
    done(run_module("pg_cutover", cutover))
    target.sql("yard", "ALTER TABLE orders RENAME status TO states; UPDATE orders SET states = 'back' WHERE id < 99")
    target.sql("yard", "ALTER TABLE orders ADD late text DEFAULT 'late'; INSERT INTO orders (id) VALUES (5000)")
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert seen["not_followed"] is None and len(seen["followed"]) == 3
    target.sql("yard", "ALTER TABLE parts DROP more; INSERT INTO parts (id, at) VALUES (78, '2026-01-07')")
    done(run_module("pg_cutover", {**cutover, "direction": "back"}))
    source.sql("yard", "ALTER TABLE orders DROP late; INSERT INTO orders (id) VALUES (5001)")
    found = migrate(source, target, databases=["yard"], follow_schema=True)
    assert done(found).databases[0]["followed"] and found.changed
    assert_equal(source, target)


def test_what_cannot_be_told_is_refused(servers: Callable[[int], Cluster]) -> None:
    source, target = begun(servers(15), servers(18))
    source.sql("yard", "ALTER TABLE orders RENAME word TO was; ALTER TABLE orders RENAME note TO word")
    words = "the name of its column word was another column's"
    refused(migrate(source, target, databases=["yard"], follow_schema=True), "public.orders", words)
    source.sql("yard", "ALTER TABLE orders RENAME word TO note; ALTER TABLE orders RENAME was TO word")
    assert not followed(source, target)["changed"]


@pytest.mark.parametrize("pair", [OLD], indirect=True)
def test_all_else_is_followed_from_a_fresh_dump(pair: tuple[Cluster, Cluster]) -> None:
    """Made, changed, dropped: indexes, constraints, views, functions, triggers, types, sequences, tables and parts."""
    source, target = pair
    source.sql(
        "yard",
        """
        CREATE TYPE mood AS ENUM ('good'); CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
        CREATE VIEW seen AS SELECT id, word FROM orders; CREATE VIEW above AS SELECT id FROM seen;
        CREATE INDEX lines_amount ON lines (amount); ALTER TABLE orders ADD CONSTRAINT short CHECK (length(word) < 12);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch(); CREATE SEQUENCE loose;
        ALTER TABLE orders ADD mood mood; ALTER TABLE orders ADD one int DEFAULT one();
        CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
        INSERT INTO parts (id, at) VALUES (1, '2026-03-07'); CREATE TABLE fresh (id int PRIMARY KEY, mood mood);
        INSERT INTO fresh VALUES (1, 'good'); COMMENT ON TABLE orders IS 'said';
        CREATE VIEW spare AS SELECT 1 AS n; CREATE VIEW above_spare AS SELECT n FROM spare""",
    )
    without = {"leave_out": ["VIEW public.spare"]}
    assert followed(source, target, **without)["notices"] == []
    assert_equal(source, target)
    source.sql("yard", "ALTER TYPE mood ADD VALUE 'bad' BEFORE 'good'")
    source.sql(
        "yard",
        """
        UPDATE orders SET mood = 'bad' WHERE id < 5; DROP TABLE fresh; ALTER TABLE parts DETACH PARTITION parts_1;
        CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.one := 5; RETURN NEW; END';
        CREATE OR REPLACE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2';
        DROP VIEW above; DROP VIEW seen; CREATE VIEW seen AS SELECT word, id FROM orders WHERE id > 1;
        CREATE VIEW above AS SELECT word FROM seen; DROP INDEX lines_amount; CREATE UNIQUE INDEX words ON orders (word);
        CREATE INDEX lines_amount ON lines (amount, orders); ALTER TABLE orders DROP CONSTRAINT short;
        ALTER TABLE orders ADD CONSTRAINT short CHECK (length(word) < 999); DROP TRIGGER touch ON orders;
        CREATE TRIGGER touch_all BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER SEQUENCE loose INCREMENT BY 5; UPDATE orders SET word = repeat(word, 3) WHERE id = 3;
        ALTER TABLE lines DROP CONSTRAINT lines_orders_fkey; DROP TABLE parts_2;
        CREATE TABLE parts_4 (LIKE parts INCLUDING ALL); INSERT INTO parts_4 (id, at) VALUES (1, '2026-04-07');
        ALTER TABLE parts ATTACH PARTITION parts_4 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');
        CREATE OR REPLACE VIEW spare AS SELECT 1 AS n, 2 AS m; CREATE OR REPLACE VIEW above_spare AS SELECT n FROM spare
        WHERE n > 1""",
    )
    found = followed(source, target, **without)
    assert found["drift"] == []
    assert not [text for text in found["notices"] if "Not followed" in text]
    assert any("public.fresh was dropped" in one and "dropped it, too" in one for one in found["notices"])
    assert target.sql("yard", "SELECT to_regclass('spare'), to_regclass('above_spare')") == [(None, None)]
    assert_equal(source, target)


def test_columns_of_partitions_that_come_and_go(servers: Callable[[int], Cluster]) -> None:
    """What is done to a table is done to its partitions of that moment, and by itself to those that left or came."""
    source, target = begun(servers(15), servers(18))
    run_each(
        source,
        """
        ALTER TABLE parts ADD first int DEFAULT 1; ALTER TABLE parts ADD CONSTRAINT small CHECK (id < 9999)
        ALTER TABLE parts DETACH PARTITION parts_1; INSERT INTO parts_1 (id, at, first) VALUES (700, '2026-01-03', 2)
        ALTER TABLE parts_1 DROP CONSTRAINT small
        """,
    )
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)
    run_each(
        source,
        """
        ALTER TABLE parts_1 ADD CONSTRAINT small CHECK (id < 9999)
        ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')
        ALTER TABLE parts ADD second int NOT NULL DEFAULT 2; INSERT INTO parts (id, at) VALUES (701, '2026-01-03')
        """,
    )
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)


def test_a_column_of_partitions_in_two_waves_is_renamed(servers: Callable[[int], Cluster]) -> None:
    """Each wave comes to the first row of the new name by itself; the column has one name in all of them."""
    source, target = begun(servers(15), servers(18))
    source.sql("yard", "CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')")
    assert len(followed(source, target)["waves"]) == 2
    rows = "INSERT INTO parts (id, at, {0}) SELECT 1000 * {1} + i, date '2026-01-01' + i, '{0}'"
    rows += " FROM generate_series(0, 85) AS i"
    source.sql("yard", rows.format("word", 1))
    for number, (name, other) in enumerate((("word", "title"), ("title", "head")), 2):
        source.sql("yard", f"ALTER TABLE parts RENAME {name} TO {other}")
        source.sql("yard", rows.format(other, number) + f"; UPDATE parts SET {other} = 'new' WHERE id % 7 = {number}")
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)


def test_a_wave_all_of_whose_tables_were_rewritten(servers: Callable[[int], Cluster]) -> None:
    """It goes, and another gets its name: what is remembered of its slot is not held against that."""
    source, target = begun(servers(15), servers(18))
    for table in ("orders", "lines", "parts"):
        source.sql("yard", f"ALTER TABLE {table} ADD token uuid DEFAULT md5(random()::text)::uuid")
    found = followed(source, target)
    assert len(found["waves"]) == 1 and found["drift"] == []
    source.sql("yard", "INSERT INTO orders (id) VALUES (5001)")
    assert not followed(source, target)["changed"]
    assert_equal(source, target)


def test_a_run_is_killed_while_tables_leave_their_wave(servers: Callable[[int], Cluster]) -> None:
    """The next one knows that they are to be copied again, although nothing on the source tells of it any more."""
    source, target = begun(servers(15), servers(18))
    source.sql("yard", "ALTER TABLE lines ALTER amount TYPE bigint USING amount * 10")
    with contextlib.closing(source.connect("yard", autocommit=False)) as blocker:
        blocker.cursor().execute("LOCK TABLE lines, parts_1 IN SHARE UPDATE EXCLUSIVE MODE")  # of ALTER PUBLICATION
        running = start_migration(source, target, databases=["yard"], follow_schema=True)
        leaving = "SELECT name FROM handover.wave_table WHERE state = 'leaving'"
        await_that(lambda: target.sql("yard", leaving) == [("lines",)], "that a table leaves its wave")
        running.kill_family()
    source.sql("yard", "UPDATE lines SET amount = 1 WHERE id < 9; INSERT INTO lines (orders, amount) VALUES (1, 1)")
    found = followed(source, target)
    assert len(found["waves"]) == 2 and found["drift"] == []
    assert_equal(source, target)


def test_watch_gives_enums_their_new_labels(servers: Callable[[int], Cluster]) -> None:
    """Rows that have one stop apply otherwise."""
    more = "; CREATE TYPE mood AS ENUM ('good'); ALTER TABLE orders ADD mood mood"
    source, target = begun(servers(15), servers(18), more)
    source.sql("yard", "ALTER TYPE mood ADD VALUE 'bad' BEFORE 'good'")
    source.sql("yard", "UPDATE orders SET mood = 'bad' WHERE id < 9")
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert len(seen["followed"]) == 1 and "ADD VALUE" in seen["followed"][0] and seen["not_followed"] is None
    assert_equal(source, target)


CHANGES = (
    "ALTER TABLE public.orders ADD more int",
    "ALTER TABLE public.orders DROP note",
    "CREATE INDEX ON public.lines (amount)",
    "CREATE TABLE public.other (id int PRIMARY KEY)",
    "COMMENT ON TABLE public.orders IS 'said'",
    "ALTER TABLE public.orders REPLICA IDENTITY FULL",
    "DROP TABLE public.parts_2",
    "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
)


def test_a_look_that_finds_nothing_asks_each_end_once(servers: Callable[[int], Cluster]) -> None:
    """At the same time; what was changed, it does not miss."""
    source, target = begun(servers(15), servers(18))
    followed(source, target)
    with Distance(source, target) as far:
        ends = [Endpoint.from_options(side, far.ends()[side]) for side in ("source", "target")]
        with follow_alone.visit(*ends, "yard", "yard") as job:
            job.may_copy = True  # as with replicate, which looks at all definitions
            job.read()
            far.forget()
            assert joining.look(job) == []
            assert far.count()[:2] == (1, 1), far.trips()
            for statement in CHANGES:
                with job.source_session.cursor() as cursor:
                    cursor.execute("BEGIN")
                    assert glance.is_quiet(job)
                    cursor.execute(statement)
                    assert not glance.is_quiet(job), statement
                    cursor.execute("ROLLBACK")
