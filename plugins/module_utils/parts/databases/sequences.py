# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of sequences, read from one server and set on another, many at a time.

Sequences are not under snapshots: what is read is the value of this moment (PostgreSQL documentation, 9.17).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    OWN_RELATIONS,
    columns_of,
    records,
    rows,
)

TOGETHER = 500  # sequences that one statement sets; each takes a lock
UNITED = 80  # that one query reads: the time for planning it grows with the square, most before 16
AT_ONCE = 6  # such queries in one statement

# The user's, also those that stand alone; extensions' own only where they are configuration.
SEQUENCES = f"""
    pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid IN (SELECT c.oid FROM {OWN_RELATIONS} AND c.relkind = 'S'
                    UNION ALL SELECT unnest(extconfig) FROM pg_extension)"""


# pg_sequence_last_value() is NULL of those that gave no value, ever or since setval(..., false).
POSITIONS = f"""
    SELECT n.nspname::text, c.relname::text, s.seqincrement, s.seqmin, s.seqmax, pg_sequence_last_value(c.oid)
    FROM {SEQUENCES} ORDER BY n.nspname, c.relname"""


@dataclass(frozen=True)
class Sequence:
    """``value`` is what nextval() gave last if ``is_called``, else what it will give next."""

    schema: str
    name: str
    value: int
    is_called: bool
    increment: int
    least: int
    most: int

    @property
    def key(self) -> tuple[str, str]:
        return self.schema, self.name

    def advanced(self, margin: int) -> Sequence:
        """As if nextval() had been called ``margin`` times more, within the sequence's bounds."""
        if not margin:
            return self
        value = self.value + margin * self.increment
        return replace(self, value=max(self.least, min(self.most, value)))


def read(connection, only: list[tuple[str, str]] | None = None) -> list[Sequence]:
    """All sequences of the database, or ``only`` these, (schema, name) each."""
    query = f"""
        SELECT n.nspname::text, c.relname::text, s.seqincrement, s.seqmin, s.seqmax
        FROM {SEQUENCES} ORDER BY n.nspname, c.relname"""
    chosen = None if only is None else set(only)
    return _read(connection, [row for row in rows(connection, query) if chosen is None or row[:2] in chosen])


def _read(connection, found: list[tuple]) -> list[Sequence]:
    """Rows are schema, name, increment, least, most."""
    queries = [_values(group) for group in in_groups(found, UNITED)]
    values = [value for some in in_groups(queries, AT_ONCE) for value in _answers(connection, some)]
    return [Sequence(row[0], row[1], *value, *row[2:]) for row, value in zip(found, values)]


def moved(connection, known: list[Sequence]) -> list[Sequence]:
    """Those that do not stand any more where they were ``known`` to stand, or are not among these.

    pg_sequence_last_value() answers for two thousand in 10 ms, where reading them as tables takes a quarter of a
    second. It is silent about those that gave no value (ever, or since setval(..., false)), which are read as tables.
    """
    return moved_in(connection, known, rows(connection, POSITIONS))


def moved_in(connection, known: list[Sequence], positions: list[tuple]) -> list[Sequence]:
    """The same of what POSITIONS gave. It asks again only for those of which that says nothing."""
    before = {one.key: one for one in known}
    here = [
        Sequence(schema, name, last, True, increment, least, most)
        for schema, name, increment, least, most, last in positions
        if last is not None
    ]
    silent = [row[:-1] for row in positions if row[-1] is None and not _stands(before, tuple(row[:2]), None)]
    return [one for one in (*here, *_read(connection, silent)) if one != before.get(one.key)]


def overtaken(connection, known: list[Sequence]) -> list[Sequence]:
    """Those of the ``known`` that have given values since, in one answer."""
    return overtaken_in(known, rows(connection, last_values(known)))


def last_values(known: list[Sequence]) -> sql.Composable:
    """The query of what each of the ``known`` gave last."""
    query = """
        SELECT schema, name, pg_sequence_last_value(to_regclass(format('%I.%I', schema, name)))
        FROM unnest({}::text[], {}::text[]) AS s (schema, name)"""
    return sql.SQL(query).format(*map(sql.Literal, columns_of([one.key for one in known])))


