# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job does, stage by stage, with times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress


class Stages:
    """The stages of a job in order, each with its duration in seconds; who looks on sees those of a ``database``."""

    def __init__(self, database: str | None = None) -> None:
        self._database = database
        self._durations: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside; a stage that is entered again adds up."""
        started = time.monotonic()
        if self._database:
            progress.stage(self._database, name)
        try:
            yield
        finally:
            self.add(name, time.monotonic() - started)

    def add(self, name: str, seconds: float) -> None:
        """Count what was timed elsewhere."""
        self._durations[name] = self._durations.get(name, 0.0) + seconds

    def as_result(self) -> list[dict[str, Any]]:
        """``[{"stage": "data", "seconds": 12.3}, ...]``."""
        return [{"stage": name, "seconds": round(seconds, 3)} for name, seconds in self._durations.items()]
