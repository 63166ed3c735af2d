# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of the schema: what is to be done at the other end, and when."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import amendments
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import Amendment
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import (
    ColumnShape,
    KeyShape,
    Shape,
)


def text(step: Amendment) -> str:
    """What a step says, as far as it needs no server: names are quoted always."""

    def shown(part: sql.Composable) -> str:
        if isinstance(part, sql.Composed):
            return "".join(map(shown, part.seq))
        if isinstance(part, sql.Identifier):
            return ".".join(part.strings)
        return part.string

    return shown(step.template)


def shape(*columns: ColumnShape, oid: int = 1, name: str = "t", **more) -> Shape:
    values = {"schema": "public", "kind": "r", "file": 1, "owner": "o", "parents": (), **more}
    return Shape(oid=oid, name=name, columns={one.number: one for one in columns}, **values)


ID, WORD = ColumnShape(1, "id", "integer", not_null=True, key=True), ColumnShape(2, "word", "text")


def planned(before: Shape, now: Shape, there: Shape | None = None) -> amendments.Amendments:
    there = there or before
    return amendments.plan({1: before}, {1: now}, {there.key: there})


def test_what_is_done_early_and_late():
    state = ColumnShape(3, "state", "text", not_null=True, default="'b'::text", missing="a'b")
    plan = planned(shape(ID, WORD), shape(ID, replace(WORD, name="words"), state))
    assert [(one.when, text(one)) for one in plan.in_order] == [
        ("early", "ALTER TABLE {table} ADD COLUMN state text DEFAULT 'a''b'::text"),
        ("turning", "ALTER TABLE {table} RENAME COLUMN word TO words"),
        ("late", "ALTER TABLE ONLY {table} ALTER COLUMN state SET DEFAULT 'b'::text"),
        ("late", "ALTER TABLE {table} ALTER COLUMN state SET NOT NULL"),
    ]
    assert text(replace(plan.in_order[1], template=plan.in_order[1].undo)).endswith("RENAME COLUMN words TO word")
    dropped = planned(shape(ID, replace(WORD, not_null=True)), shape(ID))
    assert [text(one).partition("ALTER COLUMN ")[2] or text(one) for one in dropped.in_order] == [
        "word DROP NOT NULL",
        "ALTER TABLE {table} DROP COLUMN word",
    ]


def test_only_what_was_rewritten_is_copied_anew():
    before, longer = shape(ID, WORD), replace(WORD, type="character varying(9)")
    assert planned(before, shape(ID, longer)).anew == []
    assert planned(before, shape(ID, longer, file=2)).anew == [("public", "t")]
    assert planned(before, shape(ID, WORD, ColumnShape(3, "token", "uuid"), file=2)).anew == [("public", "t")]
    assert planned(before, shape(ID, WORD, file=2)).is_empty


def test_names_that_were_others_are_refused():
    swapped = planned(shape(ID, WORD), shape(ID, replace(WORD, name="was"), ColumnShape(3, "word", "text")))
    assert "the name of its column word" in swapped.refusals[0].reason and swapped.is_empty
    strange = planned(shape(ID), shape(ID, WORD), shape(ID, ColumnShape(2, "odd", "text")))
    assert "a column odd" in strange.refusals[0].reason
    first, second = shape(ID), shape(ID, oid=2, name="u")
    here = {1: replace(first, name="u"), 2: replace(second, name="t")}
    plan = amendments.plan({1: first, 2: second}, here, {one.key: one for one in (first, second)})
    assert len(plan.refusals) == 2 and plan.is_empty


def test_what_is_there_already_is_not_done_again():
    now = shape(ID, replace(WORD, name="words"), name="u")
    plan = planned(shape(ID, WORD), now, now)
    assert plan.steps == [] and plan.renamed == {("public", "t"): ("public", "u")}


