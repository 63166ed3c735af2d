# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types that can be altered: domains, enums and composite types, with their parts by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import CheckShape, Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import known_columns

# Types that an extension made, and those of tables, are altered with these.
TYPES = f"""
    WITH own AS MATERIALIZED (
        SELECT t.oid, t.typtype, t.typname, t.typrelid, t.typowner, t.typnotnull, n.nspname,
               coalesce(pg_get_expr(t.typdefaultbin, 0), quote_literal(t.typdefault)) AS default
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace LEFT JOIN pg_class AS c ON c.oid = t.typrelid
        WHERE t.oid >= 16384 AND t.typtype IN ('c', 'd', 'e', 'r') AND (t.typtype <> 'c' OR c.relkind = 'c')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT starts_with(coalesce(obj_description(n.oid, 'pg_namespace'), ''), '{MARK}')
        AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_type'::regclass
                        AND d.objid = t.oid AND d.deptype = 'e')),
    labels AS (
        SELECT e.enumtypid AS oid, jsonb_agg(jsonb_build_object(
            'number', e.oid::bigint, 'name', e.enumlabel, 'age', age(e.xmin)) ORDER BY e.enumsortorder) AS found
        FROM pg_enum AS e GROUP BY 1),
    attributes AS (
        SELECT own.oid, jsonb_agg(jsonb_build_object(
            'number', a.attnum, 'name', a.attname, 'age', age(a.xmin), 'gone', a.attisdropped,
            'type', CASE WHEN NOT a.attisdropped THEN format_type(a.atttypid, a.atttypmod) || coalesce((
                SELECT format(' COLLATE %I.%I', s.nspname, o.collname) FROM pg_collation AS o
                JOIN pg_namespace AS s ON s.oid = o.collnamespace
                WHERE o.oid = a.attcollation AND o.oid <> t.typcollation), '') END) ORDER BY a.attnum) AS found
        FROM own JOIN pg_attribute AS a ON a.attrelid = own.typrelid LEFT JOIN pg_type AS t ON t.oid = a.atttypid
        WHERE own.typtype = 'c' AND a.attnum > 0 GROUP BY 1),
    checks AS (
        SELECT k.contypid AS oid, jsonb_agg(jsonb_build_object(
            'oid', k.oid::bigint, 'name', k.conname, 'sql', pg_get_constraintdef(k.oid), 'checked', k.convalidated,
            'inherited', false)) AS found
        FROM pg_constraint AS k WHERE k.contypid <> 0 AND k.contype = 'c' GROUP BY 1)
    SELECT jsonb_build_object(
        'oid', own.oid::bigint, 'schema', own.nspname, 'name', own.typname, 'kind', own.typtype,
        'owner', pg_get_userbyid(own.typowner), 'not_null', own.typnotnull, 'default', own.default,
        'parts', coalesce(labels.found, attributes.found, '[]'), 'checks', coalesce(checks.found, '[]')) AS type
    FROM own LEFT JOIN labels USING (oid) LEFT JOIN attributes USING (oid) LEFT JOIN checks USING (oid)"""
DOMAIN, ENUM, COMPOSITE = "d", "e", "c"


@dataclass(frozen=True)
class PartShape:
    """A label of an enum, or an attribute of a composite type, with its ``type``; ``gone``: it was dropped."""

    number: int
    name: str
    type: str | None = None
    gone: bool = False
    age: int = field(default=0, compare=False)


@dataclass(frozen=True)
class TypeShape:
    """A type. ``kind`` is pg_type.typtype; ``parts`` in their order, by number; ``not_null``, ``default`` and
    ``checks`` are a domain's.
    """

    oid: int
    schema: str
    name: str
    kind: str
    owner: str = field(compare=False)
    not_null: bool = False
    default: str | None = None
    parts: dict[int, PartShape] = field(default_factory=dict)
    checks: dict[int, CheckShape] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.schema, self.name

    def named(self, name: str) -> PartShape | None:
        """The part of that name."""
        return next((one for one in self.parts.values() if one.name == name and not one.gone), None)


def read(connection: Connection) -> dict[int, TypeShape]:
    """All of them, by oid."""
    return parse(one for (one,) in rows(connection, TYPES))


def parse(found: Iterable[dict[str, Any]]) -> dict[int, TypeShape]:
    """Types as TYPES has them, or the journal, by oid."""
    return {one["oid"]: _shape(one) for one in found}


def _shape(found: dict[str, Any]) -> TypeShape:
    parts = {one["number"]: PartShape(**one) for one in found["parts"]}
    checks = {one["oid"]: CheckShape(**one) for one in found["checks"]}
    return TypeShape(**{**found, "parts": parts, "checks": checks})


def recorded(connection: Connection, identifier: str) -> dict[int, TypeShape] | None:
    """What the journal has of the publisher's types; None where that is nothing."""
    found = known_columns.read(connection, identifier, "types")
    return None if found is None else parse(found)


def record(connection: Connection, identifier: str, known: dict[int, TypeShape]) -> None:
    """Let the journal know these, and no others."""
    known_columns.write(connection, identifier, "types", [_as_json(one) for one in known.values()])


def _as_json(shape: TypeShape) -> dict[str, Any]:
    parts, checks = ([vars(one) for one in found.values()] for found in (shape.parts, shape.checks))
    return {**vars(shape), "parts": parts, "checks": checks}
