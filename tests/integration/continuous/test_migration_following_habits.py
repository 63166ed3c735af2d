# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases as tools make them, each as a story: what they do to the source while its schema is followed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import psycopg2
import pytest
from dumps import done
from followings import assert_equal, begun, followed, run_each
from migrations import migrate
from support import Cluster, run_module

FIRST = datetime(2026, 3, 1, tzinfo=timezone.utc)
AHEAD, KEPT = 4, 3  # partitions of hours to come, and of the past
EVENTS = """;
    CREATE SCHEMA archive; CREATE SEQUENCE numbers;
    CREATE TABLE events (id bigint NOT NULL DEFAULT nextval('numbers'), at timestamptz NOT NULL,
                         word text DEFAULT 'none', CONSTRAINT long CHECK (length(word) < 99)) PARTITION BY RANGE (at);
    CREATE TABLE template (LIKE events); ALTER TABLE template ADD PRIMARY KEY (id);
    CREATE INDEX ON events (word); CREATE TABLE events_default PARTITION OF events DEFAULT;
    ALTER TABLE events_default ADD PRIMARY KEY (id)"""
# As pg_partman 5 makes a partition, and moves to it what came too early.
MAKE = """
    CREATE TABLE {name} (LIKE events INCLUDING COMMENTS INCLUDING COMPRESSION INCLUDING CONSTRAINTS INCLUDING DEFAULTS
                         INCLUDING GENERATED INCLUDING STATISTICS INCLUDING STORAGE);
    ALTER TABLE {name} ADD PRIMARY KEY (id);
    WITH partition_data AS (DELETE FROM events_default WHERE at >= '{begin}' AND at < '{end}' RETURNING *)
    INSERT INTO {name} SELECT * FROM partition_data;
    ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ('{begin}') TO ('{end}')"""


def moment(hour: int) -> datetime:
    """When it begins."""
    return FIRST + timedelta(hours=hour)


def make(source: Cluster, hour: int) -> None:
    """A partition."""
    text = MAKE.format(name=f"events_p{hour}", begin=moment(hour), end=moment(hour + 1))
    source.sql("yard", text if source.build.major > 13 else text.replace("INCLUDING COMPRESSION", ""))


def maintain(source: Cluster, hour: int) -> None:
    """What pg_partman does at that hour: ahead, and with the old, by turns dropped, only detached, and archived."""
    make(source, hour + AHEAD)
    old, detached = f"events_p{hour - KEPT}", f"ALTER TABLE events DETACH PARTITION events_p{hour - KEPT}"
    if hour >= KEPT:
        fate = [f"; DROP TABLE {old}", "", f"; ALTER TABLE {old} SET SCHEMA archive"][hour % 3]
        source.sql("yard", detached + fate)


def write(source: Cluster, hour: int) -> None:
    """Rows of this hour, one that comes late, and one that comes too early."""
    times = [moment(hour) + timedelta(minutes=one) for one in (1, 20, 59)]
    for at in (*times, moment(-48), moment(hour + AHEAD + 2)):
        source.sql("yard", "INSERT INTO events (at, word) VALUES (%s, %s)", (at, f"of {hour}"))
    source.sql("yard", "UPDATE events SET word = word || '!' WHERE id % 3 = 0; DELETE FROM events WHERE id % 17 = 0")


@pytest.mark.parametrize("majors", [(13, 18), (18, 18)], ids=["13-18", "18-18"])
def test_partitions_by_the_hour(servers: Callable[..., Cluster], majors: tuple[int, int]) -> None:
    """pg_partman: partitions made ahead, attached, detached, dropped or archived; a default one, which is emptied."""
    source, target = servers(majors[0]), servers(majors[1], "1" if majors[0] == majors[1] else "")
    begun(source, target, EVENTS, fill=lambda: [make(source, hour) for hour in range(AHEAD)])
    for hour in range(7):
        write(source, hour)
        maintain(source, hour)
        write(source, hour)
        if hour % 2:
            found = followed(source, target)
            assert found["drift"] == [] and not [text for text in found["notices"] if "Not followed" in text]
    source.sql("yard", "ALTER TABLE events ADD place text NOT NULL DEFAULT 'here'")
    maintain(source, 7)
    write(source, 7)
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)
    partitions = """
        SELECT inhrelid::regclass::text, pg_get_expr(relpartbound, inhrelid) FROM pg_inherits
        JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'events'::regclass ORDER BY 1"""
    assert target.sql("yard", partitions) == source.sql("yard", partitions)
    assert target.sql("yard", "SELECT count(*) FROM pg_class WHERE relnamespace = 'archive'::regnamespace")[0][0] > 0


