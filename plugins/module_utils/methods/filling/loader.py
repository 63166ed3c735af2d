# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filling asks of a loader: how rows get into the database, and what is done together with them."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.restorer import Restorer
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.staging import Stage


class Loader(Protocol):
    """``compared``: the counts of rows by table that were found to be the same on both ends, None if none were."""

    archive: FittedArchive
    compared: list[dict[str, Any]] | None

    def preview(self, dbname: str) -> dict[str, Any]:
        """For check mode: ``command``, ``notices``, and what the loader alone knows."""

    def keep_rows(self) -> None:
        """A former run has brought all rows and positions; only definitions are to be made."""

    def owners_elsewhere(self) -> set[str]:
        """Roles to which objects belong that the archive does not list."""

    def begin(self, session: Connection, stack: contextlib.ExitStack) -> None:
        """The journal of this run is there, and nothing else yet; the stack ends when the run does."""

    def stages(self) -> list[Stage]:
        """What is left to be made, in the order in which it is."""

    def run(self, stage: Stage, restorer: Restorer) -> None:
        """One stage: by means of the restorer, or otherwise. Raises HandoverError."""

    def has_analyzed(self) -> bool:
        """Whether ``analyze`` only has to see to what has no statistics by now."""

    def leaves_alone(self) -> bool:
        """Whether nothing of ours writes to the database any more when it is filled: whoever does then is a user."""

    def result(self) -> dict[str, Any]:
        """What the loader adds to the result."""
