# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a run while it works: a line a database, and with more words a line a table that is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, duration, one_line, size

WINDOW = 120.0  # seconds of looks that say how fast it goes now
LEAST = 5.0  # seconds that two looks must be apart


class ProgressLines:
    """Of one task on one host. ``of`` gets what module_utils/base/progress.py writes, again and again."""

    def __init__(self, host: str, with_tables: bool) -> None:
        self._host = host
        self._with_tables = with_tables
        self._looks: dict[tuple[str, str], deque[tuple[float, int]]] = {}

    def of(self, seen: dict[str, Any], now: float) -> Iterator[str]:
        """The lines of one look; ``now`` is in seconds of any clock that does not jump."""
        for database, found in seen["databases"].items():
            name = f"{self._host}: {one_line(database)}"
            yield f"{name}: {', '.join(self._facts(database, found, now))}"
            tables = found.get("under_way", {}) if self._with_tables else {}
            for table, (done, total) in tables.items():
                yield f"{name}: {one_line(table)}: {size(done)} of {size(total)}"

    def _facts(self, database: str, found: dict[str, Any], now: float) -> Iterator[str]:
        yield found.get("stage", "begun")
        if "lag" in found:
            yield from self._behind(database, found["lag"], now)
        if "bytes" not in found:
            return
        (done, total), (tables, all_tables) = found["bytes"], found["tables"]
        yield f"{tables:,} of {counted(all_tables, 'table')}"
        yield f"{size(done)} of {size(total)}"
        for what, (ready, all_of_them) in found.get("others", {}).items():
            yield f"{ready:,} of {all_of_them:,} {what}"
        rate = self._rate((database, found.get("stage", "")), done, now)
        if rate and done < total:
            yield f"{size(round(rate))}/s"
            yield f"about {duration((total - done) / rate)} to go"

    def _behind(self, database: str, lag: int, now: float) -> Iterator[str]:
        """While the target catches up. What the application writes meanwhile counts: it may get further behind."""
        yield f"{size(lag)} of WAL behind"
        rate = self._rate((database, "lag"), -lag, now)
        if rate and lag:
            yield f"about {duration(lag / rate)} to go"

    def _rate(self, key: tuple[str, str], done: int, now: float) -> float | None:
        """Bytes a second, of late; None where too little was seen, or nothing moved."""
        looks = self._looks.setdefault(key, deque())
        looks.append((now, done))
        while now - looks[0][0] > WINDOW and len(looks) > 2:
            looks.popleft()
        before, done_then = looks[0]
        if now - before < LEAST or done <= done_then:
            return None
        return (done - done_then) / (now - before)
