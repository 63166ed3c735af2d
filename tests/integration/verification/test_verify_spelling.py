# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions that servers write in other words are no difference; those that mean something else are."""

from __future__ import annotations

import pytest
from cutovers import cut_over, handed_over
from dumps import CLIENTS, JOURNAL, assert_nothing_of_ours, done, export, look, one, restore
from faults import await_that
from migrations import in_step, stopped
from support import Cluster, assert_same, contents_in_words_of, create_database, start_module
from verifications import differing, verify

# Each is written otherwise after a dump and a restore, between some majors or on every one.
SPELLED = r"""
    CREATE TABLE came (id int PRIMARY KEY, year int, note text, paper xml, net inet, note6 cidr,
        EXCLUDE USING gist (net inet_ops WITH &&));
    CREATE TABLE left_behind (LIKE came INCLUDING ALL);
    CREATE INDEX came_net ON came USING gist (net inet_ops);
    CREATE INDEX came_lower ON came (lower(note) text_pattern_ops) WHERE note <> 'a\b';
    CREATE VIEW untyped_null AS SELECT n.id, n.year FROM (
        SELECT id, year FROM came UNION ALL SELECT id, NULL FROM left_behind) AS n;
    CREATE VIEW untyped_text AS SELECT n.note FROM (
        SELECT note FROM came UNION ALL SELECT NULL FROM left_behind UNION SELECT 'x\y') AS n;
    CREATE VIEW serialized AS SELECT id, xmlserialize(CONTENT paper AS text) AS paper FROM came WHERE note <> 'c\d';
    CREATE VIEW joined AS SELECT c.id, l.note AS other FROM came AS c JOIN left_behind AS l USING (year)
        WHERE c.year = 1 OR EXISTS (SELECT FROM came AS d WHERE d.id = l.id);
    CREATE FUNCTION latest() RETURNS SETOF came LANGUAGE sql STABLE AS 'SELECT * FROM came';
    CREATE VIEW of_function AS SELECT id, note FROM latest();
    CREATE MATERIALIZED VIEW counted AS SELECT year, count(*) AS n FROM came GROUP BY year;
    CREATE RULE noted AS ON INSERT TO joined DO INSTEAD
        INSERT INTO came (id, note) SELECT n.id, n.note || 'e\f' FROM (
            SELECT id, note FROM left_behind UNION ALL SELECT 1, NULL) AS n;
    CREATE PROCEDURE tidy(IN a int, b int DEFAULT 1 + 1) LANGUAGE sql AS 'SELECT 1';
    CREATE DOMAIN json_value AS text DEFAULT 'json' CHECK (VALUE <> 'g\h' AND VALUE IS DISTINCT FROM NULL);
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER json BEFORE UPDATE OF note ON came FOR EACH ROW WHEN (OLD.note IS DISTINCT FROM NEW.note)
        EXECUTE FUNCTION fire('i\j');
    CREATE STATISTICS json_array ON year, note FROM came;
    INSERT INTO came (id, year) VALUES (1, 1);
    REFRESH MATERIALIZED VIEW counted"""
# The locale as somebody wrote it: newer servers write the one that ICU makes of it.
COLLATIONS = """
    CREATE COLLATION natural_1 (PROVIDER = icu, LOCALE = 'en-u-kn-true');
    CREATE COLLATION natural_2 (PROVIDER = icu, LOCALE = 'en@colNumeric=yes');
    CREATE COLLATION phonebook (PROVIDER = icu, LOCALE = 'de@collation=phonebook');
    CREATE COLLATION loose (PROVIDER = icu, LOCALE = '@colStrength=secondary', DETERMINISTIC = false);
    CREATE TABLE sorted (a text COLLATE natural_1, b text COLLATE natural_2, c text COLLATE phonebook);
    CREATE INDEX ON sorted (a, b COLLATE phonebook)"""
OF_15 = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de@collation=phonebook' LOCALE 'C.UTF-8'"


