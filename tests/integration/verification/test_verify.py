# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_verify of quiet databases: it finds every difference, and none where there is none."""

from __future__ import annotations

import json
import time

import pytest
from dumps import assert_nothing_of_ours, done, export, finish, one, restore
from support import Cluster, create_database, run_module, run_playbook, start_module
from verifications import differing, verify

from lab import every_class, sample

NOT_COMPARED = {"analytics.Sales by month", "analytics.a_first_by_name", "analytics.not_yet", "analytics.sales_by_day"}


@pytest.fixture
def copied(servers, tmp_path):
    """``copied(16, 18)`` is a pair of servers, the second with a copy of the first's sample database."""

    def make(old: int, new: int, made=sample, **options) -> tuple[Cluster, Cluster]:
        source, target = servers(old), servers(new, "target")
        made.create(source.connect, "shop", **options)
        done(export(source, tmp_path, databases=["shop"], target_version=new, unlogged_table_data=True))
        done(restore(target, tmp_path, databases=["shop"]))
        return source, target

    return make


@pytest.mark.parametrize(("old", "new"), [(13, 18), (15, 17)])
def test_a_copy_is_equal(copied, old, new):
    source, target = copied(old, new, scale=0.01)
    result = done(verify(source, target))
    found = one(result)
    assert not result.changed and found["verdict"] == "equal" and found["unknown"] == []
    assert {entry["object"] for entry in found["left_out"]} == NOT_COMPARED
    classes = found["classes"]
    tables = source.sql("shop", "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384")[0][0]
    assert classes["rows"]["equal"] == found["tables"] == tables
    assert classes["large_objects"]["equal"] == 4 and classes["sequences"]["equal"] == 11
    described = {"columns", "constraints", "indexes", "views", "functions", "triggers", "policies", "owners", "schemas"}
    described |= {"privileges", "default_privileges", "comments", "settings", "database", "types", "rules"}
    assert all(classes[kind]["equal"] for kind in described) and classes["extensions"]["equal"] == 0
    assert found["quiet"] is True and found["waited_ms"] == 0 and found["instant"]["live"] is False


@pytest.mark.parametrize(("old", "new"), [(16, 18)])
def test_a_copy_of_every_class_is_equal(copied, old, new):
    found = one(done(verify(*copied(old, new, every_class))))
    assert found["verdict"] == "equal"
    assert {entry["class"] for entry in found["left_out"]} <= {"rows", "subscriptions"}


