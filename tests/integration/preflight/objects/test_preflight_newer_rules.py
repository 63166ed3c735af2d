# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What 19 refuses and its predecessors took: it is found before, mended by the remedy, and left out with a word."""

from __future__ import annotations

import pytest
from dumps import JOURNAL, done, export, look, one, restore
from migrations import copy_roles, in_step, migrate, stopped
from preflights import look as preflight
from preflights import mend
from support import assert_same, create_database, run_module

OLD_WAYS = """
    ALTER DATABASE shop SET standard_conforming_strings = off; ALTER DATABASE shop SET escape_string_warning = off;
    ALTER ROLE app SET standard_conforming_strings = off; ALTER DATABASE shop SET work_mem = '5MB';
    CREATE FUNCTION old_way() RETURNS text LANGUAGE sql SET standard_conforming_strings = off RETURN 'a';
    CREATE FUNCTION noisy() RETURNS text LANGUAGE sql SET escape_string_warning = off AS 'SELECT 1::text';
    CREATE VIEW shows AS SELECT noisy();
    CREATE TABLE t (i int PRIMARY KEY, v text DEFAULT E'a\\\\b' CHECK (v <> E'\\\\'));
    INSERT INTO t VALUES (1, E'c\\\\d')"""
SETTINGS = "SELECT unnest(setconfig) FROM pg_db_role_setting ORDER BY 1"


@pytest.fixture
def old_ways(servers):
    """A pair, the second of 19, and a database that does what 19 does not know."""
    source, target = servers(15), servers(19, "target")
    source.sql("postgres", "CREATE ROLE app LOGIN PASSWORD 'of the app'")
    create_database(source, "shop")
    source.sql("shop", OLD_WAYS)
    return source, target


def test_strings_that_are_no_standard_ones(old_ways):
    source, target = old_ways
    report = preflight(source.endpoint(), target.endpoint(), ["shop"])
    assert report.objects("string_literals", "warning") == {"database shop", "role app"}
    assert report.objects("role_settings", "warning") == {"escape_string_warning: database shop"}
    assert report.objects("function_settings", "blocker") == {"public.old_way()", "public.noisy()"}
    assert "E'...'" in "".join(one["remedy"] for one in report.of("function_settings"))
    mend(source, "shop", report.of("string_literals") + report.of("function_settings"))
    report = preflight(source.endpoint(), target.endpoint(), ["shop"])
    assert report.levels("string_literals") == report.levels("function_settings") == {"ok"}
    source.sql("shop", "ALTER SYSTEM SET standard_conforming_strings = off")
    source.reload()
    report = preflight(source.endpoint(), target.endpoint(), ["shop"])
    assert report.objects("string_literals", "warning") == {"the server"}
    assert "standard_conforming_strings" not in report.objects("settings")
    mend(source, "shop", report.of("string_literals"))


@pytest.mark.parametrize("direct", [False, True])
def test_what_19_refuses_is_left_out(old_ways, tmp_path, direct):
    source, target = old_ways
    if direct:
        pair = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
        copy_roles(source, target, tmp_path)
        found = one(run_module("pg_direct_copy", pair))
    else:
        done(export(source, tmp_path, target_version=19))
        found = one(restore(target, tmp_path))
    assert {entry["object"].partition("(")[0] for entry in found["skipped"]} == {
        "setting escape_string_warning",
        "setting standard_conforming_strings",
        "FUNCTION public.noisy",
        "FUNCTION public.old_way",
        "VIEW public.shows",
    }
    assert target.sql("shop", SETTINGS) == [("work_mem=5MB",)]
    assert target.sql("shop", "INSERT INTO t VALUES (2) RETURNING v") == [("a\\b",)]
    assert target.sql("shop", "SELECT v FROM t WHERE i = 1") == source.sql("shop", "SELECT v FROM t WHERE i = 1")