def copy(source: Cluster, target: Cluster, directory) -> None:
    done(export(source, directory, databases=["spelled"], target_version=target.build.major))
    done(restore(target, directory, databases=["spelled"]))


def escaping(cluster: Cluster) -> None:
    """Sessions take backslashes for escapes, where they are not told otherwise."""
    cluster.sql("postgres", "ALTER SYSTEM SET standard_conforming_strings = off")
    cluster.reload()


@pytest.mark.parametrize(("old", "new"), [(15, 15), (13, 18), (15, 17), (18, 19)])
def test_other_words_are_no_difference(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    create_database(source, "spelled", OF_15 if old >= 15 else "")
    source.sql("spelled", SPELLED)
    source.sql("spelled", COLLATIONS)
    copy(source, target, tmp_path)
    for cluster in (source, target):
        if cluster.build.major < 19:
            escaping(cluster)
    result = done(verify(source, target))
    found = one(result)
    assert found["verdict"] == "equal" and not found["unknown"] and not result.changed, found
    assert all(found["classes"][kind]["equal"] for kind in ("views", "rules", "indexes", "triggers", "collations"))
    assert_nothing_of_ours(source, target)
    assert_same(contents_in_words_of(target, source, "spelled"), look(target, "spelled"), JOURNAL)


def test_identity_columns_of_partitioned_tables(servers, tmp_path):
    """From 17 on, they are their partitions', too."""
    source, target = servers(13), servers(18, "target")
    create_database(source, "spelled")
    source.sql(
        "spelled",
        """
        CREATE TABLE event (id int GENERATED BY DEFAULT AS IDENTITY, day date) PARTITION BY RANGE (day);
        CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')""",
    )
    copy(source, target, tmp_path)
    assert one(done(verify(source, target)))["verdict"] == "equal"
    target.sql("spelled", "ALTER TABLE event ALTER id SET GENERATED ALWAYS")
    (found,) = verify(source, target).databases
    assert [entry["object"] for entry in found["different"]] == ["public.event.id"], found["different"]


def test_a_view_that_is_another_differs_in_whatever_words(servers, tmp_path):
    source, target = servers(15), servers(15, "target")
    create_database(source, "spelled")
    source.sql("spelled", SPELLED)
    copy(source, target, tmp_path)
    target.sql("spelled", """
        CREATE OR REPLACE VIEW untyped_null AS SELECT n.id, n.year FROM (
            SELECT id, year FROM came UNION ALL SELECT year, NULL FROM left_behind) AS n;
        ALTER DOMAIN json_value SET DEFAULT 'jsonb'; ALTER TABLE came ALTER note SET DEFAULT 'x' || 'y'""")  # fmt: skip
    expected = {"views public.untyped_null", "types public.json_value", "columns public.came.note"}
    assert differing(verify(source, target)) == expected
    login = {"user": "reader", "password": "reads"}
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'reads' IN ROLE pg_read_all_data")
    result = verify(source, target, login=login)
    [database] = result.databases
    assert expected < differing(result) and "views public.untyped_text" in differing(result)
    assert any("CREATEDB" in notice for notice in database["notices"]), database["notices"]


@pytest.mark.parametrize("may_create", [True, False], ids=["CREATEDB", "NOCREATEDB"])
def test_by_a_service_s_administrator(servers, tmp_path, may_create):
    """Who may make no database hears what could not be compared on one server, and why."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "spelled")
    source.sql("spelled", SPELLED)
    admin = target.managed_admin(attributes=("CREATEROLE", *(["CREATEDB"] if may_create else [])))
    if not may_create:
        create_database(target, "spelled", "OWNER doadmin")
    done(export(source, tmp_path, databases=["spelled"], target_version=17))
    done(restore(admin, tmp_path, databases=["spelled"], create=may_create))
    result = verify(source, admin, databases=["spelled"])
    [database] = result.databases
    told = [notice for notice in database["notices"] if "CREATEDB" in notice]
    if may_create:
        assert (database["verdict"], told) == ("equal", []), database["different"]
    else:
        assert {"views public.untyped_null", "views public.untyped_text"} <= differing(result) and told
    assert_nothing_of_ours(source, target)


# A restore looks names up with an empty search_path, and takes operators of text for those of citext.
LOOKED_UP = """
    CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; SET search_path = public, ext;
    CREATE TABLE page (id int PRIMARY KEY, title citext,
        CHECK (CASE title WHEN 'none'::citext THEN false ELSE true END));
    CREATE VIEW drafts AS SELECT id, NULLIF(title, 'DRAFT'::citext) IS NULL AS draft FROM page;
    CREATE INDEX page_kind ON page ((CASE title WHEN 'draft'::citext THEN 1 END));
    CREATE POLICY seen ON page USING (title IS DISTINCT FROM 'hidden'::citext);
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER renamed BEFORE UPDATE ON page FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title)
        EXECUTE FUNCTION fire()"""
IN_WORDS = {"views public.drafts", "policies seen on public.page", "triggers renamed on public.page"}
IN_THE_SAME_WORDS = {"table constraint page_title_check on public.page", "index public.page_kind"}
AND_SO = {'rule "_RETURN" on public.drafts', "policy seen on public.page", "trigger renamed on public.page"}


def test_what_the_restore_gave_another_meaning_differs(servers, tmp_path):
    """On one server both say the same by then, and some do on each: what they use tells."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "spelled")
    source.sql("spelled", LOOKED_UP)
    copy(source, target, tmp_path)
    assert differing(verify(source, target)) == IN_WORDS | {f"uses {name}" for name in IN_THE_SAME_WORDS | AND_SO}


