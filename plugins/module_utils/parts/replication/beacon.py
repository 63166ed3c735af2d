# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The beacon: one row of the source, published with everything else. When the target shows beacon n, it has applied
all that committed before beacon n was written.
"""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.facts.naming import SCHEMA, beacon_table
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

LATE = "HO001"  # SQLSTATE
POLL = 0.001  # seconds between two looks of the server

TABLE = """
    CREATE TABLE IF NOT EXISTS {table} (
        id integer PRIMARY KEY CHECK (id = 1), n bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
    INSERT INTO {table} (id, n) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = 0"""


def table(name: str) -> tuple[str, str]:
    """(schema, name) of the beacon that belongs to a publication, for the list of what that publishes."""
    return SCHEMA, beacon_table(name)


def prepare(source, target, name: str) -> None:
    """Make the beacon on both ends, with its row: connections to both databases, which have schema handover.

    Before the slot is made, so that the slot sends changes of that row only. Both begin with the same: a target that
    showed a higher one, of an earlier stream, would look as if it were in step.
    """
    for connection in (source, target):
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(TABLE).format(table=_identifier(name)) + sql.SQL(trust.CLOSED))


def drop(connection, name: str) -> None:
    """Drop the beacon of one end, if it is there."""
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_identifier(name)))


def advance(connection, names: list[str]) -> int:
    """Write a new beacon for each of the publications, with the same n, and return n. It is on disk then.

    It does not wait for synchronous standbys: what it stands for is that others committed before it.
    """
    parts: list[sql.Composable] = [
        sql.SQL("local AS MATERIALIZED (SELECT set_config('synchronous_commit', 'local', true))")
    ]
    highest = sql.SQL(", ").join(sql.SQL("(SELECT n FROM {})").format(_identifier(name)) for name in names)
    parts.append(sql.SQL("next AS MATERIALIZED (SELECT greatest({}) + 1 AS n FROM local)").format(highest))
    update = sql.SQL(
        "{part} AS (UPDATE {table} AS b SET n = greatest(b.n, next.n), at = clock_timestamp() FROM next RETURNING b.n)"
    )
    written = [sql.Identifier(f"written_{number}") for number, _name in enumerate(names)]
    parts += [update.format(part=part, table=_identifier(name)) for part, name in zip(written, names)]
    together = sql.SQL(" UNION ALL ").join(sql.SQL("SELECT n FROM {}").format(part) for part in written)
    statement = sql.SQL("WITH {} SELECT max(n) FROM ({}) AS written").format(sql.SQL(", ").join(parts), together)
    return value(connection, statement)


def highest(connection, names: list[str]) -> int:
    """The highest n of the publications."""
    each = sql.SQL(" UNION ALL ").join(sql.SQL("SELECT n FROM {}").format(_identifier(name)) for name in names)
    return value(connection, sql.SQL("SELECT max(n) FROM ({}) AS beacon").format(each))


def writing(names: list[str], number: int) -> sql.Composable:
    """A statement that writes beacon ``number`` for each of the publications that is not there yet, and puts down in
    the setting ``handover.written`` how many that were. What is seen of that number, or of a higher one, stands for
    the same as a beacon that was asked for, if it was written for all.
    """
    update = sql.SQL("{} AS (UPDATE {} SET n = {}, at = clock_timestamp() WHERE n < {} RETURNING n)")
    parts = [sql.Identifier(f"written_{index}") for index, _name in enumerate(names)]
    goal = sql.Literal(number)
    written = [update.format(part, _identifier(name), goal, goal) for part, name in zip(parts, names)]
    together = sql.SQL(" UNION ALL ").join(sql.SQL("SELECT n FROM {}").format(part) for part in parts)
    count = "SELECT set_config('handover.written', count(*)::text, false)"
    return sql.SQL("WITH {} " + count + " FROM ({}) AS written").format(sql.SQL(", ").join(written), together)


def awaiting(connection, names: list[str], number: int, seconds: float) -> str:
    """SQL that ends as soon as this end shows beacon ``number`` for all: in a transaction that sees what is committed
    meanwhile. It fails with LATE when it takes longer.
    """
    each = sql.SQL(" UNION ALL ").join(sql.SQL("SELECT n FROM {}").format(_identifier(name)) for name in names)
    lowest = sql.SQL("(SELECT min(n) FROM ({}) AS beacon)").format(each).as_string(connection)
    body = f"""
    DECLARE late timestamptz := clock_timestamp() + {max(0.0, seconds)} * interval '1 second';
    BEGIN
        WHILE {lowest} < {number} LOOP
            IF clock_timestamp() > late THEN RAISE EXCEPTION USING ERRCODE = '{LATE}', MESSAGE = 'late'; END IF;
            PERFORM pg_sleep({POLL});
        END LOOP;
    END"""
    return f"DO {constant(body)}"


def seen(connection, names: list[str]) -> int:
    """The n that this end shows for all of the publications: the lowest."""
    each = sql.SQL(" UNION ALL ").join(sql.SQL("SELECT n FROM {}").format(_identifier(name)) for name in names)
    return value(connection, sql.SQL("SELECT min(n) FROM ({}) AS beacon").format(each))


def read(connection, names: list[str]) -> dict[str, tuple[int, object]]:
    """(n, when it was written by the source's clock: datetime) by publication."""
    each = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {}, n, at FROM {}").format(sql.Literal(name), _identifier(name)) for name in names
    )
    return {name: (number, at) for name, number, at in rows(connection, each)}


def await_(connection, names: list[str], number: int, deadline: float, pause: float = 0.003) -> bool:
    """Whether the target (``connection``) shows beacon ``number`` for all, before ``deadline`` by time.monotonic().

    ``pause`` is in seconds. It asks at least once.
    """
    while seen(connection, names) < number:
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def _identifier(name: str):
    return sql.Identifier(*table(name))
