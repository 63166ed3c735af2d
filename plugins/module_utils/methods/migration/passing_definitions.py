# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions that there were for a while, such as of a column that was added, filled and dropped: rows of theirs may
still be on their way, and stop apply. The slot tells what they need; the subscriber has it until they are through.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK, rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    LATE,
    TABLE,
    TURNING,
    Amendment,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.pending import (
    PendingTable,
    read_pending,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import slot, subscription

PASSING = f"{MARK} for rows on their way"
QUIET = 20.0  # seconds for a worker to end that is told to
LEFT = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, a.attname::text, pg_get_userbyid(c.relowner)::text
    FROM pg_description AS d JOIN pg_attribute AS a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
    JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE d.classoid = 'pg_class'::regclass AND d.objsubid > 0 AND starts_with(d.description, %s)
    AND NOT a.attisdropped AND a.attinhcount = 0"""


@dataclass(frozen=True)
class Misfit:
    """What rows that are next need of the subscriber's table of this oid: another name, or columns, with types.
    ``sent`` are all columns that they have; ``lsn`` is that of the first of them.
    """

    table: int
    key: Key | None
    columns: dict[str, str]
    sent: frozenset[str]
    lsn: int = 0


def left(subscriber: Connection) -> list[tuple[int, str, str, str, str]]:
    """Columns that are there for rows on their way: the table's oid, schema and name, the column, the owner."""
    return rows(subscriber, LEFT, (PASSING,))


def misfits(
    publisher: Connection, subscriber: Connection, streams: list[str], tables: dict[int, int]
) -> list[Misfit] | None:
    """The first that does not fit of each stream; ``tables`` are the subscriber's oids by the publisher's. None where
    the publisher does not tell this role, or its slots cannot be had.
    """
    for name in streams:
        subscription.disable(subscriber, name)
    try:
        found = []
        for name in streams:
            pending = _pending(publisher, name)
            if pending is None:
                return None
            found += _first(publisher, subscriber, pending, tables)
        return found
    finally:
        for name in streams:
            subscription.enable(subscriber, name)


def _pending(publisher: Connection, name: str) -> list[PendingTable] | None:
    """What waits in the slot. A worker that was just about to begin may take it once more before it ends."""
    deadline = time.monotonic() + QUIET
    while time.monotonic() < deadline:
        if not slot.read(publisher, [name]).get(name, {}).get("active"):
            try:
                return read_pending(publisher, name)
            except psycopg2.errors.InsufficientPrivilege:
                return None
            except psycopg2.errors.ObjectInUse:
                pass
        time.sleep(0.05)
    return None


def _first(
    publisher: Connection, subscriber: Connection, pending: list[PendingTable], tables: dict[int, int]
) -> list[Misfit]:
    query = """
        SELECT n.nspname::text, c.relname::text, ARRAY(
            SELECT attname::text FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = %s"""
    for one in pending:
        oid = tables.get(one.oid)
        there = rows(subscriber, query, (oid,)) if oid else []
        if not there:
            continue
        schema, name, columns = there[0]
        missing = {column: its for column, its in one.columns.items() if column not in columns}
        if missing or (schema, name) != one.key:
            types = {column: _type(publisher, *its) for column, its in missing.items()}
            key = one.key if (schema, name) != one.key else None
            return [Misfit(oid, key, types, frozenset(one.columns), one.lsn)]
    return []


def _type(publisher: Connection, oid: int, modifier: int) -> str:
    return value(publisher, "SELECT format_type(%s::bigint::oid, %s)", (oid, modifier))


def amended(misfit: Misfit, steps: list[Amendment], tree: list[int], owner: str) -> tuple[list[Amendment], list]:
    """(What lets these rows in, those of the ``steps`` that are left then): steps as far as they do, names that there
    were in between, columns for a while. ``tree``: the table, and those above it, of which the highest gets columns.
    """
    now: list[Amendment] = []
    left_over = list(steps)
    if misfit.key:
        mine = [one for one in left_over if one.oid == misfit.table and one.key]
        if misfit.key in [one.key for one in mine]:
            chosen = mine[: 1 + [one.key for one in mine].index(misfit.key)]
            left_over = [one for one in left_over if one not in chosen]
        else:
            chosen = _named(misfit.table, owner, misfit.key)
        now += chosen
    missing = dict(misfit.columns)
    turning = [one for one in left_over if one.oid in tree and one.renames]
    for one in [one for one in turning if one.renames[1] in missing]:
        now.append(one)
        left_over.remove(one)
        del missing[one.renames[1]]
    hidden = [one for one in turning if one in left_over and not misfit.sent.intersection(one.renames)]
    if len(missing) == len(hidden) == 1:  # the same column, by a name that it had in between
        [one], [name] = hidden, missing
        now.append(renaming(one, one.renames[0], name))
        left_over[left_over.index(one)] = renaming(one, name, one.renames[1])
        missing = {}
    for name, kind in missing.items():
        now += _for_a_while(tree[0], owner, name, kind)
    return now, left_over


def renaming(step: Amendment, before: str, after: str) -> Amendment:
    """The same step for other names."""
    names = sql.Identifier(before), sql.Identifier(after)
    done = sql.Composed([sql.SQL("ALTER TABLE "), TABLE, sql.SQL(" RENAME COLUMN {} TO {}").format(*names)])
    undone = sql.Composed([sql.SQL("ALTER TABLE "), TABLE, sql.SQL(" RENAME COLUMN {} TO {}").format(*names[::-1])])
    return replace(step, template=done, undo=undone, renames=(before, after))


def _named(table: int, owner: str, key: Key) -> list[Amendment]:
    name = sql.Composed([sql.SQL("ALTER TABLE "), TABLE, sql.SQL(" RENAME TO {}").format(sql.Identifier(key[1]))])
    return [Amendment(TURNING, table, owner, name, key=key)]


def _for_a_while(table: int, owner: str, column: str, kind: str) -> list[Amendment]:
    name = sql.Identifier(column)
    added = sql.SQL(" ADD COLUMN {} {}").format(name, sql.SQL(kind))
    said = sql.SQL(".{} IS {}").format(name, sql.Literal(PASSING))
    return [
        Amendment(TURNING, table, owner, sql.Composed([sql.SQL("ALTER TABLE "), TABLE, added])),
        Amendment(TURNING, table, owner, sql.Composed([sql.SQL("COMMENT ON COLUMN "), TABLE, said])),
    ]


def dropping(column: tuple[int, str, str, str, str]) -> Amendment:
    """What takes one of ``left`` away."""
    oid, _schema, _table, name, owner = column
    dropped = sql.SQL(" DROP COLUMN {}").format(sql.Identifier(name))
    return Amendment(LATE, oid, owner, sql.Composed([sql.SQL("ALTER TABLE "), TABLE, dropped]))
