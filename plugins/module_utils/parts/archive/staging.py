# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which an archive goes into a database: stages, each one run of pg_restore."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import (
    STATISTICS,
    Contents,
    Entry,
)

# What pg_restore may build in parallel; errors in these classes are failures, so they need not be told apart.
# INDEX ATTACH is not among them: the last part locks all partitioned indexes above it, and two such deadlock.
PARALLEL = {"INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", *STATISTICS}


@dataclass(frozen=True)
class Stage:
    """A name for the result, its entries in archive order, and whether they may be restored in parallel."""

    name: str
    entries: list[Entry]
    parallel: bool = False


STAGES = ("schemas", "definitions", "data", "indexes and keys", "rest", "privileges", "last")


def plan_stages(contents: Contents, entries: list[Entry]) -> list[Stage]:
    """Schemas and extensions; other definitions; data; indexes and keys; the rest; privileges; event triggers.

    Materialized views are refreshed afterwards, not here.
    """
    serial = _serial_post_data(contents, entries)
    chosen = {name: [] for name in STAGES}
    stage_of = {}
    for entry in entries:
        stage = _stage_of(entry, serial, stage_of)
        if stage:
            stage_of[entry.dump_id] = stage
            chosen[stage].append(entry)
    return [Stage(name, chosen[name], name in ("data", "indexes and keys")) for name in STAGES if chosen[name]]


def refreshes(entries: list[Entry]) -> dict[tuple[str, str], Entry]:
    """Materialized views that held data on the source, each after those it needs as far as pg_dump knows."""
    return {(entry.namespace, entry.tag): entry for entry in entries if entry.desc == "MATERIALIZED VIEW DATA"}


def _stage_of(entry: Entry, serial: set[int], stage_of: dict[int, str]) -> str | None:
    """The stage of an entry, those it depends on having theirs."""
    if entry.desc == "MATERIALIZED VIEW DATA":
        return None
    if entry.desc in ("ACL", "DEFAULT ACL"):
        return "privileges"
    if entry.desc == "EVENT TRIGGER":
        return "last"
    if entry.desc in ("SCHEMA", "EXTENSION"):
        return "schemas"
    if entry.desc == "BLOB METADATA":
        return "definitions"  # from 17 on pg_dump counts it as data, but it has owners, which may have been edited
    if entry.section == "data":
        return "data"
    if entry.section == "post-data":
        return "rest" if entry.dump_id in serial else "indexes and keys"
    if entry.section == "none":  # a comment or a label goes with its object, but not among what runs in parallel
        needed = [stage_of[one] for one in entry.dependencies if one in stage_of]
        latest = max(needed, key=STAGES.index, default="definitions")
        return "rest" if latest in ("data", "indexes and keys") else latest
    return "definitions"


def _serial_post_data(contents: Contents, entries: list[Entry]) -> set[int]:
    """Post-data that is not built in parallel, and what depends on it."""
    serial = {entry.dump_id for entry in entries if entry.section == "post-data" and entry.desc not in PARALLEL}
    return serial | {entry.dump_id for entry in contents.dependents(serial)}
