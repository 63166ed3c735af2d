# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which migration a pair of databases is about: by both servers' identities, or, where one of them has another by now,
as after pg_upgrade, by what of the migration is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.ends import Ends, Visit, find_records

OTHER_SERVER = (
    "The {} is not the server that it was when the migration began, or has another identity, as after pg_upgrade. "
    "The migration was recognised by {}."
)


@dataclass(frozen=True)
class Recognised:
    """``identifier`` is None where nothing can be told; ``migration`` is what the target's journal says of it, ``undo``
    what its record on the source does, and ``notice`` by what it was recognised, if not by the servers.
    """

    identifier: str | None
    migration: migration_journal.Migration | None
    undo: list[str]
    notice: str = ""


def recognise(ends: Ends, at_source: Visit, at_target: Visit, dbname: str, goal: str) -> Recognised:
    """Raises HandoverError where what is there is another migration's, or might be."""
    records = source_record.read(at_source.connection) if at_source.connection else []
    migrations = migration_journal.read_all(at_target.connection) if at_target.connection else []
    identifier, notice = _choose(ends, (at_source, at_target), (dbname, goal), records, migrations)
    migration = next((one for one in migrations if one.id == identifier), None)
    return Recognised(
        identifier, migration, [line for one in records if one["id"] == identifier for line in one["undo"]], notice
    )


def _choose(ends: Ends, visits, names, records: list[dict], migrations: list) -> tuple[str | None, str]:
    """(identifier, notice); the migrations and records are in the order in which they began."""
    servers, (dbname, goal) = (ends.source.server, ends.target.server), names
    if not servers[0]:
        return (migrations[-1].id if migrations else None), ""
    if not servers[1]:
        return _by_target_address(ends, visits, goal, records), ""
    expected = naming.migration_id(servers[0], dbname, servers[1], goal)
    records = [one for one in records if one["target"]["database"] == goal]
    if expected in {one["id"] for one in records} | {one.id for one in migrations}:
        return expected, ""
    for one in reversed(migrations):
        if one.source["database"] == dbname and one.id in {record["id"] for record in records}:
            side = "source" if one.source["system_identifier"] != servers[0].system_identifier else "target"
            return one.id, OTHER_SERVER.format(side, "its records on both ends")
    for one in reversed(migrations):
        if (one.source["database"], *_place(one.source)) == (dbname, *_address(visits[0])):
            return one.id, OTHER_SERVER.format("source", "the source's address")
    if migrations:
        raise _of_another_source(migrations[-1])
    for one in reversed(records):
        if _place(one["target"]) == _address(visits[1], ends.target):
            return one["id"], OTHER_SERVER.format("target", "the target's address")
    return expected, ""


def _by_target_address(ends: Ends, visits, goal: str, records: list[dict]) -> str | None:
    """With the target out of reach, its address is all that tells which migration is meant."""
    if not visits[0].connection:
        return None
    found = find_records(ends, visits[0].connection, goal)
    if not found and records:
        addresses = ", ".join(f"{one['target']['host']}:{one['target']['port']}" for one in records)
        raise HandoverError(
            f"The target cannot be reached, and the source knows migrations to other addresses only: {addresses}. "
            f"{visits[1].problem}",
            "Give the target the address that it had when the migration began.",
        )
    return found[-1]["id"] if found else None


def _of_another_source(migration) -> HandoverError:
    origin = '{host}:{port}, database "{database}"'.format(**migration.source)
    return HandoverError(
        f"The target's database belongs to migration {migration.id} from {origin}, and the given source has no "
        "record of that migration. Nothing was removed.",
        "Give that source; if it is gone for good, give its address all the same.",
    )


def _place(recorded: dict) -> tuple[str, str]:
    return str(recorded["host"]), str(recorded["port"])


def _address(visited: Visit, end=None) -> tuple[str, str]:
    """Of the server that a visit was to, as records have it."""
    if visited.connection:
        return str(visited.connection.info.host), str(visited.connection.info.port)
    parameters = end.endpoint.parameters if end else {}
    return str(parameters.get("host") or parameters.get("hostaddr")), str(parameters.get("port", "5432"))
