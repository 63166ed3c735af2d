# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases go on between handovers: what was redefined at both ends is taken over, and closes no way."""

from __future__ import annotations

from cutovers import (
    await_step,
    cut_over,
    eventually_same,
    handed_over,
    hold_at,
    let_go,
    make_bank,
    start_cutover,
)
from dumps import done, one
from migrations import finished, migrate
from support import run_module

PAIR = {"databases": ["shop"]}
REDEFINED = "tables were redefined"


def follow(source, target, check=False):
    return migrate(source, target, check=check, **PAIR)


def test_on_the_new_home_and_then_on_the_old_one_again(servers):
    source, target = servers(15), servers(18)
    make_bank(source, target, tables=3)
    for direction, home, other in (("forward", target, source), ("back", source, target)):
        handed_over(cut_over(source, target, direction=direction))
        over = follow(source, target)
        assert over.failed and "was handed over" in over.msg
        column, table = f"after_{direction}", {"forward": "more_0", "back": "more_2"}[direction]
        statements = f"ALTER TABLE bank.account ADD {column} int; DROP TABLE {table}"
        home.sql("shop", f"{statements}; UPDATE bank.account SET {column} = 7")
        back = {"direction": "back" if direction == "forward" else "forward"}
        closed = cut_over(source, target, **back)
        assert closed.failed and REDEFINED in closed.msg.lower() and column in closed.msg
        lacking = follow(source, target)
        end = "source" if home is target else "target"
        assert lacking.failed and REDEFINED in lacking.msg and f"Run the same statements on the {end}" in lacking.msg
        other.sql("shop", f"SET transaction_read_only = off; {statements}")
        assert done(follow(source, target, check=True)).changed
        followed = one(done(follow(source, target)))
        assert followed["changed"] and followed["phase"] == "handed_over"
        assert follow(source, target).failed
        values = f"SELECT id, {column} FROM bank.account ORDER BY id"
        eventually_same(lambda: other.sql("shop", values), home.sql("shop", values))  # noqa: B023
        verified = run_module("pg_verify", {"source": source.endpoint(), "target": target.endpoint(), **PAIR})
        assert one(done(verified))["verdict"] == "equal"
    handed_over(cut_over(source, target))
    finished(source, target, **PAIR)


def test_what_the_other_end_cannot_follow_is_refused(servers):
    source, target = servers(17), servers(18)
    make_bank(source, target)
    handed_over(cut_over(source, target))
    target.sql("shop", "CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1)")
    source.sql("shop", "SET transaction_read_only = off; CREATE TABLE made (id int PRIMARY KEY)")
    refused = follow(source, target)
    assert refused.failed and "public.made" in refused.msg and "Undo that, or finish" in refused.msg
    assert cut_over(source, target, direction="back").failed
    target.sql("shop", "DROP TABLE made")
    handed_over(cut_over(source, target, direction="back"))
    finished(source, target, **PAIR)


def test_tables_that_are_made_past_the_fence_are_named(servers, tmp_path):
    """No lock keeps somebody from making them, at the last moment or later; what they hold stays behind."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    hold = tmp_path / "hold"
    running = start_cutover(source, target, env=hold_at(hold, "commit"), deadline="30s")
    await_step(hold, running)
    source.sql("shop", 'CREATE TABLE bank."Made in it" (id int PRIMARY KEY)')
    let_go(hold)
    found = handed_over(running.wait())
    assert found["strays"] == ['table bank."Made in it" was made, and is not fenced']
    assert any('bank."Made in it"' in text and "Bring these changes over by hand" in text for text in found["notices"])
    source.sql("shop", "SET transaction_read_only = off; CREATE TABLE made_later (id int)")
    ends = {"source": source.endpoint(), "target": target.endpoint(), **PAIR}
    [status] = done(run_module("pg_migration_info", ends)).databases
    named = [text for text in status["notices"] if "not fenced" in text]
    assert len(named) == 1 and 'bank."Made in it", public.made_later' in named[0]
    ended = done(migrate(source, target, state="finished", **PAIR)).databases[0]
    assert named[0] in ended["notices"]
