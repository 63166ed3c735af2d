# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a run is: what is written, what is shown of it, and when nobody looks any more."""

from __future__ import annotations

import json
import os
import subprocess
import time

import psycopg2
import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.program_progress import ProgramProgress
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.course import CopyOptions, Counts
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.engine import CopyEngine
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable
from ansible_collections.handover.postgresql.plugins.plugin_utils.progress_lines import ProgressLines

MB = 1 << 20


def seen(done, stage="data", **more):
    return {"databases": {"shop": {"stage": stage, "bytes": [done * MB, 100 * MB], "tables": [1, 2], **more}}}


def test_lines_tell_rate_and_time_to_go_by_what_was_seen_of_late():
    lines = ProgressLines("db1", with_tables=False)
    assert list(lines.of({"databases": {"shop": {"stage": "snapshot"}}}, 0)) == ["db1: shop: snapshot"]
    assert list(lines.of(seen(0), 10)) == ["db1: shop: data, 1 of 2 tables, 0 B of 100 MB"]
    assert list(lines.of(seen(20), 30)) == [
        "db1: shop: data, 1 of 2 tables, 20 MB of 100 MB, 1.0 MB/s, about 80 s to go"
    ]
    for number in range(1, 31):  # it is slower now
        [line] = lines.of(seen(20 + number), 30 + 10 * number)
    assert line.endswith("50 MB of 100 MB, 102 kB/s, about 8 min to go")
    [line] = lines.of(seen(50, stage="indexes"), 340)
    assert line == "db1: shop: indexes, 1 of 2 tables, 50 MB of 100 MB", "another stage has a rate of its own"


def test_how_far_behind_the_target_is_while_it_catches_up():
    run, lines = progress.Progress(), ProgressLines("db1", with_tables=False)
    run.stage("shop", "catching up")
    said = []
    for now, behind in ((0, 100), (10, 60), (20, 0)):
        run.lag("shop", behind * MB)
        said += lines.of(json.loads(run.as_json()), now)
    assert said == [
        "db1: shop: catching up, 100 MB of WAL behind",
        "db1: shop: catching up, 60 MB of WAL behind, about 15 s to go",
        "db1: shop: catching up, 0 B of WAL behind",
    ]
    run.stage("shop", "validation")
    assert "lag" not in run.as_json()


def test_tables_under_way_have_lines_of_their_own():
    found = seen(10, under_way={"public.big": [MB, 40 * MB]}, others={"indexes and keys": [1, 3]})
    assert list(ProgressLines("db1", with_tables=True).of(found, 0)) == [
        "db1: shop: data, 1 of 2 tables, 10 MB of 100 MB, 1 of 3 indexes and keys",
        "db1: shop: public.big: 1.0 MB of 40 MB",
    ]


def test_what_is_written():
    run = progress.Progress()
    run.stage("shop", "data")
    with run.measured("shop", lambda: progress.Extent((1, 2), (0, 1), {("public", "a.b"): (1, 2)})):
        run._measure(watched=False)
        found = json.loads(run.as_json())
    assert found["process"] == os.getpid()
    assert found["databases"]["shop"]["bytes"] == [1, 2]
    assert found["databases"]["shop"]["under_way"] == {"public.a.b": [1, 2]}
    with run.measured("shop", lambda: progress.Extent((2, 2), (1, 1)), only_for_watchers=True):
        run._measure(watched=False)
        assert json.loads(run.as_json())["databases"]["shop"]["bytes"] == [1, 2]
        run._measure(watched=True)
        assert json.loads(run.as_json())["databases"]["shop"]["bytes"] == [2, 2]
    run.stage("shop", "indexes")
    assert json.loads(run.as_json())["databases"] == {"shop": {"stage": "indexes"}}
    run.stage("blog", "data")
    run.leave("shop")
    run.leave("not begun")
    assert json.loads(run.as_json())["databases"] == {"blog": {"stage": "data"}}


def test_a_watch_is_over_when_who_looked_is_gone(tmp_path):
    place = tmp_path / "watched"
    watch = progress._Watch(str(place))
    assert not watch.is_kept() and not watch.is_over(), "nobody has looked yet"
    place.write_text(str(os.getpid()))
    assert watch.is_kept() and not watch.is_over()
    with subprocess.Popen(["true"]) as ended:
        pass
    place.write_text(str(ended.pid))
    assert watch.is_kept() and watch.is_over()


def test_a_watch_from_elsewhere_is_over_after_a_while_without_a_look(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LEASE", 0.2)
    place = tmp_path / "watched"
    place.write_text("\n")
    watch = progress._Watch(str(place))
    assert watch.is_kept() and not watch.is_over()
    time.sleep(0.3)
    os.utime(place, (1, 1))  # a look; the clocks of others do not matter
    assert watch.is_kept() and not watch.is_over()
    time.sleep(0.3)
    assert watch.is_kept() and watch.is_over()


@pytest.mark.parametrize(("copy_bytes", "expected"), [(None, 40), (50 * MB, 80)])
def test_a_table_under_way_counts_by_what_copy_makes_of_it(copy_bytes, expected):
    table = SourceTable(1, "public", "big", 100 * MB, 12800, ("i",), True, copy_bytes=copy_bytes)
    engine = CopyEngine(None, "", None, CopyOptions(jobs=1))
    engine._counts = {table.oid: Counts(table, 1)}
    [piece] = engine._pieces(table, table.size, 180000)
    engine.options.flow.under_way = lambda: [(piece, 40 * MB)]
    assert engine.amounts().bytes == (expected * MB, 100 * MB)


@pytest.mark.parametrize("error", [HandoverError("Too many connections.", "Wait."), psycopg2.OperationalError("no")])
def test_a_look_that_gets_no_session_leaves_those_who_need_one_alone(error):
    tried = []

    def connect():
        tried.append(1)
        raise error

    found = ProgramProgress(connect, "COPY TO", [])
    assert [found.look(), found.look()] == [None, None] and tried == [1]
    found.close()
