# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers that fire for replicated rows, too: ENABLE ALWAYS and ENABLE REPLICA.

What they wrote where the application was is replicated, so at the other end they would write it twice. Until the
migration is finished, the former fire for sessions of the application only, and the latter, which such sessions never
fire, not: on the target from the copy on, on the source from the handover on if there is a way back.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows

QUIET = {"A": "ENABLE TRIGGER", "R": "DISABLE TRIGGER"}
FIRING = {"A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}

QUERY = """
    SELECT n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled::text
    FROM unnest({}::text[], {}::text[]) AS k (schema, name) JOIN pg_namespace AS n ON n.nspname = k.schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = k.name JOIN pg_trigger AS t ON t.tgrelid = c.oid
    WHERE t.tgenabled IN ('A', 'R') AND (NOT t.tgisinternal OR t.tgparentid <> 0 AND t.tgconstraint = 0)
    AND NOT starts_with(t.tgname, 'handover_') ORDER BY 1, 2, 3"""


@dataclass(frozen=True)
class Trigger:
    """A trigger; ``kind`` is pg_trigger.tgenabled: A (always) or R (replica)."""

    schema: str
    table: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.name} on {self.schema}.{self.table}"

    def quieting_statement(self):
        """SQL that keeps it from firing for replicated rows."""
        return self._alter("ALTER TABLE {} ", QUIET)

    def restoring_statement(self, connection) -> str:
        """SQL that lets it fire for them again, if it is still there then."""
        body = (
            f"BEGIN {self._alter('ALTER TABLE {} ', FIRING).as_string(connection)}; "
            "EXCEPTION WHEN undefined_object OR undefined_table OR invalid_schema_name THEN NULL; END"
        )
        return f"DO {constant(body)}"

    def _alter(self, alter: str, words: dict):
        names = sql.Identifier(self.schema, self.table), sql.Identifier(self.name)
        return sql.SQL(alter + words[self.kind] + " {}").format(*names)


def firing(connection, keys: list[tuple[str, str]]) -> list[Trigger]:
    """Those of these tables, (schema, name) each."""
    return [Trigger(*row) for row in rows(connection, query(keys))]


def query(keys: list[tuple[str, str]]) -> sql.Composable:
    """The query of that."""
    return sql.SQL(QUERY).format(*map(sql.Literal, columns_of(keys)))
