# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations abandoned in every state: both ends are as they were, and what somebody may need is refused."""

from __future__ import annotations

import contextlib
import re
import signal

import pytest
from copies import copy
from cutovers import cut_over, handed_over, homes, make_bank
from dumps import CLIENTS, done, export, look, refused, restore
from faults import await_end_of_family, dies_at
from migrations import copy_roles, in_step, migrate, options
from support import assert_same, create_database, run_playbook, start_module

from lab import catalogs

TABLES = """
    CREATE TABLE kept (id serial PRIMARY KEY, v text);
    INSERT INTO kept (v) SELECT 'row ' || i FROM generate_series(1, 500) AS i;
    CREATE TABLE plain (v text);
    ALTER TABLE kept OWNER TO keeper; ALTER TABLE plain OWNER TO keeper"""
NAME = 'the "shop"; --'  # it goes into SQL, and its working name and rehearsals are known by it
GRANTS = ("pg_create_subscription", "pg_monitor")


class Pair:
    """A source with a database, a target with its roles, and what both said before anything was done."""

    def __init__(self, source, target, place, admin=False, name=NAME):
        self.source, self.target, self.place, self.name = source, target, place, name
        source.sql("postgres", "CREATE ROLE keeper")
        create_database(source, name, "OWNER keeper" if admin else "")
        source.sql(name, TABLES)
        self.role = target.managed_admin(grants=GRANTS) if admin else target.endpoint()
        copy_roles(source, self.role, place)
        self.before = self.seen()

    def seen(self):
        """Everything at the source, and all of the target but what is in databases."""
        return self.seen_at_source(), catalogs.of_server(self.target), catalogs.of_database(self.target, "postgres")

    def seen_at_source(self):
        return {**catalogs.of_server(self.source), **catalogs.of_database(self.source, self.name)}

    def assert_as_before(self):
        for before, after in zip(self.before, self.seen()):
            assert catalogs.changes(before, after) == []

    def imported(self, **options):
        done(export(self.source, self.place / "dump", databases=[self.name], force=True))
        done(restore(self.role, self.place / "dump", databases=[self.name], **options))

    def replicating(self, **options):
        return in_step(self.source, self.role, databases=[self.name], no_identity="full", **options)

    def abandon(self, check=False, named=(), **options):
        given = {"databases": [self.name], "abandon_databases": list(named), "state": "abandoned", **options}
        return migrate(self.source, self.role, check, **given)

    def abandoned(self, **options):
        """What it says of the only database; check mode says the same before, and a second run does nothing."""
        before = self.seen()
        [plan] = done(self.abandon(check=True, **options)).databases
        for one, other in zip(before, self.seen()):
            assert catalogs.changes(one, other) == [], "check mode changes nothing"
        [found] = done(self.abandon(**options)).databases
        assert (found["changed"], found["statements"]) == (plan["changed"], plan["statements"])
        assert found["left"] == {"source": [], "target": []}
        assert not done(self.abandon(**options)).changed
        return found


def killed(running):
    assert running.process.wait(60) == -signal.SIGKILL, running.stdout
    await_end_of_family(running)


def killed_import(pair):
    done(export(pair.source, pair.place / "dump", databases=[pair.name], force=True))
    env = dies_at(pair.place / "kill import", "subprocess.Popen", "pg_restore")
    options = {"target": pair.role, "dump_directory": str(pair.place / "dump"), "client_directory": CLIENTS}
    killed(start_module("pg_restore_import", options, env=env))


def killed_copy(pair):
    env = dies_at(pair.place / "kill copy", "subprocess.Popen", "pg_restore")
    given = options(pair.source, pair.role, databases=[pair.name], no_identity="full")
    killed(start_module("pg_logical_migrate", given, env=env))


def stopped(pair):
    pair.replicating()
    done(migrate(pair.source, pair.role, databases=[pair.name], state="stopped"))


def copied(pair):
    done(copy(pair.source, pair.role, databases=[pair.name]))


