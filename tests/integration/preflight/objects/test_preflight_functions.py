# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of functions that need a search path, and that an import fails without it and not with it."""

from __future__ import annotations

import dumps
import pytest
from preflights import look, mend
from support import create_database

SCHEMA = """
CREATE SCHEMA "My Schema";
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE rates (currency text, rate numeric);
INSERT INTO rates VALUES ('EUR', 1);
CREATE FUNCTION "My Schema".plain(w text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(w)';
CREATE TABLE t (id integer, w text, c text);
INSERT INTO t VALUES (1, 'happy', 'EUR');
"""
IN_INDEX = """
CREATE FUNCTION f(w text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT "plain"(w)';
CREATE INDEX ON t (f(w));
"""
IN_GENERATED = """
CREATE FUNCTION f(w text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'DECLARE m mood := w; BEGIN RETURN m; END';
ALTER TABLE t ADD g text GENERATED ALWAYS AS (f(w)) STORED;
"""
IN_CONSTRAINT = """
CREATE FUNCTION f(k text) RETURNS boolean LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT count(*) > 0 FROM rates WHERE currency = k); END';
ALTER TABLE t ADD CONSTRAINT known CHECK (f(c));
"""
IN_DOMAIN = """
CREATE FUNCTION f(w text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT w::mood IS NOT NULL';
CREATE DOMAIN feeling AS text CHECK (f(VALUE));
ALTER TABLE t ADD d feeling DEFAULT 'sad';
"""
IN_VIEW = """
CREATE FUNCTION f() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM rates';
CREATE MATERIALIZED VIEW counted AS SELECT f() AS n;
"""
FAILING = {
    "index": IN_INDEX,
    "generated": IN_GENERATED,
    "constraint": IN_CONSTRAINT,
    "domain": IN_DOMAIN,
    "view": IN_VIEW,
}

# Nothing is seen in the function that the index, the generated column or the trigger calls; it is in those it calls.
CALLED = """
CREATE FUNCTION inner_most(w text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT plain(w)';
CREATE FUNCTION "In between"(w text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN public.inner_most(w); END';
CREATE FUNCTION f(w text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT public."In between"(w)';
"""
THROUGH = {
    "index": CALLED + "CREATE INDEX ON t (f(w));",
    "generated": CALLED + "ALTER TABLE t ADD g text GENERATED ALWAYS AS (f(w)) STORED;",
    "parsed": CALLED
    + """CREATE FUNCTION atomic(w text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT public.f(w); END;
    ALTER TABLE t ADD CONSTRAINT short CHECK (length(atomic(w)) < 9)""",
    "partition": CALLED
    + """CREATE TABLE p (w text) PARTITION BY LIST ((f(w))); CREATE TABLE p1 PARTITION OF p DEFAULT;
    INSERT INTO p VALUES ('a')""",
}
SOUND = """
CREATE FUNCTION own_path(w text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = "My Schema" AS 'SELECT plain(w)';
CREATE FUNCTION not_used() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM rates';
CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM not_used(); RETURN NEW; END';
CREATE FUNCTION under_that_path(w text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT plain(w)';
CREATE FUNCTION with_path(w text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = public, "My Schema" AS
    'SELECT under_that_path(w)';
CREATE INDEX ON t (with_path(w));
CREATE TRIGGER normal BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION in_trigger();
CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM rates; END;
CREATE MATERIALIZED VIEW counted AS SELECT atomic() AS n;
CREATE INDEX ON t (own_path(w));
"""
SILENT = """
CREATE FUNCTION silent(w text) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$SELECT "My Schema".plain(w) || ' FROM rates' || upper('not_used()') -- FROM rates, not_used()$$;
CREATE INDEX ON t (silent(w));
"""
READING = """
CREATE FUNCTION f(k text) RETURNS boolean LANGUAGE sql STABLE AS
    'SELECT k IN (SELECT currency FROM public.rates)';
CREATE DOMAIN d AS text CHECK (f(VALUE));
ALTER TABLE t ADD CONSTRAINT known CHECK (f(c)), ADD CONSTRAINT own_row CHECK (w <> c);
"""
IN_APPLY = """
CREATE FUNCTION in_apply() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM rates; RETURN NEW; END';
CREATE TRIGGER always BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION in_apply();
ALTER TABLE t ENABLE ALWAYS TRIGGER always;
"""


