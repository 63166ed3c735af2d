"""What is read from the definition of a foreign key."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import foreign_keys

DEFINITION = """ALTER TABLE ONLY "a b"."t.""x"
    ADD CONSTRAINT "k, (1)" FOREIGN KEY ("b", "c, d") REFERENCES s.r(id, "x y") {};
"""


@pytest.mark.parametrize(
    ("options", "filled"),
    [
        ("ON DELETE CASCADE DEFERRABLE", 't."b" IS NOT NULL AND t."c, d" IS NOT NULL'),
        ("MATCH FULL ON DELETE CASCADE", 't."b" IS NOT NULL OR t."c, d" IS NOT NULL'),
    ],
)
def test_rows_that_break_it_are_found_by_its_columns(options, filled):
    key = foreign_keys.parse(DEFINITION.format(options))
    assert key.orphans == (
        f'SELECT t.* FROM "a b"."t.""x" AS t WHERE ({filled}) '
        'AND NOT EXISTS (SELECT FROM s.r AS r WHERE r.id = t."b" AND r."x y" = t."c, d");'
    )
    assert key.validation == 'ALTER TABLE "a b"."t.""x" VALIDATE CONSTRAINT "k, (1)";'


@pytest.mark.parametrize(
    "definition",
    [
        "ALTER TABLE ONLY s.t ADD CONSTRAINT k FOREIGN KEY (a, PERIOD during) REFERENCES s.r(a, PERIOD during);",
        "ALTER TABLE ONLY s.t ADD CONSTRAINT k UNIQUE (a);",
        "",
    ],
)
def test_others_are_left_alone(definition):
    assert foreign_keys.parse(definition) is None
