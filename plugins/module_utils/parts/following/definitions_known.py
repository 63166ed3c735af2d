# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal has of definitions besides tables: what pg_dump said, and when that was true. Those of the source
are known from the first copy on; those of each end as a new home from before it was handed over to.

``stamp`` is another as soon as any catalog of definitions was written to. Where it is the same, nobody has to ask
pg_dump again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import DescribedEntry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import known_columns


@dataclass(frozen=True)
class KnownDefinitions:
    """``client`` is the version of pg_dump; ``entries`` by key, in the archive's order."""

    stamp: str | None
    client: str
    entries: dict[str, DescribedEntry] = field(default_factory=dict)


def recorded(connection: Connection, identifier: str) -> KnownDefinitions | None:
    """What the journal has of the source's; None where that is nothing."""
    return _parse(known_columns.read(connection, identifier, "definitions"))


def record(connection: Connection, identifier: str, known: KnownDefinitions) -> None:
    """Let the journal have these of the source."""
    known_columns.write(connection, identifier, "definitions", _as_json(known))


def recorded_home(connection: Connection, identifier: str, side: str) -> KnownDefinitions | None:
    """What the journal has of this end as the new home; None where that is nothing."""
    return _parse(known_columns.read(connection, identifier, "home_definitions", f" -> '{side}'"))


def record_home(connection: Connection, identifier: str, side: str, known: KnownDefinitions) -> None:
    """Let the journal have these of this end as the new home."""
    known_columns.write(connection, identifier, "home_definitions", _as_json(known), side)


def forget_home(connection: Connection, identifier: str) -> None:
    """What is known is of another handover."""
    known_columns.write(connection, identifier, "home_definitions", None)


def is_home_unknown(journal: Connection, home: Connection, identifier: str, side: str) -> bool:
    """Whether the home's definitions may be others than those that the journal has."""
    stamp = known_columns.read(journal, identifier, "home_definitions", f" -> '{side}' ->> 'stamp'")
    return stamp is None or stamp != read_stamp(home)


def _parse(known: dict[str, Any] | None) -> KnownDefinitions | None:
    if known is None:
        return None
    entries = [DescribedEntry(**one) for one in known["entries"]]
    return KnownDefinitions(known["stamp"], known["client"], {one.key: one for one in entries})


def _as_json(known: KnownDefinitions) -> dict[str, Any]:
    entries = [one.as_json() for one in known.entries.values()]
    return {"stamp": known.stamp, "client": known.client, "entries": entries}
