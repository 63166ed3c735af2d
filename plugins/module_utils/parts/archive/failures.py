# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions that a target refuses: no rows are lost by that, so all of them are collected, and the rest is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import foreign_keys
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.hidden_options import (
    without_hidden_options,
)

# Without these rows, or positions of sequences, are lost, or are not where they were.
HOLDERS = {"TABLE", "TABLE ATTACH", "SEQUENCE", "BLOB METADATA"}
HEAD = 200
VIOLATION = "23503"


@dataclass(frozen=True)
class Failure:
    """One object that is not there: ``dump_id`` of its entry, ``object`` as messages name it, ``desc`` its class.

    ``message`` and ``sqlstate`` (None where only pg_restore heard of it) are the server's; ``needs`` is the object
    without which it was not tried, None for one that was.
    """

    dump_id: int
    object: str
    desc: str
    statement: str
    message: str
    sqlstate: str | None = None
    needs: str | None = None

    @property
    def head(self) -> str:
        """The statement's beginning, on one line."""
        return one_line(self.statement)[:HEAD]

    def describe(self) -> str:
        """For messages."""
        return f"{self.object}: {self.message}" + (f" (statement: {self.head})" if self.statement else "")

    def as_result(self) -> dict[str, Any]:
        """JSON types, for results and journals."""
        found = {"class" if name == "desc" else name: value for name, value in asdict(self).items()}
        del found["dump_id"]
        return {**found, "query": self.key.orphans if self.key else None}

    @property
    def key(self) -> foreign_keys.ForeignKey | None:
        """The foreign key that rows break."""
        is_broken = self.desc == foreign_keys.FOREIGN_KEY and not self.needs and self.sqlstate in (None, VIOLATION)
        return foreign_keys.parse(self.statement) if is_broken else None


def holds_rows(entry: Entry) -> bool:
    """Whether its failure ends everything, as no rerun could make it good without bringing rows again."""
    return entry.section == "data" or entry.desc in HOLDERS


def failure_of(entry: Entry, message: object, sqlstate: str | None = None) -> Failure:
    """Of an entry that the server refused."""
    return Failure(entry.dump_id, entry.name, entry.desc, statement_of(entry), one_line(message), sqlstate)


def failure_for_want(entry: Entry, needed: Entry) -> Failure:
    """Of an entry that was not tried, as one that it needs failed."""
    message = f"needs {needed.name}, which could not be made"
    return Failure(entry.dump_id, entry.name, entry.desc, statement_of(entry), message, needs=needed.name)


def statement_of(entry: Entry) -> str:
    """What makes it, for messages; the archive has no statement for the contents of a materialized view."""
    if entry.desc == "MATERIALIZED VIEW DATA" and not entry.definition:
        name = ".".join('"' + part.replace('"', '""') + '"' for part in (entry.namespace, entry.tag) if part)
        return f"REFRESH MATERIALIZED VIEW {name};"
    return without_hidden_options((entry.definition or "").strip().encode("utf-8", "replace").decode())
