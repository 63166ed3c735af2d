"""The demo's comparison: it must not overlook what is not the same."""

from __future__ import annotations

from support import Cluster, copy_with_pg_dump

from lab import compare, sample

# What the comparison says is not the same -> what was done on one side only.
TAMPERING = {
    "rows of billing.payment": "UPDATE billing.payment SET amount = amount + 1 WHERE id = 7",
    "rows of shop.country": "INSERT INTO shop.country VALUES ('XX', 'Nowhere', 'EUR')",
    "rows of billing.journal": "DELETE FROM billing.journal WHERE ctid = '(0,1)'",
    "rows of analytics.sales_by_day": "REFRESH MATERIALIZED VIEW analytics.sales_by_day WITH NO DATA",
    "large objects 870001": "SELECT lo_put(870001, 0, 'x')",
    "sequences shop.never_called": "SELECT nextval('shop.never_called')",
    "tables billing.payment": "GRANT SELECT ON billing.payment TO PUBLIC",
    "columns shop.country.name": "ALTER TABLE shop.country ALTER name SET DEFAULT ''",
    "indexes public.never_filled_pkey": "ALTER TABLE public.never_filled DROP CONSTRAINT never_filled_pkey",
    "functions public.added()": "CREATE FUNCTION public.added() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "role memberships shop_app shop_owner postgres": "GRANT shop_app TO shop_owner",
    "comments schema shop": "COMMENT ON SCHEMA shop IS 'changed'",
    "schemas added": "CREATE SCHEMA added",
}

# To 18, not to 16.
KEYWORDS = """
    CREATE TABLE shop.json_table (json_value int PRIMARY KEY CHECK (json_value > 0), json json DEFAULT '{}');
    CREATE FUNCTION shop.json_query(json) RETURNS json LANGUAGE sql AS 'SELECT $1'"""

# pg_dump without --create carries neither, nor does pg_dumpall carry passwords when told so.
NOT_COPIED = {"databases", "settings", "roles"}


def found(source: Cluster, target: Cluster) -> set[str]:
    """Class and name of everything that is not the same."""
    lines = compare.differences(*compare.read_both(source.connect, target.connect, "shop"))
    return {line.partition(": ")[0] for line in lines}


def test_comparison_finds_every_difference(servers, database):
    source, target = servers(16), servers(18)
    sample.create(source.connect, "shop", scale=0.01)
    source.sql("shop", KEYWORDS)
    database(target, "shop", "TEMPLATE template0")
    copy_with_pg_dump(source, target, "shop")
    known = found(source, target)
    assert {name.split(" ")[0] for name in known} == NOT_COPIED
    for name, statement in TAMPERING.items():
        target.sql("shop", statement)
        assert name in found(source, target) - known, statement
        known = found(source, target)