TENDED = """
    CLUSTER came USING came_pkey; ALTER TABLE came ALTER note SET STATISTICS 500;
    ALTER INDEX came_lower ALTER 1 SET STATISTICS 300; ALTER STATISTICS json_array SET STATISTICS 7"""


def test_what_was_tended_meanwhile_is_said_and_closes_no_cutover(servers):
    source, target = servers(15), servers(18, "target")
    create_database(source, "spelled")
    source.sql("spelled", SPELLED)
    in_step(source, target, databases=["spelled"])
    source.sql("spelled", TENDED)
    found = one(done(verify(source, target)))
    assert found["verdict"] == "equal", found
    tended = {entry["object"]: entry["reason"] for entry in found["left_out"] if "SET STATISTICS" in entry["reason"]}
    assert set(tended) == {"public.came_pkey", "public.came.note", "public.came_lower", "public.json_array"}
    assert tended["public.came_pkey"].startswith("clustered")
    handed_over(cut_over(source, target, databases=["spelled"], require_verification=True))


IS_THERE = "SELECT datname FROM pg_database WHERE datname LIKE 'handover_verify_%'"


def kill_a_comparison(source: Cluster, target: Cluster) -> None:
    """While it has a database of its own, which stays behind."""
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["spelled"]}
    running = start_module("pg_verify", {**ends, "client_directory": CLIENTS})
    await_that(lambda: target.sql("postgres", IS_THERE), "a database of its own")
    running.kill_family()
    assert target.sql("postgres", IS_THERE)


def test_a_comparison_that_was_killed_leaves_nothing_to_the_next(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    create_database(source, "spelled")
    source.sql("spelled", SPELLED)
    copy(source, target, tmp_path)
    kill_a_comparison(source, target)
    found = one(done(verify(source, target, verify_tables=["*"])))
    assert found["verdict"] == "equal"
    assert_nothing_of_ours(source, target)


def test_what_a_killed_comparison_left_goes_when_the_migration_is_stopped(servers):
    source, target = servers(15), servers(17, "target")
    create_database(source, "spelled")
    source.sql("spelled", SPELLED)
    in_step(source, target, databases=["spelled"])
    kill_a_comparison(source, target)
    [[name]] = target.sql("postgres", IS_THERE)
    assert f"DROP DATABASE {name}" in stopped(source, target, databases=["spelled"])["statements"]["target"]
    assert not target.sql("postgres", IS_THERE)
