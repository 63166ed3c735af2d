# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network between a client and a server."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import psycopg2
import pytest

from lab.proxy import Proxy


@pytest.fixture
def way(servers):
    cluster = servers(15)
    with Proxy(cluster.port) as proxy:
        yield cluster, proxy


def ask(session, statement="SELECT 1"):
    with session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_delay(way):
    cluster, proxy = way
    with closing(cluster.connect(port=proxy.port)) as session:
        assert ask(session) == 1
        proxy.delay(0.15)
        began = time.monotonic()
        assert len(ask(session, "SELECT repeat('x', 4000000)")) == 4000000
        assert 0.3 <= time.monotonic() - began < 2, "once each way, not once for each piece"
        proxy.mend()
        began = time.monotonic()
        ask(session)
        assert time.monotonic() - began < 0.15


def test_hold_and_mend(way):
    cluster, proxy = way
    answers = []
    with closing(cluster.connect(port=proxy.port)) as session:
        proxy.hold()
        thread = threading.Thread(target=lambda: answers.append(ask(session)))
        thread.start()
        with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
            cluster.connect(port=proxy.port, connect_timeout=2)
        assert answers == []
        proxy.mend()
        thread.join(10)
        assert answers == [1]


def test_cut_and_mend(way):
    cluster, proxy = way
    session = cluster.connect(port=proxy.port)
    proxy.cut()
    with pytest.raises(psycopg2.OperationalError):
        ask(session)
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        cluster.connect(port=proxy.port)
    proxy.mend()
    with closing(cluster.connect(port=proxy.port)) as session:
        proxy.cut(refuse=False)
        with pytest.raises(psycopg2.OperationalError):
            ask(session)
        with closing(cluster.connect(port=proxy.port)) as another:
            assert ask(another) == 1
