# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consoles that are not PgBouncer's: the preflight and the cutover refuse them by name, before anything is done."""

from __future__ import annotations

import os
import subprocess

import psycopg2
import pytest
from cutovers import homes, make_bank, options
from faults import await_that
from preflights import look
from support import run_module

from lab.cluster import free_port, give, unprivileged
from lab.pgbouncer import odyssey

ODYSSEY = """
daemonize no
log_format "%l %m\\n"
log_to_stdout yes
unix_socket_mode "0600"
workers 1
listen {{ host "127.0.0.1" port {port} }}
storage "server" {{ type "remote" host "127.0.0.1" port {server} }}
storage "local" {{ type "local" }}
database "shop" {{ user default {{ authentication "none" storage "server" pool "transaction" }} }}
database "console" {{ user default {{ authentication "none" storage "local" pool "session" }} }}
"""


@pytest.fixture
def console_of_odyssey(run_directory):
    """``console_of_odyssey(cluster)`` starts Odyssey in front of a server, and returns how its console is reached."""
    place, started = run_directory / "odyssey", []
    place.mkdir(exist_ok=True)
    give(place)

    def start(cluster):
        endpoint = {"host": "127.0.0.1", "port": free_port(), "user": "console", "dbname": "console"}
        (place / "odyssey.conf").write_text(ODYSSEY.format(port=endpoint["port"], server=cluster.port))
        program = odyssey().program("odyssey")
        with (place / "log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [program, place / "odyssey.conf"],
                    stdout=log,
                    stderr=log,
                    cwd=place,
                    env={"PATH": os.defpath},
                    start_new_session=True,
                    **unprivileged(),
                )
            )
        await_that(lambda: answers(endpoint), f"the console; see {place}/log", timeout=20)
        return endpoint

    yield start
    for process in started:
        process.kill()
        process.wait()


def answers(endpoint) -> bool:
    try:
        psycopg2.connect(**endpoint).close()
        return True
    except psycopg2.OperationalError:
        return False


def test_what_is_no_pgbouncer_is_refused_by_name(servers, console_of_odyssey):
    """Odyssey and a server, with the name of their database and with PgBouncer's, which neither has."""
    source, target = servers(15), servers(18)
    make_bank(source, target)
    named = [console_of_odyssey(source), source.endpoint()]
    consoles = [*named, *({name: one[name] for name in one if name != "dbname"} for one in named)]
    found = look(source.endpoint(), target.endpoint(), ["shop"], poolers=consoles).of("pooler_consoles", "blocker")
    assert len(found) == len(consoles)
    for finding, who in zip(found, ["odyssey 1.", "a PostgreSQL server", "Odyssey", "a PostgreSQL server"]):
        assert who in finding["seen"] and "handover_switch_command" in finding["remedy"]
        refused = run_module("pg_cutover", {**options(source, target), "poolers": [consoles.pop(0)]}, check=True)
        assert refused.failed and who in refused.problem and refused.remedy == finding["remedy"]
    refused = run_module("pg_cutover", {**options(source, target), "poolers": named[:1]})
    assert refused.failed and refused.problem == found[0]["seen"]
    assert homes(source, target) == ["source", "target"]  # no fence was closed


def test_pgbouncers_are_fine(servers, pooler):
    source = servers(15)
    console = pooler(source).console_endpoint()
    assert look(source.endpoint(), None, ["postgres"], poolers=[console]).levels("pooler_consoles") == {"ok"}
    away = {**console, "port": free_port()}
    assert look(source.endpoint(), None, ["postgres"], poolers=[away]).levels("pooler_consoles") == {"unknown"}
    assert look(source.endpoint(), None, ["postgres"]).levels("pooler_consoles") == {"ok"}
