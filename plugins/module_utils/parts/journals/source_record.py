# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration made and changed on the source, recorded there: it says what to remove when the target is gone."""

from __future__ import annotations

import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

TABLE = """
    CREATE TABLE IF NOT EXISTS handover.migration (
        id text PRIMARY KEY,
        target jsonb NOT NULL,
        started timestamptz NOT NULL DEFAULT clock_timestamp(),
        undo text[] NOT NULL DEFAULT '{}',
        witness jsonb)"""


def begin(connection, identifier: str, target: dict) -> None:
    """Record a migration, unless that is done. ``target`` says where to, without secrets."""
    with transaction(connection) as cursor:
        import_journal.wait_for_turn(cursor)
        import_journal.make_schema(connection)
        cursor.execute(TABLE + trust.CLOSED)
        statement = "INSERT INTO handover.migration (id, target) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        cursor.execute(statement, (identifier, json.dumps(target)))


def record_undo(connection, identifier: str, statement: str) -> None:
    """Record what puts back something that is about to be changed, unless it is recorded."""
    with connection.cursor() as cursor:
        cursor.execute(undo_statement(identifier, statement))


def undo_statement(identifier: str, statement: str) -> str:
    """The SQL of that."""
    query = "UPDATE handover.migration SET undo = array_prepend({0}, undo) WHERE id = {1} AND NOT undo @> ARRAY[{0}]"
    return query.format(constant(statement), constant(identifier))


def read(connection) -> list[dict]:
    """The migrations from this database: each has ``id``, ``target``, ``started`` (ISO time), ``undo``."""
    query = "SELECT to_jsonb(m) - 'witness' FROM handover.migration AS m WHERE target IS NOT NULL ORDER BY started"
    return [row for (row,) in import_journal.rows_of(connection, "migration", "target", query) or []]


def is_present(connection) -> bool:
    """Whether there is a record. Raises HandoverError for a schema handover that is not ours."""
    return import_journal.has_column(connection, "migration", "target")
