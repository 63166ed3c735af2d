# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are made before all other definitions."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.made_first import made_first
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable

LARGE = 4 << 20
# (dump id, class, name, what it needs); 1 is a schema, which is there already, and 99 is nowhere.
ENTRIES = [
    (2, "TYPE", "mood", [1]),
    (3, "FUNCTION", "f", [1]),
    (4, "TABLE", "plain", [1, 99]),
    (5, "SEQUENCE", "plain_id_seq", [1, 4]),
    (6, "SEQUENCE OWNED BY", "plain_id_seq", [5, 4]),
    (7, "TABLE", "of_mood", [1, 2]),
    (8, "TABLE", "checked", [1, 3]),
    (9, "TABLE", "viewed", [1]),
    (10, "VIEW", "view", [1, 9]),
    (11, "TABLE", "parent", [1]),
    (12, "TABLE", "child", [1, 11]),
    (13, "DEFAULT", "plain id", [5, 4]),
    (14, "TABLE", "small", [1]),
    (15, "COMMENT", "TABLE plain", [4]),
]


def entry(dump_id, desc, tag, dependencies):
    given = dict.fromkeys(Entry.__dataclass_fields__)
    given |= {"dump_id": dump_id, "desc": desc, "tag": tag, "dependencies": dependencies, "oid": str(dump_id * 100)}
    return Entry(**given)


def test_those_that_nothing_else_has_to_do_with():
    entries = [entry(*one) for one in ENTRIES]
    tables = [
        SourceTable(one.dump_id * 100, "public", one.tag, 10 if one.tag == "small" else LARGE, 9, ("i",), binary=True)
        for one in entries
        if one.desc == "TABLE"
    ]
    chosen, first, others = made_first(entries, tables, 9)
    assert [table.name for table in chosen] == ["plain"]
    assert [one.dump_id for one in first] == [4, 5, 6, 13, 15], "in their order"
    assert [one.dump_id for one in others] == [2, 3, 7, 8, 9, 10, 11, 12, 14]
    assert made_first(entries, tables[1:], 1) == ([], [], entries), "no more than there are sessions are looked at"
