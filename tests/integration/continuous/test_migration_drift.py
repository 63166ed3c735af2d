# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migration: what becomes of tables that are made, dropped or altered meanwhile."""

from __future__ import annotations

import contextlib

import pytest
from dumps import done, refused
from faults import brake, watching
from migrations import TABLES, assert_kept_up, in_step, migrate, start_migration
from support import create_database, run_module


@pytest.fixture
def pair(servers):
    """A source and a target, with a database to migrate."""
    source, target = servers(15), servers(18)
    create_database(source, "yard")
    source.sql("yard", TABLES)
    return source, target


def test_new_tables_join_and_dropped_ones_leave(pair):
    source, target = pair
    source.sql(
        "yard",
        """
        CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE points (id int PRIMARY KEY);
        ALTER TABLE points ADD FOREIGN KEY (id) REFERENCES whole""",
    )
    in_step(source, target, databases=["yard"])
    source.sql(
        "yard",
        """
        CREATE TABLE whole_2 PARTITION OF whole FOR VALUES FROM (10) TO (20); INSERT INTO whole VALUES (11);
        DROP TABLE child; CREATE TABLE fresh (id int PRIMARY KEY, keyed int REFERENCES keyed);
        DROP TABLE big; CREATE TABLE big (id int PRIMARY KEY, word text); CREATE INDEX ON big (word);
        INSERT INTO big VALUES (0, 'another');
        CREATE TYPE mood AS ENUM ('good'); CREATE SCHEMA more; CREATE TABLE more.fresh (id int PRIMARY KEY, mood mood);
        INSERT INTO fresh SELECT id, id FROM keyed; INSERT INTO more.fresh VALUES (1, 'good')""",
    )
    found = in_step(source, target, databases=["yard"])
    assert {(one["table"], one["change"]) for one in found["drift"]} == {
        ("public.big", "replaced"),
        ("public.child", "gone"),
        ("public.fresh", "new"),
        ("more.fresh", "new"),
        ("public.whole_2", "new"),
    }
    assert not found["changed"]
    with contextlib.closing(source.connect("yard", autocommit=False)) as session:
        session.cursor().execute("DELETE FROM fresh WHERE id = 1")
        refused(migrate(source, target, databases=["yard"], refresh=True, slot_patience=1), "process")
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"]}
    unverified = {**ends, "require_verification": False}
    refused(run_module("pg_cutover", unverified), "still copying")
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert found["changed"]
    assert len(found["waves"]) == 2
    source.sql(
        "yard",
        """
        INSERT INTO fresh VALUES (0, 1); UPDATE more.fresh SET id = 2; UPDATE keyed SET word = 'y';
        INSERT INTO big VALUES (1, 'arrives')""",
    )
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert not found["changed"]
    target.sql("yard", "DROP TABLE child")
    assert_kept_up(source, target, "yard", found)


def test_a_refresh_that_is_refused_or_killed_forgets_nothing(pair):
    source, target = pair
    in_step(source, target, databases=["yard"])
    source.sql(
        "yard",
        """
        DROP TABLE big; CREATE TABLE big (id int PRIMARY KEY, word text); CREATE INDEX ON big (word);
        INSERT INTO big VALUES (0, 'another'); CREATE TABLE keyless (id int); INSERT INTO keyless VALUES (1)""",
    )
    refused(migrate(source, target, databases=["yard"], refresh=True), "public.keyless")
    source.sql("yard", "ALTER TABLE keyless ADD PRIMARY KEY (id)")
    with contextlib.closing(target.connect("yard", autocommit=False)) as session, watching(target) as watch:
        session.cursor().execute("LOCK TABLE handover.wave_table IN SHARE MODE")
        running = start_migration(source, target, databases=["yard"], refresh=True)
        assert "DELETE FROM handover.wave_table" in watch.await_blocked(session)
        running.kill_family()
        watch.end_sessions()
    assert {(one["table"], one["change"]) for one in in_step(source, target, databases=["yard"])["drift"]} == {
        ("public.big", "replaced"),
        ("public.keyless", "new"),
    }
    target.sql("yard", "UPDATE handover.migration SET fingerprint = fingerprint - 'public.big'")
    found = in_step(source, target, databases=["yard"])
    assert ("public.big", "replaced") in {(one["table"], one["change"]) for one in found["drift"]}
    in_step(source, target, databases=["yard"], refresh=True)
    source.sql("yard", "INSERT INTO big VALUES (1, 'arrives'); INSERT INTO keyless VALUES (2)")
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert found["drift"] == []
    assert_kept_up(source, target, "yard", found)


def test_renamed_tables_are_refused_by_name(pair):
    """Publications go by the table, so that one of another name would be published twice."""
    source, target = pair
    source.sql("yard", "CREATE TABLE other (id int PRIMARY KEY, word text); INSERT INTO other VALUES (1, 'x')")
    in_step(source, target, databases=["yard"])

    def refused_with(*words):
        found = refused(migrate(source, target, databases=["yard"], refresh=True), *words)
        assert "Rename them back" in found.remedy
        assert {one["change"] for one in found.drift} == {"renamed"}

    swap = "ALTER TABLE big RENAME TO was; ALTER TABLE other RENAME TO big; ALTER TABLE was RENAME TO other"
    source.sql("yard", swap)
    refused_with("public.big: its name is public.other now", "public.other: its name is public.big now")
    source.sql("yard", swap)
    source.sql("yard", "ALTER TABLE big RENAME TO larger")
    refused_with("public.big: its name is public.larger now")
    source.sql("yard", "CREATE TABLE big (id int PRIMARY KEY, word text)")
    refused_with("public.big: its name is public.larger now")
    source.sql("yard", "DROP TABLE big; ALTER TABLE larger RENAME TO big")
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert len(found["waves"]) == 1
    assert found["drift"] == []
    assert_kept_up(source, target, "yard", found)
    source.sql("yard", "DROP TABLE big; ALTER TABLE other RENAME TO big")
    refused_with("public.other: its name is public.big now")
    assert source.sql("yard", "SELECT count(*) FROM pg_replication_slots") == [(1,)]


