# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of replica identity: how the target finds the row that was updated or deleted on the source.

PostgreSQL documentation, 29.1 (Publication) and ALTER TABLE, REPLICA IDENTITY; src/backend/executor/execReplication.c.
"""

from __future__ import annotations

from itertools import groupby

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    METHODS,
    Finding,
    database_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.replica_identity import (
    FULL_WITHOUT_GENERATED,
    Index,
    Keyed,
    keyed_tables,
    serving_identity,
    way_to_identity,
    without_equality,
)

CONTINUOUS = ("continuous",)
SMALL = 1000  # rows; to read them all for each change costs next to nothing


@database_check("replica_identity", "Every table has a replica identity.", CONTINUOUS)
def replica_identity(database: Database):
    """A published table without one refuses UPDATE and DELETE, the application's too. A deferrable primary key does not
    count, nor does an index that is gone or invalid.
    """
    incomparable = database.once(without_equality)
    breaks = "As soon as such a table is published, the application's UPDATE and DELETE on it fail."
    found = []
    for table in database.once(keyed_tables):
        if table.identity != "f" and not table.used:
            way, statement = way_to_identity(table, table.oid in incomparable, *_majors(database))
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
        return "warning", "It is not replicated; the cutover copies it while writers wait."
    major = database.pair.source.server.major
    identity = serving_identity(table, table.oid in database.once(without_equality), major)
    if choice == "full" and identity:
        one_way = f" {ONE_WAY}" if identity == "FULL" and _is_one_way(database, table) else ""
        return "warning", f"Its replica identity becomes {identity} for the time of the migration.{one_way}"
    return "blocker", consequence


ONE_WAY = "Then the new home cannot publish it: a rollback copies it while writers wait."


def _majors(database: Database) -> list[int]:
    """Those of the servers that are to publish, one after the other, as far as they are known."""
    return [side.server.major for side in database.pair.sides]


def _is_one_way(database: Database, table: Keyed) -> bool:
    """Whether the target could not publish it with REPLICA IDENTITY FULL, nor has another identity for it."""
    target = database.target
    return bool(target) and not table.may_publish_full(target.server.major) and not table.at_hand


@database_check("replica_identity_generated", "No replica identity contains a generated column.", CONTINUOUS)
def replica_identity_generated(database: Database):
    """The target computes generated columns and does not receive them, so it cannot search by them. REPLICA IDENTITY
    FULL contains them as well: from PostgreSQL 18 on, a server that publishes the table refuses its UPDATE and DELETE;
    after the cutover that is the target, for the way back.
    """
    yield from _full_and_generated(database)
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


def _full_and_generated(database: Database):
    incomparable = database.once(without_equality)
    for table in database.once(keyed_tables):
        if table.identity != "f" or not table.generates:
            continue
        statement = way_to_identity(table, table.oid in incomparable, FULL_WITHOUT_GENERATED)[1]
        if not table.may_publish_full(database.pair.source.server.major):
            breaks = "As soon as it is published, the application's UPDATE and DELETE on it fail."
            level, consequence = _judged(database, table, breaks)
        elif _is_one_way(database, table):
            level, consequence = "warning", ONE_WAY
        else:
            continue
        yield Finding(
            level,
            f"The replica identity of {table.name} is FULL, and a column of it is generated.",
            consequence,
            statement,
            [table.name],
        )


PUBLISHED = """
    SELECT DISTINCT leaf.oid::bigint, quote_ident(p.pubname)
    FROM unnest(%s::oid[]) AS leaf (oid),
    LATERAL (SELECT leaf.oid UNION SELECT relid FROM pg_partition_ancestors(leaf.oid)) AS up (oid)
    JOIN pg_class AS c ON c.oid = up.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_publication_tables AS t ON t.schemaname = n.nspname AND t.tablename = c.relname
    JOIN pg_publication AS p ON p.pubname = t.pubname
    WHERE (p.pubupdate OR p.pubdelete) AND NOT starts_with(p.pubname, 'handover_') ORDER BY 2"""


@database_check(
    "published_generated", "No publication stops the application from changing rows on the target.", METHODS, True
)
def published_generated(database: Database):
    """Your own publications come along. From PostgreSQL 18 on, a server refuses UPDATE and DELETE on a published table
    whose replica identity contains a generated column, as FULL does; before, it did not.
    """
    source, target = database.pair.source.server.major, database.target.server.major
    if source >= FULL_WITHOUT_GENERATED or target < FULL_WITHOUT_GENERATED:
        return
    refused = {
        table.oid: table
        for table in database.once(keyed_tables)
        if (table.identity == "f" and table.generates) or (table.used and table.used.has_generated)
    }
    found: dict[int, list[str]] = {}
    for oid, name in database.rows(PUBLISHED, (list(refused),)) if refused else ():
        found.setdefault(oid, []).append(name)
    for oid, names in found.items():
        table = refused[oid]
        yield Finding(
            "blocker",
            f"{table.name} is published by {some(names)}, and its replica identity contains a generated column.",
            f"PostgreSQL {target} refuses UPDATE and DELETE on such a table, so the application's would fail there.",
            way_to_identity(table, oid in database.once(without_equality), target)[1],
            [table.name],
        )


@database_check("replica_identity_equality", "Rows without another identity can be compared.", CONTINUOUS)
def replica_identity_equality(database: Database):
    """REPLICA IDENTITY FULL without a primary key compares whole rows; json, xml, point and others have no equality."""
    incomparable = database.once(without_equality)
    stops = "The target stops at the first UPDATE or DELETE on such a table where the column is not null."
    found = [(_judged(database, table, stops), table) for table in _without_key(database) if table.oid in incomparable]
    found.sort(key=lambda one: one[0])
    for (level, consequence), group in groupby(found, key=lambda one: one[0]):
        tables = [table for _judged_so, table in group]
        columns = [column for table in tables for column in incomparable[table.oid]]
        reasons = [f"{column} is {column.type}" + _made_of(column) for column in columns]
        yield Finding(
            level,
            f"{counted(len(tables), 'table')} with REPLICA IDENTITY FULL, and columns of types that have no equality: "
            f"{some(reasons)}.",
            consequence,
            script([way_to_identity(table, True, *_majors(database))[1] for table in tables]),
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
    details = some(
        [f"{table.name} ({counted(table.rows, 'row')}, {counted(table.changes, 'change')} so far)" for table in tables]
    )
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
        return way_to_identity(table, False, FULL_WITHOUT_GENERATED)[1]
    if target and target.server.major >= 16 and table.columns:
        return f"CREATE INDEX CONCURRENTLY {table.new_index} ON {table.name} ({table.columns[0]});"
    return f"-- give {table.name} a primary key, if any of its columns are unique"