# What is not the same -> what was done on the target.
TAMPERING = {
    "rows billing.payment": "UPDATE billing.payment SET amount = amount + 1 WHERE id = 7",
    "rows shop.country": "INSERT INTO shop.country VALUES ('XX', 'Nowhere', 'EUR')",
    "rows billing.journal": "DELETE FROM billing.journal WHERE ctid = '(0,1)'",
    "rows logistics.tracking_2024": "INSERT INTO logistics.tracking_2024 SELECT * FROM logistics.tracking_2024 LIMIT 1",
    "rows public.attachment": "UPDATE public.attachment SET kind = NULLIF(kind, '') || ' ' WHERE id = 1",
    "rows shop.cart": "DELETE FROM shop.cart WHERE ctid = '(0,1)'",
    "large_objects 870001": "SELECT lo_put(870001, 0, 'x')",
    "large_objects 870002": "SELECT lo_unlink(870002)",
    "owners large object 870002": "",
    "privileges large object 870002": "",
    "sequences shop.never_called": "SELECT nextval('shop.never_called')",
    "privileges table billing.payment": "GRANT SELECT ON billing.payment TO PUBLIC",
    "privileges column shop.customer.email": "GRANT UPDATE (email) ON shop.customer TO PUBLIC",
    "privileges_on_system_objects language plpgsql": "GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC",
    "privileges_on_system_objects table information_schema.sql_features": "GRANT UPDATE ON"
    " information_schema.sql_features TO PUBLIC",
    "privileges_on_system_objects table column pg_catalog.pg_authid.rolname": "GRANT SELECT (rolname) ON pg_authid"
    " TO PUBLIC",
    "columns shop.country.name": "ALTER TABLE shop.country ALTER name SET DEFAULT ''",
    "columns public.never_filled.payload": "ALTER TABLE public.never_filled ALTER payload TYPE text",
    "indexes shop.customer_email": "UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'shop.customer_email'::regclass",
    "indexes public.never_filled_pkey": "ALTER TABLE public.never_filled DROP CONSTRAINT never_filled_pkey",
    "constraints never_filled_pkey on public.never_filled": "",
    "functions public.added()": "CREATE FUNCTION public.added() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "owners function public.added()": "",
    "privileges function public.added()": "",
    "functions shop.touch()": "ALTER FUNCTION shop.touch() SET work_mem = '1MB'",
    "triggers touch on shop.customer": "ALTER TABLE shop.customer DISABLE TRIGGER touch",
    "constraints tracking_shipment_fkey on logistics.tracking": "ALTER TABLE logistics.tracking_2025_moving"
    " DISABLE TRIGGER ALL",
    "triggers note_change on logistics.tracking_2025_moving": "",
    "policies by_tenant on shop.customer": "ALTER POLICY by_tenant ON shop.customer TO PUBLIC",
    "views shop.open_order": """CREATE OR REPLACE VIEW shop.open_order AS
        SELECT o."Order No", o."from", c.name, c.email FROM shop."Order" AS o JOIN shop.customer AS c
        ON c.id = o.customer WHERE o.state = 'paid'""",
    "owners table shop.country": "ALTER TABLE shop.country OWNER TO CURRENT_USER",
    "comments schema shop": "COMMENT ON SCHEMA shop IS 'changed'",
    "types shop.customer_status": "ALTER TYPE shop.customer_status ADD VALUE 'gone'",
    "settings role shop_analyst in the database": "ALTER ROLE shop_analyst IN DATABASE shop SET work_mem = '2MB'",
    "settings role shop_app everywhere": "ALTER ROLE shop_app SET \"shop.key\" = 'hunter2 or so'",
    "settings role * in the database": 'ALTER DATABASE shop RESET "shop.currency"',
    "database database": "COMMENT ON DATABASE shop IS 'another'",
    "default_privileges shop_owner in shop on r": "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner IN SCHEMA shop"
    " GRANT DELETE ON TABLES TO PUBLIC",
    "tables shop.product": "ALTER TABLE shop.product ENABLE ROW LEVEL SECURITY",
    "sequence_definitions shop.never_called": "ALTER SEQUENCE shop.never_called CACHE 7",
    "schemas added": "CREATE SCHEMA added",
    "owners schema added": "",
    "privileges schema added": "",
}


# What means something else -> the words that differ between the ends, and the definition.
MEANINGS = {
    "views public.of_another_schema": ("shop", "billing", "CREATE VIEW {name} AS SELECT id FROM {0}.twin"),
    "views public.other_parentheses": (
        "(y OR z) AND x > 5", "y OR (z AND x > 5)", "CREATE VIEW {name} AS SELECT id FROM shop.twin WHERE {0}",
    ),
    "views public.of_another_number": ("1.5", "2.5", "CREATE VIEW {name} AS SELECT id FROM shop.twin WHERE x > {0}"),
    "views public.of_the_other_side": (
        "p", "q", "CREATE VIEW {name} AS SELECT p.id, {0}.x FROM shop.twin AS p JOIN shop.twin AS q ON p.id = q.x",
    ),
    "views public.of_another_function": (
        "pg_catalog", "shop", "CREATE VIEW {name} AS SELECT {0}.lower(id::text) AS l FROM shop.twin",
    ),
    "rules elsewhere on public.ruled": (
        "shop", "billing",
        "CREATE RULE elsewhere AS ON INSERT TO public.ruled DO INSTEAD INSERT INTO {0}.twin VALUES (NEW.id)",
    ),
    "functions public.of_another_body()": (
        "shop", "billing", "CREATE FUNCTION {name} RETURNS bigint LANGUAGE sql RETURN (SELECT max(x) FROM {0}.twin)",
    ),
    "views public.of_a_link": ("hunter2", "hunter3", "CREATE VIEW {name} AS SELECT 'host=x password={0}' AS link"),
    "columns public.ruled.collated": ("shop", "billing", "ALTER TABLE public.ruled ADD collated text COLLATE {0}.c"),
    "columns public.ruled.link": ("hunter2", "hunter3", "ALTER TABLE public.ruled ADD link text DEFAULT 'pg://me:{0}@x'"),
}  # fmt: skip
TWINS = """
    CREATE SCHEMA shop; CREATE SCHEMA billing;
    CREATE TABLE shop.twin (id int, x int, y boolean, z boolean); CREATE TABLE public.ruled (id int);
    CREATE TABLE billing.twin (id int, x int, y boolean, z boolean);
    CREATE FUNCTION shop.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$;
    CREATE COLLATION shop.c (LOCALE = 'C'); CREATE COLLATION billing.c (LOCALE = 'POSIX');
"""


