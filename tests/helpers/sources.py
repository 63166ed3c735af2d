# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of a source's preparation share: running it, taking it back, and what it could leave behind."""

from __future__ import annotations

from support import Cluster, Result, run_module

PASSWORD = "correct horse battery staple"
ROLE = "handover_migrator"
ORDER = {
    "replication_password": PASSWORD,
    "target_addresses": ["127.0.0.1"],
    "replication_tls": False,  # not every build has TLS
}
RECORD = f"SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = '{ROLE}'"


def prepare(cluster: Cluster, check: bool = False, source: dict | None = None, **options) -> Result:
    """One run of the module."""
    given = {"source": source or cluster.endpoint(), **ORDER, **options}
    return run_module("pg_source_prepare", given, check=check, diff=True)


def release(cluster: Cluster, check: bool = False, **options) -> Result:
    return run_module("pg_source_prepare", {"source": cluster.endpoint(), "state": "absent", **options}, check=check)


def setting(cluster: Cluster, name: str) -> str:
    return cluster.sql("postgres", f"SHOW {name}")[0][0]


def names(entries: list[dict]) -> set[str]:
    return {entry["name"] for entry in entries}


def state(cluster: Cluster) -> tuple:
    """Everything that the module could leave behind."""
    granted = "SELECT datname, datacl::text FROM pg_database ORDER BY 1"
    auto = (cluster.data / "postgresql.auto.conf").read_bytes()
    roles = cluster.sql("postgres", "SELECT rolname FROM pg_roles ORDER BY 1")
    return auto, *roles, *cluster.sql("postgres", granted)
