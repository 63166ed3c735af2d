# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of an archive on their way into one database by pg_restore, and what the server refuses of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import script
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import RestoreError, restore
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import STATISTICS, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import OF_ITS_ROWS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.foreign_keys import FOREIGN_KEY
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.row_counts import (
    count_rows,
    differences,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.staging import Stage
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.building import add_unchecked

RELATIONS = "SELECT relnamespace::regnamespace::name::text, relname::text FROM pg_class"
OF_TABLES = """
    SELECT c.relnamespace::regnamespace::name::text, c.relname || ' ' || o.name FROM pg_class AS c JOIN (
        SELECT conrelid, conname FROM pg_constraint UNION ALL SELECT tgrelid, tgname FROM pg_trigger
    ) AS o (relation, name) ON o.relation = c.oid"""


def names_of_objects(session: Connection) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(schema, name) of relations, and of what tables have, as archives call both."""
    return rows(session, RELATIONS), rows(session, OF_TABLES)


class Restorer:
    """One database that is being filled.

    ``session`` is one in it, ``place`` the directory of the edited archive; ``obtainable`` are the roles that objects
    can be given to; ``stages`` are those of the filling. Whoever makes one closes it.
    """

    def __init__(self, archive: FittedArchive, session: Connection, place: str, obtainable: set[str], stages: Stages):
        self.archive = archive
        self.session = session
        self.dbname: str = session.info.dbname
        self.obtainable = obtainable
        self.stages = stages
        self._place = place
        self._programs = archive.target.for_programs(session)
        self._prepared: Connection | None = None

    def prepared(self) -> Connection:
        """A session that reads statements as the archive has them, the same one until ``close``."""
        if self._prepared is None or self._prepared.closed:
            self._prepared = self.archive.target.connect(self.dbname)
            script.prepare(self._prepared, self.archive.contents)
        return self._prepared

    def close(self) -> None:
        """End the prepared session: also before what takes long, as idle sessions are cut off by what lies between."""
        if self._prepared:
            self._prepared.close()
            self._prepared = None

    def run(self, stage: Stage) -> None:
        """One stage, its entries in their order. Raises HandoverError where rows would be lost."""
        self._explain(stage, self._restore_quickly(stage))

    def run_parallel(self, stage: Stage) -> None:
        """One stage by a pg_restore with several jobs."""
        self.close()
        self._explain(stage, self._told_apart(stage, self._restore_slowly(stage.entries, self._place, parallel=True)))

    def load(self, stage: Stage, directory: str) -> None:
        """Rows, from the directory that pg_dump wrote, by a pg_restore with several jobs."""
        archive, programs = self.archive, self._programs
        self.close()
        if archive.toast_compression:
            compressing = programs.with_options(f"-c default_toast_compression={archive.toast_compression}")
            try:
                compressing.connect(self.dbname, read_only=True).close()
                programs = compressing
            except HandoverError:  # poolers often refuse what a session is to begin with
                archive.toast_compression = None
        entries = archive.wanted(stage.entries)
        errors = restore(archive.client, programs, self.dbname, directory, entries, archive.arguments(parallel=True))
        self._explain(stage, errors)

    def compare_rows(self, expected: list[dict[str, Any]], what: str, remedy: str) -> None:
        """The tables have as many rows as were ``what``: exported, or copied. Raises HandoverError."""
        connect, jobs = self.archive.target.connect, self.archive.jobs
        with self.stages.stage("row counts"):
            actual = count_rows(lambda: connect(self.dbname, read_only=True), expected, jobs)
        different = differences(expected, actual)
        if different:
            raise HandoverError(
                f"{counted(len(different), 'table')} without exactly the rows that were {what}; the first: "
                f"{different[0]}.",
                remedy,
                different_row_counts=different[:100],
            )

    def _restore_quickly(self, stage: Stage) -> list[RestoreError]:
        """Many entries at a time; those among which the server refuses one, one by one, to know which it is."""
        archive = self.archive
        if archive.params.get("restore_extra_args"):  # who knows what they do
            return self._restore_slowly(stage.entries, self._place, stage.parallel)
        errors = []
        place = script.ArchivePlace(self._place, archive.contents.codec)
        waiting = stage.entries
        while waiting := archive.wanted(waiting):
            entries = waiting[: script.WRITTEN_TOGETHER]
            arguments = archive.arguments(parallel=False)
            done = script.run(self.prepared(), archive.client, self._programs, place, entries, arguments)
            refused = entries[done : done + script.TOGETHER]
            if refused:
                errors += self._restore_slowly(refused, self._place, False)
                archive.fitting.explain(errors)  # what needs a refused one is not tried any more
            waiting = waiting[done + len(refused) :]
        return errors

    def _restore_slowly(self, entries: list[Entry], place: str, parallel: bool) -> list[RestoreError]:
        archive = self.archive
        arguments = archive.arguments(parallel)
        return restore(archive.client, self._programs, self.dbname, place, archive.wanted(entries), arguments)

    def _told_apart(self, stage: Stage, errors: list[RestoreError]) -> list[RestoreError]:
        """Of definitions that are not there, the errors that they meet one by one. What several workers write at once
        cannot be told apart, so that an error may be taken for another's, and a definition be missing unsaid.
        """
        archive = self.archive
        if archive.jobs == 1 or all(error.is_of_pg_restore for error in errors):
            return errors
        there = archive.fitting.existing(*names_of_objects(self.session))
        missing = [one for one in stage.entries if one.dump_id not in there and one.desc not in STATISTICS]
        again = {one.dump_id for one in missing}
        others = [one for one in errors if (one.entry.dump_id not in again if one.entry else not missing)]
        found = self._restore_slowly(missing, self._place, parallel=False)
        return others + [error for error in found if " already exists" not in error.message]

    def _explain(self, stage: Stage, errors: list[RestoreError]) -> None:
        """Refusals that lose no rows are collected. Raises HandoverError for others."""
        fitting = self.archive.fitting
        if self.archive.params.get("unchecked_foreign_keys"):
            errors = self._without_broken_keys(errors)
        unknown = fitting.explain(errors)
        if unknown:
            described = [error.describe() for error in unknown] + [one.describe() for one in fitting.tried]
            extension = fitting.extension_of(unknown[0])
            raise HandoverError(
                f"pg_restore met {counted(len(unknown), 'error')} in stage {stage.name}; the first: "
                f"{unknown[0].describe()}.",
                OF_ITS_ROWS.format(extension)
                if extension
                else "Fix the cause on the source or the target, then run this again; it starts over.",
                errors=described[:50],
                failures=[one.as_result() for one in fitting.failures],
            )
        fitting.require_rows()

    def _without_broken_keys(self, errors: list[RestoreError]) -> list[RestoreError]:
        """The errors, but for foreign keys that rows break and that are there unchecked now."""
        archive, left = self.archive, []
        if not any(error.entry and error.entry.desc == FOREIGN_KEY for error in errors):
            return errors
        for error in errors:
            entry = error.entry
            is_key = entry and entry.desc == FOREIGN_KEY and not archive.fitting.is_skipped(entry)
            if entry and is_key and self._add_unchecked(entry):
                archive.unchecked.append(entry)
            else:
                left.append(error)
        return left

    def _add_unchecked(self, entry: Entry) -> bool:
        statement = (entry.definition or "").encode(self.archive.contents.codec, "surrogateescape")
        return add_unchecked(self.prepared(), entry, statement) is True
