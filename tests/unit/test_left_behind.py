# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects as an archive names them are found again as a comparison names them, and no others."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import left_behind

ASKED = "it is in leave_out"


def behind(*skipped):
    entries = [{"object": name, "class": desc, "reason": reason} for name, desc, reason in skipped]
    return left_behind.read({"skipped": entries})


@pytest.mark.parametrize(
    ("desc", "name", "found", "others"),
    [
        ("VIEW", "a.v", ["views a.v", "columns a.v.c", "uses rule _RETURN on a.v", "owners view a.v"], ["views a.w"]),
        ("VIEW", "A b.v x", ['views "A b"."v x"', 'columns "A b"."v x".c'], ['views "A b".v', "types a.v"]),
        ("INDEX", "a.i", ["indexes a.i", "comments index a.i"], ["views a.i", "columns a.i.c", "indexes a.ii"]),
        ("TABLE", "a.t", ["rows a.t", "tables a.t", "constraints k on a.t", "triggers x on a.t"], ["tables b.t"]),
        (
            "TRIGGER",
            "a.t x",
            ["triggers x on a.t", "uses trigger x on a.t"],
            ["triggers x on a.u", "triggers y on a.t"],
        ),
        ("TRIGGER", "a.t one two", ['triggers "one two" on a.t', 'triggers two on a."t one"'], ["triggers two on a.t"]),
        ("FK CONSTRAINT", "a.t k", ["constraints k on a.t"], ["constraints k on a.u", "indexes a.k", "tables a.t"]),
        ("CONSTRAINT", "a.t k", ["constraints k on a.t", "indexes a.k"], ["indexes a.t"]),
        ("FUNCTION", "a.f(integer, text)", ["functions a.f(integer,text)"], ["functions a.f(integer)"]),
        ("OPERATOR", "a.@!!", ["operators a.@!!(integer,text)"], ["operators a.@!(integer,text)"]),
        ("OPERATOR CLASS", "a.c", ["operator_classes a.c USING btree"], ["operator_classes a.d USING btree"]),
        ("OPERATOR FAMILY", "a.c", ["operators_of_families operator 3 (int4, numeric) of a.c USING btree"], []),
        ("CAST", "CAST (integer AS a.odd)", ["casts integer as a.odd"], ["casts text as a.odd"]),
        ("EXTENSION", "hstore", ["extensions hstore"], ["extensions citext", "schemas hstore"]),
        ("TYPE", "a.t", ["types a.t", "columns a.t.c"], ["tables a.t", "functions a.t(integer)"]),
    ],
)
def test_names(desc, name, found, others):
    one = behind((f"{desc} {name}", desc, ASKED))
    for text in found:
        assert one.reason(*text.split(" ", 1)) == f"the migration left it behind: {ASKED}", text
    for text in others:
        assert one.reason(*text.split(" ", 1)) == "", text


def test_only_what_the_operator_wants():
    one = behind(
        ("VIEW a.v", "VIEW", ASKED),
        ("VIEW a.w", "VIEW", "needs VIEW a.v"),
        ("EVENT TRIGGER e", "EVENT TRIGGER", "permission denied to create event trigger"),
        ("EXTENSION x", "EXTENSION", "the target does not offer this extension"),
        ("VIEW a.x", "VIEW", "needs EXTENSION x"),
    )
    assert one.reason("views", "a.w") == "the migration left it behind: needs VIEW a.v"
    for kind, name in (("event_triggers", "e"), ("extensions", "x"), ("views", "a.x")):
        assert one.reason(kind, name) == ""
    assert left_behind.read(None).reason("views", "a.v") == ""


def test_rows_and_keys():
    one = left_behind.read(
        {
            "skipped": [{"object": "TABLE DATA a.t[1]", "class": "TABLE DATA", "reason": ASKED}],
            "unchecked": [{"object": "FK CONSTRAINT a.t k"}],
        }
    )
    [excluded] = one.exclusions
    assert excluded.covers("rows", "a.t[1]") and not excluded.covers("rows", "a.t1")
    assert one.is_unchecked("k on a.t") and not one.is_unchecked("k on a.u")