HISTORY = """
    CREATE TABLE "public"."flyway_schema_history" (
        "installed_rank" INT NOT NULL, "version" VARCHAR(50), "description" VARCHAR(200) NOT NULL,
        "type" VARCHAR(20) NOT NULL, "script" VARCHAR(1000) NOT NULL, "checksum" INTEGER,
        "installed_by" VARCHAR(100) NOT NULL, "installed_on" TIMESTAMP NOT NULL DEFAULT now(),
        "execution_time" INTEGER NOT NULL, "success" BOOLEAN NOT NULL);
    ALTER TABLE "public"."flyway_schema_history" ADD CONSTRAINT "flyway_schema_history_pk"
        PRIMARY KEY ("installed_rank");
    CREATE INDEX "flyway_schema_history_s_idx" ON "public"."flyway_schema_history" ("success")"""
SCRIPTS = (
    (
        "2",
        """
        CREATE TYPE channel AS ENUM ('shop', 'phone');
        CREATE TABLE customer (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
        INSERT INTO customer (name) SELECT DISTINCT 'customer ' || id % 10 FROM orders;
        ALTER TABLE orders ADD customer int, ADD channel channel DEFAULT 'shop';
        UPDATE orders SET customer = 1 + id % 10, channel = 'phone' WHERE id % 2 = 0;
        UPDATE orders SET customer = 1 WHERE customer IS NULL;
        ALTER TABLE orders ALTER customer SET NOT NULL;
        ALTER TABLE orders ADD CONSTRAINT orders_customer FOREIGN KEY (customer) REFERENCES customer""",
    ),
    ("3", "CREATE INDEX CONCURRENTLY orders_channel ON orders (channel, id)"),
    (
        "4",
        """
        ALTER TABLE orders RENAME note TO remark; UPDATE orders SET remark = 'seen' WHERE id < 30;
        ALTER TABLE lines ADD price numeric(9, 2); UPDATE lines SET price = amount * 1.5;
        ALTER TABLE lines DROP amount; ALTER TABLE parts ADD lot text DEFAULT 'a'; DELETE FROM orders WHERE id = 600""",
    ),
)
# Made anew whenever their text is another.
REPEATABLE = (
    """
    CREATE OR REPLACE VIEW busy AS SELECT c.name, count(*) AS orders FROM customer AS c JOIN orders AS o
        ON o.customer = c.id GROUP BY 1;
    CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.orders'""",
    """
    DROP VIEW IF EXISTS busy;
    CREATE VIEW busy AS SELECT c.id, c.name, max(o.remark) AS remark FROM customer AS c JOIN orders AS o
        ON o.customer = c.id GROUP BY 1, 2;
    CREATE OR REPLACE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(price)::int8 FROM public.lines'
    """,
)


def apply_script(source: Cluster, rank: int, version: str | None, text: str) -> None:
    """As Flyway does: the script and its row in one transaction, unless the server allows no transaction."""
    row = "INSERT INTO flyway_schema_history VALUES (%s, %s, 'a release', 'SQL', 'V.sql', 7, 'flyway', now(), 5, true)"
    in_one = "CONCURRENTLY" not in text
    session = source.connect("yard", autocommit=not in_one)
    try:
        with session.cursor() as cursor:
            cursor.execute(text)
            cursor.execute(row, (rank, version))
        if in_one:
            session.commit()
    finally:
        session.close()


def test_scripts_with_their_versions(servers: Callable[..., Cluster]) -> None:
    """Flyway: a table of versions, scripts of several statements in one transaction, one that fails, and repeatable
    views and functions, which are replaced.
    """
    source, target = begun(servers(15), servers(18))
    apply_script(source, 1, "1", f"{HISTORY}; INSERT INTO orders (id, word) VALUES (600, 'before')")
    versioned, ranks = iter(SCRIPTS), iter(range(2, 20))
    for version, script in versioned:
        apply_script(source, next(ranks), version, script)
        if version != "3":
            repeatable = REPEATABLE[version == "4"]
            apply_script(source, next(ranks), None, repeatable)
        with pytest.raises(psycopg2.Error):
            apply_script(source, 99, "99", "ALTER TABLE orders ADD lost int; UPDATE orders SET lost = 1; SELECT 1 / 0")
        source.sql("yard", f"INSERT INTO orders (id, word, customer) VALUES (70{version}, 'after', 2)")
        found = followed(source, target)
        assert found["drift"] == [] and not [text for text in found["notices"] if "Not followed" in text]
        assert_equal(source, target)
    source.sql("yard", "UPDATE flyway_schema_history SET checksum = 8 WHERE version = '4'")  # as repair does
    followed(source, target)
    for query in ("SELECT * FROM flyway_schema_history ORDER BY 1", "SELECT * FROM busy ORDER BY 1", "SELECT total()"):
        assert target.sql("yard", query) == source.sql("yard", query)