AS_SUPERUSER = [killed_import, Pair.imported, stopped, Pair.replicating]
AS_ADMINISTRATOR = [copied, killed_copy, Pair.replicating, killed_import]


@pytest.mark.parametrize(
    ("old", "new", "admin", "states"), [(15, 18, False, AS_SUPERUSER), (13, 17, True, AS_ADMINISTRATOR)]
)
def test_whatever_its_state_both_ends_are_as_before(servers, tmp_path, old, new, admin, states):
    pair = Pair(servers(old), servers(new, "target"), tmp_path, admin)
    rows = look(pair.source, pair.name)
    assert not done(pair.abandon()).changed, "there is nothing to abandon"
    for bring_about in states:
        bring_about(pair)
        assert any(catalogs.changes(before, now) for before, now in zip(pair.before, pair.seen()))
        assert pair.abandoned()["changed"]
        pair.assert_as_before()
    assert_same(rows, look(pair.source, pair.name))


@pytest.mark.parametrize("admin", [False, True], ids=["superuser", "no superuser"])
def test_a_database_that_was_handed_over_is_refused_until_it_is_named(servers, admin):
    source, target = servers(15), servers(18, "target")
    role = target.managed_admin(grants=GRANTS) if admin else target
    make_bank(source, target, as_role=role)
    before = catalogs.of_database(target, "shop")
    handed_over(cut_over(source, role))
    for unnamed in ([], ["other"]):
        given = {"databases": ["shop"], "state": "abandoned", "abandon_databases": unnamed}
        refused(migrate(source, role, **given), "was handed over", "Roll it back first", "abandon_databases")
    assert homes(source, target) == ["target"]
    source.sql("shop", "ALTER TABLE bank.ledger DISABLE TRIGGER handover_fence")  # goes with the fence all the same
    assert not done(migrate(source, role, databases=["shop"], state="abandoned", abandon_databases=["shop"])).failed
    assert target.sql("postgres", "SELECT FROM pg_database WHERE datname = 'shop'") == []
    assert before and source.sql("shop", "CREATE TABLE writable (); DROP TABLE writable") == []
    for cluster in (source, target):
        assert catalogs.traces(catalogs.of_server(cluster)) == []
    assert catalogs.traces(catalogs.of_database(source, "shop")) == []


def test_rolled_back_and_abandoned_or_handed_over_and_finished(servers):
    source, target = servers(16), servers(17, "target")
    make_bank(source, target)
    again = {"databases": ["shop"], "state": "abandoned"}
    handed_over(cut_over(source, target))
    handed_over(cut_over(source, target, direction="back"))
    assert done(migrate(source, target, **again)).changed
    assert target.sql("postgres", "SELECT FROM pg_database WHERE datname = 'shop'") == []
    assert catalogs.traces(catalogs.of_database(source, "shop")) == []

    in_step(source, target, databases=["shop"])
    handed_over(cut_over(source, target))
    done(migrate(source, target, databases=["shop"], state="finished"))
    refused(migrate(source, target, **again), "was handed over")
    result = done(migrate(source, target, **again, abandon_databases=["shop"]))
    assert "no journal there says" in result.databases[0]["notices"][-1]
    assert target.sql("shop", "SELECT count(*) > 0 FROM pg_class WHERE relkind = 'r'") == [(True,)], "it stays"
    assert catalogs.traces(catalogs.of_database(source, "shop")) == []


