# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A glance at both ends: whether there is anything to follow. One question to each, at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import records
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import STAMP
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import passing_definitions
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import (
    shapes,
    type_shapes,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift

# Of the journal's row: the source's tables and types as they were followed, whether all else was, and its stamp then.
KNOWN = (
    "j.found->'shapes'",
    "j.found->'types'",
    "coalesce(jsonb_typeof(j.found->'definitions'), 'null') <> 'null'",
    "j.found->'definitions'->>'stamp'",
)


@dataclass(frozen=True)
class SourceGlance:
    """How the source is: its tables, their fingerprint by quoted name, its types, and the stamp of all definitions."""

    tables: dict[int, shapes.Shape]
    fingerprint: dict[str, dict]
    types: dict[int, type_shapes.TypeShape]
    stamp: str

    @classmethod
    def take(cls, job: Job) -> SourceGlance:
        """Over the job's session."""
        asked = (shapes.SHAPES, drift.FINGERPRINT, type_shapes.TYPES, STAMP)
        shaped, current, types, [stamp] = records(job.source_session, *((one, None) for one in asked))
        tables = shapes.parse(one["shape"] for one in shaped)
        found = {one["name"]: one["found"] for one in current}
        return cls(tables, found, type_shapes.parse(one["type"] for one in types), stamp["stamp"])

    def names(self, migration: migration_journal.Migration) -> list[str | None]:
        """Those of the migration's tables, quoted, in their order; None for one that is not there."""
        oids = {name: one["oid"] for name, one in self.fingerprint.items()}
        quoted = {self.tables[oid].key: name for name, oid in oids.items() if oid in self.tables}
        return [quoted.get((table.schema, table.name)) for table in migration.tables]


def is_quiet(job: Job) -> bool:
    """Whether the source is as it was followed, and nothing on the target waits to be put right: then no other question
    has to be asked of them.
    """
    works: list[Any] = [lambda: SourceGlance.take(job), lambda: _at_target(job)]
    source, known = together(*works)
    if known is None:
        return False
    migration, shaped, types, has_definitions, stamp, is_left = known
    if shaped is None or is_left or (job.may_copy and has_definitions and stamp != source.stamp):
        return False
    if types is not None and type_shapes.parse(types) != source.types:
        return False
    before = shapes.parse(shaped)
    return all(source.tables.get(oid) == one for oid, one in before.items()) and not drift.since_recorded(
        migration, source.names(migration), source.fingerprint
    )


def _at_target(job: Job) -> tuple | None:
    """What the journal knows, and whether columns are there for rows on their way."""
    is_left = f"EXISTS ({passing_definitions.LEFT})".replace("%s", f"'{passing_definitions.PASSING}'")
    return migration_journal.read_with(job.session, job.id, *KNOWN, is_left)
