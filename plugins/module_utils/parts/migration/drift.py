# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema drift: what was changed in the definition of tables since a migration took them over.

Logical replication carries rows, not definitions (PostgreSQL documentation, 29.8): apply stops at what it cannot fit.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    OWN_RELATIONS,
    quoted_names,
    rows,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.printed_definitions import of_addresses

MEMBERSHIP = ("new", "gone", "replaced")  # changes of which tables there are

# Of each table with rows of its own: which it is, as a publication goes by that and not by the name; columns, the
# replica identity, what apply would run against on the target, and what would be another there after a cutover.
# Expressions without columns are read without their table, which needs no lock. Keys to the parts of a table come and
# go with these.
FINGERPRINT = f"""
    WITH RECURSIVE own AS (SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relpersistence
                           FROM {OWN_RELATIONS} AND c.relkind = 'r'),
    line AS (
        SELECT own.oid AS leaf, to_jsonb(i) AS i, i.inhrelid, i.inhparent
        FROM own JOIN pg_inherits AS i ON i.inhrelid = own.oid
        UNION ALL SELECT line.leaf, to_jsonb(i), i.inhrelid, i.inhparent
        FROM line JOIN pg_inherits AS i ON i.inhrelid = line.inhparent),
    parents AS (
        SELECT line.leaf, jsonb_object_agg(
            format('%I.%I', n.nspname, p.relname),
            md5(concat(pg_get_expr(c.relpartbound, 0), CASE i->>'inhdetachpending' WHEN 'true' THEN '?' END))) AS found
        FROM line JOIN pg_class AS c ON c.oid = line.inhrelid JOIN pg_class AS p ON p.oid = line.inhparent
        JOIN pg_namespace AS n ON n.oid = p.relnamespace GROUP BY 1),
    enum AS (
        SELECT t.oid, t.typarray, format('%I.%I', n.nspname, t.typname) AS name, ARRAY(
            SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels
        FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.typtype = 'e'),
    of_enum AS (SELECT oid, name, labels FROM enum UNION ALL SELECT typarray, name, labels FROM enum),
    named AS (SELECT * FROM of_enum UNION ALL SELECT d.oid, e.name, e.labels
              FROM pg_type AS d JOIN of_enum AS e ON e.oid = d.typbasetype WHERE d.typtype = 'd'),
    enums AS (
        SELECT a.attrelid, jsonb_object_agg(named.name, named.labels) AS found
        FROM named JOIN pg_attribute AS a ON a.atttypid = named.oid
        WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY 1)
    SELECT format('%I.%I', own.nspname, own.relname) AS name, jsonb_build_object(
        'oid', own.oid::bigint,
        'columns', coalesce((
            SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
                || CASE WHEN a.attgenerated <> '' THEN ' GENERATED' ELSE '' END)
            FROM pg_attribute AS a WHERE a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped), '{{}}'),
        'identity', own.relreplident::text || coalesce((
            SELECT ': ' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
            FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = own.oid AND a.attnum = ANY (i.indkey::int2[])
            WHERE i.indrelid = own.oid AND CASE own.relreplident WHEN 'i' THEN i.indisreplident
                                                ELSE own.relreplident = 'd' AND i.indisprimary END), ''),
        'unlogged', own.relpersistence = 'u',
        'constraints', (
            SELECT md5(string_agg({of_addresses("pg_get_constraintdef(k.oid)")}, ';' ORDER BY k.conname))
            FROM pg_constraint AS k WHERE k.conrelid = own.oid AND k.contype IN ('c', 'x') AND k.convalidated),
        'unique', (
            SELECT md5(string_agg(pg_get_indexdef(i.indexrelid), ';' ORDER BY pg_get_indexdef(i.indexrelid)))
            FROM pg_index AS i WHERE i.indrelid = own.oid AND i.indisunique AND i.indisvalid),
        'parents', parents.found,
        'enums', enums.found,
        'defaults', (
            SELECT md5(string_agg(concat_ws(' ', a.attname, CASE a.attgenerated
                WHEN '' THEN pg_get_expr(d.adbin, 0) ELSE pg_get_expr(d.adbin, d.adrelid) END), ';' ORDER BY a.attname))
            FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
            WHERE d.adrelid = own.oid),
        'foreign_keys', (
            SELECT md5(string_agg(one.definition, ';' ORDER BY one.definition)) FROM (
                SELECT replace(pg_get_constraintdef(k.oid), ' NOT VALID', '') AS definition FROM pg_constraint AS k
                WHERE k.conrelid = own.oid AND k.contype = 'f' AND NOT EXISTS (
                    SELECT FROM pg_constraint AS u WHERE u.oid = k.conparentid AND u.confrelid <> k.confrelid)) AS one)
        ) AS found
    FROM own LEFT JOIN parents ON parents.leaf = own.oid LEFT JOIN enums ON enums.attrelid = own.oid"""

CHANGES = {
    "identity": "its replica identity changed",
    "unlogged": "it was made unlogged, or logged",
    "constraints": "its CHECK or exclusion constraints changed",
    "unique": "its unique indexes changed",
    "parents": "it was attached to a parent or detached, or the bound of a partition changed",
    "defaults": "the default or the expression of a column changed",
    "foreign_keys": "its foreign keys changed",
    "enums": "the labels of an enum changed",
}