def test_a_table_that_was_replaced_by_another_definition_is_refused(pair):
    source, target = pair
    in_step(source, target, databases=["yard"])
    source.sql(
        "yard",
        """
        DROP TABLE big; CREATE TABLE big (id bigint CONSTRAINT its_key PRIMARY KEY, n int NOT NULL);
        INSERT INTO big VALUES (1, 2)""",
    )
    words = ["public.big", "column word was dropped", "column n was added", "its unique indexes changed"]
    for _run in range(2):
        found = refused(migrate(source, target, databases=["yard"], refresh=True), *words)
        assert "Drop or alter" in found.remedy
    assert source.sql("yard", "SELECT count(*) FROM pg_replication_slots") == [(1,)]
    target.sql("yard", "DROP TABLE big")
    in_step(source, target, databases=["yard"], refresh=True)
    source.sql("yard", "INSERT INTO big VALUES (2, 3)")
    found = in_step(source, target, databases=["yard"])
    assert found["drift"] == []
    assert_kept_up(source, target, "yard", found)


def test_a_new_table_for_the_cutover_only_needs_no_wave(pair):
    source, target = pair
    in_step(source, target, databases=["yard"])
    source.sql("yard", "CREATE UNLOGGED TABLE fresh (id int); INSERT INTO fresh VALUES (1)")
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert found["at_cutover"] == ["public.fresh"]
    assert len(found["waves"]) == 1
    assert target.sql("yard", "SELECT * FROM fresh") == [(1,)]


def test_altered_tables_are_refused_until_both_ends_are_alike(pair):
    """One that was rewritten before it was copied looks empty to the snapshot, so it is copied again, and so is one
    that others lead to, which has its rows and cannot be truncated.
    """
    source, target = pair
    for cluster in pair:
        cluster.sql("postgres", "CREATE ROLE yard_owner")
    source.sql("yard", "ALTER TABLE big OWNER TO yard_owner")
    running = start_migration(source, target, databases=["yard"])
    with brake(target) as stop:
        stop.until("OWNER TO")
        source.sql("yard", "ALTER TABLE big ALTER id TYPE bigint; ALTER TABLE keyed ADD early int")
    refused(running.wait(), "altered on the source while they were copied", "public.big", "public.keyed")
    refused(migrate(source, target, databases=["yard"]), "public.big", "column id was integer")
    target.sql("yard", "ALTER TABLE big ALTER id TYPE bigint; ALTER TABLE keyed ADD early int")
    in_step(source, target, databases=["yard"])
    source.sql("yard", "ALTER TABLE keyed ADD note text; INSERT INTO keyed (id, note) VALUES (0, 'x')")
    found = refused(migrate(source, target, databases=["yard"]), "public.keyed", "column note was added")
    assert found.drift[0]["columns"] == ["note"]
    target.sql("yard", "ALTER TABLE keyed ADD note text")
    found = in_step(source, target, databases=["yard"])
    assert_kept_up(source, target, "yard", found)


def test_partitions_defaults_and_foreign_keys_are_drift(pair):
    """The target would not show the same rows, or go on otherwise, though every row of every table is there."""
    source, target = pair
    source.sql(
        "yard",
        """
        CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
        CREATE TABLE part_2 (id int PRIMARY KEY); CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM (20) TO (30);
        CREATE TABLE refers (id int PRIMARY KEY, part int DEFAULT 1 REFERENCES part);
        INSERT INTO part VALUES (1), (21); INSERT INTO part_2 VALUES (11)""",
    )
    in_step(source, target, databases=["yard"])
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"]}
    done(run_module("pg_verify", ends))
    changes = {
        "ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20)": ("part_2", "parents"),
        "ALTER TABLE part DETACH PARTITION part_3": ("part_3", "parents"),
        "ALTER TABLE refers ALTER part SET DEFAULT 2": ("refers", "defaults"),
        "ALTER TABLE big ADD FOREIGN KEY (id) REFERENCES big NOT VALID": ("big", "foreign_keys"),
    }
    for statement, (table, change) in changes.items():
        source.sql("yard", statement)
        [seen] = done(run_module("pg_migration_info", ends)).databases[0]["drift"]
        assert (seen["table"], seen["change"]) == (f"public.{table}", change)
        refused(run_module("pg_cutover", ends), "were redefined", f"public.{table}")
        refused(migrate(source, target, databases=["yard"]), f"public.{table}")
        target.sql("yard", statement)
        assert in_step(source, target, databases=["yard"])["drift"] == []
    source.sql("yard", "CREATE TABLE part_4 PARTITION OF part FOR VALUES FROM (40) TO (50)")
    [seen] = in_step(source, target, databases=["yard"])["drift"]
    assert (seen["table"], seen["change"]) == ("public.part_4", "new")
    for cluster in pair:
        cluster.sql("yard", "ALTER TABLE refers DROP CONSTRAINT refers_part_fkey")
    source.sql("yard", "INSERT INTO part VALUES (41); DROP TABLE part_1")
    found = in_step(source, target, databases=["yard"], refresh=True)
    assert found["drift"] == []
    [drop] = [
        text.partition("to drop it there, run: ")[2] for text in found["notices"] if "its rows in public.part" in text
    ]
    target.sql("yard", drop.rstrip("."))
    assert_kept_up(source, target, "yard", found)
    refused(run_module("pg_cutover", ends), "were not verified")