# A release a line, each in a transaction of its own; with "---" the target follows.
RAILS = """
    CREATE TABLE "schema_migrations" ("version" character varying NOT NULL PRIMARY KEY)
    CREATE TABLE "ar_internal_metadata" ("key" character varying NOT NULL PRIMARY KEY, "value" character varying, \
        "created_at" timestamp(6) NOT NULL, "updated_at" timestamp(6) NOT NULL)
    ALTER TABLE "orders" ADD "state" character varying; INSERT INTO "schema_migrations" VALUES ('20260301000000')
    INSERT INTO "orders" ("id", "word") VALUES (601, 'of the old release')
    UPDATE "orders" SET "state" = 'open' WHERE "id" BETWEEN 1 AND 150 AND "state" IS NULL
    ---
    UPDATE "orders" SET "state" = 'open' WHERE "state" IS NULL
    ALTER TABLE "orders" ALTER COLUMN "state" SET DEFAULT 'open'; INSERT INTO "schema_migrations" VALUES ('20260302')
    ALTER TABLE "orders" ADD CONSTRAINT "orders_state_null" CHECK ("state" IS NOT NULL) NOT VALID
    INSERT INTO "orders" ("id", "word") VALUES (602, 'of the new release')
    ---
    ALTER TABLE "orders" VALIDATE CONSTRAINT "orders_state_null"
    ALTER TABLE "orders" ALTER COLUMN "state" SET NOT NULL; ALTER TABLE "orders" DROP CONSTRAINT "orders_state_null"
    CREATE INDEX CONCURRENTLY "index_orders_on_state" ON "orders" USING btree ("state")
    CREATE TABLE "shops" ("id" bigserial primary key, "name" character varying, "created_at" timestamp(6) NOT NULL)
    ALTER TABLE "orders" ADD "shop_id" bigint; CREATE INDEX "index_orders_on_shop_id" ON "orders" ("shop_id")
    INSERT INTO "shops" ("name", "created_at") VALUES ('first', now()); UPDATE "orders" SET "shop_id" = 1
    ALTER TABLE "orders" ADD CONSTRAINT "fk_rails_1" FOREIGN KEY ("shop_id") REFERENCES "shops" ("id") NOT VALID
    ---
    ALTER TABLE "orders" VALIDATE CONSTRAINT "fk_rails_1"
    ALTER TABLE "orders" ADD "title" character varying; INSERT INTO "orders" ("id", "title") VALUES (603, 'a')
    UPDATE "orders" SET "title" = "word" WHERE "title" IS NULL
    ALTER TABLE "orders" DROP COLUMN "word"; INSERT INTO "schema_migrations" VALUES ('20260303')
    INSERT INTO "orders" ("id", "title") VALUES (604, 'without the old column')
    DROP INDEX CONCURRENTLY "index_orders_on_state"
    ALTER TABLE "orders" DROP COLUMN "flag"
"""
DJANGO = """
    CREATE TABLE "django_migrations" ("id" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, \
        "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" timestamp with time zone NOT NULL)
    ALTER TABLE "orders" ADD COLUMN "tax" integer DEFAULT 7 NOT NULL; ALTER TABLE "orders" ALTER "tax" DROP DEFAULT
    INSERT INTO "orders" ("id", "word", "tax") VALUES (601, 'a', 8)
    INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('shop', '0002_tax', now())
    ALTER TABLE "orders" ADD COLUMN "code" varchar(30) NULL
    UPDATE "orders" SET "code" = 'c' || "id" WHERE "id" % 2 = 0
    ---
    UPDATE "orders" SET "code" = 'c' || "id" WHERE "code" IS NULL; SET CONSTRAINTS ALL IMMEDIATE; \
        ALTER TABLE "orders" ALTER COLUMN "code" SET NOT NULL
    ALTER TABLE "orders" ADD CONSTRAINT "orders_code_uniq" UNIQUE ("code")
    CREATE INDEX "orders_code_like" ON "orders" ("code" varchar_pattern_ops)
    CREATE TABLE "tag" ("id" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, "name" varchar(50) NOT NULL)
    CREATE TABLE "orders_tags" ("id" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, \
        "order_id" integer NOT NULL, "tag_id" bigint NOT NULL)
    ALTER TABLE "orders_tags" ADD CONSTRAINT "orders_tags_tag" FOREIGN KEY ("tag_id") REFERENCES "tag" ("id") \
        DEFERRABLE INITIALLY DEFERRED
    INSERT INTO "tag" ("name") VALUES ('red'); INSERT INTO "orders_tags" ("order_id", "tag_id") VALUES (1, 1)
    ---
    ALTER TABLE "orders" RENAME COLUMN "word" TO "title"; UPDATE "orders" SET "title" = 'new' WHERE "id" < 20
    ALTER TABLE "tag" RENAME TO "label"; ALTER TABLE "orders_tags" RENAME COLUMN "tag_id" TO "label_id"
    ALTER TABLE "orders_tags" RENAME TO "orders_labels"; ALTER SEQUENCE IF EXISTS "tag_id_seq" RENAME TO "label_id_seq"
    INSERT INTO "label" ("name") VALUES ('blue'); INSERT INTO "orders_labels" ("order_id", "label_id") VALUES (2, 2)
    CREATE INDEX CONCURRENTLY "orders_title" ON "orders" ("title" DESC)
    ALTER TABLE "orders" ALTER COLUMN "code" TYPE varchar(60)
    ALTER TABLE "orders" DROP COLUMN "note" CASCADE
    INSERT INTO "orders" ("id", "title", "tax", "code") VALUES (602, 'a', 8, 'c602')
"""


