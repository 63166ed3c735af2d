# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last rehearsal of each database found. A rehearsal comes before the target's database is there, so this is
kept in the database in which the connecting role does its maintenance.
"""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals.import_journal import (
    OCCUPANTS,
    RELATIONS,
    has_schema,
    make_schema,
    wait_for_turn,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

TABLE = """
    CREATE TABLE handover.rehearsal (
        source text PRIMARY KEY,
        goal text NOT NULL,
        began timestamptz NOT NULL DEFAULT clock_timestamp(),
        ended timestamptz,
        result json)"""


def may_keep(connection: Connection) -> bool:
    """Whether this role may make the journal here, or has it. Raises HandoverError for a schema handover that is not
    ours.
    """
    return has_schema(connection) or value(
        connection, "SELECT has_database_privilege(current_database(), 'CREATE') AND NOT pg_is_in_recovery()"
    )


def key_of(system_identifier: str, dbname: str) -> str:
    """What stands for a database of a source."""
    return f"{system_identifier}/{dbname}"


def begin(connection: Connection, source: str, goal: str) -> None:
    """Record that a rehearsal of ``source`` (``key_of``) has begun, for a database that is to be called ``goal``; what
    the one before found stays until it ends.
    """
    statement = """
        INSERT INTO handover.rehearsal (source, goal) VALUES (%s, %s)
        ON CONFLICT (source) DO UPDATE SET began = clock_timestamp(), goal = excluded.goal"""
    with transaction(connection) as cursor:
        wait_for_turn(cursor)
        make_schema(connection)
        if not _is_present(connection):
            cursor.execute(TABLE + trust.CLOSED)
        cursor.execute(statement, (source, goal))


def end(connection: Connection, source: str, result: dict[str, Any]) -> None:
    """Record what it found."""
    statement = "UPDATE handover.rehearsal SET ended = clock_timestamp(), result = %s WHERE source = %s"
    with connection.cursor() as cursor:
        cursor.execute(statement, (json.dumps(result), source))


def read(connection: Connection, source: str) -> dict[str, Any] | None:
    """The last that came to its end: ``ended`` (ISO time), ``seconds`` since then, ``result``; None without one."""
    if not (has_schema(connection) and _is_present(connection)):
        return None
    query = """
        SELECT json_build_object('ended', ended, 'result', result,
                                 'seconds', extract(epoch FROM clock_timestamp() - ended))
        FROM handover.rehearsal WHERE source = %s AND ended IS NOT NULL"""
    found = rows(connection, query, (source,))
    return found[0][0] if found else None


def is_recorded(connection: Connection, goal: str) -> bool:
    """Whether there is anything to remove."""
    if not (has_schema(connection) and _is_present(connection)):
        return False
    return value(connection, "SELECT EXISTS (SELECT FROM handover.rehearsal WHERE goal = %s)", (goal,))


def remove(connection: Connection, goal: str) -> None:
    """Forget it, and drop the journal with the last one."""
    with transaction(connection) as cursor:
        wait_for_turn(cursor)
        if not _is_present(connection):
            return
        cursor.execute("DELETE FROM handover.rehearsal WHERE goal = %s", (goal,))
        if value(connection, "SELECT EXISTS (SELECT FROM handover.rehearsal)"):
            return
        cursor.execute("DROP TABLE handover.rehearsal")
        if not rows(connection, OCCUPANTS):
            cursor.execute("DROP SCHEMA handover")


def _is_present(connection: Connection) -> bool:
    return ("rehearsal",) in rows(connection, RELATIONS)
