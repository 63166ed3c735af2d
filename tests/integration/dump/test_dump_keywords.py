# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that only the newer of two servers takes for keywords, and so quotes; and other ways of spelling the same."""

from __future__ import annotations

import pytest
from cutovers import cut_over, handed_over
from dumps import JOURNAL, done, export, look, one, restore
from migrations import copy_roles, in_step
from support import assert_same, create_database, run_module

# Keywords since 16 or 17 that cannot stand for every name without quotes. No name is quoted here, but where the older
# server needs it too.
EVERYTHING = r"""
    CREATE ROLE json_role; CREATE ROLE system_user;
    CREATE SCHEMA json_scalar; CREATE SCHEMA json;
    CREATE TYPE json.json_value AS ENUM ('json', '"json"', 'b\a');
    CREATE TYPE json_scalar.json AS (json json, json_array json.json_value[]);
    CREATE DOMAIN json_query AS text CONSTRAINT json_exists CHECK (VALUE <> 'b\a');
    CREATE FUNCTION json_objectagg(json json, json_value json.json_value DEFAULT 'json', "char" "char" DEFAULT 'x')
        RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT "json"';
    CREATE FUNCTION json_serialize() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE AGGREGATE json_arrayagg(json json) (SFUNC = json_objectagg_next, STYPE = json);
    CREATE TABLE json (
        json_array serial PRIMARY KEY, json json DEFAULT '{"json": "\""}', json_object json.json_value DEFAULT 'json',
        system_user text DEFAULT 'it''s "json" and b\a', json_query json_query, merge_action json_scalar.json,
        kind regtype DEFAULT 'json', CONSTRAINT json_table CHECK (json_array > 0 AND system_user <> '"json"'));
    CREATE TABLE json.json_table (json_scalar int REFERENCES json, json_value text, UNIQUE (json_value))
        PARTITION BY LIST (json_value);
    CREATE TABLE json.json_exists PARTITION OF json.json_table (json_scalar PRIMARY KEY) FOR VALUES IN ('json', 'b\a');
    CREATE TABLE json_scalar.json_query (UNIQUE (json_array)) INHERITS (json);
    CREATE INDEX json_index ON json (lower(system_user), json_array) WHERE json_object <> 'b\a';
    CREATE STATISTICS json_scalar ON json_array, json_object FROM json;
    CREATE TRIGGER json_serialize BEFORE INSERT ON json FOR EACH ROW WHEN (NEW.json_array > 0)
        EXECUTE FUNCTION json_serialize();
    CREATE VIEW json_value AS
        SELECT json_array, json, system_user AS "json_exists" FROM json WHERE json_object = 'json';
    CREATE RULE json_exists AS ON INSERT TO json_value DO INSTEAD INSERT INTO json (json_array) VALUES (NEW.json_array);
    ALTER TABLE json ENABLE ROW LEVEL SECURITY;
    CREATE POLICY json_query ON json TO json_role USING (system_user = 'b\a');
    COMMENT ON COLUMN json.json IS '"json"'; COMMENT ON FUNCTION json_serialize() IS 'json';
    COMMENT ON CONSTRAINT json_table ON json IS 'json'; COMMENT ON TABLE json.json_table IS 'json';
    GRANT SELECT (json_array), UPDATE (json) ON json TO json_role; GRANT USAGE ON SCHEMA json TO system_user;
    ALTER DEFAULT PRIVILEGES IN SCHEMA json GRANT SELECT ON TABLES TO system_user;
    INSERT INTO json (json_array) SELECT generate_series(1, 20);
    INSERT INTO json.json_table SELECT i, CASE i WHEN 1 THEN 'json' ELSE 'b\a' END FROM generate_series(1, 2) AS i;
"""


@pytest.mark.parametrize(("old", "new"), [(13, 17), (15, 18)])
def test_names_that_are_keywords_to_one_end(servers, tmp_path, old, new):
    """Copied, dumped, verified, altered on both ends, and handed over by a cutover that asks for the verification."""
    source, target = servers(old), servers(new)
    create_database(source, "shop")
    state = "CREATE FUNCTION json_objectagg_next(json, json) RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT $2';"
    source.sql("shop", "SET quote_all_identifiers = off;" + state + EVERYTHING)
    copy_roles(source, target, tmp_path)

    done(export(source, tmp_path, databases=["shop"], target_version=new))
    restored = one(done(restore(target, tmp_path, databases=["shop"], rename={"shop": "copy"})))
    assert restored["rows_compared"] == 22 and restored["tables_compared"] == 3
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    found = one(done(run_module("pg_verify", {**ends, "rename": {"shop": "copy"}})))
    assert (found["verdict"], found["unknown"]) == ("equal", []), found
    assert_same(look(source, "shop"), look(target, "copy"), JOURNAL)

    in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
    for cluster in (source, target):
        cluster.sql("shop", "ALTER TABLE json ADD COLUMN json_arrayagg json DEFAULT '{\"json\": 1}'")
    in_step(source, target, databases=["shop"], no_identity="copy_at_cutover")
    assert one(done(run_module("pg_verify", ends)))["verdict"] == "equal"
    handed_over(cut_over(source, target, require_verification=True))
    assert target.sql("shop", "SELECT count(*), count(kind) FROM json") == [(20, 20)]
