# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows per table, counted on the server: in the dump's snapshot, and again after the import."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import for_each
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value


def count_rows(connect, tables: list[tuple[str, str]], jobs: int) -> list[dict]:
    """Rows of each (schema, table), its children aside: ``[{"schema": ..., "table": ..., "rows": n}, ...]``."""

    def count(connection, table):
        statement = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(*table))
        return {"schema": table[0], "table": table[1], "rows": value(connection, statement)}

    return for_each(connect, tables, count, jobs)


def differences(expected: list[dict], actual: list[dict]) -> list[dict]:
    """Tables whose counts are not the same, with both."""
    found = {(count["schema"], count["table"]): count["rows"] for count in actual}
    return [
        {**count, "rows_on_target": found.get((count["schema"], count["table"]))}
        for count in expected
        if found.get((count["schema"], count["table"])) != count["rows"]
    ]
