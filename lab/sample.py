# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sample application: a shop with billing, logistics and analytics, on any server from 13 on.

Nothing but SQL over psycopg2, no language but plpgsql, no extension, no locale: it fits the smallest build.
The contents depend on ``scale`` and ``seed`` alone: every major gives the same rows (from 14 on, one table more).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from psycopg2.extensions import encrypt_password

from lab.script import literal, quoted, run, session

SQL = Path(__file__).parent / "sample"
CLUSTER = [SQL / f"{part}.sql" for part in ("roles", "database")]
DATABASE = [SQL / f"{part}.sql" for part in ("types", "tables", "data", "oddities", "indexes", "programs", "grants")]


def role_names(prefix: str = "shop") -> dict[str, str]:
    """The roles by their part in the application: words, spaces, quotes and letters beyond ASCII among them."""
    parts = ("owner", "billing", "app", "reporting", "readers", "analyst", "replicator", "locked")
    return {
        **{part: f"{prefix}_{part}" for part in parts},
        "admin": f"{prefix.capitalize()} Admin",
        "guest": f'{prefix} gäst "O\'Brien"',
    }


def create(
    connect: Callable, dbname: str, scale: float = 1.0, seed: int = 1, prefix: str = "shop", password: str = "sample"
) -> dict:
    """Make the database and its roles: about 118 MB at scale 1, 12 MB at 0.01 (an empty database has 8).

    ``connect(dbname)`` returns an autocommit connection of a superuser. Every role that may log in, and ``locked``,
    gets ``password`` as a SCRAM secret; ``guest`` may log in and has none. Returns ``database``, ``roles`` (sorted
    names), ``tables`` and ``rows`` (counted), ``bytes`` (pg_database_size) and ``seconds``.
    """
    started = time.monotonic()
    roles = role_names(prefix)
    names = {part: quoted(name) for part, name in roles.items()}
    names.update(database=quoted(dbname), scale=repr(float(scale)), seed=int(seed))
    with session(connect, "postgres") as cursor:
        for part, name in roles.items():
            names[f"{part}_secret"] = literal(encrypt_password(password, name, cursor.connection, "scram-sha-256"))
        run(cursor, CLUSTER, names)
    with session(connect, dbname) as cursor:
        run(cursor, DATABASE, names)
        summary = {"database": dbname, "roles": sorted(roles.values()), **_size(cursor)}
    return {**summary, "seconds": round(time.monotonic() - started, 1)}


def drop(connect: Callable, dbname: str, prefix: str = "shop") -> None:
    """Remove the database, whoever is connected to it, and then the roles, which no other database may use."""
    with session(connect, "postgres") as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted(dbname)} WITH (FORCE)")
        cursor.execute("DROP ROLE IF EXISTS " + ", ".join(map(quoted, role_names(prefix).values())))


def _size(cursor) -> dict:
    cursor.execute("""
        SELECT format('SELECT count(*) FROM ONLY %s', oid::regclass) FROM pg_class
        WHERE relkind = 'r' AND relnamespace NOT IN (SELECT oid FROM pg_namespace
              WHERE nspname ~ '^pg_' OR nspname = 'information_schema')""")
    counts = [query for (query,) in cursor.fetchall()]
    cursor.execute(
        "SELECT sum(count), pg_database_size(current_database()) FROM (" + " UNION ALL ".join(counts) + ") AS t"
    )
    rows, size = cursor.fetchone()
    return {"tables": len(counts), "rows": int(rows), "bytes": size}
