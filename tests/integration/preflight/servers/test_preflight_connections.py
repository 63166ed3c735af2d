# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the way from this machine to the servers: poolers, load balancers, TLS, room for sessions."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading

import pytest
from preflights import look, mend, own_address
from support import create_database

HERE = ("pooler", "load_balancer", "tls", "source_connections", "target_connections")


class Balancer:
    """A load balancer for TCP: each new connection goes to the next server."""

    def __init__(self, *ports: int) -> None:
        self._ports = itertools.cycle(ports)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._socket.accept()
                server = socket.create_connection(("127.0.0.1", next(self._ports)))
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._relay, args=(one, other), daemon=True).start()

    @staticmethod
    def _relay(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_two_servers_of_ones_own(servers):
    source, target = servers(13), servers(16, "target")
    report = look(source.endpoint(), target.endpoint(), [create_database(source)])
    for check in HERE:
        assert report.levels(check) == {"ok"}, report.of(check)
    assert look(source.endpoint(), None, ["postgres"]).levels("target_connections") == {"unknown"}


def test_a_pool_of_sessions(servers, pooler):
    source = servers(15)
    front = pooler(source, mode="session")
    report = look(front.endpoint(), None, [create_database(source)])
    [finding] = report.of("pooler", "warning")
    assert "session mode" in finding["seen"] and "as source" in finding["remedy"]
    assert report.levels("load_balancer") == {"ok"}


def test_one_address_of_two_servers(servers):
    source, other = servers(15), servers(15, "other")
    dbname = create_database(source)
    for server in (source, other):
        server.sql("postgres", "CREATE ROLE balanced LOGIN SUPERUSER PASSWORD 'balanced-password'")
    balancer = Balancer(source.port, other.port)
    try:
        endpoint = source.endpoint(user="balanced", password="balanced-password", port=balancer.port)
        [finding] = look(endpoint, None, [dbname]).of("load_balancer", "blocker")
        assert "reach several servers" in finding["seen"]
    finally:
        balancer.close()


@pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")
def test_a_session_in_the_clear(new_cluster, authority):
    address = own_address()
    hba = [f"host all all {one}/32 scram-sha-256" for one in ("127.0.0.1", address)]
    source = new_cluster(15, settings={"listen_addresses": "*"}, hba=hba, tls=authority.server())
    source.sql("postgres", "CREATE DATABASE shop")
    endpoint = {**source.endpoint(), "host": address}
    assert "sslmode" in look({**endpoint, "sslmode": "disable"}, None, ["shop"]).of("tls", "warning")[0]["remedy"]
    assert look(endpoint, None, ["shop"]).levels("tls") == {"ok"}


@pytest.mark.parametrize("major", [13, 16])
def test_room_for_sessions(new_cluster, servers, major):
    source, target = servers(15), new_cluster(major, settings={"max_connections": 8, "max_wal_senders": 2})
    dbname = create_database(source)
    endpoint = source.managed_admin("narrow")
    source.sql("postgres", "ALTER ROLE narrow CONNECTION LIMIT 5")
    source.sql("postgres", f"ALTER DATABASE {dbname} CONNECTION LIMIT 2")
    with contextlib.ExitStack() as stack:
        for _i in range(9):
            stack.enter_context(contextlib.closing(source.connect()))
        for _i in range(3):
            stack.enter_context(contextlib.closing(target.connect()))
        report = look(endpoint, target.endpoint(), [dbname], jobs=2)
        by_level = {one["level"]: one for one in report.of("source_connections")}
        assert f"database {dbname} " in by_level["blocker"]["seen"] and "5 are needed" in by_level["blocker"]["seen"]
        assert "role narrow" in by_level["warning"]["seen"] and "jobs: 1" in by_level["warning"]["remedy"]
        found = [one["seen"] for one in report.of("target_connections")]
        assert any("the target allows 8" in seen for seen in found), found
        room = "max_connections of the target leaves room for [34] "  # a session that was closed may still be there
        assert any(re.match(room, seen) for seen in found), found
    mend(source, "postgres", [{"remedy": one["remedy"].split(" Or use")[0]} for one in by_level.values()])
    report = look(endpoint, target.endpoint(), [dbname], jobs=2)
    assert report.levels("source_connections") == report.levels("target_connections") == {"ok"}


def test_a_target_whose_sessions_are_shared(servers, pooler):
    source, target = servers(15), servers(16, "target")
    front = pooler(target, mode="transaction")
    report = look(source.endpoint(), front.endpoint(), [create_database(source)])
    [finding] = report.of("target_connection", "blocker")
    assert "transaction mode" in finding["seen"] and "as target" in finding["remedy"]
    assert report.levels("target_role") == {"unknown"}
