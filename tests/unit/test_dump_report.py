# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is complete, and what is not: also where a run ended before it came to a database, or was not to."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.filter.dump_report import NOT_REACHED, dump_report

EXPORTED = {"item": "shop", "databases": [{"database": "shop", "changed": True, "rows": 1}]}
IMPORTED = {"item": "shop", "databases": [{"database": "store", "changed": True, "rows_compared": 1}]}
FAILED = {"item": "shop", "failed": True, "msg": "No."}
UNREACHABLE = {"item": "shop", "unreachable": True, "msg": "Gone."}
BOTH = ("export", "import")


@pytest.mark.parametrize(
    ("exports", "imports", "steps", "error"),
    [
        ([EXPORTED], [IMPORTED], BOTH, None),
        ([EXPORTED], [FAILED], BOTH, "No."),
        ([FAILED], [], BOTH, "No."),
        ([EXPORTED], [UNREACHABLE], BOTH, "Gone."),
        ([EXPORTED], [], BOTH, NOT_REACHED),
        ([], [], BOTH, NOT_REACHED),
        ([{**EXPORTED, "item": "other"}], [{**IMPORTED, "item": "other"}], BOTH, NOT_REACHED),
        ([EXPORTED], [], ["export"], None),
        ([], [IMPORTED], ["roles", "import"], None),
        ([], [FAILED], ["import"], "No."),
        ([], [], ["roles"], None),
    ],
)
def test_completeness(exports, imports, steps, error):
    [one] = dump_report(["shop"], exports, imports, steps)
    assert (one["database"], one["complete"], one["error"]) == ("shop", error is None, error)


def test_what_modules_said_is_kept_but_for_whether_it_was_new():
    [one] = dump_report(["shop"], [EXPORTED], [IMPORTED])
    assert one["export"] == {"database": "shop", "rows": 1}
    assert one["import"] == {"database": "store", "rows_compared": 1}
