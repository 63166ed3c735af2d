# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of a module while it works, and what becomes of it when nobody looks any more."""

from __future__ import annotations

import os
import re
import signal
import sys

import ansible_runner
import pytest
from dumps import CLIENTS, JOURNAL, create_database, look
from faults import await_that
from support import assert_same, environment, start_playbook

from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import BYTES

BIG = "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 10) AS t FROM generate_series(1, 150000) AS i; ANALYZE big"
# Loading it takes a while, and no processor.
SLOW = """
    CREATE FUNCTION slowly(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN IF i % 100 = 0 THEN PERFORM pg_sleep(0.04); END IF; RETURN i; END $$;
    CREATE TABLE slow (i int, g int GENERATED ALWAYS AS (public.slowly(i)) STORED);
    INSERT INTO slow SELECT i FROM generate_series(1, 10000) AS i"""
HEAD = """
- hosts: all
  gather_facts: false
  tasks:
"""
COPY = """
    - handover.postgresql.pg_direct_copy:
        {source: "{{ source }}", target: "{{ target }}", databases: [shop], client_directory: "{{ clients }}",
         max_rate: 8MB, progress: 1s}
"""
DUMP = """
    - handover.postgresql.pg_dump_export:
        {source: "{{ source }}", dump_directory: "{{ place }}", databases: [shop], include: [databases],
         client_directory: "{{ clients }}", jobs: 1, compress: "gzip:9", progress: 1s}
"""
IMPORT = """
    - handover.postgresql.pg_restore_import:
        {target: "{{ target }}", dump_directory: "{{ place }}", include: [databases],
         client_directory: "{{ clients }}", jobs: 2, progress: 1s}
"""
VERIFY = """
    - handover.postgresql.pg_verify:
        {source: "{{ source }}", target: "{{ target }}", databases: [shop], client_directory: "{{ clients }}",
         max_rate: 12MB, progress: 1s}
"""
AMOUNT = r"([\d.]+) (MB|kB|B)"


