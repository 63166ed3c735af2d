# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations whose schema changes meanwhile: a database to begin with, releases, and both ends compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrations import in_step
from support import Cluster, create_database
from verifications import verify

TABLES = """
    CREATE TABLE orders (id int PRIMARY KEY, word varchar(20), flag boolean NOT NULL DEFAULT true, note text);
    INSERT INTO orders (id, word) SELECT i, 'old ' || i FROM generate_series(1, 300) AS i;
    CREATE TABLE lines (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, orders int REFERENCES orders, amount int);
    INSERT INTO lines (orders, amount) SELECT i, i FROM generate_series(1, 300) AS i;
    CREATE TABLE parts (id int, at date, word text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
    INSERT INTO parts SELECT i, '2026-01-15'::date + i % 30, 'old' FROM generate_series(1, 200) AS i"""


def begun(
    source: Cluster,
    target: Cluster,
    more: str = "",
    login: Any = None,
    fill: Callable[[], object] = lambda: None,
) -> tuple[Cluster, Cluster]:
    """Both, with database yard in step; ``more`` statements and ``fill`` add to it, ``login`` is the target's."""
    for cluster in (source, target):
        cluster.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '100ms'")  # or workers start late
        cluster.sql("postgres", "SELECT pg_reload_conf()")
    create_database(source, "yard")
    source.sql("yard", TABLES + more)
    fill()
    in_step(source, login or target, databases=["yard"])
    return source, target


def run_each(source: Cluster, statements: str) -> None:
    """A line at a time, each in a transaction of its own."""
    for statement in statements.strip().splitlines():
        source.sql("yard", statement)


def followed(source: Cluster, target: Cluster, **more: object) -> dict:
    return in_step(source, target, databases=["yard"], follow_schema=True, **more)


def assert_equal(source: Cluster, target: Any) -> None:
    """Both ends show the same rows and definitions."""
    found = verify(source, target, databases=["yard"])
    assert found.databases[0].get("verdict") == "equal", found.msg
