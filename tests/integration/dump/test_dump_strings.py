# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database whose sessions take backslashes in strings for escapes, and names full of backslashes and quotes."""

from __future__ import annotations

import psycopg2
import pytest
from cutovers import cut_over, handed_over
from dumps import done
from migrations import in_step, migrate, traces

from lab import catalogs

NAME = """sh\\'op"; SELECT 'x\\"""
TABLES = r"""
    CREATE SCHEMA "s\' ""; --";
    CREATE TABLE "s\' ""; --"."x\' ""y\" (id int PRIMARY KEY, v text);
    CREATE TABLE "s\' ""; --"."plain\' $$ "" \" (v text);
    CREATE INDEX "i\' " ON "s\' ""; --"."x\' ""y\" (id) WHERE v = E'a\\b''';
    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TRIGGER "t\' ""; \" BEFORE INSERT ON "s\' ""; --"."x\' ""y\" FOR EACH ROW EXECUTE FUNCTION public.f();
    ALTER TABLE "s\' ""; --"."x\' ""y\" ENABLE ALWAYS TRIGGER "t\' ""; \";
    COMMENT ON TABLE "s\' ""; --"."x\' ""y\" IS E'a\\''b'"""
INSERT = r"""INSERT INTO "s\' ""; --"."x\' ""y\" VALUES (1, E'a\\b''')"""
PREDICATE = "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indpred IS NOT NULL"
ON = "-c standard_conforming_strings=on"


def everything(cluster):
    return {**catalogs.of_server(cluster), **catalogs.of_database(cluster, NAME)}


def test_names_and_strings_are_the_same_whatever_sessions_take_them_for(servers):
    source, target = servers(15), servers(17, "target")
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")
        cluster.sql("postgres", "SELECT pg_reload_conf()")
    quoted = '"' + NAME.replace('"', '""') + '"'
    source.sql("postgres", f"CREATE DATABASE {quoted}")
    source.sql(NAME, TABLES)
    source.sql("postgres", f"ALTER DATABASE {quoted} SET standard_conforming_strings = off")
    source.sql("postgres", f"ALTER DATABASE {quoted} SET quote_all_identifiers = on")
    assert source.sql(NAME, "SHOW standard_conforming_strings") == [("off",)]
    before = everything(source)

    chosen = {"databases": [NAME]}
    in_step(source, target, no_identity="full", **chosen)
    assert target.sql(NAME, PREDICATE, options=ON) == source.sql(NAME, PREDICATE, options=ON)
    handed_over(cut_over(source, target, **chosen))
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction) as refused:
        source.sql(NAME, INSERT)
    assert f'database "{NAME}" was handed over' in str(refused.value)
    handed_over(cut_over(source, target, direction="back", **chosen))
    source.sql(NAME, INSERT)
    handed_over(cut_over(source, target, **chosen))
    assert target.sql(NAME, r"""SELECT v FROM "s\' ""; --"."x\' ""y\" """) == [("a\\b'",)]
    done(migrate(source, target, state="finished", lift_fence=True, **chosen))
    assert catalogs.changes(before, everything(source)) == []
    assert traces(target, NAME) == []
    fires = "SELECT tgenabled FROM pg_trigger WHERE NOT tgisinternal"
    assert source.sql(NAME, fires) == target.sql(NAME, fires) == [("A",)]
