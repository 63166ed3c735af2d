# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the schema: keys by which apply finds rows, and what the target refuses, which leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dumps import done, refused
from followings import assert_equal, begun, followed, run_each
from migrations import migrate
from redefinitions import Application
from support import Cluster, run_module

IDENTITIES = """
    SELECT c.relname::text, c.relreplident::text, array_agg(x.relname::text ORDER BY x.relname)
    FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
    LEFT JOIN pg_class AS x ON x.oid = i.indexrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' GROUP BY 1, 2 ORDER BY 1"""
WHOLE = """
    ; CREATE TABLE whole (id int, word text); ALTER TABLE whole REPLICA IDENTITY FULL;
    INSERT INTO whole SELECT i, 'x' || i FROM generate_series(1, 50) AS i"""
COLUMNS = """
    SELECT attrelid::regclass::text, attname::text FROM pg_attribute
    WHERE attrelid IN ('orders'::regclass, 'lines'::regclass, 'seen'::regclass) AND attnum > 0 ORDER BY 1, 2"""


def assert_identified(source: Cluster, target: Cluster) -> None:
    assert source.sql("yard", IDENTITIES) == target.sql("yard", IDENTITIES)
    assert_equal(source, target)


@pytest.mark.parametrize("majors", [(13, 18), (15, 18)], ids=["13-18", "15-18"])
def test_keys_are_changed_while_rows_are_written(servers: Callable[[int], Cluster], majors: tuple[int, int]) -> None:
    """Rows of before are found by the old key, and those of now by the new one; both are updated and deleted."""
    source, target = begun(servers(majors[0]), servers(majors[1]), WHOLE)
    run_each(
        source,
        """
        ALTER TABLE orders ADD nr bigint; UPDATE orders SET nr = id + 1000; UPDATE orders SET note = 'a' WHERE id < 50
        ALTER TABLE lines DROP CONSTRAINT lines_orders_fkey; DELETE FROM orders WHERE id = 60
        ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD CONSTRAINT orders_pkey PRIMARY KEY (nr)
        UPDATE orders SET note = 'b' WHERE nr < 1030; DELETE FROM orders WHERE nr = 1070
        INSERT INTO orders (id, nr, word) VALUES (7, 5001, 'same id'); UPDATE orders SET nr = 5002 WHERE nr = 1080
        ALTER TABLE orders ALTER id DROP NOT NULL; INSERT INTO orders (nr) VALUES (5003)
        UPDATE whole SET word = 'before' WHERE id < 9; ALTER TABLE whole ADD CONSTRAINT by_id PRIMARY KEY (id)
        ALTER TABLE whole REPLICA IDENTITY DEFAULT; UPDATE whole SET word = 'after' WHERE id < 5
        UPDATE lines SET amount = 1 WHERE id < 30; ALTER TABLE lines ALTER orders SET NOT NULL
        CREATE UNIQUE INDEX lines_orders ON lines (orders); ALTER TABLE lines REPLICA IDENTITY USING INDEX lines_orders
        UPDATE lines SET amount = 2 WHERE orders < 20; ALTER TABLE lines DROP CONSTRAINT lines_pkey
        DELETE FROM lines WHERE orders = 25; INSERT INTO lines (id, orders) OVERRIDING SYSTEM VALUE VALUES (1, 9001)
        ALTER TABLE parts ADD nr int; UPDATE parts SET nr = 2 * id, word = 'c' WHERE id < 900
        ALTER TABLE parts DROP CONSTRAINT parts_pkey, ADD CONSTRAINT parts_key PRIMARY KEY (nr, at)
        UPDATE parts SET word = 'd' WHERE nr < 60; DELETE FROM parts WHERE nr = 8
        """,
    )
    with Application(source, "yard", 1, number=10**6).writing():
        assert followed(source, target)["drift"] == []
    followed(source, target)
    assert_identified(source, target)
    run_each(
        source,
        """
        UPDATE lines SET amount = 3 WHERE orders < 40; ALTER TABLE lines REPLICA IDENTITY FULL
        DROP INDEX lines_orders; UPDATE lines SET amount = 4 WHERE orders < 50; UPDATE lines SET amount = 5 WHERE id < 9
        UPDATE orders SET note = 'e' WHERE nr < 1010; CREATE UNIQUE INDEX other ON orders (nr, flag)
        ALTER TABLE orders RENAME nr TO number; UPDATE orders SET note = 'f' WHERE number < 1009
        ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD CONSTRAINT made PRIMARY KEY USING INDEX other
        UPDATE orders SET note = 'g' WHERE number < 1008; INSERT INTO orders (number, flag) VALUES (5003, false)
        ALTER TABLE whole RENAME CONSTRAINT by_id TO whole_key; UPDATE whole SET word = 'g' WHERE id < 4
        ALTER TABLE parts RENAME CONSTRAINT parts_key TO parts_nr; ALTER TABLE orders DROP COLUMN id
        """,
    )
    with Application(source, "yard", 2, number=2 * 10**6).writing():
        assert followed(source, target)["drift"] == []
    followed(source, target)
    assert_identified(source, target)


