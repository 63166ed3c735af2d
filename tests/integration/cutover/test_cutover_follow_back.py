# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a handover: the schema is changed at the new home, and the old one follows, so that one can go back."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from dumps import CLIENTS, done
from faults import await_that
from migrations import in_step
from redefinitions import Application
from support import Cluster, create_database, run_module, run_playbook, start_module
from verifications import verify

TABLES = """
    CREATE TABLE orders (id int PRIMARY KEY, word text, note text);
    INSERT INTO orders SELECT i, 'word ' || i, 'note' FROM generate_series(1, 300) AS i;
    CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, orders int, amount int);
    INSERT INTO lines (orders, amount) SELECT i, i FROM generate_series(1, 300) AS i;
    CREATE TABLE parts (id int, at date, word text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO parts SELECT i, '2026-01-15'::date + i % 30, 'old' FROM generate_series(1, 200) AS i;
    CREATE INDEX goes ON lines (amount); CREATE INDEX parts_word ON parts (word);
    CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE VIEW seen AS SELECT id, word FROM orders; CREATE VIEW own AS SELECT 1 AS n;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := ''touched''; RETURN NEW; END'"""
REDEFINED = """
    CREATE INDEX lines_amount ON lines (amount, orders); DROP INDEX goes;
    CREATE OR REPLACE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2';
    CREATE OR REPLACE VIEW seen AS SELECT id, word, note FROM orders; CREATE VIEW above AS SELECT note FROM seen;
    CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER touch; COMMENT ON TABLE orders IS 'said'; GRANT SELECT ON orders TO reader;
    CREATE SEQUENCE loose; SELECT nextval('loose') FROM generate_series(1, 7); CREATE SCHEMA more;
    CREATE TYPE more.mood AS ENUM ('good', 'bad'); ALTER TABLE orders ADD mood more.mood DEFAULT 'good';
    UPDATE orders SET mood = 'bad' WHERE id < 9; CREATE STATISTICS both_ ON orders, amount FROM lines;
    DELETE FROM lines WHERE orders > 290; DELETE FROM orders WHERE id > 290;
    ALTER TABLE lines ADD CONSTRAINT lead FOREIGN KEY (orders) REFERENCES orders;
    CREATE UNIQUE INDEX words ON orders (word);
    CREATE POLICY mine ON orders USING (id > 0); CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM orders"""
JOINING = """
    CREATE TABLE fresh (id bigserial PRIMARY KEY, orders int REFERENCES orders, mood more.mood, word text);
    INSERT INTO fresh (orders, mood, word) SELECT i, 'good', i FROM generate_series(1, 200) AS i;
    ALTER TABLE lines ADD fresh bigint REFERENCES fresh; UPDATE lines SET fresh = 7 WHERE id < 5;
    CREATE TABLE heap (word text); INSERT INTO heap VALUES ('in no index'), ('in no index');
    CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
    INSERT INTO parts (id, at) VALUES (1, '2026-03-07'), (2, '2026-02-07'); DROP TABLE parts_1"""
FILLED = """
    INSERT INTO fresh (word) SELECT 'first' FROM generate_series(1, 200); CREATE INDEX fresh_word ON fresh (word)"""
LOOK = """
    SELECT to_regclass('lines_amount') IS NOT NULL, to_regclass('goes') IS NULL, one(),
           obj_description('orders'::regclass), has_table_privilege('reader', 'orders', 'SELECT'),
           to_regclass('loose') IS NOT NULL, to_regclass('own') IS NULL,
           (SELECT count(*) FROM information_schema.columns WHERE table_name = 'seen'),
           (SELECT n FROM kept), (SELECT count(*) FROM orders WHERE mood = 'bad'),
           (SELECT tgenabled FROM pg_trigger WHERE tgname = 'touch')"""


def ends_of(source: Cluster, target: Cluster, **more: Any) -> dict[str, Any]:
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"]}
    return {**ends, "follow_schema": True, "client_directory": CLIENTS, **more}


def cut_over(source: Cluster, target: Cluster, **more: Any) -> None:
    done(run_module("pg_cutover", ends_of(source, target, require_verification=False, sequence_margin=0, **more)))


