"""In which order indexes and keys are made: what others wait for is first, or the end is waited for."""

from __future__ import annotations

import pytest
from copies import copy
from support import create_database

# Each table that the foreign key waits for is smaller than the one that nobody waits for, both together are larger.
TABLES = """
    CREATE TABLE alone (id int, filler text);
    CREATE TABLE owner (id int, filler text);
    CREATE TABLE visit (id int, owner int, filler text);
    INSERT INTO alone SELECT i, repeat('a', 1000) FROM generate_series(1, 3000) AS i;
    INSERT INTO owner SELECT i, repeat('o', 1000) FROM generate_series(1, 2200) AS i;
    INSERT INTO visit SELECT i, i, repeat('v', 1000) FROM generate_series(1, 2000) AS i;
    CREATE INDEX of_alone ON alone (id);
    ALTER TABLE owner ADD CONSTRAINT of_owner PRIMARY KEY (id);
    CREATE INDEX of_visit ON visit (owner);
    ALTER TABLE visit ADD CONSTRAINT to_owner FOREIGN KEY (owner) REFERENCES owner"""
# Oids are given one after the other.
MADE = "SELECT relname::text FROM pg_class WHERE relkind = 'i' AND relname LIKE 'of\\_%' ORDER BY oid"


@pytest.mark.parametrize(
    ("key", "order"), [(True, ["of_owner", "of_visit", "of_alone"]), (False, ["of_alone", "of_owner", "of_visit"])]
)
def test_what_a_foreign_key_waits_for_is_made_before_a_larger_index(servers, key, order):
    source, target = servers(15), servers(18, "target")
    create_database(source, "order")
    source.sql("order", TABLES)
    if not key:
        source.sql("order", "ALTER TABLE visit DROP CONSTRAINT to_owner")
    source.sql("order", "VACUUM ANALYZE")
    copy(source, target, databases=["order"], jobs=1)
    assert [name for (name,) in target.sql("order", MADE)] == order
