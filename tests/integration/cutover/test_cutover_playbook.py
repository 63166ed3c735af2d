# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks cutover and rollback, with a pooler whose file they write."""

from __future__ import annotations

import contextlib
import json

import pytest
from cutovers import CLERK, USERS, await_commits, homes, make_bank, refusal
from faults import await_that
from migrations import in_step
from support import run_playbook, start_playbook

from ansible_collections.handover.postgresql.plugins.plugin_utils.page import store
from lab import bank
from lab.bank import Bank

LATE = "SELECT rolname, rolconnlimit, rolpassword FROM pg_authid WHERE rolname = 'late'"


def inventory(source, target, front, **more):
    """One pair behind one pooler, whose configuration is a file of this machine."""
    file = {"config_file": str(front.directory / "pgbouncer.ini")} if front else {}
    variables = {
        "ansible_connection": "local",
        "handover_source": source.endpoint(),
        "handover_target": target.endpoint(),
        "handover_databases": ["shop"],
        "handover_poolers": [{**front.console_endpoint(), **file}] if front else [],
        **more,
    }
    return {"all": {"hosts": {"lab": variables}}}


@pytest.fixture
def pair(servers):
    source, target = servers(15), servers(18)
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER ROLE postgres PASSWORD 'the same on both ends'")
    passwords = [cluster.password for cluster in (source, target)]
    for cluster in (source, target):
        cluster.password = "the same on both ends"
    make_bank(source, target)
    yield source, target
    for cluster, password in zip((source, target), passwords):
        cluster.sql("postgres", f"ALTER ROLE postgres PASSWORD '{password}'")
        cluster.password = password


def test_there_and_back(pair, pooler, tmp_path):
    source, target = pair
    front = pooler(source, users=USERS)
    (front.directory / "pgbouncer.ini").chmod(0o640)
    before = (front.directory / "pgbouncer.ini").read_text()
    tasks = tmp_path / "switch.yml"
    copy = {"content": "{{ handover_window }} {{ handover_places }}", "dest": f"{tmp_path}/switched", "mode": "0600"}
    tasks.write_text(json.dumps([{"name": "Switch", "ansible.builtin.copy": copy}]))
    given = inventory(
        source,
        target,
        front,
        handover_require_verification=False,
        handover_switch_tasks=str(tasks),
        handover_report_directory=str(tmp_path / "reports"),
        handover_reverse=True,
    )
    source.sql("postgres", "CREATE ROLE late LOGIN CONNECTION LIMIT 3 PASSWORD 'of who came late'")
    with Bank(front.endpoint(**CLERK), rate=20) as load:
        check = run_playbook("handover.postgresql.cutover", given, check=True)
        assert not check.failed and "LOCK TABLE" in check.stdout, check
        assert 'CREATE ROLE "late"' in check.stdout and "SCRAM-SHA-256$" not in check.stdout
        assert target.sql("postgres", LATE) == []
        assert homes(source, target) == ["source", "target"]
        assert (front.directory / "pgbouncer.ini").read_text() == before

        there = run_playbook("handover.postgresql.cutover", given)
        assert not there.failed, (there.failures, there.stdout[-3000:])
        assert homes(source, target) == ["target"]
        assert target.sql("postgres", LATE) == source.sql("postgres", LATE) != []
        assert f"shop = host=127.0.0.1 port={target.port}" in (front.directory / "pgbouncer.ini").read_text()
        assert (front.directory / "pgbouncer.ini").stat().st_mode & 0o777 == 0o640
        assert str(target.port) in (tmp_path / "switched").read_text()
        (report,) = json.loads((tmp_path / "reports" / "lab-cutover.json").read_text())["databases"]
        assert report["handed_over"] and report["poolers"][0]["leads_to_new"]
        html = (tmp_path / "reports" / "lab.html").read_text()
        page = store.read(html)
        assert [(one["direction"], one["window_ms"]) for one in page["windows"]] == [("forward", report["window_ms"])]
        assert [one["phase"] for one in page["status"]["databases"]] == ["handed_over"]
        assert all(f">{step['step'].replace('_', ' ')}: " in html for step in report["timeline"])
        await_commits(load)

        again = run_playbook("handover.postgresql.cutover", given)
        assert not again.failed and not again.changed, again

        (tmp_path / "switched").unlink()
        given["all"]["hosts"]["lab"]["handover_switch_command"] = ["false"]
        back = run_playbook("handover.postgresql.rollback", given)
        assert back.failed and "switch_command ended with status 1" in back.stdout, back
        assert (tmp_path / "switched").exists(), "it was handed over, so that these are needed all the more"
        assert homes(source, target) == ["source"]
        again = run_playbook("handover.postgresql.rollback", given)
        assert not again.failed and not again.changed, again
        await_commits(load)
    assert load.failures == [] and load.problems(source.connect("shop")) == []


