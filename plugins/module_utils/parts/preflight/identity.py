# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of replica identity: how the target finds the row that was updated or deleted on the source.

PostgreSQL documentation, 29.1 (Publication) and ALTER TABLE, REPLICA IDENTITY; src/backend/executor/execReplication.c.
"""

from __future__ import annotations

from itertools import groupby

from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.identity import (
    Index,
    Keyed,
    keyed_tables,
    may_be_full,
    way_to_identity,
    without_equality,
)

CONTINUOUS = ("continuous",)
SMALL = 1000  # rows; to read them all for each change costs next to nothing


@database_check("replica_identity", "Every table has a replica identity.", CONTINUOUS)
def replica_identity(database: Database):
    """A published table without one refuses UPDATE and DELETE, the application's too. A deferrable primary key and an
    index that is gone or invalid are none.
    """
    incomparable = database.once(without_equality)
    breaks = "From the moment that such a table is published, the application's UPDATE and DELETE on it fail."
    found = []
    for table in database.once(keyed_tables):
        if table.identity != "f" and not table.used:
            way, statement = way_to_identity(table, table.oid in incomparable)
            found.append((way, _judged(database, table, breaks), table.name, statement, table))
    found.sort(key=lambda row: row[:3])
    for (way, judged), group in groupby(found, key=lambda row: row[:2]):
        statements, tables = zip(*(row[3:] for row in group))
        changed = sum(table.changes > 0 for table in tables)
        yield Finding(
            judged[0],
            f"{counted(len(tables), 'table')} without a replica identity, {way}: "
            f"{some([table.name for table in tables])}. Rows were updated or deleted in {changed} of them so far.",
            judged[1],
            script(statements),
            [table.name for table in tables],
        )


def _judged(database: Database, table: Keyed, consequence: str) -> tuple[str, str]:
    """(level, consequence) for a table that cannot be replicated as it is, by the operator's choice of no_identity."""
    choice = database.pair.options.no_identity
    if choice == "copy_at_cutover":
        return "warning", "It is not replicated, but copied at the cutover, while writers wait."
    if choice == "full" and table.identity != "f" and may_be_full(table, table.oid in database.once(without_equality)):
        return "warning", "Its replica identity becomes FULL for the time of the migration."
    return "blocker", consequence


@database_check("replica_identity_generated", "No replica identity contains a generated column.", CONTINUOUS)
def replica_identity_generated(database: Database):
    """Generated columns are computed by the target, not sent to it, so that it cannot search for them."""
    for table in database.once(keyed_tables):
        if table.used and table.used.has_generated:
            other = table.candidate if table.candidate and not table.candidate.nullable else None
            stops = "The target stops at the first UPDATE or DELETE, and PostgreSQL 18 refuses it on the source."
            level, consequence = _judged(database, table, stops)
            yield Finding(
                level,
                f"The replica identity of {table.name}, {table.used.name}, contains a generated column.",
                consequence,
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
        stops = "The target stops at the first UPDATE or DELETE of such a table in which the column is not null."
        level, consequence = _judged(database, tables[0], stops)
        yield Finding(
            level,
            f"{counted(len(tables), 'table')} with REPLICA IDENTITY FULL, and columns of types that have no equality: "
            f"{some(reasons)}.",
            consequence,
            script([way_to_identity(table, True)[1] for table in tables]),
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
        return way_to_identity(table, False)[1]
    if target and target.server.major >= 16 and table.columns:
        return f"CREATE INDEX CONCURRENTLY {table.new_index} ON {table.name} ({table.columns[0]});"
    return f"-- give {table.name} a primary key, if any of its columns are unique"
