# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a live database is brought into another, and who hears of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.described_ahead import DescribedAhead


@dataclass
class Scope:
    """What of the database is brought, and who hears of it.

    ``tables``: (schema, name) of those whose rows are copied; None: all but unlogged ones, which ``unlogged`` adds.
    ``sample``: so many rows of each are enough, read by queries that ``sample_path`` is for; None: all.
    ``later``: those whose rows another filling copies; keys, triggers and whatever else their rows, or rows that refer
    to them, have to be there for is made then.
    ``only``: classes of an archive's entries without which nothing is made; None: all.
    ``ahead``: the schema, if it was described before the snapshot was there.
    ``hold`` keeps the tables from being truncated or redefined until all is copied; otherwise each is locked only
    while it is read.
    ``existing``: the target has some of it already, from a run before. Objects that are there are left alone, and the
    tables are emptied before they are copied. ``keys_may_wait``: a foreign key that rows do not satisfy yet is added
    unchecked, or left out, and listed in ``pending_constraints``, or, if it may be ``left_unchecked``, in the archive's
    ``unchecked``. ``on_state`` and ``on_copied`` as in CopyOptions. ``on_progress(amounts)`` is called
    while it works, by a thread of its own.
    """

    tables: list[tuple[str, str]] | None = None
    sample: int | None = None
    sample_path: str | None = None
    later: frozenset[tuple[str, str]] = frozenset()
    only: frozenset[str] | None = None
    unlogged: bool = False
    ahead: DescribedAhead | None = None
    hold: bool = False
    existing: bool = False
    keys_may_wait: bool = False
    left_unchecked: bool = False
    sequences: bool = True
    large_objects: bool = True
    on_state: Callable[[list[tuple[Any, ...]]], object] = lambda changes: None
    on_copied: Callable[[], object] = lambda: None
    on_progress: Callable[[Extent], object] = lambda amounts: None
