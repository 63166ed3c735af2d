# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database with one object of every class that pg_dump knows, as far as the server can make it.

Each step of the SQL files is tried on its own: what a build, a major or a setting does not allow is reported with
the server's reason and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable

import psycopg2
from psycopg2.extensions import encrypt_password

from lab.script import Step, literal, major, quoted, run, session, steps

SQL = Path(__file__).parent / "every_class"
CONTRIB = (
    "hstore", "citext", "pg_trgm", "btree_gist", "btree_gin", "ltree", "intarray", "uuid-ossp", "pgcrypto", "dblink",
    "cube", "earthdistance", "file_fdw", "postgres_fdw", "tablefunc", "fuzzystrmatch", "unaccent", "isn", "seg",
    "bloom", "lo", "tcn", "moddatetime", "dict_int", "pg_stat_statements", "pageinspect", "vector",
)  # fmt: skip
LANGUAGES = ("plperl", "plpython3u", "pltcl")


def create(
    connect: Callable,
    dbname: str,
    prefix: str = "every",
    password: str = "sample",
    tablespace: str = "",
    extensions: Iterable[str] = CONTRIB,
) -> dict:
    """Make the database, its two roles and its tablespace.

    ``connect(dbname)`` returns an autocommit connection of a superuser. ``tablespace`` is an empty directory of the
    server's; without one the tablespace is made inside the data directory (allow_in_place_tablespaces).
    ``extensions`` may name LANGUAGES too. Returns ``made`` (titles of steps) and ``not_made`` (title: reason).
    """
    names = {part: quoted(f"{prefix}_{part}") for part in ("owner", "reader", "space")}
    names["database"] = quoted(dbname)
    outcome: dict = {"made": [], "not_made": {}}
    with session(connect, "postgres") as cursor:
        names["secret"] = literal(encrypt_password(password, f"{prefix}_owner", cursor.connection, "scram-sha-256"))
        run(cursor, [SQL / "cluster.sql"], names)
        cursor.execute("SELECT set_config('allow_in_place_tablespaces', 'on', false) WHERE %s = ''", [tablespace])
        place = f"CREATE TABLESPACE {names['space']} LOCATION {literal(tablespace)}"
        _try(cursor, Step.of("place of the tablespace", place), outcome)
    with session(connect, dbname) as cursor:
        for step in _all(names, extensions):
            _try(cursor, step, outcome)
    return outcome


def drop(connect: Callable, dbname: str, prefix: str = "every") -> None:
    """Remove the database, whoever is connected to it, its tablespace and its roles."""
    with session(connect, "postgres") as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [dbname])
        if cursor.fetchone()[0]:
            _drop_subscriptions(connect, dbname)
            cursor.execute(f"DROP DATABASE {quoted(dbname)} WITH (FORCE)")
        cursor.execute(f"DROP TABLESPACE IF EXISTS {quoted(prefix + '_space')}")
        for part in ("owner", "reader"):
            cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [f"{prefix}_{part}"])
            if cursor.fetchone()[0]:
                cursor.execute(f"DROP OWNED BY {quoted(f'{prefix}_{part}')}")  # rights on parameters
                cursor.execute(f"DROP ROLE {quoted(f'{prefix}_{part}')}")


def _all(names: dict, extensions: Iterable[str]) -> Iterator[Step]:
    for part in ("types", "programs", "tables", "relations"):
        yield from steps(SQL / f"{part}.sql", names)
    yield Step.of("schema of extensions", "CREATE SCHEMA extensions")
    for name in extensions:
        place = "" if name in LANGUAGES else "SCHEMA extensions"
        yield Step.of(f"extension {name}", f"CREATE EXTENSION IF NOT EXISTS {quoted(name)} {place} CASCADE")
    yield from steps(SQL / "extensions.sql", names)


def _try(cursor, step: Step, outcome: dict) -> None:
    reason = step.unfit(major(cursor))
    try:
        if not reason:
            cursor.execute(step.sql)
    except psycopg2.Error as error:
        reason = error.diag.message_primary or str(error)
        if cursor.connection.closed:
            raise
    if reason:
        outcome["not_made"][step.title] = reason
    else:
        outcome["made"].append(step.title)


def _drop_subscriptions(connect: Callable, dbname: str) -> None:
    """A database with subscriptions cannot be dropped; these have no slots."""
    with session(connect, dbname) as cursor:
        cursor.execute(
            "SELECT subname FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid"
            " WHERE d.datname = current_database()"
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP SUBSCRIPTION {quoted(name)}")