def test_what_somebody_may_need_is_refused_until_it_is_named(servers, tmp_path):
    pair = Pair(servers(15), servers(18, "target"), tmp_path, admin=True)
    pair.imported()
    with contextlib.closing(pair.target.connect(pair.name)) as session:
        refused(pair.abandon(), "is in use: postgres (process", "abandon_databases")
        session.cursor().execute("INSERT INTO kept (v) VALUES ('the application is here')")
    refused(pair.abandon(), "was written to since it was filled")
    assert pair.target.sql(pair.name, "SELECT count(*) FROM kept") == [(501,)]
    pair.abandoned(named=[pair.name])
    pair.assert_as_before()

    pair.imported()
    create_database(servers(16), pair.name)
    other = {"state": "abandoned", "databases": [pair.name]}
    refused(migrate(servers(16), pair.role, **other), "was brought from another server")
    assert pair.abandoned()["changed"]

    [(owner,)] = pair.target.sql("postgres", "SELECT current_user")
    for bring in (pair.imported, pair.replicating):
        create_database(pair.target, pair.name, f"OWNER {pair.role['user']}")
        before = catalogs.of_database(pair.target, pair.name)
        bring(create=False)
        refused(pair.abandon(), "was there before the migration")
        found = pair.abandoned(named=[pair.name])
        assert "was there before the migration: it stays" in found["notices"][-1]
        assert catalogs.changes(before, catalogs.of_database(pair.target, pair.name)) == []
        pair.target.sql("postgres", f'DROP DATABASE "{pair.name.replace(chr(34), chr(34) * 2)}"')
        pair.assert_as_before()
    assert owner == "postgres"


def test_an_end_that_is_away(servers, tmp_path):
    pair = Pair(servers(15), servers(17, "target"), tmp_path, name="shop")
    pair.replicating()
    pair.target.stop()
    [found] = done(pair.abandon()).databases
    assert found["left"]["target"] and catalogs.changes(pair.before[0], pair.seen_at_source()) == []
    pair.target.start()
    assert pair.abandoned()["changed"]
    pair.assert_as_before()

    pair.replicating()
    pair.source.stop()
    refused(migrate(pair.source, pair.role, state="abandoned"), "name the databases")
    [found] = done(pair.abandon()).databases
    assert found["left"]["source"] and catalogs.changes(pair.before[1], catalogs.of_server(pair.target)) == []
    pair.source.start()
    assert pair.abandoned()["changed"]
    pair.assert_as_before()

    pair.imported()
    pair.source.stop()
    assert done(pair.abandon()).changed
    pair.source.start()
    pair.assert_as_before()


def test_the_playbook(servers, tmp_path):
    pair = Pair(servers(14), servers(18, "target"), tmp_path, admin=True, name="shop")
    variables = {
        "ansible_connection": "local",
        "handover_source": pair.source.endpoint(),
        "handover_target": pair.role,
        "handover_databases": ["shop"],
        "handover_no_identity": "full",
        "handover_client_directory": CLIENTS,
        "handover_dump_directory": f"{tmp_path}/dumps",
        "handover_replication_password_file": f"{tmp_path}/password",
        "handover_target_addresses": ["127.0.0.1"],
        "handover_replication_tls": False,
        "handover_rehearse": False,
        "handover_progress": "0",
        "handover_report_directory": f"{tmp_path}/reports",
    }
    inventory = {"all": {"children": {"handover_pairs": {"hosts": {"pair": variables}}}}}

    def play(name, **options):
        result = run_playbook(f"handover.postgresql.{name}", inventory, **options)
        assert not result.failed, result.failures
        return result

    play("prepare_source")
    play("replicate")
    shown = play("abandon", check=True)
    assert re.search("target: subscription handover_.*; database shop", shown.stdout), shown.stdout
    assert "when the migration has ended, the source would be put back as it was" in shown.stdout
    assert pair.target.sql("shop", "SELECT count(*) FROM kept") == [(500,)]
    with contextlib.closing(pair.target.connect("shop")):
        result = run_playbook("handover.postgresql.abandon", inventory)
        assert result.failed and "abandon_databases to name it" in result.failures[-1]["msg"]
    given_up = play("abandon")
    last_words = re.findall("^(?:next:|TASK|PLAY) .*", given_up.stdout, re.MULTILINE)[-2]
    assert given_up.changed and last_words == "next: nothing: what there was is undone."
    assert "Abandoned" in (tmp_path / "reports" / "pair.html").read_text()
    pair.assert_as_before()
    assert not play("abandon").changed
