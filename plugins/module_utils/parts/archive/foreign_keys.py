# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign keys as pg_dump defines them: what shows the rows that break one, and what checks it later."""

from __future__ import annotations

import re
from dataclasses import dataclass

FOREIGN_KEY = "FK CONSTRAINT"
NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
KEY = re.compile(
    rf"^ALTER TABLE (?:ONLY )?(?P<table>{NAME}\.{NAME})\s+ADD CONSTRAINT (?P<name>{NAME}) FOREIGN KEY "
    rf"\((?P<columns>{NAME}(?:, {NAME})*)\) REFERENCES (?P<referenced>{NAME}\.{NAME})"
    rf"\((?P<keys>{NAME}(?:, {NAME})*)\)(?P<rest>[^;]*);?\s*$"
)
NAMES = re.compile(NAME)


@dataclass(frozen=True)
class ForeignKey:
    """Names are quoted as the definition has them, and can stand in statements."""

    table: str
    name: str
    columns: tuple[str, ...]
    referenced: str
    keys: tuple[str, ...]
    match_full: bool

    @property
    def orphans(self) -> str:
        """A query for the rows that break it."""
        pairs = [f"r.{key} = t.{column}" for column, key in zip(self.columns, self.keys)]
        joiner = " OR " if self.match_full else " AND "
        filled = joiner.join(f"t.{column} IS NOT NULL" for column in self.columns)
        return (
            f"SELECT t.* FROM {self.table} AS t WHERE ({filled}) "
            f"AND NOT EXISTS (SELECT FROM {self.referenced} AS r WHERE {' AND '.join(pairs)});"
        )

    @property
    def validation(self) -> str:
        """What checks it, where it is there unchecked."""
        return f"ALTER TABLE {self.table} VALIDATE CONSTRAINT {self.name};"


def parse(definition: str) -> ForeignKey | None:
    """None for what is not such a key, or one that compares periods."""
    found = KEY.match(definition.strip())
    if not found:
        return None
    columns, keys = (tuple(NAMES.findall(found[part])) for part in ("columns", "keys"))
    return ForeignKey(found["table"], found["name"], columns, found["referenced"], keys, "MATCH FULL" in found["rest"])
