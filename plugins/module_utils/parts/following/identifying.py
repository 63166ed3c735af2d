# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys by which apply finds rows: primary keys and replica identities, and in which order they are changed.

A row says by which columns it is to be found. The subscriber needs all columns of its own key among these, so its key
is another exactly between the rows of the old and those of the new one: it is TURNING (src/backend/replication/logical/
relation.c, logicalrep_rel_mark_updatable).
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    EARLY,
    TABLE,
    TURNING,
    Amendment,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import (
    ColumnShape,
    KeyShape,
    Shape,
)

BY_KEY, BY_INDEX, IN_FULL = "d", "i", "f"
KINDS = {BY_KEY: "DEFAULT", IN_FULL: "FULL", "n": "NOTHING"}


def identifying(shape: Shape) -> dict[int, KeyShape]:
    """The primary key, and the index that is the replica identity, by oid. A partitioned table has no rows itself."""
    return {oid: one for oid, one in shape.keys.items() if one.primary or (one.chosen and shape.kind == "r")}


def is_identified(shape: Shape) -> bool:
    """Whether a publisher lets its rows be updated and deleted."""
    keys = shape.keys.values()
    by_index = {BY_KEY: any(one.primary for one in keys), BY_INDEX: any(one.chosen for one in keys)}
    return by_index.get(shape.identity, shape.identity == IN_FULL)


def taken_over(was: Shape, now: Shape) -> set[str]:
    """Names of keys that are changed here, and not as other indexes and constraints are."""
    numbers = identifying(was).keys() | identifying(now).keys()
    names = {one.name for oid, one in was.keys.items() if oid in numbers}
    return names | {one.name for one in identifying(now).values()}


def _chosen(shape: Shape) -> sql.Composable | None:
    """What follows REPLICA IDENTITY; None where its index is gone."""
    if shape.identity != BY_INDEX:
        return sql.SQL(KINDS[shape.identity]) if shape.identity else None
    name = next((one.name for one in shape.keys.values() if one.chosen), None)
    return sql.SQL("USING INDEX {}").format(sql.Identifier(name)) if name else None


def _altering(template: str, *parts: sql.Composable) -> sql.Composable:
    return sql.Composed([sql.SQL("ALTER TABLE "), TABLE, sql.SQL(" "), sql.SQL(template).format(*parts)])


def key_steps(
    was: Shape, now: Shape, there: Shape, relaxed: list[ColumnShape], required: list[ColumnShape]
) -> list[Amendment]:
    """What gives the subscriber's table the keys that the publisher's has now; ``relaxed`` columns of the former need
    have no value then, ``required`` ones do. Nothing where none was changed, or those of before are not known.
    """
    if not was.identity or _known_by(was) == _known_by(now):
        return []
    return _Keys(was, now, there).steps(relaxed, required)


def _known_by(shape: Shape) -> tuple[str, list[tuple[object, ...]]]:
    """REINDEX CONCURRENTLY gives an index another number, and nothing else."""
    found = identifying(shape).values()
    return shape.identity, sorted((one.name, one.sql, one.primary, one.chosen) for one in found)


