# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replica identities: how the target finds the row that was updated or deleted on the source.

PostgreSQL documentation, 29.1 (Publication) and ALTER TABLE, REPLICA IDENTITY; src/backend/executor/execReplication.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.columns import columns_made_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import execute_patiently

# From this major on a publisher refuses UPDATE and DELETE where an identity contains a generated column, as FULL does.
FULL_WITHOUT_GENERATED = 18

# Equality as the apply worker looks it up: by the default operator class of the type, or of one with the same bytes.
NO_EQUALITY = """
    t.typtype = 'b' AND NOT (t.typcategory = 'A' AND t.typelem <> 0) AND NOT EXISTS (
        SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod
        WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND (o.opcintype = t.oid OR EXISTS (
            SELECT FROM pg_cast AS k WHERE k.castsource = t.oid AND k.casttarget = o.opcintype
            AND k.castmethod = 'b' AND k.castcontext = 'i')))"""


@dataclass(frozen=True)
class Index:
    """One index of a table; names are quoted, ``columns`` and ``nullable`` are of its key.

    ``fit``: valid, unique, checked at once and over all rows, so that the server may take it for identity.
    ``searchable``: usable for REPLICA IDENTITY FULL, if the target knows how to and the method is right.
    """

    name: str
    primary: bool
    chosen: bool
    fit: bool
    method: str
    columns: list
    nullable: list
    has_generated: bool
    has_expressions: bool
    searchable: bool


@dataclass
class Keyed:
    """A table and its indexes. ``identity`` is pg_class.relreplident, ``generates`` whether a column is generated,
    ``changes`` updates and deletes so far, ``new_index`` a name for another index, ``columns`` those that have
    statistics, the most selective first.
    """

    oid: int
    name: str
    identity: str
    generates: bool
    rows: int
    changes: int
    new_index: str
    columns: list
    indexes: list[Index] = field(default_factory=list)

    @property
    def primary(self) -> Index | None:
        """The primary key, if it tells rows apart at any moment."""
        return next((index for index in self.indexes if index.primary and index.fit), None)

    @property
    def used(self) -> Index | None:
        """The index that is the identity now."""
        if self.identity == "i":
            return next((index for index in self.indexes if index.chosen and index.fit), None)
        return self.primary if self.identity == "d" else None

    @property
    def candidate(self) -> Index | None:
        """The index that could be: with the fewest columns that may be null, then with the fewest columns."""
        able = [one for one in self.indexes if one.fit and not one.primary]
        able = [one for one in able if not (one.has_generated or one.has_expressions)]
        return min(able, key=lambda index: (len(index.nullable), len(index.columns), index.name), default=None)

    @property
    def at_hand(self) -> str:
        """What would follow REPLICA IDENTITY to name an index that is there and fits; empty where there is none."""
        if self.primary and not self.primary.has_generated:
            return "DEFAULT"
        return f"USING INDEX {self.candidate.name}" if self.candidate and not self.candidate.nullable else ""

    def may_publish_full(self, major: int) -> bool:
        """Whether a publisher of that major lets the application change rows once the identity is FULL."""
        return not self.generates or major < FULL_WITHOUT_GENERATED


# Tables that are not identified by a primary key of plain columns, each with its indexes.
KEYED = f"""
    WITH own AS (
        SELECT c.oid, n.nspname, c.relname, c.relreplident, c.reltuples
        FROM {OWN_RELATIONS} AND c.relkind = 'r' AND c.relpersistence = 'p'
        AND NOT (c.relreplident = 'd' AND EXISTS (
            SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
            WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid
            GROUP BY i.indexrelid HAVING NOT bool_or(a.attgenerated <> '')))),
    keys AS (
        SELECT i.indrelid, quote_ident(x.relname) AS name, i.indisprimary, i.indisreplident,
               i.indisvalid AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AS fit, m.amname::text,
               coalesce(key.columns, '{{}}'), coalesce(key.nullable, '{{}}'), coalesce(key.generated, false),
               i.indexprs IS NOT NULL, i.indisvalid AND i.indpred IS NULL AND i.indkey[0] <> 0
        FROM own JOIN pg_index AS i ON i.indrelid = own.oid
        JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS m ON m.oid = x.relam, LATERAL (
            SELECT array_agg(quote_ident(a.attname)) AS columns, bool_or(a.attgenerated <> '') AS generated,
                   array_agg(quote_ident(a.attname)) FILTER (WHERE NOT a.attnotnull) AS nullable
            FROM pg_attribute AS a
            WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS key)
    SELECT own.oid::bigint, format('%I.%I', own.nspname, own.relname), own.relreplident::text,
           EXISTS (SELECT FROM pg_attribute AS a
                   WHERE a.attrelid = own.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''),
           greatest(own.reltuples, 0)::bigint,
           pg_stat_get_tuples_updated(own.oid) + pg_stat_get_tuples_deleted(own.oid),
           quote_ident(left(own.relname, 54) || '_identity'),
           ARRAY(SELECT quote_ident(s.attname) FROM pg_stats AS s
                 WHERE s.schemaname = own.nspname AND s.tablename = own.relname AND NOT s.inherited
                 ORDER BY CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * own.reltuples ELSE s.n_distinct END DESC),
           keys.*
    FROM own LEFT JOIN keys ON keys.indrelid = own.oid ORDER BY 2, keys.name"""


