# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump on its way into a database: rows, indexes and keys are loaded by pg_restore, from files."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import row_counts, staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.manifest import Unit
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.remains import ours


class FillingFromFiles(Filling):
    """One unit of a dump directory, with its manifest."""

    def __init__(self, target: Endpoint, connection, params: dict, unit: Unit, manifest: dict):
        self.directory = unit.file("archive")
        contents = Contents.read(self.directory)
        contents.leave_out(ours)
        super().__init__(target, connection, params, manifest, contents)

    def _run(self, stage: staging.Stage, dbname: str) -> None:
        if not stage.parallel:
            super()._run(stage, dbname)
            return
        place = self.directory if stage.name == "data" else self.place
        self._explain(stage, self._restore_slowly(stage.entries, dbname, place, parallel=True))
        if stage.name == "data":
            self._compare_rows(dbname)

    def _compare_rows(self, dbname: str) -> None:
        """Rows per table against the manifest, before policies could hide any."""
        expected = self.origin["row_counts"]
        if expected is None:
            return
        lost = {(one.namespace, one.tag) for one in self.fitting.skipped_rows()}
        expected = [count for count in expected if (count["schema"], count["table"]) not in lost]
        self.compared = expected
        with self.stages.stage("row counts"):
            actual = row_counts.count_rows(lambda: self.target.connect(dbname, read_only=True), expected, self.jobs)
        different = row_counts.differences(expected, actual)
        if different:
            raise HandoverError(
                f"{len(different)} tables do not have the rows that were exported; the first: {different[0]}.",
                "Something else writes to the target or the dump is wrong; run the import again, or export anew.",
                different_row_counts=different[:100],
            )