def overtaken_in(known: list[Sequence], found: list[tuple]) -> list[Sequence]:
    """Those of the ``known`` that stand further now, by what ``last_values`` gave."""
    now = {(schema, name): last for schema, name, last in found}
    return [
        replace(one, value=now[one.key], is_called=True)
        for one in known
        if now.get(one.key) is not None and not _stands({one.key: one}, one.key, now[one.key])
    ]


def _stands(before: dict, key: tuple[str, str], now: int | None) -> bool:
    then = before.get(key)
    return then is not None and now == (then.value if then.is_called else None)


# Each goes on from the value, a number of calls further within the bounds that it has here.
GO_ON = """
    SELECT setval(c.oid, CASE WHEN {margin} = 0 THEN g.value ELSE least(s.seqmax::numeric, greatest(
               s.seqmin::numeric, g.value::numeric + {margin}::numeric * s.seqincrement))::bigint END, g.is_called)
    FROM unnest({schemas}::text[], {names}::text[], {values}::bigint[], {called}::bool[])
         AS g (schema, name, value, is_called)
    JOIN pg_namespace AS n ON n.nspname = g.schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = g.name JOIN pg_sequence AS s ON s.seqrelid = c.oid"""


def going_on(group: list[Sequence], margin: int) -> sql.Composable:
    """The query that sets up to TOGETHER sequences, each ``margin`` calls further: a row for each that is there."""
    columns = [[getattr(one, name) for one in group] for name in ("schema", "name", "value", "is_called")]
    schemas, names, values, called = map(sql.Literal, columns)
    return sql.SQL(GO_ON).format(margin=sql.Literal(margin), schemas=schemas, names=names, values=values, called=called)


def apply(connection, sequences: list[Sequence], margin: int = 0) -> int:
    """Set those that are not so yet, each ``margin`` calls further; the number of them.

    Raises HandoverError for sequences that are not there.
    """
    there = {one.key: one for one in read(connection, [one.key for one in sequences])}
    missing = [".".join(one.key) for one in sequences if one.key not in there]
    if missing:
        raise HandoverError(
            f"{connection.info.dbname} has no sequence {', '.join(missing[:10])}.", "Create it as on the other server."
        )
    wanted = []
    for one in sequences:
        here = there[one.key]
        goal = replace(one, increment=here.increment, least=here.least, most=here.most).advanced(margin)
        if (goal.value, goal.is_called) != (here.value, here.is_called):
            wanted.append(goal)
    for group in in_groups(wanted, TOGETHER):
        _set(connection, group)
    return len(wanted)


def settable(connection) -> set[tuple[str, str]]:
    """(schema, name) of those that this role may set."""
    query = f"SELECT n.nspname::text, c.relname::text FROM {SEQUENCES} AND has_table_privilege(c.oid, 'UPDATE')"
    return set(rows(connection, query))


def _values(group: list[tuple]) -> sql.Composable:
    """The query for value and is_called of each, in order."""
    one = "SELECT {}::int AS number, last_value, is_called FROM {}"
    queries = [sql.SQL(one).format(sql.Literal(number), sql.Identifier(*row[:2])) for number, row in enumerate(group)]
    query = sql.SQL("SELECT last_value, is_called FROM ({}) AS s ORDER BY number")
    return query.format(sql.SQL(" UNION ALL ").join(queries))


def _answers(connection, queries: list[sql.Composable]) -> list[tuple]:
    found = records(connection, *((query, None) for query in queries))
    return [(one["last_value"], one["is_called"]) for answer in found for one in answer]


def _set(connection, group: list[Sequence]) -> None:
    query = """
        SELECT setval(c.oid, s.value, s.is_called)
        FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bool[]) AS s (schema, name, value, is_called)
        JOIN pg_namespace AS n ON n.nspname = s.schema
        JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.name"""
    columns = ("schema", "name", "value", "is_called")
    rows(connection, query, [[getattr(one, column) for one in group] for column in columns])