def keyed_tables(side) -> list[Keyed]:
    """Tables that are not identified by a primary key of plain columns, ordered by name."""
    found: dict[int, Keyed] = {}
    for oid, name, identity, generates, count, changes, new_index, columns, _table, *index in side.rows(KEYED):
        table = found.setdefault(oid, Keyed(oid, name, identity, generates, count, changes, new_index, columns))
        if index[0] is not None:
            table.indexes.append(Index(*index))
    return list(found.values())


def without_equality(side) -> dict[int, list]:
    """Columns of types that no two values of can be compared, by the oid of their table."""
    found: dict[int, list] = {}
    for column in columns_made_of(side, NO_EQUALITY):
        found.setdefault(column.table_oid, []).append(column)
    return found


def way_to_identity(table: Keyed, incomparable: bool, *majors: int) -> tuple[str, str]:
    """(what there is to make an identity of, the SQL that does it), the cheapest way; ``majors`` are those of the
    servers that are to publish the table.
    """
    alter, candidate = f"ALTER TABLE {table.name}", table.candidate
    if table.primary and not table.primary.has_generated:
        return "though it has a primary key", f"{alter} REPLICA IDENTITY DEFAULT;"
    if candidate and not candidate.nullable:
        return "though a unique index would do", f"{alter} REPLICA IDENTITY USING INDEX {candidate.name};"
    if candidate:
        columns = ", ".join(f"ALTER COLUMN {column} SET NOT NULL" for column in candidate.nullable)
        statement = f"{alter} {columns}; {alter} REPLICA IDENTITY USING INDEX {candidate.name};"
        return "though a unique index would do if its columns were NOT NULL", statement
    deferrable = next((index for index in table.indexes if index.primary and not index.has_generated), None)
    if deferrable:
        columns = ", ".join(deferrable.columns)
        statement = f"CREATE UNIQUE INDEX CONCURRENTLY {table.new_index} ON {table.name} ({columns});"
        statement += f"\n{alter} REPLICA IDENTITY USING INDEX {table.new_index};"
        return "as its primary key is deferrable", statement
    generated = not all(table.may_publish_full(major) for major in majors)
    if incomparable or generated or table.primary:
        why = "nor a unique index, with columns whose type has no equality"
        if generated or table.primary:
            why = "nor a unique index that would do, with generated columns"
        kind = f"CONSTRAINT {table.new_index} UNIQUE" if table.primary else "PRIMARY KEY"
        statement = f"{alter} ADD COLUMN handover_id bigint GENERATED ALWAYS AS IDENTITY {kind}; -- rewrites it"
        if table.primary:
            statement += f"\n{alter} REPLICA IDENTITY USING INDEX {table.new_index};"
        elif table.identity != "d":
            statement += f"\n{alter} REPLICA IDENTITY DEFAULT;"
        return why, statement
    return "nor a unique index", f"{alter} REPLICA IDENTITY FULL; -- better: ADD PRIMARY KEY, if columns are unique"


@dataclass(frozen=True)
class Lacking:
    """A table that may not be published as it is: ``why``, the SQL that gives it an identity (``remedy``), and what
    would serve for the time of the migration (``identity``: what follows REPLICA IDENTITY; empty where nothing does).
    ``name`` is quoted.
    """

    oid: int
    name: str
    why: str
    remedy: str
    identity: str


