# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to the subscriber's types so that they are defined as the publisher's, and when.

Values of enums and of composite types are sent as text: a label by its name, attributes by their place. So what renames
a label, or gives a type another number of attributes, is TURNING. pg_dump has no statement that alters a type.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    EARLY,
    LATE,
    TURNING,
    Amendment,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.checking import check_changes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.type_shapes import (
    COMPOSITE,
    DOMAIN,
    ENUM,
    PartShape,
    TypeShape,
)

NO_TABLE = 0


def type_steps(before: dict[int, TypeShape], now: dict[int, TypeShape], there: dict[int, TypeShape]) -> list[Amendment]:
    """For types that were known ``before``, but labels that enums were given. What is so already is not done again."""
    by_key, found = {one.key: one for one in there.values()}, []
    for oid in sorted(before.keys() & now.keys(), key=lambda one: now[one].key):
        was, shape = before[oid], now[oid]
        mine = by_key.get(was.key) or by_key.get(shape.key)
        if was != shape and mine is not None and mine.kind == shape.kind:
            found += _Type(was, shape, mine).steps()
    return found


def label_statements(
    before: dict[int, TypeShape], now: dict[int, TypeShape], there: dict[int, TypeShape]
) -> list[sql.Composable]:
    """What gives the subscriber's enums the labels that were added."""
    by_key = {one.key: one for one in there.values()}
    found: list[sql.Composable] = []
    for oid in sorted(before.keys() & now.keys(), key=lambda one: now[one].key):
        mine = by_key.get(before[oid].key) or by_key.get(now[oid].key)
        if now[oid].kind == ENUM and mine is not None:
            found += _added_labels(before[oid], now[oid], mine)
    return found


def _added_labels(was: TypeShape, now: TypeShape, there: TypeShape) -> list[sql.Composable]:
    labels = list(now.parts.values())
    found: list[sql.Composable] = []
    names = [_name_there(was, there, one) for one in labels]
    first = next((name for name, one in zip(names, labels) if one.number in was.parts), None)
    for place, one in enumerate(labels):
        if one.number in was.parts or there.named(one.name):
            continue
        beside = f" AFTER {constant(names[place - 1])}" if place else f" BEFORE {constant(first)}" if first else ""
        label = sql.SQL(constant(one.name) + beside)
        found.append(sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}").format(sql.Identifier(*there.key), label))
    return found


def _name_there(was: TypeShape, there: TypeShape, label: PartShape) -> str:
    """What a label is called there until it is renamed."""
    former = was.parts.get(label.number)
    return former.name if former and there.named(former.name) else label.name


class _Type:
    """One type: as it ``was`` and is ``now`` at the publisher, and as it is ``there``."""

    def __init__(self, was: TypeShape, now: TypeShape, there: TypeShape) -> None:
        self.was, self.now, self.there = was, now, there
        self._found: list[Amendment] = []
        self._head = "ALTER DOMAIN {} " if now.kind == DOMAIN else "ALTER TYPE {} "

    def steps(self) -> list[Amendment]:
        self._renamed()
        if self.now.kind == DOMAIN:
            self._checked()
            self._valued()
        elif self.now.kind == ENUM:
            self._labelled()
        elif self.now.kind == COMPOSITE:
            self._attributed()
        return self._found

    def _renamed(self) -> None:
        now, there = self.now, self.there
        if there.name != now.name:
            self._do(EARLY, "RENAME TO {}", sql.Identifier(now.name), key=there.key)
        if there.schema != now.schema:
            self._do(EARLY, "SET SCHEMA {}", sql.Identifier(now.schema), key=(there.schema, now.name))

    # Domains

    def _checked(self) -> None:
        for one in check_changes(self.was.checks, self.now.checks, self.there.checks):
            self._do(one.when, one.template, *one.parts, tried=one.tried)

    def _valued(self) -> None:
        was, now, there = self.was, self.now, self.there
        if was.not_null and not now.not_null and there.not_null:
            self._do(EARLY, "DROP NOT NULL")
        if now.not_null and not was.not_null and not there.not_null:
            self._do(LATE, "SET NOT NULL", tried=())
        if was.default != now.default:
            self._do(LATE, *(("DROP DEFAULT",) if now.default is None else ("SET DEFAULT {}", sql.SQL(now.default))))

    # Enums

    def _labelled(self) -> None:
        for number, after in self.now.parts.items():
            before = self.was.parts.get(number)
            if before and before.name != after.name and self.there.named(before.name):
                names = sql.Literal(before.name), sql.Literal(after.name)
                template = "RENAME VALUE {} TO {}"
                self._do(TURNING, template, *names, age=after.age, undo=(template, *reversed(names)))

    # Composite types

    def _attributed(self) -> None:
        for number, after in self.now.parts.items():
            before = self.was.parts.get(number)
            if before is None or before.gone:
                self._added(after)
            elif after.gone:
                if self.there.named(before.name):
                    self._do(TURNING, "DROP ATTRIBUTE {}", sql.Identifier(before.name), age=after.age)
            elif self.there.named(before.name) or self.there.named(after.name):
                self._altered(before, after)

    def _added(self, after: PartShape) -> None:
        if not after.gone and not self.there.named(after.name):
            name, kind = sql.Identifier(after.name), sql.SQL(after.type or "")
            self._do(TURNING, "ADD ATTRIBUTE {} {}", name, kind, age=after.age, undo=("DROP ATTRIBUTE {}", name))

    def _altered(self, before: PartShape, after: PartShape) -> None:
        if before.name != after.name and self.there.named(before.name):
            names = sql.Identifier(before.name), sql.Identifier(after.name)
            template = "RENAME ATTRIBUTE {} TO {}"
            self._do(TURNING, template, *names, age=after.age, undo=(template, *reversed(names)))
        if before.type != after.type:
            kind = sql.SQL(after.type or "")
            self._do(TURNING, "ALTER ATTRIBUTE {} TYPE {}", sql.Identifier(after.name), kind, age=after.age)

    def _do(
        self,
        when: str,
        template: str,
        *parts: sql.Composable,
        key: Key | None = None,
        age: int = 0,
        undo: tuple[Any, ...] = (),
        tried: tuple[tuple[Any, ...], ...] | None = None,
    ) -> None:
        """``key`` is what the type is called until then, if that is not its name of now."""

        def made(text: str, *given: sql.Composable) -> sql.Composable:
            return sql.SQL(self._head + text).format(sql.Identifier(*(key or self.now.key)), *given)

        self._found.append(
            Amendment(
                when,
                NO_TABLE,
                self.there.owner,
                made(template, *parts),
                age,
                made(*undo) if undo else None,
                tried=None if tried is None else tuple(made(*one) for one in tried),
            )
        )
