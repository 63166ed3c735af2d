# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that have other names now, in all that the migration has written down of them."""

from __future__ import annotations

import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import quoted_names, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key

TABLES = """
    UPDATE handover.wave_table AS t SET schema = r.schema, name = r.name
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS r (before_schema, before, schema, name)
    WHERE t.migration_id = %s AND t.schema = r.before_schema AND t.name = r.before"""


def rename(journal: Connection, publisher: Connection, identifier: str, renamed: dict[Key, Key]) -> None:
    """In the caller's transaction of the ``journal``: tables of waves, fingerprints, and statements that undo things on
    its end. Those that are kept on the other go by the table.
    """
    if not renamed:
        return
    before, after = list(renamed), list(renamed.values())
    values = (
        [one[0] for one in before],
        [one[1] for one in before],
        [one[0] for one in after],
        [one[1] for one in after],
    )
    with journal.cursor() as cursor:
        cursor.execute(TABLES, (*values, identifier))
    names = dict(zip(quoted_names(publisher, before), quoted_names(publisher, after)))
    _fingerprints(journal, identifier, names)
    _statements(journal, identifier, renamed)


def _fingerprints(journal: Connection, identifier: str, names: dict[str, str]) -> None:
    [(found,)] = rows(journal, "SELECT fingerprint FROM handover.migration WHERE id = %s", (identifier,))
    kept = {names.get(name, name): one for name, one in (found or {}).items()}
    with journal.cursor() as cursor:
        cursor.execute("UPDATE handover.migration SET fingerprint = %s WHERE id = %s", (json.dumps(kept), identifier))


def _statements(session: Connection, identifier: str, renamed: dict[Key, Key]) -> None:
    """Each name in them is quoted, whatever it is."""
    for before, after in renamed.items():
        texts = [sql.Identifier(*one).as_string(session) for one in (before, after)]
        query = """
            UPDATE handover.migration SET undo = ARRAY(
                SELECT replace(one, %s, %s) FROM unnest(undo) WITH ORDINALITY AS u (one, n) ORDER BY n)
            WHERE id = %s"""
        with session.cursor() as cursor:
            cursor.execute(query, (*texts, identifier))
