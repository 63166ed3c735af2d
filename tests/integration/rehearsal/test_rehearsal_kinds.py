# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other people's databases hold: refused by name in the rehearsal, with a remedy that was tried, or works."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from copies import copy
from dumps import done
from rehearsals import about, assert_well, left, made, of_level, rehearse
from support import Cluster

BASE = """
    CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
    CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := OLD.n + 1; RETURN NEW; END';
    CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 150) AS i;
    SET search_path = public, ext;"""


@dataclass(frozen=True)
class Kind:
    """What is in the database, the ``words`` of the finding and its ``level``, and what its remedy comes to."""

    name: str
    script: str
    words: str
    mend: str
    level: str = "blocker"


# What a target of 17 makes of a source of 15, all of it in one database.
KINDS = [
    Kind(
        "a view over a row type of the server's",
        """CREATE FUNCTION seen() RETURNS SETOF pg_stat_user_tables LANGUAGE sql SECURITY DEFINER
            AS 'SELECT * FROM pg_catalog.pg_stat_user_tables';
        CREATE VIEW seen_view AS SELECT * FROM seen();
        CREATE VIEW on_it AS SELECT relname FROM seen_view""",
        "VIEW public.seen_view cannot be made",
        """DROP VIEW on_it, seen_view; DROP FUNCTION seen();
        CREATE FUNCTION seen() RETURNS TABLE (relname name) LANGUAGE sql SECURITY DEFINER
            AS 'SELECT relname FROM pg_catalog.pg_stat_user_tables';
        CREATE VIEW seen_view AS SELECT * FROM seen(); CREATE VIEW on_it AS SELECT relname FROM seen_view""",
    ),
    Kind(
        "a view of a column that is gone",
        "CREATE VIEW writes AS SELECT buffers_backend FROM pg_stat_bgwriter",
        "VIEW public.writes cannot be made",
        "DROP VIEW writes",
    ),
    Kind(
        "a rule with a column that is gone",
        """CREATE TABLE log (n bigint); CREATE RULE noted AS ON INSERT TO log DO ALSO
            UPDATE t SET n = (SELECT buffers_backend FROM pg_stat_bgwriter)""",
        "RULE public.log noted cannot be made",
        "DROP RULE noted ON log",
    ),
    Kind(
        "a function that is parsed when it is made",
        """CREATE FUNCTION writes_of() RETURNS bigint BEGIN ATOMIC SELECT buffers_backend FROM pg_stat_bgwriter; END""",
        "FUNCTION public.writes_of() cannot be made",
        "DROP FUNCTION writes_of()",
    ),
    Kind(
        "a cast by way of another one",
        """CREATE TYPE odd; CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal STRICT IMMUTABLE AS 'textin';
        CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal STRICT IMMUTABLE AS 'textout';
        CREATE TYPE odd (internallength = variable, input = odd_in, output = odd_out, alignment = int4);
        CREATE CAST (text AS odd) WITHOUT FUNCTION AS IMPLICIT;
        CREATE FUNCTION odd_of(int) RETURNS text LANGUAGE sql AS $$ SELECT 'n'::text || $1::text $$;
        CREATE CAST (int AS odd) WITH FUNCTION odd_of(int) AS IMPLICIT""",
        'CAST CAST (integer AS "public"."odd") cannot be made',
        "DROP CAST (int AS odd)",
    ),
    Kind(
        "IS DISTINCT FROM with a type of an extension",
        """CREATE TABLE doc (id int PRIMARY KEY, tags ext.hstore, n int DEFAULT 0);
        CREATE TRIGGER tagged BEFORE UPDATE ON doc FOR EACH ROW WHEN (OLD.tags IS DISTINCT FROM NEW.tags)
            EXECUTE FUNCTION bump()""",
        "TRIGGER public.doc tagged cannot be made",
        """DROP TRIGGER tagged ON doc; CREATE TRIGGER tagged BEFORE UPDATE ON doc FOR EACH ROW
            WHEN (OLD.tags::text IS DISTINCT FROM NEW.tags::text) EXECUTE FUNCTION bump()""",
    ),
    Kind(
        "a function that calls another by its bare name, in an index",
        """CREATE FUNCTION twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 2 * $1; END';
        CREATE FUNCTION fourfold(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN twice(twice($1)); END';
        CREATE INDEX by_fourfold ON t (fourfold(n))""",
        "INDEX public.by_fourfold cannot be made",
        "ALTER FUNCTION fourfold(int) SET search_path = public",
    ),
    Kind(
        "a query in a text, in a materialized view",
        """CREATE TABLE words (body text); INSERT INTO words VALUES ('one two');
        CREATE MATERIALIZED VIEW counted AS
            SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', body) FROM words')""",
        "MATERIALIZED VIEW DATA public.counted cannot be made",
        """DROP MATERIALIZED VIEW counted; CREATE MATERIALIZED VIEW counted AS
            SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', body) FROM public.words')""",
    ),
    Kind(
        "a view with NULLIF of citext",
        """CREATE TABLE page (id int PRIMARY KEY, title ext.citext, n int); INSERT INTO page VALUES (1, 'Draft', 1);
        CREATE VIEW titles AS SELECT id, NULLIF(title, 'DRAFT'::citext) AS title FROM page""",
        "view public.titles means something else",
        """DROP VIEW titles; CREATE VIEW titles AS
        SELECT id, CASE WHEN NOT title OPERATOR(ext.=) 'DRAFT'::ext.citext THEN title END AS title FROM page""",
    ),
    Kind(
        "CASE of citext in a view",
        """CREATE VIEW kinds AS SELECT id, CASE title WHEN 'DRAFT'::citext THEN 1 ELSE 2 END AS kind FROM page""",
        "view public.kinds means something else",
        """DROP VIEW kinds; CREATE VIEW kinds AS
        SELECT id, CASE WHEN title OPERATOR(ext.=) 'DRAFT'::ext.citext THEN 1 ELSE 2 END AS kind FROM page""",
    ),
    Kind(
        "IS DISTINCT FROM of citext in a trigger",
        """CREATE TRIGGER retitled BEFORE UPDATE ON page FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title)
            EXECUTE FUNCTION bump()""",
        "trigger retitled on public.page means something else",
        """DROP TRIGGER retitled ON page; CREATE TRIGGER retitled BEFORE UPDATE ON page FOR EACH ROW
            WHEN (NOT OLD.title OPERATOR(ext.=) NEW.title) EXECUTE FUNCTION bump()""",
    ),
    Kind(
        "a default that comes out otherwise",
        "ALTER TABLE page ADD first boolean DEFAULT (NULLIF('draft'::citext, 'DRAFT'::citext) IS NULL)",
        "default value for public.page.first means something else",
        "ALTER TABLE page ALTER first SET DEFAULT ('draft'::ext.citext OPERATOR(ext.=) 'DRAFT'::ext.citext)",
    ),
    Kind(
        "a generated column that looks things up",
        """CREATE TABLE a_order (id int PRIMARY KEY, country text); CREATE TABLE z_country (code text, name text);
        CREATE FUNCTION country_name(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
            AS 'BEGIN RETURN (SELECT name FROM public.z_country WHERE code = $1); END';
        INSERT INTO z_country VALUES ('DE', 'Germany');
        ALTER TABLE a_order ADD country_name text GENERATED ALWAYS AS (country_name(country)) STORED;
        INSERT INTO a_order SELECT i, 'DE' FROM generate_series(1, 120) AS i""",
        "Generated column public.a_order.country_name has other values",
        "ALTER TABLE a_order ALTER country_name DROP EXPRESSION",
    ),
    Kind(
        "an index that looks things up",
        "CREATE INDEX by_name ON a_order (country_name(country))",
        "Index public.by_name is computed from rows of other tables: public.z_country",
        "DROP INDEX by_name",
        "warning",
    ),
    Kind(
        "members of a system operator family",
        """CREATE FUNCTION num_eq(int, numeric) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::numeric = $2';
        CREATE OPERATOR === (FUNCTION = num_eq, LEFTARG = int, RIGHTARG = numeric);
        ALTER OPERATOR FAMILY integer_ops USING btree ADD OPERATOR 3 === (int, numeric)""",
        "operator 3 (integer, numeric) of pg_catalog.integer_ops USING btree is only on the source",
        "ALTER OPERATOR FAMILY integer_ops USING btree DROP OPERATOR 3 (int, numeric)",
        "warning",
    ),
]