def fingerprint(connection) -> dict[str, dict]:
    """What there is to compare, by quoted name, of every table that is not an extension's. JSON types."""
    return dict(rows(connection, FINGERPRINT))


def of_another(connection) -> dict[str, dict]:
    """The same for a comparison with that of another server: definitions whole, all names spelled alike, that of the
    table as ``unquoted`` has it.
    """
    return _spelled("", dict(rows(connection, FINGERPRINT.replace("md5(", "("))))


def _spelled(part: str, found):
    """A part of a fingerprint as any server would write it; names of columns are not quoted to begin with."""
    if isinstance(found, dict):
        keys = {name: name if part == "columns" else unquoted(name) for name in found}
        return {keys[name]: _spelled(name if part != "columns" else "", one) for name, one in found.items()}
    return unquoted(found) if isinstance(found, str) else found


def differences(recorded: dict[str, dict], current: dict[str, dict]) -> list[dict]:
    """What is different now, ordered by table: ``table`` (quoted), ``change`` (new, gone, replaced, renamed, columns,
    or a key of CHANGES), ``columns`` (names that were added, dropped or altered), ``detail`` for people.
    """
    names = {one["oid"]: name for name, one in current.items()}
    renamed = {name: names[one["oid"]] for name, one in recorded.items() if names.get(one["oid"], name) != name}
    found = []
    for name in sorted({*recorded, *current}):
        if name in renamed:
            found.append(_difference(name, "renamed", f"its name is {renamed[name]} now"))
        elif name in renamed.values():
            pass  # said of the other name: what stands here is in a publication already
        elif name not in recorded:
            found.append(_difference(name, "new", "it was made after the migration began"))
        elif name not in current:
            found.append(_difference(name, "gone", "it was dropped"))
        elif recorded[name]["oid"] != current[name]["oid"]:
            found.append(_difference(name, "replaced", "it was dropped, and another table has its name"))
        else:
            found += _changes(name, recorded[name], current[name])
    return found


def since(migration, connection) -> list[dict]:
    """What differs from what a migration has recorded, as :func:`differences`."""
    names = quoted_names(connection, [(table.schema, table.name) for table in migration.tables])
    return since_recorded(migration, names, fingerprint(connection))


def since_recorded(migration, names: list[str | None], current: dict[str, dict]) -> list[dict]:
    """The same of a fingerprint; ``names`` are those of the migration's tables, quoted, in their order.

    Tables that wait for their wave, or for the cutover, are known, though not compared. One that is in step, and of
    which nothing is recorded, may be another than the one that was copied: it counts as replaced.
    """
    waves = {wave.number for wave in migration.subscribed}
    known, unrecorded = set(names), {name for name, one in zip(names, migration.tables) if one.wave in waves}
    found = []
    for one in differences(migration.fingerprint or {}, current):
        if one["change"] == "new" and one["table"] in unrecorded:
            found.append(_difference(one["table"], "replaced", "it may not be the table that was copied"))
        elif one["change"] != "new" or one["table"] not in known:
            found.append(one)
    return found


def describe(found: list[dict], limit: int = 20) -> str:
    """For messages: ``public.orders: column note was added; ...``."""
    shown = "; ".join(f"{one['table']}: {one['detail']}" for one in found[:limit])
    return shown + (f"; and {len(found) - limit} more" if len(found) > limit else "")


def _changes(name: str, before: dict, after: dict) -> list[dict]:
    found = []
    old, new = before["columns"], after["columns"]
    words = [f"column {column} was dropped" for column in sorted(old.keys() - new.keys())]
    words += [f"column {column} was added" for column in sorted(new.keys() - old.keys())]
    altered = sorted(column for column in old.keys() & new.keys() if old[column] != new[column])
    words += [f"column {column} was {old[column]} and is {new[column]}" for column in altered]
    if words:
        columns = sorted({*(old.keys() ^ new.keys()), *altered})
        found.append(_difference(name, "columns", ", ".join(words), columns))
    known = [key for key in CHANGES if key in before]  # journals of an earlier release have fewer
    for key in known:
        if before[key] != after.get(key):
            more = enum_statements(before[key] or {}, after.get(key) or {}) if key == "enums" else []
            found.append(_difference(name, key, CHANGES[key] + (f" ({' '.join(more)})" if more else "")))
    return found


def enum_statements(before: dict, after: dict) -> list[str]:
    """What was run to give enums labels that they have now: ``{quoted name: labels in their order}``."""
    found = []
    for name in sorted(before.keys() & after.keys()):
        labels, first = after[name], "".join(f" BEFORE {constant(label)}" for label in before[name][:1])
        for position, label in enumerate(labels):
            if label not in before[name]:
                place = f" AFTER {constant(labels[position - 1])}" if position else first
                found.append(f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {constant(label)}{place};")
    return found


def _difference(table: str, change: str, detail: str, columns: list[str] | None = None) -> dict:
    return {"table": table, "change": change, "columns": columns or [], "detail": detail}
