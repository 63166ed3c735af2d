# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows per table, counted on the server: in the dump's snapshot, and again after the import."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import for_each
from ansible_collections.handover.postgresql.plugins.module_utils.facts import planning
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents


def tables_to_count(contents: Contents, roots: dict[int, tuple[str, str]], partial: set[int]) -> list[dict]:
    """Tables whose rows are in the archive whole: ``{"schema", "table", "with_partitions"}``, each once.

    Where pg_dump loads a partition through its root (hash partitions of an enum may change places), the root stands
    for all of them. ``roots`` are roots of partitions by oid, ``partial`` oids of tables that are not dumped whole.
    """
    found = {}
    for entry in contents.entries:
        if entry.desc == "TABLE DATA" and int(entry.oid) not in partial:
            through_root = (entry.definition or "").startswith("-- load via partition root")
            schema, table = roots[int(entry.oid)] if through_root else (entry.namespace, entry.tag)
            found[schema, table] = {"schema": schema, "table": table, "with_partitions": through_root}
    return list(found.values())


def count_rows(connect, tables: list[dict], jobs: int) -> list[dict]:
    """The tables, each with its ``rows``."""
    with contextlib.closing(connect()) as session:
        evaluating = planning.evaluating(session)

    def count(connection, table):
        leaves = evaluating.get((table["schema"], table["table"]))
        if leaves:
            return {**table, "rows": sum(planning.count_rows(connection, leaf) for leaf in leaves)}
        only = "" if table["with_partitions"] else "ONLY "
        statement = sql.SQL("SELECT count(*) FROM " + only + "{}").format(
            sql.Identifier(table["schema"], table["table"])
        )
        return {**table, "rows": value(connection, statement)}

    return for_each(connect, tables, count, jobs)


def differences(expected: list[dict], actual: list[dict]) -> list[dict]:
    """Tables whose counts are not the same, with both."""
    return [
        {**before, "rows_on_target": after["rows"]}
        for before, after in zip(expected, actual)
        if before["rows"] != after["rows"]
    ]
