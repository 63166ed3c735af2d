# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifications as users run them."""

from __future__ import annotations

from support import Cluster, Result, run_module


def verify(source: Cluster, target: Cluster, check: bool = False, login: dict | None = None, **options) -> Result:
    """Run pg_verify, as superusers unless there is another ``login``; it may fail."""
    ends = {"source": source, "target": target}
    arguments = {**{side: {**cluster.endpoint(), **(login or {})} for side, cluster in ends.items()}, **options}
    return run_module("pg_verify", arguments, check=check)
