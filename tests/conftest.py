# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ``ansible_collections.handover.postgresql``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".build" / "collections"

_place = COLLECTIONS / "ansible_collections" / "handover" / "postgresql"
_place.parent.mkdir(parents=True, exist_ok=True)
with contextlib.suppress(FileExistsError):
    _place.symlink_to(ROOT, target_is_directory=True)
sys.path.insert(0, str(COLLECTIONS))