def family(more: ColumnShape | None, attached: tuple[bool, bool, bool]) -> amendments.Amendments:
    """What is to be done where a parent, ``a``, has got a column, and so has ``b``, which was, is, and is on the target
    attached to it, or not.
    """
    columns = [ID, WORD]
    after = [*columns, *([more] if more else [])]
    was, now, there = ((1,) if one else () for one in attached)
    before = {1: shape(*columns, name="a", kind="p"), 2: shape(*columns, oid=2, name="b", parents=was)}
    current = {1: shape(*after, name="a", kind="p"), 2: shape(*after, oid=2, name="b", parents=now)}
    others = (before[1], replace(before[2], parents=there))
    return amendments.plan(before, current, {one.key: one for one in others})


def test_what_is_detached_is_detached_first():
    """What is done to the parent would be done to it, too, and then again."""
    plan = family(ColumnShape(3, "more", "integer"), (True, False, True))
    assert [text(one) for one in plan.in_order] == [
        "ALTER TABLE public.a DETACH PARTITION {table}",
        "ALTER TABLE {table} ADD COLUMN more integer",
        "ALTER TABLE {table} ADD COLUMN more integer",
    ]
    assert [one.oid for one in plan.in_order] == [2, 1, 2]


def test_what_was_dropped_is_detached():
    """Rows that would be its go elsewhere from now on, such as to a default partition, which refused them there."""
    parent, child = shape(ID, name="a", kind="p"), shape(ID, oid=2, name="b", parents=(1,))
    there = {one.key: one for one in (parent, child)}
    [step] = amendments.plan({1: parent, 2: child}, {1: parent}, there).in_order
    assert (step.oid, step.when, text(step)) == (2, "early", "ALTER TABLE public.a DETACH PARTITION {table}")
    assert amendments.plan({1: parent, 2: child}, {}, there).is_empty


def test_what_is_not_attached_yet_is_altered_by_itself():
    """It could not be attached otherwise, as its parent has the column."""
    more = ColumnShape(3, "more", "integer")
    assert [one.oid for one in family(more, (False, True, False)).in_order] == [1, 2]
    assert [one.oid for one in family(more, (True, True, True)).in_order] == [1]


def keyed(*columns: ColumnShape, oid: int, key: str, **more) -> Shape:
    found = KeyShape(oid, "t_pkey", f"PRIMARY KEY ({key})", primary=True, constraint=True, age=9)
    return shape(*columns, identity="d", keys={oid: found}, **more)


def test_keys_turn_between_the_rows_of_both():
    before = keyed(ID, WORD, oid=10, key="id")
    now = keyed(
        replace(ID, key=False, not_null=False), replace(WORD, name="words", key=True, age=5), oid=11, key="words"
    )
    assert [(one.when, text(one)) for one in planned(before, now).in_order] == [
        ("turning", "ALTER TABLE {table} RENAME COLUMN word TO words"),
        ("turning", "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS t_pkey"),
        ("turning", "ALTER TABLE {table} ALTER COLUMN id DROP NOT NULL"),
        ("turning", "ALTER TABLE {table} ADD CONSTRAINT t_pkey PRIMARY KEY (words)"),
    ]
    assert planned(before, keyed(ID, WORD, oid=12, key="id")).steps == []  # as REINDEX CONCURRENTLY leaves it


def test_what_nothing_identifies_is_refused_where_it_is_published():
    before, there = keyed(ID, WORD, oid=10, key="id"), shape(ID, WORD)
    now = replace(before, keys={})
    plan = amendments.plan({1: before}, {1: now}, {there.key: there}, {before.key})
    assert "no replica identity" in plan.refusals[0].reason and plan.is_empty
    assert amendments.plan({1: before}, {1: now}, {there.key: before}).steps
    whole = replace(now, identity="f")
    steps = amendments.plan({1: before}, {1: whole}, {there.key: before}, {before.key}).in_order
    assert [text(one).partition("{table} ")[2] for one in steps] == [
        "DROP CONSTRAINT IF EXISTS t_pkey",
        "REPLICA IDENTITY FULL",
    ]