def test_a_table_that_nothing_identifies_is_named(servers: Callable[[int], Cluster]) -> None:
    """The target keeps its key, as rows of before may need it."""
    source, target = begun(servers(15), servers(18))
    source.sql("yard", "UPDATE orders SET note = 'by key'; ALTER TABLE orders DROP CONSTRAINT orders_pkey CASCADE")
    source.sql("yard", "ALTER TABLE lines ADD more int")
    refused(migrate(source, target, databases=["yard"], follow_schema=True), "public.orders", "replica identity")
    assert ("orders", "d", ["orders_pkey"]) in target.sql("yard", IDENTITIES)
    source.sql("yard", "ALTER TABLE orders ADD CONSTRAINT by_id PRIMARY KEY (id); UPDATE orders SET note = 'again'")
    source.sql("yard", "ALTER TABLE lines ADD CONSTRAINT lines_orders_fkey FOREIGN KEY (orders) REFERENCES orders")
    assert followed(source, target)["drift"] == []
    assert_identified(source, target)


def test_a_table_that_nothing_identifies_may_wait_for_the_cutover(servers: Callable[[int], Cluster]) -> None:
    source, target = begun(servers(15), servers(18), WHOLE)
    source.sql("yard", "UPDATE whole SET word = 'by all' WHERE id < 9; ALTER TABLE whole REPLICA IDENTITY DEFAULT")
    source.sql("yard", "UPDATE parts SET word = 'on' WHERE id < 9; ALTER TABLE lines ADD more int")
    found = followed(source, target, no_identity="copy_at_cutover")
    assert found["drift"] == [] and found["at_cutover"] == ["public.whole"]
    source.sql("yard", "UPDATE whole SET word = 'at the cutover' WHERE id < 5")
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    done(run_module("pg_cutover", {**ends, "require_verification": False}))
    assert target.sql("yard", "SELECT count(*) FROM whole WHERE word = 'at the cutover'") == [(4,)]


def test_what_the_target_refuses_leaves_it_as_it_was(servers: Callable[[int], Cluster]) -> None:
    """Somebody's view there needs a column that is dropped last: nothing before that is done either."""
    source, target = begun(servers(15), servers(18), "; CREATE VIEW seen AS SELECT id FROM orders")
    target.sql("yard", "CREATE VIEW own AS SELECT note FROM orders")
    before = target.sql("yard", COLUMNS)
    run_each(
        source,
        """
        ALTER TABLE lines ADD more int NOT NULL DEFAULT 3; ALTER TABLE lines ALTER amount TYPE bigint
        ALTER TABLE orders ADD more int; UPDATE orders SET more = 4; ALTER TABLE orders ALTER more SET NOT NULL
        CREATE OR REPLACE VIEW seen AS SELECT id, word FROM orders; ALTER TABLE orders RENAME word TO words
        ALTER TABLE orders DROP note; INSERT INTO orders (id, more) VALUES (1001, 5)
        """,
    )
    found = refused(migrate(source, target, databases=["yard"], follow_schema=True), 'DROP COLUMN "note"', "own")
    assert found.statement.endswith('DROP COLUMN "note"') and found.followed == []
    assert target.sql("yard", COLUMNS) == before
    target.sql("yard", "DROP VIEW own")
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)


def test_what_the_target_would_not_take_again_stays(servers: Callable[[int], Cluster]) -> None:
    """A view is another on the source, and what it shows now is not there on the target; all else is followed."""
    source, target = begun(servers(15), servers(18), "; CREATE VIEW seen AS SELECT id, note FROM orders")
    run_each(
        source,
        """
        DROP VIEW seen; CREATE VIEW seen AS SELECT buffers_backend FROM pg_stat_bgwriter
        CREATE VIEW fresh AS SELECT id FROM orders
        ALTER TABLE orders ADD more int; INSERT INTO orders (id) VALUES (1001)
        """,
    )
    found = followed(source, target)
    [said] = [text for text in found["notices"] if "Not followed" in text]
    assert "VIEW public.seen" in said and "buffers_backend" in said
    assert (
        target.sql("yard", "SELECT count(*) FROM seen") == target.sql("yard", "SELECT count(*) FROM fresh") == [(301,)]
    )
    source.sql("yard", "DROP VIEW seen; CREATE VIEW seen AS SELECT more FROM orders")
    assert not [text for text in followed(source, target)["notices"] if text not in found["notices"]]
    assert_equal(source, target)


def test_keys_types_and_owners_follow_the_way_back(servers: Callable[[int], Cluster]) -> None:
    """The old server is given what the new home has now, so that the rollback finds rows by the same keys."""
    source, target = servers(15), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE keeper; CREATE ROLE reader")
    begun(source, target, "; CREATE TYPE mood AS ENUM ('bad'); ALTER TABLE orders ADD mood mood DEFAULT 'bad';"
          "GRANT SELECT ON orders TO reader; COMMENT ON TABLE orders IS 'said'")  # fmt: skip
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    cutover = {**ends, "require_verification": False}
    done(run_module("pg_cutover", cutover))
    run_each(
        target,
        """
        ALTER TABLE orders ADD nr bigint; UPDATE orders SET nr = id + 1000, mood = 'bad'
        ALTER TABLE lines DROP CONSTRAINT lines_orders_fkey; DELETE FROM orders WHERE id = 300
        ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'
        ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD CONSTRAINT orders_pkey PRIMARY KEY (nr)
        UPDATE orders SET mood = 'worse' WHERE nr < 1030; INSERT INTO orders (id, nr) VALUES (1, 5000)
        REVOKE SELECT ON orders FROM reader; COMMENT ON TABLE orders IS NULL; ALTER TABLE lines OWNER TO keeper
        """,
    )
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert seen["not_followed"] is None
    target.sql("yard", "UPDATE orders SET note = 'late' WHERE nr < 1020")
    done(run_module("pg_cutover", {**cutover, "direction": "back"}))
    assert source.sql("yard", "SELECT count(*) FROM orders WHERE note = 'late' AND mood = 'worse'") == [(19,)]
    assert_identified(source, target)
