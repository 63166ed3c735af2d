"""Direct copies as users make them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dumps import CLIENTS, done, export, restore
from support import Cluster, Result, Running, run_module, start_module

Endpoint = Mapping[str, Any]


def arguments(source: Cluster | Endpoint, target: Cluster | Endpoint, options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the module, with the lab's clients."""
    ends = {"source": source, "target": target}
    ends = {side: end.endpoint() if isinstance(end, Cluster) else end for side, end in ends.items()}
    return {**ends, "client_directory": CLIENTS, **options}


def copy(source: Cluster | Endpoint, target: Cluster | Endpoint, check: bool = False, **options: Any) -> Result:
    """Run pg_direct_copy; it may fail."""
    return run_module("pg_direct_copy", arguments(source, target, options), check)


def start_copy(source: Cluster | Endpoint, target: Cluster | Endpoint, **options: Any) -> Running:
    """Start it without waiting for it."""
    return start_module("pg_direct_copy", arguments(source, target, options))


def bring_roles(source: Cluster, target: Cluster | Endpoint, place: Path) -> None:
    """All roles, as the dump playbook brings them."""
    done(export(source, place, include=["roles"]))
    done(restore(target, place, include=["roles"]))
