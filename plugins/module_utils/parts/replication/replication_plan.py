# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each table: replicated, copied at the cutover, or only made."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import (
    SourceTable,
    read_tables,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import replica_identity

SHOWN = 20  # tables named in a message

# Partitioned tables stand between their parts and what refers to them, or what they refer to.
JOINED = """
    WITH ends AS (SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f'),
    pairs AS (
        SELECT conrelid AS one, confrelid AS other FROM ends
        UNION SELECT whole.oid, part.relid
        FROM (SELECT conrelid FROM ends UNION SELECT confrelid FROM ends) AS whole (oid),
            pg_partition_tree(whole.oid) AS part)
    SELECT n.nspname::text, c.relname::text, m.nspname::text, d.relname::text FROM pairs
    JOIN pg_class AS c ON c.oid = one JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS d ON d.oid = other JOIN pg_namespace AS m ON m.oid = d.relnamespace"""


@dataclass(frozen=True)
class Planned:
    """A table, its ``kind`` (replicated, at_cutover), why it is not replicated, and which replica identity it gets for
    that: what follows REPLICA IDENTITY, or empty.
    """

    table: SourceTable
    kind: str
    why: str = ""
    identity: str = ""


@dataclass(frozen=True)
class ReplicationPlan:
    """``tables`` with rows, biggest first; ``structure_only``: names, quoted, of foreign tables."""

    tables: list[Planned]
    structure_only: list[str]

    @property
    def replicated(self) -> list[Planned]:
        return [one for one in self.tables if one.kind == "replicated"]

    @property
    def at_cutover(self) -> list[Planned]:
        return [one for one in self.tables if one.kind == "at_cutover"]

    @property
    def binary(self) -> bool:
        """Whether changes of all may be sent in binary form."""
        return all(one.table.binary and not one.table.extensions for one in self.replicated)


def read(side, no_identity: str) -> ReplicationPlan:
    """Plan by what the database holds now. ``side``: facts.side.Side of that database of the source.

    ``no_identity`` (fail, full, copy_at_cutover) is about tables without a replica identity. Raises HandoverError.
    """
    lacking = {one.oid: one for one in replica_identity.lacking(side)}
    tables = read_tables(side.connection)
    _refuse([lacking[one.oid] for one in tables if one.oid in lacking and not _is_left(one)], no_identity)
    query = f"SELECT format('%I.%I', n.nspname, c.relname) FROM {OWN_RELATIONS} AND c.relkind = 'f' ORDER BY 1"
    foreign = [name for (name,) in rows(side.connection, query)]
    return ReplicationPlan([_planned(one, lacking.get(one.oid), no_identity) for one in tables], foreign)


def joined(connection) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of tables, (schema, name) each, that foreign keys join: such can be truncated only together."""
    return [((schema, name), (other, its)) for schema, name, other, its in rows(connection, JOINED)]


def _is_left(table: SourceTable) -> str:
    """Why a table is not replicated whatever its identity; empty if it can be."""
    if table.extension:
        return f"it holds configuration of the extension {table.extension}"
    if table.unlogged:
        return "it is unlogged"
    if table.through_root:
        return "its rows may belong to another partition on the target"
    return ""


def _planned(table: SourceTable, lacks, no_identity: str) -> Planned:
    why = _is_left(table)
    if why:
        return Planned(table, "at_cutover", why)
    if lacks and no_identity == "full":
        return Planned(table, "replicated", identity=lacks.identity)
    return Planned(table, "at_cutover", lacks.why) if lacks else Planned(table, "replicated")


def _refuse(lacking: list, no_identity: str) -> None:
    if no_identity == "full":
        lacking = [one for one in lacking if not one.identity]
    if not lacking or no_identity == "copy_at_cutover":
        return
    lacking.sort(key=lambda one: one.name)
    shown = "; ".join(f"{one.name} ({one.why})" for one in lacking[:SHOWN])
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    choice = "no_identity: full, or " if no_identity == "fail" and all(one.identity for one in lacking) else ""
    raise HandoverError(
        f"{counted(len(lacking), 'table')} cannot be replicated, and nothing was published: {shown}{more}.",
        "Add replica identities with the SQL in statements. Or leave it to the migration with "
        f"{choice}no_identity: copy_at_cutover, which copies them while writers wait.",
        tables=[one.name for one in lacking],
        statements=[one.remedy for one in lacking],
    )