def test_several_databases_behind_a_pooler(pair, pooler):
    source, target = pair
    source.sql("postgres", "CREATE DATABASE depot")
    bank.create(source.connect, "depot", role="clerk")
    in_step(source, target, databases=["depot"])
    front = pooler(source, users=USERS)
    given = inventory(source, target, front, handover_require_verification=False)
    ours = given["all"]["hosts"]["lab"]
    ours.update(handover_databases=["shop", "depot"], handover_poolers=[front.console_endpoint()])
    refused = run_playbook("handover.postgresql.cutover", given)
    assert refused.failed and "set handover_together: true" in refused.stdout, refused
    assert homes(source, target) == homes(source, target, "depot") == ["source", "target"]

    staged = {"config_file": str(front.directory / "pgbouncer.ini"), "databases": ["shop", "depot"]}
    ours.update(handover_together=True, handover_poolers=[{**front.console_endpoint(), **staged}])
    with Bank(front.endpoint(**CLERK), "shop", rate=15) as one, Bank(front.endpoint(**CLERK), "depot", rate=15) as two:
        done = run_playbook("handover.postgresql.cutover", given)
        assert not done.failed, (done.failures, done.stdout[-3000:])
        await_commits(one)
        await_commits(two)
    for name, load in (("shop", one), ("depot", two)):
        assert load.failures == [] and load.problems(target.connect(name)) == []


def test_several_databases_without_a_pooler(pair, tmp_path):
    """One call opens a window for each. If one fails, it is said which were handed over before, also on the page; a
    rerun goes on.
    """
    source, target = pair
    source.sql("postgres", "CREATE DATABASE depot")
    bank.create(source.connect, "depot", role="clerk")
    in_step(source, target, databases=["depot"])
    names = {
        "handover_databases": ["depot", "shop"],
        "handover_deadline": "2s",
        "handover_report_directory": str(tmp_path),
    }
    given = inventory(source, target, None, handover_require_verification=False, **names)
    with contextlib.closing(source.connect("shop", autocommit=False)) as session:
        running = start_playbook("handover.postgresql.cutover", given)
        await_that(lambda: running.process.poll() is not None or refusal(source, "depot"), "depot")
        session.cursor().execute("LOCK TABLE bank.account IN SHARE MODE")
        failed = running.wait()
    assert failed.failed and "Handed over in this run: depot." in failed.stdout, failed
    assert homes(source, target, "depot") == ["target"] and "source" in homes(source, target)
    assert windows(tmp_path) == ["depot"]
    done = run_playbook("handover.postgresql.cutover", given)
    assert not done.failed and "- depot: was at" in done.stdout and "- shop: handed over" in done.stdout, done
    assert homes(source, target) == ["target"] and windows(tmp_path) == ["depot", "shop"]


def windows(place):
    """The databases whose windows the pair's page shows."""
    return [one["database"] for one in store.read((place / "lab.html").read_text())["windows"]]


def test_what_stands_in_the_way_is_said_before_anything_is_staged(pair, pooler):
    source, target = pair
    front = pooler(source, users=USERS)
    before = (front.directory / "pgbouncer.ini").read_text()
    result = run_playbook("handover.postgresql.cutover", inventory(source, target, front))
    assert result.failed and "The contents were not verified." in result.stdout, result
    assert (front.directory / "pgbouncer.ini").read_text() == before


def test_a_window_that_fails_leaves_the_pooler_as_it_was(pair, pooler):
    source, target = pair
    front = pooler(source, users=USERS)
    before = (front.directory / "pgbouncer.ini").read_text()
    with source.connect("shop", autocommit=False, port=front.port, **CLERK) as session:
        session.cursor().execute("SELECT 1")
        result = run_playbook(
            "handover.postgresql.cutover",
            inventory(source, target, front, handover_require_verification=False, handover_deadline="1s"),
        )
        session.rollback()
    session.close()
    assert result.failed and "did not pause shop in time" in result.stdout, result
    assert (front.directory / "pgbouncer.ini").read_text() == before
    assert homes(source, target) == ["source"]