def test_definitions_that_mean_something_else_differ(servers):
    source, target = servers(14), servers(18, "target")
    for number, cluster in enumerate((source, target)):
        create_database(cluster, "meant")
        cluster.sql("meant", TWINS)
        for name, (*words, statement) in MEANINGS.items():
            cluster.sql("meant", statement.format(words[number], name=name.split()[1]))
    of_15 = {"class": "privileges", "name": "schema public", "reason": "15 grants less"}
    result = verify(source, target, databases=["meant"], verify_exclude=[of_15])
    used = 'uses rule "_RETURN" on public.of_another_function'
    assert differing(result) == {*MEANINGS, used} and "hunter" not in str(result), "definitions may hold secrets"


def test_every_difference_is_found_and_nothing_else(copied):
    source, target = copied(16, 18, scale=0.01)
    for statement in filter(None, TAMPERING.values()):
        target.sql("shop", "SET allow_system_table_mods = on; " + statement)
    result = verify(source, target)
    assert result.failed and "not the same" in result.msg and result.remedy
    assert differing(result) == set(TAMPERING)
    [database] = result.databases
    assert database["verdict"] == "different"
    assert "shop.key" in str(database) and "hunter2" not in str(result), "settings may hold secrets"
    counted = {kind: counts["different"] for kind, counts in database["classes"].items()}
    assert sum(counted.values()) == len(database["different"])


def test_rows_that_differ_are_named_by_their_keys(copied):
    source, target = copied(13, 18, scale=0.01)
    ids = [str(one) for (one,) in source.sql("shop", "SELECT id FROM shop.customer ORDER BY 1 LIMIT 2")]
    target.sql("shop", f"UPDATE shop.customer SET name = 'Changed', credit = 1.5 WHERE id IN ({', '.join(ids)})")
    target.sql(
        "shop",
        "DELETE FROM shop.order_line WHERE (order_no, line) = (SELECT order_no, line FROM"
        " shop.order_line ORDER BY 1, 2 LIMIT 1)",
    )
    target.sql(
        "shop",
        "SET session_replication_role = replica;"
        " INSERT INTO logistics.stock SELECT warehouse, 9999, 1 FROM logistics.stock LIMIT 1",
    )
    target.sql("shop", "DELETE FROM billing.journal WHERE ctid IN ('(0,1)', '(0,2)')")
    [line] = source.sql("shop", "SELECT order_no::text, line::text FROM shop.order_line ORDER BY 1::bigint, 2 LIMIT 1")
    [database] = verify(source, target).databases
    found = {one["object"]: one for one in database["different"]}
    assert set(found) == {"shop.customer", "shop.order_line", "logistics.stock", "billing.journal"}
    changed = sorted(found["shop.customer"]["changed"], key=lambda one: one["key"]["id"])
    assert [one["key"] for one in changed] == [{"id": one} for one in ids]
    assert all({"name", "credit"} <= set(one["columns"]) and "values" not in one for one in changed)
    assert "Changed" not in str(database)
    assert found["shop.order_line"]["missing"] == [dict(zip(("order_no", "line"), line))]
    assert [one["product"] for one in found["logistics.stock"]["extra"]] == ["9999"]
    journal = found["billing.journal"]
    assert journal["counts"] == {"missing": 2, "extra": 0, "changed": 0} and journal["more"] is False
    assert all(set(one) == {"ctid"} for one in journal["missing"])
    [database] = verify(source, target, verify_tables=["shop.customer"], show_values=True).databases
    assert set(database["classes"]) == {"rows"}
    [customer] = database["different"]
    assert {one["values"]["name"]["target"] for one in customer["changed"]} == {"Changed"}
    mistaken = one(done(verify(source, target, verify_tables=["shop.ordres", "shop.country"])))
    assert mistaken["verdict"] == "incomplete" and mistaken["tables"] == 1
    assert [entry["object"] for entry in mistaken["unknown"]] == ["shop.ordres"]


