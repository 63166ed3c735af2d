# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifications as users run them."""

from __future__ import annotations

from dumps import CLIENTS
from support import Cluster, Result, run_module


def verify(
    source: Cluster, target: Cluster | dict, check: bool = False, login: dict | None = None, **options
) -> Result:
    """Run pg_verify, as superusers unless there is a ``login``, or another endpoint of the target; it may fail."""
    given = {"source": source, "target": target}
    ends = {side: end.endpoint() if isinstance(end, Cluster) else end for side, end in given.items()}
    ends = {side: {**end, **(login or {})} for side, end in ends.items()}
    return run_module("pg_verify", {**ends, "client_directory": CLIENTS, **options}, check=check)


def differing(result: Result) -> set[str]:
    """Class and name of everything that is not the same, of the only database."""
    [database] = result.databases
    return {f"{one['class']} {one['object']}" for one in database["different"]}
