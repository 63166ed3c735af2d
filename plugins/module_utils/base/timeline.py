# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job does step by step, in milliseconds, where steps may overlap and every one of them may be the last."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

EVENT = "handover.step"  # of Python's auditing: whoever observes the process is told each step before it begins


class Timeline:
    """Steps with the time at which they began and how long they took."""

    def __init__(self) -> None:
        self._steps: list[tuple[float, float, str, str | None]] = []
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def start(self) -> None:
        """Count from now."""
        self._started = time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str, database: str | None = None) -> Iterator[None]:
        """Times what happens inside; raises the event ``handover.step`` with the name (``sys.audit``) before it.
        ``database`` is the one that it is about, where there are several.
        """
        sys.audit(EVENT, name)
        begun = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._steps.append((begun, time.monotonic(), name, database))

    @property
    def milliseconds(self) -> float:
        """Since the start."""
        return round((time.monotonic() - self._started) * 1000, 1)

    def as_result(self) -> list[dict[str, Any]]:
        """``[{"step": "lock", "at_ms": 2.1, "ms": 3.4}, ...]``, in the order in which they began."""
        return [
            {
                "step": name,
                **({"database": database} if database else {}),
                "at_ms": self._since_start(begun),
                "ms": round((ended - begun) * 1000, 1),
            }
            for begun, ended, name, database in sorted(self._steps, key=lambda step: step[0])
        ]

    def _since_start(self, moment: float) -> float:
        return round((moment - self._started) * 1000, 1)