def test_many_differences_are_bounded(servers):
    source, target = servers(15), servers(17, "target")
    rows = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, {} FROM generate_series(1, 20000) AS i"
    for cluster, value in ((source, "i"), (target, "i + (i % 2)")):
        create_database(cluster, "many")
        cluster.sql("many", rows.format(value))
    [database] = verify(source, target, databases=["many"], jobs=1).databases
    [table] = database["different"]
    assert table["counts"] == {"missing": 0, "extra": 0, "changed": 10000}
    assert len(table["changed"]) == 20 and table["more"] is True
    assert all(int(one["key"]["id"]) % 2 and one["columns"] == ["v"] for one in table["changed"])


def test_what_cannot_be_seen_is_unknown_and_what_is_excluded_has_a_reason(copied):
    source, target = copied(16, 18, scale=0.01)
    for cluster in (source, target):
        cluster.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'reader of everything'")
        cluster.sql("shop", "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER elsewhere FOREIGN DATA WRAPPER w")
        mapping = "CREATE USER MAPPING FOR shop_app SERVER elsewhere OPTIONS"
        cluster.sql("shop", f"{mapping} (password '{cluster.port}')")
        cluster.sql("shop", "GRANT CONNECT ON DATABASE shop TO reader")
        for schema in ("shop", "billing", "public"):
            cluster.sql("shop", f"GRANT USAGE ON SCHEMA {schema} TO reader")
            cluster.sql("shop", f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    target.sql("shop", "UPDATE shop.product SET name = name || '!' WHERE id = 1")
    result = done(
        verify(
            source,
            target,
            login={"user": "reader", "password": "reader of everything"},
            verify_exclude=[{"class": "rows", "name": "shop.pro*", "reason": "it is new"}],
        )
    )
    found = one(result)
    assert found["verdict"] == "incomplete"
    mapping = {"class": "user_mappings", "object": "elsewhere for shop_app"}
    assert {**mapping, "reason": "options: not shown to this role"} in found["unknown"]
    unknown = {entry["object"]: entry["reason"] for entry in found["unknown"] if entry["class"] == "rows"}
    assert "BYPASSRLS" in unknown["shop.customer"] and "USAGE" in unknown["logistics.stock"]
    assert {entry["object"] for entry in found["unknown"] if entry["class"] == "large_objects"} >= {"870003"}
    assert {"class": "rows", "object": "shop.product", "reason": "it is new"} in found["left_out"]
    readable = source.sql(
        "shop",
        """SELECT count(*) FROM pg_class WHERE relkind = 'r' AND NOT relrowsecurity
        AND relnamespace IN ('shop'::regnamespace, 'billing'::regnamespace, 'public'::regnamespace)""",
    )[0][0]
    assert found["classes"]["rows"]["equal"] <= readable - 1


def test_a_service_s_administrator_sees_what_it_imported(servers, tmp_path):
    """Neither is the administrator in the superuser's place a difference, nor does it lack privileges to look."""
    source, target = servers(15), servers(18, "target")
    sample.create(source.connect, "shop", scale=0.01)
    admin = target.managed_admin()
    done(export(source, tmp_path, target_version=18, unlogged_table_data=True))
    done(restore(admin, tmp_path))
    result = run_module("pg_verify", {"source": source.endpoint(), "target": admin, "databases": ["shop"]})
    refused = {"role * in the database", "role shop_app in the database", "role shop_analyst everywhere"}
    language = "privileges_on_system_objects language plpgsql"
    assert differing(result) == {language, *(f"settings {name}" for name in refused)}
    [unknown] = result.databases[0]["unknown"]
    assert unknown["object"] == "billing.internal_note" and "row level security" in unknown["reason"]
    assert_nothing_of_ours(source, target)


def test_an_interrupted_comparison_goes_on(servers, tmp_path):
    source, target = servers(16), servers(18, "target")
    create_database(source, "large")
    for number in range(5):
        source.sql("large", f"CREATE TABLE t{number} AS SELECT i, repeat('x', 800) FROM generate_series(1, 12000) AS i")
    done(export(source, tmp_path, databases=["large"], target_version=18))
    done(restore(target, tmp_path, databases=["large"]))
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["large"]}
    running = start_module("pg_verify", {**ends, "max_rate": "4MB", "jobs": 1})
    recorded = "SELECT count(*) FROM handover.verified_table"
    while not target.sql("large", "SELECT to_regclass('handover.verified_table')")[0][0] or not (
        before := target.sql("large", recorded)[0][0]
    ):
        assert running.process.poll() is None
        time.sleep(0.1)
    running.kill()
    found = one(done(verify(source, target, databases=["large"])))
    assert found["verdict"] == "equal" and found["tables"] == 5 > found["resumed_tables"] >= before
    again = one(done(verify(source, target, databases=["large"])))
    assert again["resumed_tables"] == 0, "that one was finished"
    source.sql("large", "UPDATE t3 SET i = 0 WHERE i = 7")
    assert differing(verify(source, target, databases=["large"])) == {"rows public.t3"}
    finish(target, "large")
    assert target.sql("large", "SELECT to_regnamespace('handover')") == [(None,)]
    assert differing(verify(source, target, databases=["large"])) == {"rows public.t3"}
    assert target.sql("large", "SELECT to_regnamespace('handover')") == [(None,)]