# What works, though it does not by itself: nothing is said of it.
WORKS = """
    CREATE MATERIALIZED VIEW z_base AS SELECT count(*) AS total FROM t;
    CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN (SELECT total FROM public.z_base); END';
    CREATE MATERIALIZED VIEW a_top AS SELECT total() * 2 AS twice;
    CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO child VALUES (1, 120), (2, 150);
    CREATE TABLE named (seen regclass, by regproc, of regtype[]); INSERT INTO named VALUES ('t', 'total', '{child,t}');
    CREATE TABLE json_table (json_value int PRIMARY KEY, json text); CREATE INDEX ON json_table (json);
    CREATE SCHEMA json; CREATE TABLE json.json_scalar (id serial PRIMARY KEY);
    CREATE EXTENSION cube SCHEMA public; CREATE EXTENSION earthdistance SCHEMA public;
    CREATE TABLE stop (id int PRIMARY KEY, lat float8, lon float8, spot earth
        GENERATED ALWAYS AS (ll_to_earth(lat, lon)) STORED);
    INSERT INTO stop SELECT i, i % 80, i % 170 FROM generate_series(1, 500) AS i;
    CREATE INDEX ON stop USING gist (ll_to_earth(lat, lon));
    CREATE FUNCTION share(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 100 / $1; END';
    CREATE TABLE part (n int); INSERT INTO part VALUES (0), (1);
    CREATE INDEX by_share ON part (share(n)) WHERE n > 0"""