@pytest.mark.parametrize("releases", [RAILS, DJANGO], ids=["rails", "django"])
def test_releases_of_a_framework(servers: Callable[..., Cluster], releases: str) -> None:
    """Columns added, filled, required and dropped, constraints that are validated later, indexes beside writers."""
    source, target = begun(servers(15), servers(18))
    for some in releases.split("---"):
        run_each(source, some)
        found = followed(source, target)
        assert found["drift"] == [] and not [text for text in found["notices"] if "Not followed" in text]
    assert_equal(source, target)


def test_renamed_behind_a_view(servers: Callable[..., Cluster]) -> None:
    """Tables get other names, and views have theirs, by which an older application reads and writes on, until it is
    gone: a view that is updated by itself, and one with a trigger.
    """
    source, target = begun(servers(15), servers(18))
    source.sql(
        "yard",
        """
        INSERT INTO orders (id, word) VALUES (401, 'before');
        ALTER TABLE orders RENAME TO purchases;
        CREATE VIEW orders AS SELECT id, word, flag, note FROM purchases;
        ALTER TABLE lines RENAME TO items; ALTER TABLE items RENAME amount TO quantity;
        CREATE VIEW lines AS SELECT id, orders, quantity AS amount, 'old'::text AS kind FROM items;
        CREATE FUNCTION write_lines() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.items (orders, quantity) VALUES (NEW.orders, NEW.amount); RETURN NEW; END $$;
        CREATE TRIGGER write_lines INSTEAD OF INSERT ON lines FOR EACH ROW EXECUTE FUNCTION write_lines()""",
    )
    run_each(
        source,
        """
        INSERT INTO orders (id, word, flag) VALUES (402, 'by the view', true)
        INSERT INTO purchases (id, word) VALUES (403, 'by the table')
        UPDATE orders SET note = 'by the view' WHERE id < 9; DELETE FROM orders WHERE id = 300 AND false
        INSERT INTO lines (orders, amount) VALUES (402, 7); INSERT INTO items (orders, quantity) VALUES (403, 8)
        """,
    )
    found = followed(source, target)
    assert found["drift"] == [] and not [text for text in found["notices"] if "Not followed" in text]
    assert_equal(source, target)
    kinds = "SELECT relname::text, relkind::text FROM pg_class WHERE relname IN ('orders', 'lines') ORDER BY 1"
    assert target.sql("yard", kinds) == [("lines", "v"), ("orders", "v")]
    source.sql("yard", "DROP VIEW orders; DROP VIEW lines; DROP FUNCTION write_lines()")
    source.sql("yard", "INSERT INTO purchases (id, word) VALUES (404, 'later'); ALTER TABLE purchases DROP note")
    assert followed(source, target)["drift"] == []
    assert_equal(source, target)
    assert target.sql("yard", kinds) == []


def test_watch_follows_what_was_renamed_behind_a_view(servers: Callable[..., Cluster]) -> None:
    """As far as rows need it; the view is left to replicate."""
    source, target = begun(servers(15), servers(18))
    source.sql("yard", "ALTER TABLE orders RENAME TO purchases; CREATE VIEW orders AS SELECT * FROM purchases")
    source.sql("yard", "INSERT INTO orders (id, word, flag) VALUES (402, 'by the view', true)")
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert seen["not_followed"] is None and any("RENAME TO" in text for text in seen["followed"])
    assert done(migrate(source, target, databases=["yard"], follow_schema=True)).changed
    assert_equal(source, target)