def test_check_mode_looks_at_nothing(copied):
    source, target = copied(16, 18, scale=0.01)
    target.sql("shop", "DROP TABLE shop.cart")
    found = one(done(verify(source, target, check=True)))
    assert found["verdict"] is None and found["tables"] > 30 and found["bytes"] > 0
    assert target.sql("shop", "SELECT to_regclass('handover.verification')") == [(None,)]


def test_a_database_that_is_not_there(servers):
    source, target = servers(16), servers(18, "target")
    create_database(source, "alone")
    result = verify(source, target, databases=["alone"])
    assert result.failed and differing(result) == {"database alone"}
    nothing = verify(source, target, ignore_databases=["alone"])
    assert nothing.failed and "No database is selected" in nothing.msg


def test_one_database_that_cannot_be_compared_hides_no_other(servers, tmp_path):
    source, target = servers(16), servers(18, "target")
    for cluster in (source, target):
        for name in ("a_closed", "b_open"):
            create_database(cluster, name)
        cluster.sql("b_open", "CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
                    "CREATE TABLE mute AS SELECT 1 AS a; CREATE INDEX ON mute (same(a));"
                    "GRANT SELECT ON mute TO PUBLIC")  # fmt: skip
    source.sql("b_open", "INSERT INTO mute VALUES (1)")
    target.sql("b_open", "CREATE TABLE extra ()")
    target.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'reads'; REVOKE CONNECT ON DATABASE a_closed FROM PUBLIC")
    reader = {"user": "reader", "password": "reads"}
    pair = {"source": source.endpoint(), "target": target.endpoint(**reader), "databases": ["a_closed", "b_open"]}
    result = run_module("pg_verify", pair)
    closed, opened = result.databases
    assert result.failed and "a_closed" in result.msg and opened["verdict"] == "different"
    assert closed["verdict"] == "incomplete" and closed["problem"] in closed["unknown"][0]["reason"]
    hosts = {
        "both": {
            "ansible_connection": "local",
            "handover_report_directory": str(tmp_path / "report"),
            **{f"handover_{name}": value for name, value in pair.items()},
        }
    }
    played = run_playbook("handover.postgresql.verify", {"all": {"hosts": hosts}})
    assert played.failed and "a_closed" in played.failures[0]["msg"], played
    report = (tmp_path / "report" / "both-verify.md").read_text()
    assert "a_closed: NOT COMPARED" in report and "b_open: DIFFERENT" in report and closed["problem"] in report
    assert "missing on the target (1)\n  - not narrowed down to rows: the rows have no key" in report, report