@pytest.fixture
def ends(servers) -> tuple[Cluster, Cluster]:
    return servers(15), servers(17, "target")


def test_every_kind_is_named_and_its_remedy_helps(ends):
    source, target = ends
    made(source, "odd", ";\n".join([BASE, *(kind.script for kind in KINDS), WORKS]))
    found = rehearse(source, target, jobs=2)
    assert found.failed
    for kind in KINDS:
        one = about(found, kind.words)
        assert one["level"] == kind.level and one["remedy"], f"{kind.name}: {one}"
        assert one["objects"] and one["database"] == "odd" and one["id"] == "rehearsal"
    assert len(of_level(found, "blocker", "warning")) == len(KINDS), found["findings"]
    assert "VIEW public.on_it" in about(found, "VIEW public.seen_view")["objects"]
    for kind in KINDS:
        source.sql("odd", f"SET search_path = public, ext; {kind.mend}")
    assert_well(done(rehearse(source, target, jobs=2)))
    done(copy(source, target))
    assert left(target) == []


def test_a_table_that_cannot_be_made(ends):
    """A function in SQL is looked into as soon as the table is made."""
    source, target = ends
    made(
        source,
        "odd",
        """CREATE TABLE a_order (id int PRIMARY KEY, country text); CREATE TABLE z_country (code text, name text);
        CREATE FUNCTION country_name(text) RETURNS text LANGUAGE sql IMMUTABLE
            AS 'SELECT name FROM public.z_country WHERE code = $1';
        ALTER TABLE a_order ADD country_name text GENERATED ALWAYS AS (country_name(country)) STORED""",
    )
    found = rehearse(source, target)
    assert found.failed and "DROP EXPRESSION" in about(found, "public.a_order")["remedy"]
    source.sql("odd", "ALTER TABLE a_order ALTER country_name DROP EXPRESSION")
    assert_well(done(rehearse(source, target)))


def test_commutators_that_are_not_mutual(servers):
    source, target = servers(13), servers(18, "target")
    made(
        source,
        "odd",
        """CREATE FUNCTION a(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
        CREATE FUNCTION b(text, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
        CREATE OPERATOR <@@ (FUNCTION = a, LEFTARG = int, RIGHTARG = text, COMMUTATOR = @@>);
        CREATE OPERATOR @@> (FUNCTION = b, LEFTARG = text, RIGHTARG = int, COMMUTATOR = <@@);
        CREATE OPERATOR @!! (FUNCTION = a, LEFTARG = int, RIGHTARG = text, COMMUTATOR = @@>)""",
    )
    found = rehearse(source, target)
    assert "OPERATOR public.@!!" in about(found, "is already the commutator")["objects"]
    source.sql("odd", "DROP OPERATOR @!! (int, text)")
    assert_well(done(rehearse(source, target)))


def test_a_generated_column_of_an_older_server(servers):
    """Before 15, a server records for the column, not for its expression, what this calls."""
    source, target = servers(14), servers(17, "target")
    [kind] = [one for one in KINDS if one.name == "a generated column that looks things up"]
    made(source, "odd", kind.script)
    found = rehearse(source, target)
    assert found.failed and about(found, kind.words)["level"] == kind.level
    source.sql("odd", kind.mend)
    assert_well(done(rehearse(source, target)))


def test_an_index_whose_function_is_called_by_a_grant(ends):
    """Privileges come last in a dump, and indexes are built as the owner of the table."""
    source, target = ends
    for cluster in ends:
        cluster.sql("postgres", "CREATE ROLE kinds_app; CREATE ROLE kinds_lib")
    made(
        source,
        "odd",
        """CREATE FUNCTION half(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 / 2; END';
        ALTER FUNCTION half(int) OWNER TO kinds_lib; REVOKE ALL ON FUNCTION half(int) FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION half(int) TO kinds_app;
        CREATE TABLE t (n int); INSERT INTO t VALUES (4); ALTER TABLE t OWNER TO kinds_app;
        CREATE INDEX by_half ON t (half(n))""",
    )
    assert_well(done(rehearse(source, target)))
    done(copy(source, target))
