# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of the copy engine is asked for, and what becomes of each table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable


@dataclass
class Counts:
    """What became of one table; ``pieces`` are those that are not copied yet."""

    table: SourceTable
    pieces: int = 0
    rows: int = 0
    bytes: int = 0
    done: int = 0  # of the table's size, in pieces that are there

    @property
    def ratio(self) -> float | None:
        """What COPY makes of a byte of the table: as the pieces before did, or as statistics say."""
        if self.done and self.bytes:
            return self.bytes / self.done
        return self.table.copy_bytes / self.table.size if self.table.copy_bytes and self.table.size else None


@dataclass
class CopyOptions:
    """``split_above`` is in bytes, None decides by itself. ``start_over`` empties tables that hold a part already.

    ``sample``: so many rows of each table are enough, read with the application's search_path, ``sample_path``.
    ``keys_may_wait``: a foreign key that rows do not satisfy yet is added without looking at them.
    ``on_state([(schema, table, state, rows, bytes), ...])`` hears of ``copying``, ``copied`` and ``indexed``, the
    latter two when they are committed, from any thread.
    ``on_copied()`` is called once when nothing is to be read any more.
    """

    jobs: int = 1
    flow: Flow = field(default_factory=Flow)
    split_above: int | None = None
    sample: int | None = None
    sample_path: str | None = None
    start_over: bool = False
    analyze: bool = True
    keys_may_wait: bool = False
    on_state: Callable[[list[tuple]], object] = lambda changes: None
    on_copied: Callable[[], object] = lambda: None