@pytest.fixture(scope="module")
def source(all_servers):
    yield all_servers(15, "functions")
    all_servers.sweep()


def filled(cluster, more: str) -> str:
    """A database that finds things in "My Schema", too."""
    dbname = create_database(cluster)
    cluster.sql("postgres", f'ALTER DATABASE {dbname} SET search_path = public, "My Schema"')
    cluster.sql(dbname, SCHEMA)
    cluster.sql(dbname, more)
    return dbname


@pytest.mark.parametrize("place", FAILING)
def test_names_that_only_a_search_path_finds(place, source):
    dbname = filled(source, FAILING[place])
    report = look(source.endpoint(), None, [dbname])
    [finding] = report.of("search_path_functions", "warning")
    assert finding["objects"] == ["public.f()" if place == "view" else "public.f(text)"]
    assert finding["methods"] == ["dump", "continuous"]
    mend(source, dbname, [finding])
    assert look(source.endpoint(), None, [dbname]).levels("search_path_functions") == {"ok"}


def test_generated_columns_of_an_older_server(all_servers):
    """Before 15, the column depends on the function, not its expression."""
    source = all_servers(14, "functions")
    dbname = filled(source, FAILING["generated"])
    [finding] = look(source.endpoint(), None, [dbname]).of("search_path_functions", "warning")
    assert finding["objects"] == ["public.f(text)"]
    source.sql("postgres", f"DROP DATABASE {dbname}")


def test_an_import_fails_as_foretold_and_succeeds_when_mended(source, all_servers, tmp_path):
    dbname = filled(source, IN_CONSTRAINT)
    dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
    assert dumps.restore(all_servers(17), tmp_path, databases=[dbname]).failed
    report = look(source.endpoint(), None, [dbname])
    mend(source, dbname, report.of("search_path_functions") + report.of("constraint_functions"))
    dumps.done(dumps.export(source, tmp_path, databases=[dbname], force=True))
    dumps.done(dumps.restore(all_servers(17), tmp_path, databases=[dbname]))


@pytest.mark.parametrize("place", THROUGH)
def test_names_in_functions_that_are_called(place, source, all_servers, tmp_path):
    """Named as those that need them, the import fails as foretold, and what is said helps."""
    dbname = filled(source, THROUGH[place])
    [finding] = look(source.endpoint(), None, [dbname]).of("search_path_functions", "warning")
    assert finding["objects"] == ["public.inner_most(text)"] and "through" in finding["seen"]
    if place == "index":
        dumps.done(dumps.export(source, tmp_path, databases=[dbname]))
        dumps.refused(
            dumps.restore(all_servers(17), tmp_path, databases=[dbname]), "function plain(text) does not exist"
        )
    mend(source, dbname, [finding])
    assert look(source.endpoint(), None, [dbname]).levels("search_path_functions") <= {"ok", "info"}
    if place in ("index", "parsed"):
        dumps.done(dumps.export(source, tmp_path, databases=[dbname], force=True))
        dumps.done(dumps.restore(all_servers(17), tmp_path, databases=[dbname]))


def test_functions_that_find_what_they_name(source):
    assert look(source.endpoint(), None, [filled(source, SOUND)]).levels("search_path_functions") == {"ok"}


def test_names_in_strings_and_comments_are_none(source):
    report = look(source.endpoint(), None, [filled(source, SILENT)])
    assert report.levels("search_path_functions") == {"info"}
    assert report.objects("search_path_functions") == {"public.silent(text)"}


def test_checks_that_read_tables(source):
    dbname = filled(source, READING)
    report = look(source.endpoint(), None, [dbname])
    assert report.objects("constraint_functions", "warning") == {
        "known ON TABLE public.t",
        "d_check ON DOMAIN public.d",
    }
    mend(source, dbname, report.of("constraint_functions"))
    assert look(source.endpoint(), None, [dbname]).levels("constraint_functions") == {"ok"}


def test_triggers_matter_to_apply_only(source):
    [finding] = look(source.endpoint(), None, [filled(source, IN_APPLY)]).of("search_path_functions")
    assert finding["level"] == "warning" and finding["methods"] == ["continuous"]
    assert "always ON public.t" in finding["seen"]
