# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals as users run them, and what tests ask of their findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from copies import arguments
from support import Cluster, Result, Running, create_database, run_module, start_module

LEFT = """
    SELECT 'database ' || datname FROM pg_database WHERE datname LIKE 'handover%'
    UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'handover%'"""


def rehearse(source: Any, target: Any, check: bool = False, **options: Any) -> Result:
    """Run pg_rehearse; it may fail, and its findings are there all the same."""
    found = run_module("pg_rehearse", arguments(source, target, options), check)
    assert "findings" in found, found
    return found


def start_rehearsal(source: Any, target: Any, env: Mapping[str, str] | None = None, **options: Any) -> Running:
    """Start it without waiting for it."""
    return start_module("pg_rehearse", arguments(source, target, options), env=env)


def made(cluster: Cluster, name: str, script: str) -> Cluster:
    """The server, with a database of that name which holds what the script makes."""
    create_database(cluster, name)
    cluster.sql(name, script)
    return cluster


def of_level(found: Mapping[str, Any], *levels: str) -> list[dict[str, Any]]:
    """Findings of these levels."""
    return [one for one in found["findings"] if one["level"] in levels]


def about(found: Mapping[str, Any], words: str) -> dict[str, Any]:
    """The only finding in which these words are."""
    [one] = [one for one in found["findings"] if words in one["seen"]] or [found["findings"]]
    assert isinstance(one, dict), f"not one finding says {words}: {one}"
    return one


def assert_well(found: Mapping[str, Any]) -> None:
    """Nothing was met."""
    assert [one["level"] for one in found["findings"] if one["level"] != "info"] == ["ok"], found["findings"]


def left(cluster: Cluster) -> list[str]:
    """What rehearsals have left on the server, but for the journal."""
    return [name for (name,) in cluster.sql("postgres", LEFT)]
