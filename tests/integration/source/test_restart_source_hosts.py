# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts of sources on their hosts: by which way, killed in the middle, and into a configuration that fails."""

from __future__ import annotations

import contextlib

from faults import await_that
from source_hosts import Source, connects, edit, finish, pairs, prepare, refused, start, succeeded

from lab.hosts import HostError

# A restart that waits while the file is there, with the server stopped.
SLOW = (
    "pg_ctlcluster 15 main stop -m fast; while [ -e /tmp/wait ]; do sleep 0.05; done;"
    " pg_ctlcluster 15 main start; echo >> /tmp/starts"
)


def is_down(source: Source) -> bool:
    with contextlib.suppress(HostError):
        source.host.psql("SELECT 1")
        return False
    return True


def begin_and_kill(source: Source, inventory: dict) -> None:
    """Start the playbook, and kill it with all its children while the server is stopped for the restart."""
    source.host.run("touch", "/tmp/wait")
    running = start("prepare_source", [source], inventory)
    await_that(lambda: is_down(source), "the server to be stopped", timeout=180, pause=0.1)
    running.kill_family()


def test_killed_during_the_restart(new_source, target_host):
    one = new_source(15)
    inventory = pairs(
        one, handover_target_addresses=[target_host.address], handover_allow_restart=True, handover_restart_command=SLOW
    )
    before = one.files()
    begin_and_kill(one, inventory)
    one.host.run("rm", "/tmp/wait")  # it goes on without the playbook
    await_that(lambda: not is_down(one), "the server to be back", pause=0.1)
    begun = one.started()
    assert succeeded(prepare([one], inventory)).changed is False or one.started() == begun
    assert one.started() == begun and one.host.run("wc", "-l", "/tmp/starts").startswith("1 ")
    assert one.setting("wal_level") == "logical" and connects(target_host, one) == "hello"
    succeeded(finish([one], inventory, handover_restart_command="pg_ctlcluster 15 main restart"))
    assert one.files() == before

    begin_and_kill(one, inventory)
    one.host.run("pkill", "-f", "tmp/wait")  # and now nothing of it is left, and the server is down
    one.host.run("rm", "/tmp/wait")
    assert is_down(one)
    succeeded(prepare([one], inventory))
    assert one.setting("wal_level") == "logical" and connects(target_host, one) == "hello"
    assert one.host.run("sh", "-c", "ls -A /root | grep handover || true") == ""
    succeeded(finish([one], inventory, handover_restart_command="pg_ctlcluster 15 main restart"))
    assert one.files() == before


def test_a_server_that_does_not_come_back_is_started_as_it_was(new_source, target_host):
    sources = [new_source(13), new_source(17)]
    inventory = pairs(*sources, handover_target_addresses=[target_host.address], handover_allow_restart=True)
    inventory["all"]["children"]["handover_pairs"]["hosts"]["source17"]["handover_settings_method"] = "conf_file"
    sources[0].host.psql("ALTER SYSTEM SET max_connections = 123")
    before = [one.files() for one in sources]
    nowhere = {"handover_listen_addresses": "192.0.2.1"}
    pending = refused(prepare(sources[:1], inventory, **nowhere), "max_connections. Ask them")
    assert len(pending.failures) == 1 and sources[0].setting("max_connections") == "100"

    nowhere["handover_accept_pending"] = True
    failed = refused(prepare(sources, inventory, **nowhere), "192.0.2.1")
    assert sum("was started as it was before" in one["msg"] for one in failed.failures) == 2
    assert not any(is_down(one) for one in sources)
    assert {one.setting("wal_level") for one in sources} == {"replica"}
    assert {one.setting("listen_addresses") for one in sources} == {"localhost"}

    succeeded(prepare(sources, inventory))
    assert {one.setting("wal_level") for one in sources} == {"logical"}
    succeeded(finish(sources, inventory))
    assert [one.files() for one in sources] == before


def test_a_configuration_with_which_it_would_not_start_is_not_tried(new_source, target_host):
    one = new_source(15)
    started = one.started()
    edit(one, "conf.d/late.conf", lambda text: "max_connections = many\n")
    inventory = pairs(one, handover_target_addresses=[target_host.address], handover_allow_restart=True)
    refused(prepare([one], inventory), "The server was not restarted", 'invalid value for parameter "max_connections"')
    assert one.started() == started and one.setting("wal_level") == "replica"


def test_the_way_of_the_host(new_source, host, target_host):
    one = Source(daemon(host(15, "daemon"), "pg_ctl -w -l /srv/log -D /srv/data start"), 5555)
    main = one.started()
    variables = {"handover_target_addresses": [target_host.address], "handover_replication_tls": False}
    inventory = pairs(one, handover_allow_restart=True, **variables)
    asked = refused(prepare([one], inventory, handover_allow_restart=False))
    assert "pg_ctl restart -D /srv/data" in asked.failures[0]["msg"]
    begun = one.started(5555)
    succeeded(prepare([one], inventory))
    assert one.started(5555) != begun and one.started() == main
    assert one.host.psql("SHOW wal_level", port=5555) == "logical" and one.setting("wal_level") == "replica"
    assert not succeeded(prepare([one], inventory)).changed

    other = Source(daemon(host(15, "child"), "sh -c 'postgres -D /srv/data 2> /srv/log; exit' &"), 5555)
    inventory = pairs(other, handover_allow_restart=True, **variables)
    refused(prepare([other], inventory), "Set handover_restart_command")

    third = new_source(17)
    inventory = pairs(third, handover_allow_restart=True, handover_restart_service="postgresql", **variables)
    begun = third.started()
    succeeded(prepare([third], inventory))
    assert third.started() != begun and third.setting("wal_level") == "logical"


def daemon(host, command: str):
    """The host, with a server of its own making besides Debian's, started with this command."""
    script = f"""
        exec > /dev/null 2>&1 < /dev/null
        export PATH=$PATH:/usr/lib/postgresql/15/bin
        initdb -D /srv/data --auth-local=peer --auth-host=scram-sha-256
        echo "port = 5555" >> /srv/data/postgresql.conf
        {command}
        until psql -p 5555 -c 'SELECT 1'; do sleep 0.1; done"""
    host.run("chown", "postgres:", "/srv")
    host.run("sh", "-c", script, user="postgres")
    return host
