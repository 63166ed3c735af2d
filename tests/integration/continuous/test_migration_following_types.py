# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the schema: types that are altered, and what is said of objects: owners, privileges, comments."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dumps import done
from followings import assert_equal, begun, followed, run_each
from support import Cluster, run_module

TYPES = """
    ; CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE place AS (street text, number int);
    CREATE DOMAIN amount AS int DEFAULT 3 CONSTRAINT low CHECK (VALUE < 500); CREATE DOMAIN code AS text NOT NULL;
    CREATE TABLE things (id int PRIMARY KEY, mood mood DEFAULT 'good', place place, amount amount, code code);
    INSERT INTO things SELECT i, 'bad', ROW('way'::text, i)::place, i, 'c' FROM generate_series(1, 100) AS i"""
ROLES = "CREATE ROLE keeper; CREATE ROLE reader; CREATE ROLE writer"
SAID = """
    ; GRANT CREATE ON SCHEMA public TO keeper; GRANT SELECT, INSERT ON orders TO reader WITH GRANT OPTION;
    GRANT SELECT ON orders, lines TO writer; GRANT UPDATE (word, note) ON orders TO writer;
    CREATE FUNCTION one(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION one FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION one TO reader; CREATE SEQUENCE loose; CREATE SCHEMA other;
    CREATE VIEW seen AS SELECT 1 AS n; CREATE DOMAIN kind AS text; GRANT USAGE ON SCHEMA other TO reader;
    GRANT USAGE ON SCHEMA public TO writer;
    ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO reader, writer;
    COMMENT ON TABLE orders IS 'it''s; said'; COMMENT ON COLUMN orders.word IS 'a word'; COMMENT ON VIEW seen IS 'v';
    COMMENT ON FUNCTION one(int) IS 'IS NULL'; COMMENT ON SCHEMA other IS 'o'; COMMENT ON TABLE lines IS 'kept'"""


@pytest.mark.parametrize("majors", [(13, 18), (15, 18)], ids=["13-18", "15-18"])
def test_types_are_altered_while_rows_are_written(servers: Callable[[int], Cluster], majors: tuple[int, int]) -> None:
    """Values of before and of now are both on their way."""
    source, target = begun(servers(majors[0]), servers(majors[1]), TYPES)
    run_each(
        source,
        """
        UPDATE things SET amount = 450, mood = 'good' WHERE id < 9; ALTER DOMAIN amount DROP CONSTRAINT low
        UPDATE things SET amount = 900 WHERE id = 9; UPDATE things SET amount = 1 WHERE amount < 3
        ALTER DOMAIN amount ADD CONSTRAINT high CHECK (VALUE > 0); ALTER DOMAIN amount SET DEFAULT 7
        ALTER DOMAIN code DROP NOT NULL; INSERT INTO things (id) VALUES (201)
        ALTER DOMAIN amount ADD CONSTRAINT later CHECK (VALUE <> 13) NOT VALID
        UPDATE things SET mood = 'bad' WHERE id < 20; ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'
        UPDATE things SET mood = 'worse' WHERE id BETWEEN 15 AND 30
        UPDATE things SET place = ('old', 1) WHERE id < 20; ALTER TYPE place ADD ATTRIBUTE city text
        UPDATE things SET place = ('new', 2, 'town') WHERE id BETWEEN 10 AND 30; ALTER TYPE place DROP ATTRIBUTE number
        UPDATE things SET place = ('newer', 'city') WHERE id BETWEEN 25 AND 40
        """,
    )
    source.sql("yard", "ALTER TYPE mood ADD VALUE 'worst' AFTER 'worse'")
    source.sql("yard", "ALTER TYPE mood ADD VALUE 'best' BEFORE 'good'")
    source.sql("yard", "UPDATE things SET mood = 'worst' WHERE id = 40; UPDATE things SET mood = 'best' WHERE id = 41")
    found = followed(source, target)
    assert found["drift"] == [] and not [text for text in found["notices"] if "Not followed" in text]
    assert_equal(source, target)
    run_each(
        source,
        """
        UPDATE things SET amount = 12 WHERE amount = 13; ALTER DOMAIN amount VALIDATE CONSTRAINT later
        ALTER TYPE mood RENAME TO feeling; ALTER TABLE things ADD felt feeling DEFAULT 'best'
        ALTER TYPE place RENAME ATTRIBUTE city TO town; UPDATE things SET place = ('newest', 'town') WHERE id = 50
        ALTER DOMAIN amount DROP DEFAULT; ALTER DOMAIN amount RENAME CONSTRAINT high TO above
        UPDATE things SET code = 'x'; ALTER DOMAIN code SET NOT NULL
        """,
    )
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["yard"], "follow_schema": True}
    [seen] = done(run_module("pg_migration_watch", ends)).databases
    assert seen["not_followed"] is None
    found = followed(source, target)
    assert not [text for text in found["notices"] if "Not followed" in text]
    assert_equal(source, target)
    assert not followed(source, target)["changed"]


@pytest.mark.parametrize("majors", [(13, 18), (15, 18)], ids=["13-18", "15-18"])
def test_owners_privileges_and_comments(servers: Callable[[int], Cluster], majors: tuple[int, int]) -> None:
    source, target = servers(majors[0]), servers(majors[1])
    for cluster in (source, target):
        cluster.sql("postgres", ROLES)
    begun(source, target, SAID)
    source.sql(
        "yard",
        """
        REVOKE INSERT ON orders FROM reader; REVOKE ALL ON lines FROM writer;
        REVOKE UPDATE (word) ON orders FROM writer; GRANT EXECUTE ON FUNCTION one TO PUBLIC;
        REVOKE USAGE ON SCHEMA public FROM writer;
        REVOKE USAGE ON SCHEMA other FROM reader; GRANT USAGE ON SCHEMA other TO writer;
        ALTER DEFAULT PRIVILEGES IN SCHEMA other REVOKE SELECT ON TABLES FROM reader;
        COMMENT ON TABLE orders IS NULL; COMMENT ON COLUMN orders.word IS NULL; COMMENT ON FUNCTION one IS NULL;
        COMMENT ON VIEW seen IS 'other'; COMMENT ON SCHEMA other IS NULL;
        ALTER TABLE orders OWNER TO keeper; ALTER FUNCTION one OWNER TO keeper; ALTER SEQUENCE loose OWNER TO keeper;
        ALTER SCHEMA other OWNER TO keeper; ALTER VIEW seen OWNER TO keeper; ALTER DOMAIN kind OWNER TO keeper;
        ALTER TABLE parts OWNER TO keeper; ALTER TABLE parts_1 OWNER TO keeper; ALTER TABLE lines OWNER TO keeper""",
    )
    with_rows = "UPDATE orders SET note = 'kept' WHERE id < 99; ALTER TABLE orders RENAME word TO words"
    source.sql("yard", with_rows)
    found = followed(source, target)
    assert not [text for text in found["notices"] if "Not followed" in text]
    assert_equal(source, target)
    assert not followed(source, target)["changed"]
    source.sql("yard", "REVOKE GRANT OPTION FOR SELECT ON orders FROM reader; ALTER TABLE orders OWNER TO postgres")
    without = {"no_owner": True, "no_privileges": True}
    assert [one for one in followed(source, target, **without)["followed"] if "OWNER" in one or "REVOKE" in one] == []
