# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are copied in pieces, by how many sessions there are and what else they have to do."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import split
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable

MB = 1 << 20


@pytest.mark.parametrize(
    ("size", "jobs", "others", "limit", "pieces"),
    [
        (1000, 1, 0, None, 1),
        (200, 2, 0, None, 2),
        (100, 2, 0, None, 1),  # too small for any
        (1000, 2, 200, None, 4),
        (1000, 2, 500, None, 1),  # the other session has enough to do
        (1000, 4, 2000, None, 3),
        (1000, 4, 9000, None, 1),
        (1000, 1, 0, 300, 4),
        (1000, 4, 0, 2000, 1),
    ],
)
def test_split(size, jobs, others, limit, pieces):
    table = SourceTable(1, "public", "t", size * MB, size * 128, ("i",), binary=True)
    found = split(table, jobs, (size + others) * MB, limit and limit * MB, 150000)
    assert len(found) == pieces
    assert (found[0].first or 0, found[-1].last) == (0, None)
    assert [one.last for one in found[:-1]] == [one.first for one in found[1:]], "no page is missing or read twice"
    assert split(table, jobs, size * MB, 1, 130000)[1:] == [], "13 would read all of it for each"