class _Keys:
    """The keys of one table: as it ``was`` and is ``now`` at the publisher, and as it is ``there``."""

    def __init__(self, was: Shape, now: Shape, there: Shape) -> None:
        self.was, self.now, self.there = was, now, there
        self._here = {one.name: one for one in there.keys.values()}
        self._age = self._find_age()
        self._found: list[Amendment] = []
        self._is_built = False

    def steps(self, relaxed: list[ColumnShape], required: list[ColumnShape]) -> list[Amendment]:
        wanted, mine = identifying(self.now), taken_over(self.was, self.now)
        for oid, key in self.was.keys.items():
            if not key.inherited and key.name in mine:
                self._former(key, self._same(oid, key))
        for column in relaxed:
            self._alter("ALTER COLUMN {} DROP NOT NULL", sql.Identifier(column.name))
        for column in required:
            self._alter("ALTER COLUMN {} SET NOT NULL", sql.Identifier(column.name), tried=())
        for oid, key in wanted.items():
            if not key.inherited:
                self._wanted(key, self.was.keys.get(oid))
        self._identify(not required)
        return self._found

    def _find_age(self) -> int:
        """Statements have the names of now, so they come after what gives these."""
        was, now = self.was, self.now
        known = identifying(was)
        ages = [one.age for oid, one in identifying(now).items() if one != known.get(oid)]
        if was.identity != now.identity or was.key != now.key or not ages:
            ages.append(now.age)
        before = was.columns
        return min([*ages, *(one.age for n, one in now.columns.items() if n in before and one.name != before[n].name)])

    def _same(self, oid: int, key: KeyShape) -> KeyShape | None:
        """The key as it is now, if it was not dropped."""
        others = (one for one in self.now.keys.values() if (one.name, one.sql) == (key.name, key.sql))
        return self.now.keys.get(oid) or next(others, None)

    def _former(self, key: KeyShape, now: KeyShape | None) -> None:
        if key.name not in self._here:
            return
        if now is None:
            gone = self._here.pop(key.name)
            undo = self._made(key) if self._has_same_names() else None
            self._add(self._dropped(gone), undo)
        elif now.name != key.name:
            self._here[now.name] = self._here.pop(key.name)
            index = sql.Identifier(self.there.schema, key.name)
            done = sql.SQL("ALTER INDEX {} RENAME TO {}").format(index, sql.Identifier(now.name))
            self._found.append(Amendment(EARLY, self.there.oid, self.there.owner, done))

    def _wanted(self, key: KeyShape, before: KeyShape | None) -> None:
        there = self._here.get(key.name)
        if there and (there.primary or not key.primary):
            return
        if key.primary and there and before and not before.primary:  # a unique index was made the primary key
            name = sql.Identifier(key.name)
            self._alter("ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}", name, name)
        elif not any(one.sql == key.sql and one.primary and key.primary for one in self._here.values()):
            self._is_built = True
            self._add(self._made(key), self._dropped(key), tried=())  # which would be built twice

    def _identify(self, is_tried: bool) -> None:
        before, wanted = _chosen(self.was), _chosen(self.now)
        is_set = _chosen(self.there) == wanted and not (self._is_built and self.now.identity == BY_INDEX)
        if self.now.kind != "r" or wanted is None or is_set:
            return
        self._alter("REPLICA IDENTITY {}", wanted, undo=before, tried=None if is_tried and not self._is_built else ())

    def _has_same_names(self) -> bool:
        """Whether what was said of the columns before may be said again."""
        before, now = self.was.columns, self.now.columns
        return all(number in now and now[number].name == one.name for number, one in before.items())

    # Statements

    def _made(self, key: KeyShape) -> sql.Composable:
        if not key.constraint:
            return sql.SQL(key.sql)
        return _altering("ADD CONSTRAINT {} {}", sql.Identifier(key.name), sql.SQL(key.sql))

    def _dropped(self, key: KeyShape) -> sql.Composable:
        """IF EXISTS, as it goes with a column."""
        name = sql.Identifier(key.name)
        if key.constraint:
            return _altering("DROP CONSTRAINT IF EXISTS {}", name)
        return sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(self.now.schema, key.name))

    def _alter(
        self,
        template: str,
        *parts: sql.Composable,
        undo: sql.Composable | None = None,
        tried: tuple[sql.Composable, ...] | None = None,
    ) -> None:
        self._add(_altering(template, *parts), _altering(template, undo) if undo else None, tried)

    def _add(
        self,
        done: sql.Composable,
        undo: sql.Composable | None = None,
        tried: tuple[sql.Composable, ...] | None = None,
    ) -> None:
        there = self.there
        self._found.append(Amendment(TURNING, there.oid, there.owner, done, self._age, undo, tried=tried))
