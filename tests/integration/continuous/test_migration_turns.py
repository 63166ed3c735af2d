# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever has waited for a turn looks again: each run is held before it asks for its turn, while another goes by."""

from __future__ import annotations

import contextlib
import threading

import migrations
import pytest
from cutovers import await_step, cut_over, handed_over, hold_at_turn, homes, let_go, make_bank, options
from dumps import done, refused
from migrations import in_step, migrate, one, stopped, traces
from support import create_database, start_module

from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import rehearsal_journal, source_record
from lab import catalogs

AT_ONCE = 6


@pytest.fixture
def meanwhile(tmp_path):
    """``with meanwhile("pg_cutover", arguments) as held``: the run stands before its turn until the block ends;
    ``held.result`` is what it returned then.
    """

    class Held:
        result = None

    @contextlib.contextmanager
    def held(name, arguments):
        place, found = tmp_path / name, Held()
        running = start_module(name, arguments, env=hold_at_turn(place))
        await_step(place, running)
        try:
            yield found
        finally:
            let_go(place)
            found.result = running.wait()

    return held


@pytest.fixture
def ends(servers):
    """A source with a database, and a target."""
    source, target = servers(15), servers(17, "target")
    create_database(source, "shop")
    source.sql("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)")
    return source, target


@pytest.fixture
def bank(servers):
    """A source and a target in step."""
    source, target = servers(15), servers(17, "target")
    make_bank(source, target)
    return source, target


def ending(source, target, state):
    return migrations.options(source, target, databases=["shop"], state=state, without_cutover=True)


def test_finish_beside_a_migration_that_begins(ends, meanwhile):
    source, target = ends
    with meanwhile("pg_logical_migrate", ending(source, target, "finished")) as held:
        in_step(source, target, databases=["shop"])
        before = catalogs.of_server(source), catalogs.of_database(source, "shop"), catalogs.of_server(target)
    refused(held.result, "It is not over", "in_step")
    after = catalogs.of_server(source), catalogs.of_database(source, "shop"), catalogs.of_server(target)
    assert before == after
    assert not in_step(source, target, databases=["shop"])["changed"]


def test_stop_beside_a_migration_that_begins(ends, meanwhile):
    source, target = ends
    with meanwhile("pg_logical_migrate", ending(source, target, "stopped")) as held:
        in_step(source, target, databases=["shop"])
    assert one(held.result)["changed"] and traces(source, "shop") == []
    assert target.sql("shop", "SELECT phase FROM handover.migration") == [("stopped",)]


def test_replicate_beside_another(ends, meanwhile):
    source, target = ends
    with meanwhile("pg_logical_migrate", migrations.options(source, target, databases=["shop"])) as held:
        in_step(source, target, databases=["shop"])
    found = one(held.result)
    assert not found["changed"] and found["phase"] == "in_step"


def test_copy_beside_a_migration_into_the_same_database(ends, meanwhile):
    source, target = ends
    arguments = {
        "source": source.endpoint(),
        "target": target.endpoint(),
        "client_directory": migrations.CLIENTS,
        "databases": ["shop"],
        "source_is_quiet": False,
        "replace": True,
        "replace_databases": ["shop"],
    }
    with meanwhile("pg_direct_copy", arguments) as held:
        in_step(source, target, databases=["shop"])
    refused(held.result, "is the target of migration", "in step")
    source.sql("shop", "INSERT INTO t VALUES (51)")
    assert not in_step(source, target, databases=["shop"])["changed"]
    assert target.sql("shop", "SELECT count(*) FROM t") == [(51,)]


def test_cutover_and_rollback_beside_an_end(bank, meanwhile):
    source, target = bank
    handed_over(cut_over(source, target))
    with meanwhile("pg_cutover", options(source, target, direction="back")) as held:
        done(migrate(source, target, databases=["shop"], state="finished"))
    refused(held.result, "no journal")
    assert homes(source, target) == ["target"]


def test_cutover_beside_a_stop(bank, meanwhile):
    source, target = bank
    with meanwhile("pg_cutover", options(source, target)) as held:
        stopped(source, target, databases=["shop"])
    refused(held.result, "was stopped")
    assert homes(source, target) == ["source", "target"] and traces(source, "shop") == []


def test_watch_does_not_stop_what_is_not_over_its_limit_any_more(bank, meanwhile):
    source, target = bank
    limits = {"source": source.endpoint(), "target": target.endpoint(), "databases": ["shop"]}
    with meanwhile("pg_migration_watch", {**limits, "max_duration": "0s", "stop_on": ["age"]}) as held:
        handed_over(cut_over(source, target))
    assert not held.result.failed and not held.result.changed, held.result
    assert held.result.databases[0]["stopped"] is None
    assert homes(source, target) == ["target"]


@pytest.mark.parametrize("begin", [rehearsal_journal.begin, source_record.begin])
def test_databases_and_targets_begin_at_once(servers, begin):
    """What many runs write into one database: rehearsals on the target, migrations to several targets on the source."""
    server, ready = servers(15), threading.Barrier(AT_ONCE)

    def run(number, dbname):
        with contextlib.closing(server.connect(dbname)) as session:
            ready.wait()
            begin(session, str(number), "{}")

    for dbname in ("first", "second", "third"):  # chance alone lets one through
        create_database(server, dbname)
        together(*(lambda number=number, dbname=dbname: run(number, dbname) for number in range(AT_ONCE)))
        (table,) = server.sql(
            dbname, "SELECT relname FROM pg_class WHERE oid::regclass::text ~ '^handover' AND relkind = 'r'"
        )[0]
        assert server.sql(dbname, f"SELECT count(*)::int FROM handover.{table}") == [(AT_ONCE,)]
