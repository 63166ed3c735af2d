# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal has of definitions besides tables: what pg_dump said, and when that was true. Those of the source
are known from the first copy on; those of each end as a new home from before it was handed over to.

``stamp`` is another as soon as any catalog of definitions was written to. Where it is the same, nobody has to ask
pg_dump again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import DescribedEntry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal


@dataclass(frozen=True)
class KnownDefinitions:
    """``client`` is the version of pg_dump; ``entries`` by key, in the archive's order."""

    stamp: str | None
    client: str
    entries: dict[str, DescribedEntry] = field(default_factory=dict)


def recorded(connection: Connection, identifier: str) -> KnownDefinitions | None:
    """What the journal has of the source's; None where that is nothing."""
    if not import_journal.has_column(connection, "migration", "definitions"):
        return None
    return _read(connection, "SELECT definitions FROM handover.migration WHERE id = %s", (identifier,))


def record(connection: Connection, identifier: str, known: KnownDefinitions) -> None:
    """Let the journal have these of the source."""
    _make_room(connection, "definitions")
    with connection.cursor() as cursor:
        query = "UPDATE handover.migration SET definitions = %s WHERE id = %s"
        cursor.execute(query, (_as_json(known), identifier))


def recorded_home(connection: Connection, identifier: str, side: str) -> KnownDefinitions | None:
    """What the journal has of this end as the new home; None where that is nothing."""
    if not import_journal.has_column(connection, "migration", "home_definitions"):
        return None
    query = "SELECT home_definitions -> %s FROM handover.migration WHERE id = %s"
    return _read(connection, query, (side, identifier))


def record_home(connection: Connection, identifier: str, side: str, known: KnownDefinitions) -> None:
    """Let the journal have these of this end as the new home."""
    _make_room(connection, "home_definitions")
    query = """
        UPDATE handover.migration
        SET home_definitions = coalesce(home_definitions, '{}') || jsonb_build_object(%s::text, %s::jsonb)
        WHERE id = %s"""
    with connection.cursor() as cursor:
        cursor.execute(query, (side, _as_json(known), identifier))


def forget_home(connection: Connection, identifier: str) -> None:
    """What is known is of another handover."""
    if import_journal.has_column(connection, "migration", "home_definitions"):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE handover.migration SET home_definitions = NULL WHERE id = %s", (identifier,))


def is_home_unknown(journal: Connection, home: Connection, identifier: str, side: str) -> bool:
    """Whether the home's definitions may be others than those that the journal has."""
    if not import_journal.has_column(journal, "migration", "home_definitions"):
        return True
    query = "SELECT home_definitions -> %s ->> 'stamp' FROM handover.migration WHERE id = %s"
    found = rows(journal, query, (side, identifier))
    return not found or found[0][0] != read_stamp(home)


def _read(connection: Connection, query: str, parameters: tuple[str, ...]) -> KnownDefinitions | None:
    found = rows(connection, query, parameters)
    if not found or found[0][0] is None:
        return None
    known = found[0][0]
    entries = [DescribedEntry(**one) for one in known["entries"]]
    return KnownDefinitions(known["stamp"], known["client"], {one.key: one for one in entries})


def _as_json(known: KnownDefinitions) -> str:
    entries = [one.as_json() for one in known.entries.values()]
    return json.dumps({"stamp": known.stamp, "client": known.client, "entries": entries})


def _make_room(connection: Connection, column: str) -> None:
    """Journals of older releases have none."""
    if not import_journal.has_column(connection, "migration", column):
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE handover.migration ADD COLUMN {column} jsonb")