def test_the_playbook_shows_what_differs_and_keeps_it(copied, tmp_path):
    source, target = copied(16, 18, scale=0.01)
    hosts = {
        "shop": {
            "ansible_connection": "local",
            "handover_source": source.endpoint(),
            "handover_target": target.endpoint(),
            "handover_databases": ["shop"],
            "handover_report_directory": str(tmp_path / "report"),
        }
    }
    inventory = {"all": {"hosts": hosts}}
    equal = run_playbook("handover.postgresql.verify", inventory)
    assert not equal.failed, equal
    assert "next: Point the application at the target" in equal.stdout
    assert "shop: EQUAL" in equal.stdout and "\nrows " in equal.stdout
    gone = "SET session_replication_role = replica; DELETE FROM shop.country WHERE code = 'DE';"
    target.sql("shop", f"{gone} COMMENT ON SCHEMA shop IS 'changed'")
    apart = run_playbook("handover.postgresql.verify", inventory)
    assert apart.failed and "Not the same on both ends: shop" in apart.failures[0]["msg"], apart
    assert '{"code": "DE"}' in apart.stdout and "comments schema shop" in apart.stdout
    kept = json.loads((tmp_path / "report" / "shop-verify.json").read_text())
    assert kept["databases"][0]["verdict"] == "different"
    assert "shop: DIFFERENT" in (tmp_path / "report" / "shop-verify.md").read_text()


def test_backslashes_and_unlogged_sequences(servers, tmp_path):
    """The source takes backslashes for escapes; the dump left the rows of unlogged tables out, and so their numbers."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "odd")
    source.sql(
        "odd",
        r"""
        CREATE TABLE t (v text DEFAULT 'a\b' CHECK (v <> 'c\d'), w text GENERATED ALWAYS AS (v || '\') STORED);
        CREATE VIEW v AS SELECT '\\' AS slash FROM t WHERE v = 'e\f';
        CREATE UNLOGGED TABLE u (i serial, j int GENERATED ALWAYS AS IDENTITY, k int);
        INSERT INTO u SELECT FROM generate_series(1, 3)""",
    )
    source.sql("postgres", "ALTER SYSTEM SET standard_conforming_strings = off")
    source.reload()
    done(export(source, tmp_path, databases=["odd"], target_version=18))
    done(restore(target, tmp_path, databases=["odd"]))
    assert source.sql("odd", "SHOW standard_conforming_strings") == [("off",)]
    found = one(done(verify(source, target, databases=["odd"])))
    assert found["verdict"] == "equal", found
    left_out = {entry["object"] for entry in found["left_out"]}
    assert left_out == {"public.u", "public.u_i_seq", "public.u_j_seq"}
    target.sql("odd", "SELECT nextval('u_i_seq'), nextval('u_i_seq')")
    assert differing(verify(source, target, databases=["odd"])) == {"sequences public.u_i_seq"}
