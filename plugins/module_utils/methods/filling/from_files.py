# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A loader for a dump: rows, indexes and keys are loaded by pg_restore, from files."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
    prepare,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.restorer import Restorer
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.manifest import Unit
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.program_progress import of_restore
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.remains import ours


class FileLoader:
    """``directory`` is where pg_dump wrote the archive, whose edited form holds no rows."""

    def __init__(self, archive: FittedArchive, directory: str):
        self.archive = archive
        self.directory = directory
        self.compared: list[dict[str, Any]] | None = None

    def preview(self, dbname: str) -> dict[str, Any]:
        """The command line, but for its list of entries."""
        client, arguments = self.archive.client, self.archive.arguments(parallel=True)
        command = [client.program("pg_restore"), "--use-list=(each stage)", *arguments]
        return {"command": [*command, f"--dbname={self.archive.target.conninfo(dbname)}"], "notices": []}

    def keep_rows(self) -> None:
        """What is left to be made says so."""

    def owners_elsewhere(self) -> set[str]:
        """The archive lists all."""
        return set()

    def begin(self, session: Connection, stack: contextlib.ExitStack) -> None:
        """The manifest is all that a rerun must know."""

    def stages(self) -> list[staging.Stage]:
        """The archive's own."""
        return staging.plan_stages(self.archive.contents, self.archive.fitting.remaining())

    def run(self, stage: staging.Stage, restorer: Restorer) -> None:
        """By pg_restore, in parallel where that may be."""
        if not stage.parallel:
            restorer.run(stage)
        elif stage.name == "data":
            self._load(stage, restorer)
            self._compare_rows(restorer)
        else:
            restorer.run_parallel(stage)

    def has_analyzed(self) -> bool:
        """Statistics may have come with the dump."""
        return self.archive.params["analyze"] == "auto" and self.archive.has_statistics

    def leaves_alone(self) -> bool:
        """A dump is brought once."""
        return True

    def result(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def _load(self, stage: staging.Stage, restorer: Restorer) -> None:
        archive, dbname = self.archive, self.archive.origin["source"]["database"]
        looking = of_restore(
            lambda: archive.target.connect(restorer.dbname, read_only=True),
            stage.entries,
            self.directory,
            archive.origin["row_counts"],
            archive.jobs,
        )
        with looking as restoring, progress.measured(dbname, restoring.look, only_for_watchers=True):
            restorer.load(stage, self.directory)

    def _compare_rows(self, restorer: Restorer) -> None:
        """Rows per table against the manifest, before policies could hide any."""
        expected = self.archive.origin["row_counts"]
        if expected is None:
            return
        lost = {(one.namespace, one.tag) for one in self.archive.fitting.skipped_rows()}
        self.compared = [count for count in expected if (count["schema"], count["table"]) not in lost]
        restorer.compare_rows(
            self.compared,
            "exported",
            "Something else writes to the target, or the dump is wrong: run the import again, or export again.",
        )


def open_dump(
    target: Endpoint, connection: Connection, params: dict[str, Any], unit: Unit, manifest: dict[str, Any]
) -> FileLoader:
    """For one unit of a dump directory, with its manifest. Raises HandoverError."""
    directory = unit.file("archive")
    contents = Contents.read(directory)
    contents.leave_out(ours)
    return FileLoader(prepare(target, connection, params, manifest, contents), directory)