@pytest.fixture
def play(servers, tmp_path):
    """``play(tasks)`` starts them as a playbook, for a database whose rows take a while to arrive."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "shop")
    source.sql("shop", BIG)

    ends = {"source": source.endpoint(), "target": target.endpoint()}
    more = {"clients": CLIENTS, "place": str(tmp_path / "dump"), "ansible_connection": "local"}
    more["ansible_python_interpreter"] = sys.executable
    playbook = tmp_path / "playbook.yml"

    def start(tasks, **options):
        playbook.write_text(HEAD + tasks)
        return start_playbook(playbook, start.inventory, **options)

    start.source, start.target, start.playbook = source, target, playbook
    start.inventory = {"all": {"hosts": {"here": {**ends, **more}}}}
    return start


def lines(text, stage):
    return re.findall(rf"^here: shop: {stage}, .*$", text, re.MULTILINE)


def test_a_copy_is_seen_while_it_is_made(play):
    """The lines come while it works; what is said of the whole is what is said of the table."""
    running = play(COPY, args=["-v"])
    await_that(lambda: len(lines(running.stdout, "rows, indexes and keys")) >= 2, "two lines")
    assert running.process.poll() is None
    result = running.wait()
    assert not result.failed, result
    told = lines(result.stdout, "rows, indexes and keys")
    amounts = [re.search(rf"[01] of 1 table, {AMOUNT} of 53 MB", line) for line in told]
    assert all(amounts), told
    numbers = [float(found[1]) * BYTES[found[2]] for found in amounts]
    assert numbers == sorted(numbers) and numbers[-1] > 20 * BYTES["MB"]
    assert "here: shop: public.big: " in result.stdout
    assert_same(look(play.source, "shop"), look(play.target, "shop"), JOURNAL)


def test_a_dump_and_its_import_are_seen(play):
    play.source.sql("shop", SLOW)
    running = play(DUMP + IMPORT)
    dumping = await_that(lambda: [n for n, words in running.family().items() if "pg_dump --format" in words], "pg_dump")
    os.kill(dumping[0], signal.SIGSTOP)
    await_that(lambda: lines(running.stdout, "pg_dump"), "a line")
    os.kill(dumping[0], signal.SIGCONT)
    result = running.wait()
    assert not result.failed, result
    assert re.search(rf"of 2 tables, {AMOUNT} of 5\d MB", lines(result.stdout, "pg_dump")[-1])
    assert re.search(r"1 of 2 tables", lines(result.stdout, "data")[-1]), "the larger one is first"
    assert "public.big: " not in result.stdout, "tables are shown with -v"
    assert_same(look(play.source, "shop"), look(play.target, "shop"), JOURNAL)


def test_a_comparison_is_seen_and_one_that_is_to_be_silent_is_not(play):
    assert not lines(play(COPY.replace("1s", "0")).wait().stdout, ".*")
    checked = play(COPY.replace("[shop]", "[shop], rename: {shop: other}"), check=True).wait()
    assert not checked.failed and checked.changed, checked
    result = play(VERIFY).wait()
    assert not result.failed, result
    assert re.search(rf"{AMOUNT} of 53 MB", lines(result.stdout, "rows")[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_ends_when_ansible_is_gone(play, number):
    running = play(COPY)
    await_that(lambda: lines(running.stdout, "rows, indexes and keys"), "a line")
    os.killpg(running.pid, number)
    running.process.wait(30)
    await_that(lambda: not running.family(), "its end", 30)
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'handover%'"
    await_that(lambda: play.target.sql("postgres", left) == [(0,)], "the end of its sessions", 30)


def test_the_lines_are_events_of_ansible_runner(play, tmp_path):
    """That is what AWX shows, while the task is at work."""
    events = []
    (tmp_path / "runner").mkdir()
    play.playbook.write_text(HEAD + COPY)
    run = ansible_runner.run(
        private_data_dir=str(tmp_path / "runner"),
        playbook=str(play.playbook),
        inventory=play.inventory,
        envvars=environment(),
        event_handler=lambda event: events.append((event["event"], event["stdout"])) or False,
        quiet=True,
    )
    assert run.status == "successful", "\n".join(text for _kind, text in events)
    kinds = [kind for kind, _text in events]
    told = [n for n, (kind, text) in enumerate(events) if kind == "verbose" and text.startswith("here: shop: rows")]
    assert len(told) > 1 and kinds.index("runner_on_start") < told[0] and told[-1] < kinds.index("runner_on_ok")


def test_a_broken_connection_is_made_anew(new_source, network, tmp_path):
    """The module goes on meanwhile: a dump that is held up, on a host that is reached over SSH."""
    source = new_source(15)
    source.host.psql(BIG, dbname="shop")
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(HEAD + DUMP)
    own = {"source": {**source.endpoint(), "port": 5432}, "clients": [], "place": "/var/tmp/dump"}
    inventory = {"all": {"hosts": {"here": {**source.host.ansible(), **own}}}}
    running = start_playbook(playbook, inventory, here=network.here)
    await_that(lambda: source.host.run("pkill", "-STOP", "-ef", "pg_dump --format", check=False), "pg_dump")
    line = "here: shop: pg_dump"
    await_that(lambda: line in running.stdout, "a line")
    for process, command in running.family().items():
        if re.match(r"(\S*/)?ssh[: ]", command):
            os.kill(process, signal.SIGKILL)
    seen = running.stdout.count(line)
    await_that(lambda: running.stdout.count(line) > seen + 1, "another two")
    source.host.run("pkill", "-CONT", "-f", "pg_dump --format")
    result = running.wait()
    assert not result.failed, result
    assert "toc.dat" in source.host.run("find", "/var/tmp/dump", "-name", "toc.dat")
    left = ["find", "/", "-xdev", "-path", "*/.ansible_async/*", "-o", "-name", "ansible-tmp-*"]
    await_that(lambda: source.host.run(*left) == "", "Ansible's files to be gone")  # the wrapper looks every 5 s
