# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ``ansible_collections.handover.postgresql``."""

from __future__ import annotations

import sys

from collection import COLLECTIONS, link_collection

link_collection()
sys.path.insert(0, str(COLLECTIONS))