def lacking(side) -> list[Lacking]:
    """Tables whose updates and deletes this side would refuse, or the other could not apply, once this one publishes
    them. ``side`` is a facts.side.Side, or what has its ``rows`` and ``connection``.
    """
    incomparable, major = without_equality(side), side.connection.info.server_version // 10000
    found = []
    for table in keyed_tables(side):
        comparable, publishable = table.oid not in incomparable, table.may_publish_full(major)
        if table.identity == "f" and publishable and (comparable or table.primary):
            continue
        if table.identity == "f" and not publishable:
            why = f"its replica identity is FULL and it has generated columns, which PostgreSQL {major} refuses"
        elif table.identity == "f":
            why = "its replica identity is FULL, but the type of a column has no equality"
        elif not table.used:
            why = "it has no replica identity"
        elif table.used.has_generated:
            why = "its replica identity contains a generated column"
        else:
            continue
        remedy = way_to_identity(table, not comparable, major)[1]
        found.append(Lacking(table.oid, table.name, why, remedy, serving_identity(table, not comparable, major)))
    return found


def serving_identity(table: Keyed, incomparable: bool, major: int) -> str:
    """What follows REPLICA IDENTITY for a table without one: FULL where a publisher of that ``major`` lets rows be
    changed then and the other end finds them (apply prefers a primary key), else an index that is there. Or empty.
    """
    searchable = not table.primary.has_generated if table.primary else not incomparable
    may_be_full = searchable and table.identity != "f" and table.may_publish_full(major)
    return "FULL" if may_be_full else table.at_hand


CURRENT = """
    SELECT c.oid::bigint, c.relreplident::text, x.oid::bigint, x.relname::text
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisreplident LEFT JOIN pg_class AS x ON x.oid = i.indexrelid
    WHERE n.nspname = %s AND c.relname = %s"""
KINDS = {"d": "DEFAULT", "f": "FULL"}


def restoring_statement(connection, schema: str, table: str) -> str:
    """SQL for the other end that gives a table of this name the replica identity which it has now here."""
    _oid, kind, _index, name = rows(connection, CURRENT, (schema, table))[0]
    if kind == "i" and name:
        identity: sql.Composable = sql.SQL("USING INDEX {}").format(sql.Identifier(name))
    else:
        identity = sql.SQL(KINDS.get(kind, "NOTHING"))
    return _statement(schema, table, identity).as_string(connection)


def restoring_block(connection, schema: str, table: str, identity: str) -> str:
    """The same for this end, before it gets ``identity``: SQL that goes by the table, which may have another name by
    then, or be gone, as its index may. It does nothing to a table that has an identity of another kind by then.
    """
    oid, kind, index, _name = rows(connection, CURRENT, (schema, table))[0]
    found = f"'REPLICA IDENTITY {KINDS.get(kind, 'NOTHING')}'"
    given = next((letter for letter, word in KINDS.items() if word == identity), "i")
    if kind == "i" and index:
        chosen = f"SELECT format('REPLICA IDENTITY USING INDEX %I', relname) FROM pg_class WHERE oid = {index}"
        found = f"coalesce(({chosen}), 'REPLICA IDENTITY DEFAULT')"
    return (
        f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_class WHERE oid = {oid} AND relreplident = '{given}') THEN "
        f"EXECUTE format('ALTER TABLE %s %s', {oid}::regclass, {found}); END IF; END $$"
    )


def give(connection, schema: str, table: str, identity: str) -> None:
    """Give a table this replica identity. Raises HandoverError where the lock is not to be had."""
    execute_patiently(connection, giving_statement(schema, table, identity))


def giving_statement(schema: str, table: str, identity: str):
    """The SQL of that; ``identity`` is of Lacking, with names quoted."""
    return _statement(schema, table, sql.SQL(identity.replace("{", "{{").replace("}", "}}")).format())


def _statement(schema: str, table: str, identity):
    # IF EXISTS, as it may be dropped by the time that its identity is put back.
    alter = sql.SQL("ALTER TABLE IF EXISTS {} REPLICA IDENTITY {}")
    return alter.format(sql.Identifier(schema, table), identity)
