# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of which no query can be planned without the application's functions are counted and compared all the same."""

from __future__ import annotations

import pytest
from dumps import done, export, one, restore
from support import create_database
from verifications import differing, verify

# What these functions of 15 name is found with the application's search_path only; those of 17 say where it is.
PLACES = """
    CREATE EXTENSION cube; CREATE EXTENSION earthdistance;
    CREATE TABLE stop (id int PRIMARY KEY, lat float8 NOT NULL, lon float8 NOT NULL);
    INSERT INTO stop SELECT i, i % 80, i % 170 FROM generate_series(1, 500) AS i;
    CREATE INDEX ON stop USING gist (ll_to_earth(lat, lon));
    CREATE TABLE spot (lat float8, lon float8, at earth GENERATED ALWAYS AS (ll_to_earth(lat, lon)) STORED);
    INSERT INTO spot SELECT i % 80, i % 170 FROM generate_series(1, 500) AS i;
    CREATE INDEX ON spot USING gist (ll_to_earth(lat, lon));
    CREATE TYPE kind AS ENUM ('a', 'b');
    CREATE TABLE place (id kind, lat float8, lon float8) PARTITION BY HASH (id);
    CREATE TABLE place_1 PARTITION OF place FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE place_2 PARTITION OF place FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO place SELECT CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END::kind, i % 80, i % 170
        FROM generate_series(1, 500) AS i;
    CREATE INDEX ON place USING gist (ll_to_earth(lat, lon))"""