def watch(source: Cluster, target: Cluster) -> dict[str, Any]:
    """What it says of the only database."""
    [found] = done(run_module("pg_migration_watch", ends_of(source, target))).databases
    return found


def test_options_of_user_mappings_are_hidden(servers: Callable[..., Cluster]) -> None:
    """Servers show them to nobody else; the mapping itself arrives with them."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql("yard", "CREATE TABLE kept (id int PRIMARY KEY)")
    in_step(source, target, databases=["yard"])
    cut_over(source, target)
    target.sql(
        "yard",
        """
        CREATE FOREIGN DATA WRAPPER far; CREATE SERVER "It's there" FOREIGN DATA WRAPPER far;
        CREATE USER MAPPING FOR PUBLIC SERVER "It's there"
            OPTIONS ("user" 'me', password 'it''s (far) \\away; secret')""",
    )
    found = watch(source, target)
    assert any("USER MAPPING" in text for text in found["followed"])
    options = "SELECT unnest(umoptions) FROM pg_user_mappings ORDER BY 1"
    assert source.sql("yard", options) == target.sql("yard", options) != []
    journal = target.sql("yard", "SELECT string_agg(e::text, ' ') FROM handover.event AS e")[0][0]
    journal += target.sql("yard", "SELECT string_agg(m::text, ' ') FROM handover.migration AS m")[0][0]
    assert "away" not in journal + str(found) and "USER MAPPING" in journal


@pytest.fixture(params=[(15, 18), (18, 18)], ids=["15-18", "18-18"])
def pair(servers: Callable[..., Cluster], request: pytest.FixtureRequest) -> tuple[Cluster, Cluster]:
    """A source and a target, in step; a view stays behind."""
    majors = request.param
    source = servers(majors[0])
    target = servers(majors[1], 1) if majors[0] == majors[1] else servers(majors[1])
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")  # or workers start late
        cluster.sql("postgres", "SELECT pg_reload_conf()")
        cluster.sql("postgres", "CREATE ROLE reader")
    create_database(source, "yard")
    source.sql("yard", TABLES)
    in_step(source, target, databases=["yard"], leave_out=["VIEW public.own"])
    return source, target


def assert_equal(source: Cluster, target: Cluster) -> None:
    found = verify(source, target, databases=["yard"])
    assert found.databases[0].get("verdict") == "equal", found.msg


def test_the_old_home_follows_all_else(pair: tuple[Cluster, Cluster]) -> None:
    """What was made, changed and dropped at the new home since, and nothing more: what only the source has stays."""
    source, target = pair
    cut_over(source, target)
    found = watch(source, target)
    assert found["followed"] == [] and found["not_followed"] is None
    target.sql("yard", REDEFINED)
    found = watch(source, target)
    assert found["not_followed"] is None and found["status"]["drift"] == [], found
    assert any(text.startswith("CREATE INDEX") for text in found["followed"])
    assert source.sql("yard", LOOK) == [(True, True, 2, "said", True, True, False, 3, 290, 8, "O")]
    assert watch(source, target)["followed"] == []
    target.sql(
        "yard", "UPDATE orders SET word = word || '!' WHERE id < 5; DROP VIEW above; DROP TRIGGER touch ON orders"
    )
    cut_over(source, target, direction="back")
    assert source.sql("yard", "SELECT nextval('loose')") == [(8,)]
    source.sql("yard", "SELECT setval('loose', 7); DROP VIEW own")
    assert_equal(source, target)


def test_new_tables_come_along(pair: tuple[Cluster, Cluster]) -> None:
    """With their rows; those without a key in the window."""
    source, target = pair
    cut_over(source, target)
    target.sql("yard", REDEFINED)
    target.sql("yard", JOINING)
    found = watch(source, target)
    assert found["status"]["drift"] == [], found
    assert found["level"] == "ok"
    assert "public.heap is not replicated" in found["not_followed"] and "Not followed" not in found["not_followed"]
    target.sql("yard", "INSERT INTO fresh (word) VALUES ('late'); INSERT INTO parts (id, at) VALUES (9, '2026-03-09')")
    target.sql("yard", "DELETE FROM fresh WHERE id = 3; UPDATE heap SET word = 'updated'")
    for name in ("fresh", "heap"):
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            source.sql("yard", f"DELETE FROM {name}")
    cut_over(source, target, direction="back")
    assert source.sql("yard", "SELECT count(*), max(word) FROM fresh") == [(200, "late")]
    assert source.sql("yard", "SELECT count(*) FROM heap WHERE word = 'updated'") == [(2,)]
    source.sql("yard", "INSERT INTO fresh (word) VALUES ('on the source')")
    in_step_again(source, target)
    source.sql("yard", "DROP VIEW own")
    assert_equal(source, target)


def in_step_again(source: Cluster, target: Cluster) -> None:
    """The target has what was written to the source since the rollback."""
    rows = "SELECT count(*) FROM fresh WHERE word = 'on the source'"
    await_that(lambda: target.sql("yard", rows) == [(1,)], "the row on the target")


@pytest.mark.parametrize("pair", [(15, 18)], indirect=True)
def test_what_the_old_home_refuses_is_said(pair: tuple[Cluster, Cluster]) -> None:
    """Again and again, and keeps nobody from going back; so is that nothing is known of what was dropped."""
    source, target = pair
    cut_over(source, target, follow_schema=False)
    target.sql(
        "yard", "DROP INDEX goes; CREATE INDEX folded ON orders (casefold(word)); CREATE VIEW late AS SELECT 1 AS n"
    )
    target.sql("yard", "CREATE OR REPLACE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 3'")
    found = watch(source, target)
    assert "is not known" in found["not_followed"] and "Not followed: INDEX public.folded" in found["not_followed"]
    assert source.sql("yard", "SELECT to_regclass('goes') IS NULL, to_regclass('late') IS NULL, one()") == [
        (False, False, 3)
    ]
    found = watch(source, target)
    assert (
        found["followed"] == [] and "is not known" not in found["not_followed"] and "casefold" in found["not_followed"]
    )
    target.sql("yard", "CREATE ROLE late; CREATE TABLE lates (id int PRIMARY KEY); ALTER TABLE lates OWNER TO late")
    assert "the source has no role late: make it there" in watch(source, target)["not_followed"]
    target.sql("yard", "DROP INDEX folded; DROP VIEW late")
    source.sql("yard", "CREATE ROLE late")
    found = watch(source, target)
    assert found["not_followed"] is None and source.sql("yard", "SELECT to_regclass('late')") == [(None,)]
    cut_over(source, target, direction="back")


def test_an_administrator_follows(servers: Callable[..., Cluster]) -> None:
    """Who is no superuser of the new home, nor, by himself, a member of roles that make something there."""
    source, target = servers(15), servers(18)
    attributes = ["CREATEDB", "CREATEROLE", "REPLICATION"]
    admin = target.managed_admin(attributes=attributes, grants=["pg_create_subscription"])
    for cluster, role in ((source, "postgres"), (target, "doadmin")):
        cluster.sql("postgres", f"SET ROLE {role}; CREATE ROLE maker")
    create_database(source, "yard")
    source.sql("yard", TABLES + "; GRANT CREATE ON SCHEMA public TO maker")
    in_step(source, admin, databases=["yard"])
    ends = {**ends_of(source, target, require_verification=False), "target": admin}
    done(run_module("pg_cutover", ends))
    target.sql("yard", "SET ROLE maker; CREATE TABLE fresh (id bigserial PRIMARY KEY, word text); " + FILLED)
    watching = {name: value for name, value in ends.items() if name != "require_verification"}
    [found] = done(run_module("pg_migration_watch", watching)).databases
    assert found["not_followed"] is None and found["status"]["drift"] == [], found
    target.sql("yard", "SET ROLE maker; INSERT INTO fresh (word) VALUES ('late')")
    target.sql("yard", "GRANT maker TO doadmin WITH INHERIT TRUE, SET TRUE")  # who fences a table has to own it
    done(run_module("pg_cutover", {**ends, "direction": "back"}))
    assert source.sql("yard", "SELECT count(*), max(word) FROM fresh") == [(201, "late")]
    owner = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = 'fresh_word'::regclass"
    assert source.sql("yard", owner) == [("maker",)]


@pytest.mark.parametrize("pair", [(15, 18)], indirect=True)
def test_what_is_known_is_of_this_home_and_this_handover(pair: tuple[Cluster, Cluster]) -> None:
    """A rollback that is refused, one that succeeds, and a second cutover: nobody loses what is only theirs."""
    source, target = pair
    cut_over(source, target)
    back = ends_of(source, target, direction="back", require_verification=True)
    assert "verified" in run_module("pg_cutover", back).msg
    target.sql("yard", "DROP INDEX goes; CREATE INDEX comes ON orders (note)")
    assert len(watch(source, target)["followed"]) == 2
    look = "SELECT to_regclass('goes') IS NULL, to_regclass('comes') IS NULL, to_regclass('own') IS NULL"
    assert source.sql("yard", look) == [(True, False, False)]
    cut_over(source, target, direction="back")
    source.sql("yard", "DROP INDEX comes; DROP INDEX parts_word; CREATE INDEX goes ON lines (orders)")
    assert len(watch(source, target)["followed"]) == 3
    assert target.sql("yard", look) == [(False, True, True)]
    source.sql("yard", "CREATE INDEX parts_word ON parts (word)")
    cut_over(source, target, follow_schema=False)
    assert "is not known" in watch(source, target)["not_followed"]
    assert source.sql("yard", "SELECT to_regclass('parts_word') IS NULL") == [(False,)]


FEW = 9
CHANGES = int(os.environ.get("HANDOVER_FOLLOWING_CHANGES", FEW))  # a test run has no time for more of them
SEED = int(os.environ.get("HANDOVER_FOLLOWING_SEED", "1"))


@pytest.mark.parametrize("pair", [(15, 18)], indirect=True)
def test_changes_by_chance(pair: tuple[Cluster, Cluster]) -> None:
    """An application that changes the schema at its new home all the time, and writes; runs are killed."""
    source, target = pair
    for cluster in pair:
        cluster.sql("yard", "CREATE ROLE keeper")
    cut_over(source, target)
    tables = ("orders", "lines", "parts", "parts_1", "parts_2")
    for cluster in pair:
        cluster.sql("yard", "GRANT CREATE ON SCHEMA public TO keeper")
        cluster.sql("yard", "; ".join(f"ALTER TABLE {name} OWNER TO keeper" for name in tables))
    given = {"rewrites": False, "role": "keeper"}
    application, other = (Application(target, "yard", SEED, number=number, **given) for number in (0, 10**6))
    with contextlib.closing(application), contextlib.closing(other):
        for _release in range(CHANGES // 3):
            for _change in range(3):
                application.change()
                application.write()
            if application.chance.random() < 0.5:
                running = start_module("pg_migration_watch", ends_of(source, target))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(application.chance.uniform(0.2, 2))
                running.kill_family()
            with other.writing():
                found = watch(source, target)
            assert found["not_followed"] is None and found["status"]["drift"] == [], found["not_followed"]
    cut_over(source, target, direction="back")
    source.sql("yard", "DROP VIEW own")
    assert_equal(source, target)


def test_the_playbooks_show_and_follow(servers: Callable[..., Cluster]) -> None:
    """The forecast of a rollback has the statements; an abandoned rollback changes nothing of what is known."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql("yard", TABLES)
    in_step(source, target, databases=["yard"])
    variables = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_databases": ["yard"],
        "handover_follow_schema": True,
        "handover_require_verification": False,
    }
    inventory = {"all": {"hosts": {"lab": variables}}}
    handed = run_playbook("handover.postgresql.cutover", inventory)
    assert not handed.failed, handed
    target.sql("yard", "CREATE INDEX late ON orders (note); DROP INDEX goes")
    forecast = run_playbook("handover.postgresql.rollback", inventory, check=True)
    assert not forecast.failed and "to follow first: DROP INDEX" in forecast.stdout, forecast
    assert "to follow first: CREATE INDEX" in forecast.stdout
    names = "SELECT to_regclass('late') IS NULL, to_regclass('goes') IS NULL"
    assert source.sql("yard", names) == [(True, False)]
    back = run_playbook("handover.postgresql.rollback", inventory)
    assert not back.failed and source.sql("yard", names) == [(False, True)], back
    assert_equal(source, target)
