# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration's journal knows of definitions: a jsonb column for each kind, which older releases' lack."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal


def read(connection: Connection, identifier: str, column: str, path: str = "") -> Any:
    """What there is, or a part of it by a ``path`` as SQL has it; None where that is nothing."""
    query = f"SELECT {column}{path} FROM handover.migration WHERE id = %s"
    found = import_journal.rows_of(connection, "migration", column, query, (identifier,))
    return found[0][0] if found else None


def write(connection: Connection, identifier: str, column: str, known: Any, key: str | None = None) -> None:
    """Let it be this; with a ``key``, what it has of others stays."""
    if not import_journal.has_column(connection, "migration", column):
        if known is None:
            return
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE handover.migration ADD COLUMN {column} jsonb")
    text = None if known is None else json.dumps({key: known} if key else known)
    value = f"coalesce({column}, '{{}}') || %s::jsonb" if key else "%s"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE handover.migration SET {column} = {value} WHERE id = %s", (text, identifier))
