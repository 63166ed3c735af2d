# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables can be made before all other definitions, so that their rows come while the others are made."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import SMALL
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable

MADE_OF = ("TABLE", "SEQUENCE", "SEQUENCE OWNED BY", "DEFAULT", "COMMENT", "SECURITY LABEL")


def made_first(
    entries: list[Entry], tables: list[SourceTable], most: int
) -> tuple[list[SourceTable], list[Entry], list[Entry]]:
    """(tables, what they are made of, all other entries): up to so many of the largest that nothing else has to do
    with, neither what they need nor what needs them. So the order of the others does not matter to them, and none of
    the others waits for a table's lock while its rows come.
    """
    by_id = {entry.dump_id: entry for entry in entries}
    near: dict[int, list[int]] = {}
    for entry in entries:
        for other in entry.dependencies:
            near.setdefault(entry.dump_id, []).append(other)
            near.setdefault(other, []).append(entry.dump_id)
    of_table = {entry.oid: entry.dump_id for entry in entries if entry.desc == "TABLE"}
    chosen, made = [], set()
    for table in tables[:most]:
        start = of_table.get(str(table.oid))
        group = _together(start, by_id, near) if start and table.size > SMALL and not table.root else set()
        if group:
            chosen.append(table)
            made |= group
    first = [entry for entry in entries if entry.dump_id in made]
    return chosen, first, [entry for entry in entries if entry.dump_id not in made]


def _together(start: int, by_id: dict[int, Entry], near: dict[int, list[int]]) -> set[int]:
    """What has to do with this one, directly or through others; empty if that is more than one table is made of."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if one in found or one not in by_id:  # made already, as schemas are
            continue
        desc = by_id[one].desc
        if desc not in MADE_OF or (desc == "TABLE" and one != start):
            return set()
        found.add(one)
        waiting += near.get(one, [])
    return found
