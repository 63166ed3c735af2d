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
    assert "application's functions" in str(result.databases)


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
