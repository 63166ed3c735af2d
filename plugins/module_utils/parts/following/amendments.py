# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done to the subscriber's tables so that they are defined as the publisher's, and in which order.

Rows that were written before a change arrive after it. So what lets rows of the old and the new definition in is done
early; what lets in the new ones only waits until the old ones are through, or until apply stops at a new one; and what
rows of the old definition would break is done late, when they are through.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    EARLY,
    LATE,
    TABLE,
    TURNING,
    Amendment,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.checking import check_changes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.identifying import (
    is_identified,
    key_steps,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.lineage import (
    below,
    depth,
    with_ancestors,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import ColumnShape, Key, Shape

STORED = "s"
IDENTITIES = {"a": "ALWAYS", "d": "BY DEFAULT"}


@dataclass(frozen=True)
class Refusal:
    """A table that is not followed, and why."""

    table: str
    reason: str


@dataclass
class Amendments:
    """``steps`` in their order; ``renamed``: the keys that tables had, and those that they have; ``anew``: keys of
    tables whose rows have to be copied again; ``refusals``: what is not done; ``passing``: whether rows may be on their
    way that have columns which came and went.
    """

    steps: list[Amendment] = field(default_factory=list)
    renamed: dict[Key, Key] = field(default_factory=dict)
    anew: list[Key] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    passing: bool = False

    def of(self, when: str) -> list[Amendment]:
        """The steps of a time; those that are TURNING in the order in which they were done."""
        return sorted((one for one in self.steps if one.when == when), key=lambda one: -one.age)

    @property
    def is_empty(self) -> bool:
        return not (self.steps or self.renamed or self.anew or self.passing)

    @property
    def in_order(self) -> list[Amendment]:
        """All of them, as they are done if nothing is in the way."""
        return [*self.of(EARLY), *self.of(TURNING), *self.of(LATE)]


def plan(
    before: dict[int, Shape], now: dict[int, Shape], there: dict[Key, Shape], published: Collection[Key] = ()
) -> Amendments:
    """What to do with the subscriber's tables ``there``, by key, so that those that were defined as ``before`` are
    as ``now``; both by the publisher's oids. Tables that are new are not this one's matter, nor are those that are
    gone, but for their parents. Those that are ``published``, by their keys of before, have to be identified.
    """
    found = Amendments()
    kept = {oid: (before[oid], now[oid]) for oid in before.keys() & now.keys()}
    altered = [oid for oid, (was, shape) in kept.items() if was != shape]
    descendants = below(now) if altered else {}
    former = {one.key: oid for oid, one in before.items()}
    rewritten = with_ancestors(now, {oid for oid, (was, shape) in kept.items() if was.file != shape.file})
    lost = with_ancestors(now, {oid for oid in altered if before[oid].key in published and _is_lost(*kept[oid])})
    for oid in sorted(altered, key=lambda one: (depth(now, one), now[one].key)):
        was, shape = kept[oid]
        table = _Table(was, shape, [kept[one] for one in shape.parents if one in kept], former, there)
        table.left = [kept[one] for one in was.parents if one in kept and one not in shape.parents]
        table.is_rewritten = oid in rewritten
        table.below = descendants.get(oid, [])
        table.is_lost = oid in lost
        table.look()
        if table.refusal:
            found.refusals.append(Refusal(str(was), table.refusal))
            continue
        found.steps += table.steps
        found.passing = found.passing or _has_lost(was, shape)
        if was.key != shape.key:
            found.renamed[was.key] = shape.key
        if table.is_anew and table.there:
            found.anew.append(shape.key)
            emptied = sql.Composed([sql.SQL("TRUNCATE ONLY "), TABLE])  # its rows need not be what they will be
            found.steps.insert(0, Amendment(LATE, table.there.oid, table.there.owner, emptied))
    for oid in sorted(before.keys() - now.keys()):  # rows go elsewhere now, though some are still on their way to it
        table = _Table(before[oid], before[oid], [], former, there)
        table.left = [kept[one] for one in before[oid].parents if one in kept]
        table.part()
        found.steps += table.steps
    found.steps.sort(key=lambda step: not step.parts)  # what is done to a parent is not done to what was detached
    return found


def _is_lost(was: Shape, now: Shape) -> bool:
    """Whether nothing identifies its rows any more."""
    return now.kind == "r" and is_identified(was) and not is_identified(now)


def _has_lost(was: Shape, now: Shape) -> bool:
    """Whether there were columns in between that are gone."""
    return bool(was.last) and now.last - was.last > sum(1 for number in now.columns if number > was.last)


class _Table:
    """One table: as it ``was`` and is ``now`` at the publisher, and as it is ``there``."""

    def __init__(
        self,
        was: Shape,
        now: Shape,
        parents: list[tuple[Shape, Shape]],
        former: dict[Key, int],
        there: dict[Key, Shape],
    ) -> None:
        self.was, self.now, self.parents = was, now, parents
        self.steps: list[Amendment] = []
        self.refusal = ""
        self.is_anew = False
        self._former, self._all_there = former, there
        self.there = cast(Shape, there.get(was.key) or there.get(now.key))  # where there is none, look() ends at once
        self.is_rewritten = False  # or one of those below it
        self.is_lost = False
        self._relaxed: list[ColumnShape] = []
        self._required: list[ColumnShape] = []
        self.below: list[Shape] = []
        self.left: list[tuple[Shape, Shape]] = []  # parents of before

    def look(self) -> None:
        """Find what to do, or why not."""
        if self.there is None:
            self.refusal = "the target has no such table"
            return
        self.refusal = self._obstacle()
        if self.refusal:
            return
        self.part()
        for number in sorted(self.was.columns.keys() | self.now.columns.keys()):
            before, after = self.was.columns.get(number), self.now.columns.get(number)
            if before is None and after is not None:
                self._added(after)
            elif after is None and before is not None:
                self._dropped(before)
            elif before is not None and after is not None and before != after:
                self._altered(before, after)
        self._checked()
        self._renamed()
        self._keyed()

    def _obstacle(self) -> str:
        """Why nothing can be done, if so."""
        was, now, there = self.was, self.now, self.there
        if was.key != now.key and self._former.get(now.key, was.oid) != was.oid:
            return f"its name is {now} now, which another table had: rows of one may have gone to the other"
        if was.key != now.key and was.key in self._all_there and now.key in self._all_there:
            return f"its name is {now} now, and the target has a table of that name already"
        if self.is_lost:
            return "it has no replica identity any more, so the source refuses UPDATE and DELETE of its rows"
        if was.kind != now.kind or was.kind != there.kind:
            return "it was made a partitioned table, or is one on one side only"
        former = {one.name: number for number, one in was.columns.items()}
        taken = sorted(one.name for number, one in now.columns.items() if former.get(one.name, number) != number)
        if taken:
            return f"the name of its column {taken[0]} was another column's: rows may have gone to the wrong one"
        known = {*former, *(one.name for one in now.columns.values())}
        strange = sorted(one.name for one in there.columns.values() if one.name not in known)
        if strange:
            return f"somebody has given the target's table a column {strange[0]}"
        lost = sorted(
            one.name
            for number, one in was.columns.items()
            if number in now.columns and not (there.named(one.name) or there.named(now.columns[number].name))
        )
        return f"the target's table has no column {lost[0]}" if lost else ""

    def part(self) -> None:
        """Detach the table from parents of before: rows go to it as before."""
        for was, now in self.left if self.there else ():
            parent = self._parent_there(was, now)
            if parent is None:
                continue
            name = sql.Identifier(*parent.key)
            if parent.kind == "p":
                statement = sql.Composed([sql.SQL("ALTER TABLE "), name, sql.SQL(" DETACH PARTITION "), TABLE])
                self._do_anything(EARLY, statement, 0)
            else:
                self._do(EARLY, "NO INHERIT {}", name)
            self.steps[-1] = replace(self.steps[-1], parts=True)

    def _parent_there(self, was: Shape, now: Shape) -> Shape | None:
        """The subscriber's, if the table is attached to it there."""
        found = self._all_there.get(was.key) or self._all_there.get(now.key)
        return found if found and found.oid in self.there.parents else None

    # What is of the parents is done by what is done to them.

    def _inherited(self, before: ColumnShape | None, after: ColumnShape | None, name: str) -> bool:
        """Whether a parent's column of that name has changed in the same way, in one aspect."""
        for was, now in self.parents:
            if self._parent_there(was, now) is None:
                continue  # it will be attached there when both are alike
            theirs_before = was.named(before.name) if before else None
            theirs_after = now.named(after.name) if after else None
            if bool(theirs_before) != bool(before) or bool(theirs_after) != bool(after):
                continue
            values = [(getattr(one, name) if one else None) for one in (theirs_before, theirs_after, before, after)]
            if values[:2] == values[2:] and values[0] != values[1]:
                return True
        return False

    # Columns

    def _added(self, after: ColumnShape) -> None:
        after = replace(after, missing=self._missing(after))
        is_copied = self.now.kind == "r" and not after.generated
        if is_copied and (after.unknown or (self.is_rewritten and after.missing is None)):
            self.is_anew = True  # rows may have got values that nobody has sent
        there = self.there.named(after.name)
        if there and unquoted(there.type) != unquoted(after.type):
            self.refusal = f"the target's column {after.name} is {there.type}, and was added as {after.type}"
            return
        if not there and not self._inherited(None, after, "name"):
            name, template = sql.Identifier(after.name), "ADD COLUMN {} {}"
            plain = ((template, name, self._type(after)),) if after.generated == STORED else None
            self._do(EARLY, template, name, self._definition(after), tried=plain)
        if after.generated:
            return
        if not (there and there.default is not None):
            self._default(after, always=after.missing is not None or after.inherited)
        if after.identity:
            self._set_not_null(after)
            self._do(LATE, f"ALTER COLUMN {{}} ADD GENERATED {IDENTITIES[after.identity]} AS IDENTITY", after, tried=())
        elif after.not_null and not self._inherited(None, after, "not_null"):
            self._set_not_null(after)

    def _missing(self, after: ColumnShape) -> str | None:
        """Servers keep nothing of a partitioned table, which has no rows itself."""
        below = [one.named(after.name) for one in self.below] if self.now.kind == "p" else []
        found = [one.missing for one in [after, *below] if one is not None]
        return next((one for one in found if one is not None), None)

    def _definition(self, after: ColumnShape) -> sql.Composable:
        """Of a column to add: rows that are there show what they show on the publisher."""
        parts = [sql.SQL(after.type)]
        if after.collation:
            parts.append(sql.SQL(f"COLLATE {after.collation}"))
        if after.generated:
            kind = "STORED" if after.generated == STORED else "VIRTUAL"
            parts.append(sql.SQL(f"GENERATED ALWAYS AS ({after.default}) {kind}"))
        elif after.missing is not None:
            parts.append(sql.SQL(f"DEFAULT {constant(after.missing)}::{after.type}"))
        return sql.SQL(" ").join(parts)

    def _default(self, after: ColumnShape, always: bool = False) -> None:
        """The default is of this table alone: children may have others."""
        if after.default is not None:
            value = sql.SQL(after.default)
            self._do(LATE, "ALTER COLUMN {} SET DEFAULT {}", sql.Identifier(after.name), value, only=True)
        elif always:
            self._do(LATE, "ALTER COLUMN {} DROP DEFAULT", after, only=True)

    def _set_not_null(self, after: ColumnShape) -> None:
        if after.key:
            self._required.append(after)
        else:
            self._do(LATE, "ALTER COLUMN {} SET NOT NULL", after, tried=())

    def _dropped(self, before: ColumnShape) -> None:
        if not self.there.named(before.name) or self._inherited(before, None, "name"):
            return
        if before.not_null and not before.identity:
            self._relax(before, before)
        self._do(LATE, "DROP COLUMN {}", before)

    def _altered(self, before: ColumnShape, after: ColumnShape) -> None:
        was_renamed = before.name != after.name and self.there.named(before.name) is not None
        if was_renamed and not self._inherited(before, after, "name"):
            names = sql.Identifier(before.name), sql.Identifier(after.name)
            template = "RENAME COLUMN {} TO {}"
            self._do(TURNING, template, *names, age=after.age, undo=(template, *reversed(names)))
            self.steps[-1] = replace(self.steps[-1], renames=(before.name, after.name))
        if (before.type, before.collation) != (after.type, after.collation):
            self._retyped(before, after, was_renamed)
        if before.generated != after.generated or (after.generated and before.default != after.default):
            self._regenerated(before, after)
        elif before.default != after.default:
            self._default(after, always=True)
        if before.identity != after.identity:
            self._identified(before, after)
        if before.not_null != after.not_null and not self._inherited(before, after, "not_null"):
            if after.not_null:
                self._set_not_null(after)
            else:
                self._relax(before, before if was_renamed and not before.key else after)

    def _relax(self, before: ColumnShape, named: ColumnShape) -> None:
        """Rows without the column fit then; while it is in a key, it cannot be let go."""
        if before.key:
            self._relaxed.append(named)
        else:
            self._do(EARLY, "ALTER COLUMN {} DROP NOT NULL", named)

    def _retyped(self, before: ColumnShape, after: ColumnShape, was_renamed: bool) -> None:
        """Where the table was not rewritten, each value is the same in both types."""
        is_anew = self.is_rewritten and not after.generated
        if is_anew and self.now.kind == "r":
            self.is_anew = True
        there = self.there.named(before.name) or self.there.named(after.name)
        is_so = there is not None and unquoted(there.type) == unquoted(after.type)
        if is_so or self._inherited(before, after, "type"):
            return
        name = (before if was_renamed else after).name
        if not is_anew:
            self._do(EARLY, "ALTER COLUMN {} TYPE {}", sql.Identifier(name), self._type(after))
            return
        # Its rows will be copied again; until then, it is to take rows of the new definition.
        self._do_anything(TURNING, sql.Composed([sql.SQL("TRUNCATE "), TABLE]), after.age)
        if before.default is not None and not before.generated:
            self._do(TURNING, "ALTER COLUMN {} DROP DEFAULT", after, age=after.age)
        column, wanted = sql.Identifier(after.name), self._type(after)
        cast = sql.SQL(after.type)
        self._do(TURNING, "ALTER COLUMN {} TYPE {} USING {}::text::{}", column, wanted, column, cast, age=after.age)
        if before.default == after.default:
            self._default(after)

    def _type(self, after: ColumnShape) -> sql.Composable:
        return sql.SQL(after.type + (f" COLLATE {after.collation}" if after.collation else ""))

    def _regenerated(self, before: ColumnShape, after: ColumnShape) -> None:
        if self._inherited(before, after, "default"):
            return
        if before.generated == STORED and not after.generated:
            self._do(TURNING, "ALTER COLUMN {} DROP EXPRESSION", after, age=after.age)
            self._default(after)
        elif before.generated and before.generated == after.generated:
            expression = sql.SQL(after.default or "")
            name = sql.Identifier(after.name)
            self._do(LATE, "ALTER COLUMN {} SET EXPRESSION AS ({})", name, expression, tried=())
        else:
            self.refusal = f"its column {after.name} was made a generated one"

    def _identified(self, before: ColumnShape, after: ColumnShape) -> None:
        if not after.identity:
            self._do(LATE, "ALTER COLUMN {} DROP IDENTITY IF EXISTS", after)
            return
        action = f"SET GENERATED {IDENTITIES[after.identity]}"
        if not before.identity:
            action = f"ADD GENERATED {IDENTITIES[after.identity]} AS IDENTITY"
        self._do(LATE, f"ALTER COLUMN {{}} {action}", after, tried=None if before.identity else ())

    def _checked(self) -> None:
        is_apart = any(self._parent_there(*one) is None for one in self.parents)
        for one in check_changes(self.was.checks, self.now.checks, self.there.checks, bool(self.left), is_apart):
            self._do(one.when, one.template, *one.parts, tried=one.tried)

    def _keyed(self) -> None:
        """What columns need or need not have goes along with the keys that they are in."""
        changed = [("DROP NOT NULL", self._relaxed, None), ("SET NOT NULL", self._required, ())]
        steps = key_steps(self.was, self.now, self.there, self._relaxed, self._required)
        self.steps += steps
        for action, columns, tried in changed if not steps else ():
            for one in columns:
                self._do(LATE, f"ALTER COLUMN {{}} {action}", one, tried=tried)

    # The table itself

    def _renamed(self) -> None:
        now, there = self.now, self.there
        if there.key == now.key:
            return
        steps = []
        if there.name != now.name:
            steps.append(("RENAME TO {}", now.name, there.name, (there.schema, now.name)))
        if there.schema != now.schema:
            steps.append(("SET SCHEMA {}", now.schema, there.schema, now.key))
        for template, new, old, key in steps:
            done, undone = (self._alter(template, (sql.Identifier(name),)) for name in (new, old))
            self.steps.append(Amendment(TURNING, there.oid, there.owner, done, now.age, undone, key))

    def _do(
        self,
        when: str,
        template: str,
        *parts: ColumnShape | sql.Composable,
        only: bool = False,
        age: int = 0,
        undo: tuple[Any, ...] = (),
        tried: tuple[tuple[Any, ...], ...] | None = None,
    ) -> None:
        """ALTER TABLE; what stands for columns are their names. ``tried`` is nothing, or templates with their parts."""
        taken_back = self._alter(undo[0], undo[1:]) if undo else None
        self._do_anything(when, self._alter(template, parts, only), age, taken_back)
        if tried is not None:
            instead = tuple(self._alter(one[0], one[1:]) for one in tried)
            self.steps[-1] = replace(self.steps[-1], tried=instead)

    def _do_anything(self, when: str, done: sql.Composable, age: int, undo: sql.Composable | None = None) -> None:
        self.steps.append(Amendment(when, self.there.oid, self.there.owner, done, age, undo))

    @staticmethod
    def _alter(template: str, parts: tuple[ColumnShape | sql.Composable, ...], only: bool = False) -> sql.Composable:
        given = [sql.Identifier(one.name) if isinstance(one, ColumnShape) else one for one in parts]
        head = sql.SQL("ALTER TABLE ONLY " if only else "ALTER TABLE ")
        return sql.Composed([head, TABLE, sql.SQL(" "), sql.SQL(template).format(*given)])
