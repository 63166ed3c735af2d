# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_dump passes over without a word is named: before, by the preflight, and after, by the verification."""

from __future__ import annotations

import pytest
from dumps import done, export, one, restore
from preflights import look
from support import create_database
from verifications import differing, verify

BY_HAND = """
    ALTER OPERATOR FAMILY integer_ops USING btree
        ADD OPERATOR 3 === (int, numeric), FUNCTION 1 (int, numeric) num_cmp(int, numeric);
    ALTER OPERATOR FAMILY gist_int4_ops USING gist ADD OPERATOR 99 === (int, numeric);
    ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH plain"""
# An extension's and the server's families, each with members of the user's; members of the user's own are dumped.
PASSED_OVER = f"""
    CREATE EXTENSION btree_gist; CREATE EXTENSION citext;
    CREATE FUNCTION num_eq(int, numeric) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1::numeric = $2';
    CREATE FUNCTION num_cmp(int, numeric) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0';
    CREATE OPERATOR === (FUNCTION = num_eq, LEFTARG = int, RIGHTARG = numeric, NEGATOR = !===);
    CREATE OPERATOR =#= (FUNCTION = num_eq, LEFTARG = int, RIGHTARG = numeric, NEGATOR = !=#=);
    DROP OPERATOR =#= (int, numeric);
    CREATE OPERATOR FAMILY of_ours USING btree;
    ALTER OPERATOR FAMILY of_ours USING btree ADD OPERATOR 3 === (int, numeric);
    CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = pg_catalog.simple);
    {BY_HAND};
    CREATE FUNCTION pg_catalog.by_hand(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE TABLE t (id int PRIMARY KEY)"""
DIFFERENT = {
    "operators_of_families operator 3 (integer, numeric) of pg_catalog.integer_ops USING btree",
    "operators_of_families operator 99 (integer, numeric) of public.gist_int4_ops USING gist",
    "functions_of_families function 1 (integer, numeric) of pg_catalog.integer_ops USING btree",
    "text_search_configurations english",
}
LEFT_OUT = {"public.!=#=(integer,numeric)", "function pg_catalog.by_hand(integer)"}


@pytest.mark.parametrize(("old", "new"), [(13, 18), (15, 17)])
def test_what_no_dump_holds_is_named(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    create_database(source, "shop")
    source.sql("shop", PASSED_OVER)
    [warned] = look(source.endpoint(), target.endpoint(), ["shop"]).of("not_dumped", "warning")
    names = {name.partition(" ")[2] for name in DIFFERENT} | LEFT_OUT
    assert set(warned["objects"]) == names, warned
    done(export(source, tmp_path, databases=["shop"], target_version=new))
    done(restore(target, tmp_path, databases=["shop"]))
    result = verify(source, target)
    assert differing(result) == DIFFERENT
    [database] = result.databases
    assert all("no dump holds" in entry["problem"] for entry in database["different"])
    assert {entry["object"] for entry in database["left_out"] if "no dump holds" in entry["reason"]} == LEFT_OUT
    target.sql("shop", BY_HAND)
    assert one(done(verify(source, target)))["verdict"] == "equal"
