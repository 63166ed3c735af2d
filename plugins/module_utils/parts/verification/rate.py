# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the servers may be read."""

from __future__ import annotations

import threading
import time

SHORTEST = 0.01  # seconds to wait: shorter ones add up first, as each takes longer than it should


class Rate:
    """A limit in bytes a second that threads share; None is none."""

    def __init__(self, bytes_per_second: int | None):
        self._rate = bytes_per_second
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def spend(self, amount: int) -> None:
        """Wait until as many bytes may have been read."""
        if not self._rate:
            return
        with self._lock:
            self._free = max(self._free, time.monotonic()) + amount / self._rate
            pause = self._free - time.monotonic()
        if pause > SHORTEST:
            time.sleep(pause)
