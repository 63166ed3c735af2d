# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database has one home, however many targets it was replicated to."""

from __future__ import annotations

import preflights
import pytest
from cutovers import (
    await_step,
    cut_over,
    eventually_same,
    handed_over,
    hold_at,
    homes,
    let_go,
    make_bank,
    refusal,
    start_cutover,
)
from dumps import done, refused
from migrations import finished, in_step, migrate, stopped
from support import create_database, run_module

SECOND = {"rename": {"shop": "second"}}
COMMENT = "SELECT obj_description('handover.fence'::regproc)"


@pytest.fixture
def pair(servers):
    """A source and a target that has its bank twice, both in step."""
    source, target = servers(15), servers(17, "target")
    make_bank(source, target)
    in_step(source, target, databases=["shop"], **SECOND)
    return source, target


def status(source, target, **more):
    ends = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    [found] = done(run_module("pg_migration_info", {**ends, **more})).databases
    return found


def writable(source, target):
    """Where writers are let in: the source, and the two databases of the target."""
    return [*homes(source, target), *([] if refusal(target, "second") else ["second"])]


def test_a_second_home_is_refused_until_the_first_has_given_it_back(pair):
    source, target = pair
    address = f'127.0.0.1:{target.port}, database "shop"'
    handed_over(cut_over(source, target))
    fence, record = source.sql("shop", COMMENT), source.sql("shop", "SELECT id, target FROM handover.migration")
    for check in (True, False):
        refused(cut_over(source, target, check=check, **SECOND), "lives elsewhere", address, "rollback")
        refused(migrate(source, target, databases=["shop"], check=check, **SECOND), "lives elsewhere", address)
        anew = {"databases": ["shop"], "rename": {"shop": "third"}}
        refused(migrate(source, target, check=check, **anew), "lives elsewhere", address)
    assert source.sql("shop", COMMENT) == fence
    assert source.sql("shop", "SELECT id, target FROM handover.migration") == record
    assert homes(source, target) == ["target"]

    [error] = [one for one in status(source, target, **SECOND)["errors"] if one["kind"] == "home"]
    assert address in error["problem"]
    found = status(source, target)
    assert not found["errors"] and any('database "second"' in text for text in found["notices"])
    report = preflights.look(source.endpoint(), databases=["shop"])
    [blocker] = report.of("home", "blocker")
    assert address in blocker["seen"] and blocker["methods"] == ["continuous"]
    assert report.report["databases"][0]["recommended_method"] is None

    handed_over(cut_over(source, target, direction="back"))
    eventually_same(lambda: homes(source, target), ["source"])
    handed_over(cut_over(source, target, **SECOND))
    refused(cut_over(source, target), "lives elsewhere", 'database "second"')
    refused(cut_over(source, target, direction="back"), "lives elsewhere", 'database "second"')
    assert writable(source, target) == ["second"]


def test_ending_the_other_one_leaves_the_fence(pair):
    source, target = pair
    handed_over(cut_over(source, target))
    fence = source.sql("shop", COMMENT)
    [notice] = [text for text in stopped(source, target, databases=["shop"], **SECOND)["notices"] if "fence" in text]
    assert "stays" in notice and 'database "shop"' in notice
    finished(source, target, databases=["shop"], lift_fence=True, **SECOND)
    assert source.sql("shop", COMMENT) == fence and homes(source, target) == ["target"]
    handed_over(cut_over(source, target, direction="back"))
    assert homes(source, target) == ["source"]


def test_two_at_once(pair, tmp_path):
    """Who comes second is told of the first; whatever happens, the fence is looked at under the locks."""
    source, target = pair
    held = tmp_path / "held"
    first = start_cutover(source, target, env=hold_at(held, "lock"))
    await_step(held, first)
    refused(cut_over(source, target, **SECOND), "Another run hands over the database of the source", "process")
    let_go(held)
    handed_over(first.wait())
    refused(cut_over(source, target, **SECOND), "lives elsewhere")
    assert homes(source, target) == ["target"]

    handed_over(cut_over(source, target, direction="back"))
    held = tmp_path / "again"
    first = start_cutover(source, target, env=hold_at(held, "lock"))
    await_step(held, first)
    [(text,)] = source.sql("shop", COMMENT)
    stranger = text.replace('"closed": false', '"closed": true').replace('"migration": "', '"migration": "f')
    source.sql("shop", f"COMMENT ON FUNCTION handover.fence() IS $${stranger}$$")
    let_go(held)
    refused(first.wait(), "lives elsewhere")
    assert source.sql("shop", COMMENT) == [(stranger,)] and homes(source, target) == ["source"]


def test_a_database_that_a_migration_needs_is_not_replaced(pair):
    source, target = pair
    create_database(source, "blog")
    replace = {"replace": True, "replace_databases": ["shop"]}
    onto = {"databases": ["blog"], "rename": {"blog": "shop"}, **replace}
    refused(migrate(source, target, **onto), "is the target of migration", "in step")
    onward = {"databases": ["shop"], "rename": {"shop": "onward"}}
    refused(migrate(target, source, **onward), "The database of the source is the target of migration")
    back = {"databases": ["second"], "rename": {"second": "shop"}, **replace}
    refused(migrate(target, source, **back), "is the target of migration")
    handed_over(cut_over(source, target))
    refused(migrate(source, target, **onto), "is the target of migration", "handed over")
