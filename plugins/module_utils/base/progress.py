# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a run is, for whoever looks on: a file beside the module, which plugins/plugin_utils/watched.py reads.

Who looks on makes a file of its own there, and touches it with every look. A run that nobody looks at any more ends in
order: Ansible was interrupted, or its machine is gone. A session that breaks is no such end, as it is soon made anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

PROGRESS_FILE = "progress.json"
WATCHED_FILE = "watched"  # holds the process id of who looks on, if it is on this machine
LEASE = 300.0  # seconds without a look, after which nobody will look any more
TICK = 1.0


@dataclass(frozen=True)
class Extent:
    """(done, total) of bytes, as the source's relations have them, and of tables; of bytes by (schema, name) of
    the tables under way; of other things by what they are.
    """

    bytes: tuple[int, int]
    tables: tuple[int, int]
    under_way: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    others: dict[str, tuple[int, int]] = field(default_factory=dict)


class Progress:
    """Of all databases of a run. Stages and looks are told by any thread; one thread writes them down."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, str] = {}
        self._looks: dict[str, tuple[Callable[[], Extent | None], bool]] = {}
        self._amounts: dict[str, Extent] = {}
        self._lags: dict[str, int] = {}

    def begin(self, directory: str) -> None:
        """Measure from now on, and write to this directory as soon as somebody looks."""
        watch = _Watch(os.path.join(directory, WATCHED_FILE))
        place = os.path.join(directory, PROGRESS_FILE)
        threading.Thread(target=self._tick, args=[watch, place], daemon=True).start()

    def stage(self, database: str, name: str) -> None:
        """What is done to the database from now on."""
        with self._lock:
            self._stages[database] = name
            self._amounts.pop(database, None)
            self._lags.pop(database, None)

    def leave(self, database: str) -> None:
        """The run is done with the database, and goes on with others."""
        with self._lock:
            for known in (self._stages, self._amounts, self._lags):
                known.pop(database, None)

    def lag(self, database: str, behind: int) -> None:
        """How many bytes of WAL are still to be applied, until the next stage."""
        with self._lock:
            self._lags[database] = behind

    @contextlib.contextmanager
    def measured(
        self, database: str, look: Callable[[], Extent | None], only_for_watchers: bool = False
    ) -> Iterator[None]:
        """Ask ``look``, which must not raise, once a second while this lasts, in a thread of its own. None: unknown."""
        with self._lock:
            self._looks[database] = look, only_for_watchers
        try:
            yield
        finally:
            with self._lock:
                self._looks.pop(database, None)

    def as_json(self) -> str:
        """``{"process": 1, "databases": {"shop": {"stage": "data", "bytes": [1, 2], "tables": ...}}}``."""
        with self._lock:
            databases: dict[str, dict[str, Any]] = {name: {"stage": stage} for name, stage in self._stages.items()}
            for name, amounts in self._amounts.items():
                under_way = {".".join(key): amount for key, amount in amounts.under_way.items()}
                databases.setdefault(name, {}).update({**asdict(amounts), "under_way": under_way})
            for name, behind in self._lags.items():
                databases.setdefault(name, {})["lag"] = behind
        return json.dumps({"process": os.getpid(), "databases": databases})

    def _tick(self, watch: _Watch, place: str) -> None:
        while True:
            time.sleep(TICK)
            self._measure(watch.is_kept())
            if watch.is_kept():
                with contextlib.suppress(OSError):  # the directory is gone: so is who looked
                    _write(place, self.as_json())
            if watch.is_over():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _measure(self, watched: bool) -> None:
        with self._lock:
            looks = list(self._looks.items())
        for database, (look, only_for_watchers) in looks:
            found = look() if watched or not only_for_watchers else None
            with self._lock:
                if database in self._looks and found is not None:
                    self._amounts[database] = found


class _Watch:
    """Whether somebody looks on."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._changed: float | None = None
        self._seen = 0.0

    def is_kept(self) -> bool:
        """Whether somebody has begun to look. Time in which this machine slept does not count."""
        with contextlib.suppress(OSError):
            changed = os.stat(self._place).st_mtime
            if changed != self._changed:
                self._changed, self._seen = changed, time.monotonic()
        return self._changed is not None

    def is_over(self) -> bool:
        """Whether who looked is gone."""
        if self._changed is None:
            return False
        return time.monotonic() - self._seen > LEASE or not self._watcher_lives()

    def _watcher_lives(self) -> bool:
        try:
            with open(self._place, encoding="ascii") as file:
                process = file.read().strip()
            if process:
                os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except (OSError, ValueError):  # it is written at this moment, or is another user's
            return True
        return True


def _write(place: str, text: str) -> None:
    """Whole or not at all."""
    with open(place + ".part", "w", encoding="ascii") as file:
        file.write(text)
    os.replace(place + ".part", place)


progress = Progress()