def test_functions_that_need_a_search_path(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    source.sql("shop", PLACES)
    exported = one(done(export(source, tmp_path, databases=["shop"], target_version=17)))
    assert exported["rows"] == 1500, exported
    restored = one(done(restore(target, tmp_path, databases=["shop"])))
    assert restored["rows_compared"] == 1500
    found = one(done(verify(source, target)))
    assert found["verdict"] == "equal" and not found["unknown"] and found["classes"]["rows"]["equal"] == 4, found
    target.sql("shop", "UPDATE stop SET lat = 1 WHERE id = 7; ALTER TABLE spot ALTER at DROP EXPRESSION;"
                       "UPDATE spot SET at = ll_to_earth(9, 9) WHERE ctid = '(0,1)'")  # fmt: skip
    result = verify(source, target, verify_tables=["public.*"])
    assert differing(result) == {"rows public.stop", "rows public.spot"}
    found = {entry["object"]: entry for entry in result.databases[0]["different"]}
    assert found["public.stop"]["changed"] == [{"key": {"id": "7"}, "columns": ["lat"]}]
    assert found["public.spot"]["counts"] == {"missing": 1, "extra": 1, "changed": 0}  # generated on one end only
    assert found["public.spot"]["missing"] == [{"ctid": "(0,1)"}]


# Whoever plans a query of this table calls refuse(): as the owner, or not at all.
CALLED = """
    CREATE ROLE owner; GRANT CREATE ON SCHEMA public TO owner; SET ROLE owner;
    CREATE FUNCTION refuse(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        IF current_user <> 'owner' THEN RAISE 'called by %', current_user; END IF; RETURN $1; END $$;
    CREATE TABLE t (id int PRIMARY KEY, "a ""b" text DEFAULT '', kind "char", place pg_lsn DEFAULT '0/0A');
    INSERT INTO t SELECT i, CASE i % 3 WHEN 0 THEN E'a\\tb\\\\\\n' WHEN 1 THEN 'ü' END, chr(60 + i % 60)::"char"
        FROM generate_series(1, 300) AS i;
    CREATE TABLE wholly (id int, twice int GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO wholly VALUES (1), (2);
    CREATE INDEX ON t ((id + refuse(1))); CREATE INDEX ON wholly (id) WHERE id > refuse(0)"""


@pytest.mark.parametrize(("old", "new"), [(13, 19), (14, 16)])
def test_functions_are_not_called_as_us(servers, old, new):
    source, target = servers(old), servers(new, "target")
    for cluster in (source, target):
        create_database(cluster, "shop")
        cluster.sql("shop", CALLED)
        with pytest.raises(Exception, match="called by postgres"):
            cluster.sql("shop", "SELECT FROM t")
    found = one(done(verify(source, target, verify_tables=["*"])))
    assert found["verdict"] == "equal" and found["rows"] == 302, found
    target.sql("shop", 'SET ROLE owner; UPDATE t SET "a ""b" = NULL WHERE id = 1; DELETE FROM wholly WHERE id = 1')
    assert differing(verify(source, target, verify_tables=["*"])) == {"rows public.t", "rows public.wholly"}
    for cluster in (source, target):
        cluster.sql("shop", "CREATE ROLE reader LOGIN PASSWORD 'reads'; GRANT SELECT ON t, wholly TO reader")
    login = {"user": "reader", "password": "reads"}
    by_name = {entry["object"]: entry for entry in verify(source, target, login=login).databases[0]["different"]}
    assert by_name["public.t"]["changed"] == [{"key": {"id": "1"}, "columns": ['a "b']}]
    assert by_name["public.wholly"]["counts"] == {"missing": 1, "extra": 0, "changed": 0}


# Rows of every kind that COPY writes in a way of its own, in tables that are copied, and in their twins that are not.
TWINS = """
    CREATE TABLE told ("b ""k" varchar, a int NOT NULL, say text, yes bool, flat char(4), kind "char", place pg_lsn,
                       bytes bytea, PRIMARY KEY (a, "b ""k"));
    CREATE TABLE told_twin (LIKE told INCLUDING INDEXES);
    CREATE TABLE mute (say text); CREATE TABLE mute_twin (say text);
    CREATE TABLE many (id int PRIMARY KEY, v int); CREATE TABLE many_twin (LIKE many INCLUDING INDEXES);
    CREATE FUNCTION refuse(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        IF current_user <> 'keeper' THEN RAISE 'called by %', current_user; END IF; RETURN $1; END $$;
    ALTER TABLE told OWNER TO keeper; ALTER TABLE mute OWNER TO keeper; ALTER TABLE many OWNER TO keeper;
    GRANT CREATE ON SCHEMA public TO keeper; SET ROLE keeper;
    CREATE INDEX ON told ((a + refuse(1))); CREATE INDEX ON mute ((length(say) + refuse(1)));
    CREATE INDEX ON many ((v + refuse(1)))"""
ROWS = r"""
    INSERT INTO {0} SELECT E'k\t\\ü' || i, i % 50, E'a\tb\\\n\r\b\f\x0b\\N' || i, i % 2 = 0, 'x',
        chr(60 + i % 60)::"char", '0/0A', 'ab' FROM generate_series(1, 300) AS i;
    INSERT INTO {0} VALUES ('', 1000, NULL), (E'\\N', 1001, E'\\N'), (E'\n', 1002, '')"""
CHANGED = r"""
    UPDATE {0} SET say = E'ü\t\\N' || repeat(E'\n😀', 300), kind = 'q', flat = 'y ', bytes = '\x00ff', place = '1/0B'
        WHERE a = 7;
    UPDATE {0} SET say = CASE WHEN say IS NULL THEN '' END, yes = a = 1002 WHERE a >= 1000;
    DELETE FROM {0} WHERE a = 9; UPDATE {0} SET a = 2000 WHERE a = 11"""


def without_twin(entry: dict) -> dict:
    """What was found of a table, in one order, without its name."""
    lists = {kind: sorted(entry[kind], key=str) for kind in ("missing", "extra", "changed")}
    return {**{kind: entry[kind] for kind in ("rows", "more", "counts")}, **lists}


@pytest.mark.parametrize(("old", "new"), [(13, 19), (18, 18)])
def test_rows_are_named_as_those_of_other_tables(servers, old, new):
    source, target = servers(old), servers(new, "target")
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE keeper")
        create_database(cluster, "shop")
        cluster.sql("shop", TWINS)
        with pytest.raises(Exception, match="called by postgres"):
            cluster.sql("shop", "SELECT FROM told")
        for suffix in ("", "_twin"):
            cluster.sql(
                "shop",
                f"SET ROLE {'postgres' if suffix else 'keeper'}; {ROWS.format('told' + suffix)};"
                f"INSERT INTO mute{suffix} SELECT i % 10 FROM generate_series(1, 100) AS i;"
                f"INSERT INTO many{suffix} SELECT i, i FROM generate_series(1, 2000) AS i",
            )
    assert one(done(verify(source, target, verify_tables=["*"])))["verdict"] == "equal"
    for suffix in ("", "_twin"):
        target.sql(
            "shop",
            f"SET ROLE {'postgres' if suffix else 'keeper'}; {CHANGED.format('told' + suffix)};"
            f"DELETE FROM mute{suffix} WHERE ctid IN ('(0,1)', '(0,2)'); INSERT INTO mute{suffix} VALUES (NULL);"
            f"UPDATE many{suffix} SET v = 0 WHERE id <= 1500",
        )
    result = verify(source, target, verify_tables=["*"], show_values=True)
    found = {entry["object"].removeprefix("public."): entry for entry in result.databases[0]["different"]}
    assert set(found) == {"told", "told_twin", "mute", "mute_twin", "many", "many_twin"}
    told = without_twin(found["told"])
    assert told == without_twin(found["told_twin"]) and told["counts"] == {"missing": 12, "extra": 6, "changed": 9}
    assert "not_narrowed" not in found["told"] and told["more"] is False
    assert found["mute"]["counts"] == found["mute_twin"]["counts"] == {"missing": 2, "extra": 1, "changed": 0}
    assert found["mute"]["missing"] == [] and found["mute"]["more"] and "no key" in found["mute"]["not_narrowed"]
    assert found["many"]["counts"] == found["many_twin"]["counts"] == {"missing": 0, "extra": 0, "changed": 1500}
    assert len(found["many"]["changed"]) == 20 and found["many"]["more"] is True
    hidden = verify(source, target, verify_tables=["public.told"], max_rate="20kB")
    assert "values" not in str(hidden.databases) and "😀" not in str(hidden.databases)
    assert hidden.databases[0]["stages"][-1]["seconds"] > 2, "it was read four times, and a second each time"


def test_generated_columns_that_only_one_end_can_read_are_unknown(servers):
    source, target = servers(15), servers(17, "target")
    for cluster in (source, target):
        create_database(cluster, "shop")
        cluster.sql("shop", CALLED)
    refusing = "CREATE OR REPLACE FUNCTION refuse(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
    refusing += " $$ BEGIN RAISE 'not here'; END $$"
    target.sql("shop", refusing)
    found = one(done(verify(source, target, verify_tables=["*"])))
    assert found["verdict"] == "incomplete" and [entry["object"] for entry in found["unknown"]] == ["public.wholly"]
    assert "target: generated columns twice: not here" in found["unknown"][0]["reason"], found
    target.sql("shop", f"{refusing.replace('RAISE', 'RETURN 1; RAISE')}; DELETE FROM wholly WHERE id = 1; {refusing}")
    [entry] = verify(source, target, verify_tables=["*"]).databases[0]["different"]
    assert entry["object"] == "public.wholly" and entry["counts"] == {"missing": 1, "extra": 0, "changed": 0}
