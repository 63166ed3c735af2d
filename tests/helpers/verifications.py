# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifications as users run them."""

from __future__ import annotations

from dumps import CLIENTS
from support import Cluster, Result, run_module


def verify(source: Cluster, target: Cluster, check: bool = False, login: dict | None = None, **options) -> Result:
    """Run pg_verify, as superusers unless there is another ``login``; it may fail."""
    ends = {"source": source, "target": target}
    ends = {side: {**cluster.endpoint(), **(login or {})} for side, cluster in ends.items()}
    return run_module("pg_verify", {**ends, "client_directory": CLIENTS, **options}, check=check)


def differing(result: Result) -> set[str]:
    """Class and name of everything that is not the same, of the only database."""
    [database] = result.databases
    return {f"{one['class']} {one['object']}" for one in database["different"]}
