# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of replica identity: how the target finds the row that was updated or deleted on the source.

PostgreSQL documentation, 29.1 (Publication) and ALTER TABLE, REPLICA IDENTITY; src/backend/executor/execReplication.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.tables import columns_made_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.wording import counted, script, some

CONTINUOUS = ("continuous",)
SMALL = 1000  # rows; to read them all for each change costs next to nothing

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
    """A table and its indexes. ``identity`` is pg_class.relreplident, ``changes`` updates and deletes so far,
    ``new_index`` a name for another index, ``columns`` those that have statistics, the most selective first.
    """

    oid: int
    name: str
    identity: str
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
           greatest(own.reltuples, 0)::bigint,
           pg_stat_get_tuples_updated(own.oid) + pg_stat_get_tuples_deleted(own.oid),
           quote_ident(left(own.relname, 54) || '_identity'),
           ARRAY(SELECT quote_ident(s.attname) FROM pg_stats AS s
                 WHERE s.schemaname = own.nspname AND s.tablename = own.relname AND NOT s.inherited
                 ORDER BY CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * own.reltuples ELSE s.n_distinct END DESC),
           keys.*
    FROM own LEFT JOIN keys ON keys.indrelid = own.oid ORDER BY 2, keys.name"""


def keyed_tables(database: Database) -> list[Keyed]:
    """Tables that are not identified by a primary key of plain columns, ordered by name."""
    found: dict[int, Keyed] = {}
    for oid, name, identity, rows, changes, new_index, columns, _table, *index in database.rows(KEYED):
        table = found.setdefault(oid, Keyed(oid, name, identity, rows, changes, new_index, columns))
        if index[0] is not None:
            table.indexes.append(Index(*index))
    return list(found.values())


def without_equality(database: Database) -> dict[int, list]:
    """Columns of types that no two values of can be compared, by the oid of their table."""
    found: dict[int, list] = {}
    for column in columns_made_of(database, NO_EQUALITY):
        found.setdefault(column.table_oid, []).append(column)
    return found


@database_check("replica_identity", "Every table has a replica identity.", CONTINUOUS)
def replica_identity(database: Database):
    """A published table without one refuses UPDATE and DELETE, the application's too. A deferrable primary key and an
    index that is gone or invalid are none.
    """
    incomparable = database.once(without_equality)
    lacking = [one for one in database.once(keyed_tables) if one.identity != "f" and not one.used]
    found = [(*_way_to_identity(table, table.oid in incomparable), table) for table in lacking]
    found.sort(key=lambda row: (row[0], row[2].name))
    for way, group in groupby(found, key=lambda row: row[0]):
        statements, tables = zip(*((statement, table) for _way, statement, table in group))
        changed = sum(table.changes > 0 for table in tables)
        yield Finding(
            "blocker",
            f"{counted(len(tables), 'table')} without a replica identity, {way}: "
            f"{some([table.name for table in tables])}. Rows were updated or deleted in {changed} of them so far.",
            "From the moment that such a table is published, the application's UPDATE and DELETE on it fail.",
            script(statements),
            [table.name for table in tables],
        )


def _way_to_identity(table: Keyed, incomparable: bool) -> tuple[str, str]:
    """(what there is to make an identity of, the SQL that does it), the cheapest way."""
    alter, candidate = f"ALTER TABLE {table.name}", table.candidate
    if table.primary:
        return "though it has a primary key", f"{alter} REPLICA IDENTITY DEFAULT;"
    if candidate and not candidate.nullable:
        return "though a unique index would do", f"{alter} REPLICA IDENTITY USING INDEX {candidate.name};"
    if candidate:
        columns = ", ".join(f"ALTER COLUMN {column} SET NOT NULL" for column in candidate.nullable)
        statement = f"{alter} {columns}; {alter} REPLICA IDENTITY USING INDEX {candidate.name};"
        return "though a unique index would do if its columns were NOT NULL", statement
    deferrable = next((index for index in table.indexes if index.primary), None)
    if deferrable:
        columns = ", ".join(deferrable.columns)
        statement = f"CREATE UNIQUE INDEX CONCURRENTLY {table.new_index} ON {table.name} ({columns});"
        statement += f"\n{alter} REPLICA IDENTITY USING INDEX {table.new_index};"
        return "as its primary key is deferrable", statement
    if incomparable:
        statement = f"{alter} ADD COLUMN handover_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY; -- rewrites it"
        return "nor a unique index, with columns whose type has no equality", statement
    return "nor a unique index", f"{alter} REPLICA IDENTITY FULL; -- better: ADD PRIMARY KEY, if columns are unique"


@database_check("replica_identity_generated", "No replica identity contains a generated column.", CONTINUOUS)
def replica_identity_generated(database: Database):
    """Generated columns are computed by the target, not sent to it, so that it cannot search for them."""
    for table in database.once(keyed_tables):
        if table.used and table.used.has_generated:
            other = table.candidate if table.candidate and not table.candidate.nullable else None
            yield Finding(
                "blocker",
                f"The replica identity of {table.name}, {table.used.name}, contains a generated column.",
                "The target stops at the first UPDATE or DELETE, and PostgreSQL 18 refuses it on the source.",
                f"ALTER TABLE {table.name} REPLICA IDENTITY USING INDEX {other.name};"
                if other
                else f"Make a unique index on NOT NULL columns of {table.name} that are not generated, "
                "and name it as the replica identity.",
                [table.name],
            )


@database_check("replica_identity_equality", "Rows without another identity can be compared.", CONTINUOUS)
def replica_identity_equality(database: Database):
    """REPLICA IDENTITY FULL without a primary key compares whole rows; json, xml, point and others have no equality."""
    incomparable = database.once(without_equality)
    tables = [table for table in _without_key(database) if table.oid in incomparable]
    if tables:
        columns = [column for table in tables for column in incomparable[table.oid]]
        reasons = [f"{column} is {column.type}" + _made_of(column) for column in columns]
        yield Finding(
            "blocker",
            f"{counted(len(tables), 'table')} with REPLICA IDENTITY FULL, and columns of types that have no equality: "
            f"{some(reasons)}.",
            "The target stops at the first UPDATE or DELETE of such a table in which the column is not null.",
            script([_way_to_identity(table, True)[1] for table in tables]),
            [table.name for table in tables],
        )


def _made_of(column) -> str:
    return "" if column.part == column.type else f", which contains {column.part}"


def _without_key(database: Database) -> list[Keyed]:
    """Tables with REPLICA IDENTITY FULL; apply prefers a primary key where there is one."""
    return [table for table in database.once(keyed_tables) if table.identity == "f" and not table.primary]


@database_check("replica_identity_full", "Rows are found without reading whole tables.", CONTINUOUS)
def replica_identity_full(database: Database):
    """REPLICA IDENTITY FULL: without a primary key, a target before 16 reads the whole table for each row that changes;
    a later one searches with an index, if there is one that begins with a plain column.
    """
    incomparable = database.once(without_equality)
    groups: dict[str, list[Keyed]] = {"searched": [], "small": [], "slow": []}
    for table in _without_key(database):
        if table.oid not in incomparable:
            index = _searched(table, database.target)
            groups["searched" if index else "small" if table.rows <= SMALL else "slow"].append(table)
    for group, tables in groups.items():
        if tables:
            tables.sort(key=lambda table: -table.rows)
            yield _full(group, tables, database.target)


def _searched(table: Keyed, target: Side | None) -> Index | None:
    """The index with which the target would search; hash indexes serve from 17 on."""
    major = target.server.major if target else 0
    methods = ("btree", "hash") if major >= 17 else ("btree",) if major == 16 else ()
    return next((one for one in table.indexes if one.searchable and one.method in methods), None)


def _full(group: str, tables: list[Keyed], target: Side | None) -> Finding:
    details = some([f"{table.name} ({table.rows} rows, {table.changes} changes so far)" for table in tables])
    consequence = {
        "searched": "The target searches with an index; the source writes whole old rows to WAL.",
        "small": "The target reads the whole table for each row that changes, but it is small.",
        "slow": "The target reads the whole table for each row that is updated or deleted. It may never catch up.",
    }
    return Finding(
        "warning" if group == "slow" else "info",
        f"{counted(len(tables), 'table')} with REPLICA IDENTITY FULL and no primary key: {details}.",
        consequence[group],
        script([_faster(table, target) for table in tables]) if group == "slow" else "",
        [table.name for table in tables],
    )


def _faster(table: Keyed, target: Side | None) -> str:
    """The index that would help."""
    if table.candidate or any(index.primary for index in table.indexes):
        return _way_to_identity(table, False)[1]
    if target and target.server.major >= 16 and table.columns:
        return f"CREATE INDEX CONCURRENTLY {table.new_index} ON {table.name} ({table.columns[0]});"
    return f"-- give {table.name} a primary key, if any of its columns are unique"