def test_verification_of_a_database_with_other_strings(servers, tmp_path):
    """Definitions look the same on both ends, whatever either's literals are."""
    source, target = servers(15), servers(18, "target")
    source.sql("postgres", "CREATE ROLE app")
    create_database(source, "shop")
    source.sql("shop", OLD_WAYS)
    done(export(source, tmp_path, target_version=18))
    assert one(restore(target, tmp_path))["skipped"] == []
    source.sql("postgres", "ALTER DATABASE shop RESET standard_conforming_strings")
    pair = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    [found] = run_module("pg_verify", pair).databases
    assert [entry["class"] for entry in found["different"]] == ["settings"], found["different"]


def test_names_with_line_breaks(servers):
    source, target = servers(15), servers(19, "target")
    source.sql("postgres", 'CREATE ROLE "nl\nr\\"""; CREATE ROLE "cr\r"; CREATE ROLE fine')
    create_database(source, "a\nb")
    report = preflight(source.endpoint(), target.endpoint(), ["a\nb"])
    [finding] = report.of("line_breaks", "blocker")
    assert len(finding["objects"]) == 3
    mend(source, "postgres", [finding])
    assert preflight(source.endpoint(), target.endpoint(), ["a b"]).levels("line_breaks") == {"ok"}
    roles = source.sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname ~ '^(nl|cr)' ORDER BY 1")
    assert roles == [("cr ",), ('nl r\\"',)]


@pytest.mark.parametrize(("old", "new"), [(15, 15), (15, 19), (19, 19)])
def test_empty_lists_stay_empty(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    source.sql("postgres", "CREATE ROLE app")
    create_database(source, "shop")
    for name, whom in (("search_path", "ROLE app"), ("search_path", "DATABASE shop"), ("temp_tablespaces", "ROLE app")):
        source.sql("shop", f"SELECT set_config('{name}', '', false); ALTER {whom} SET {name} FROM CURRENT")
    source.sql("shop", "ALTER ROLE app IN DATABASE shop SET search_path = ''")
    assert {text for (text,) in source.sql("shop", SETTINGS)} == {"search_path=", 'search_path=""', "temp_tablespaces="}
    done(export(source, tmp_path, target_version=new))
    done(restore(target, tmp_path))
    assert target.sql("shop", SETTINGS) == source.sql("shop", SETTINGS)
    assert not done(restore(target, tmp_path)).changed
    assert_same(look(source, "shop"), look(target, "shop"), JOURNAL)


def test_publications_of_all_sequences_are_compared(servers, tmp_path):
    source, target = servers(19), servers(19, "target")
    create_database(source, "shop")
    source.sql("shop", "CREATE PUBLICATION p FOR ALL SEQUENCES")
    done(export(source, tmp_path, target_version=19))
    done(restore(target, tmp_path))
    pair = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    assert one(run_module("pg_verify", pair))["verdict"] == "equal"
    target.sql("shop", "DROP PUBLICATION p; CREATE PUBLICATION p")
    [found] = run_module("pg_verify", pair).databases
    assert [entry["class"] for entry in found["different"]] == ["publications"]


def test_operator_classes_that_19_takes_by_itself_are_the_same(servers):
    """Definitions name inet_ops up to 18 only, and pg_dump turns that of btree_gist into it."""
    source, target = servers(15), servers(19, "target")
    create_database(source, "shop")
    source.sql(
        "shop",
        """
        CREATE EXTENSION btree_gist;
        CREATE TABLE net (id int PRIMARY KEY, ip inet, range cidr, EXCLUDE USING gist (ip inet_ops WITH &&));
        CREATE INDEX named ON net USING gist (range inet_ops, id);
        CREATE INDEX of_the_extension ON net USING gist (ip, id) WHERE range IS NOT NULL;
        INSERT INTO net VALUES (1, '10.0.0.0/24', '10.0.0.0/24')""",
    )
    pair = {"databases": ["shop"]}
    in_step(source, target, **pair)
    assert not done(migrate(source, target, **pair)).changed
    ends = {"source": source.endpoint(), "target": target.endpoint(), **pair}
    assert one(done(run_module("pg_verify", ends)))["verdict"] == "equal"
    target.sql("shop", "DROP INDEX named; CREATE INDEX named ON net USING gist (ip, id)")
    [found] = run_module("pg_verify", ends).databases
    [different] = found["different"]
    assert (different["class"], different["object"]) == ("indexes", "public.named")
    stopped(source, target, **pair)
