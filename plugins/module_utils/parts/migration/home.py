# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database has one home. What fences and records of migrations in it say of that is asked here: whether it belongs to
another migration than the one that is about to work with it.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record

LIFT = (
    "To use the database here again, finish that migration with lift_fence: true; it will lack everything that was "
    "written at its home."
)


def elsewhere(connection, identifier: str | None) -> tuple[str, str] | None:
    """(what is so, what to do) where the fence of another migration than this one keeps writers out of the database;
    None where there is no such fence.
    """
    return _elsewhere(fence.read(connection), identifier)


def _elsewhere(found: fence.Fence | None, identifier: str | None) -> tuple[str, str] | None:
    if found is None or not found.closed or found.migration == identifier:
        return None
    if found.handed_over:
        return (
            f"lives elsewhere: migration {found.migration} handed it over to {found.home}",
            f"Migrate from its home, or roll that back first with handover.postgresql.rollback. {LIFT}",
        )
    return (
        f"does not live here yet: migration {found.migration} is to hand it over from {found.home}",
        "Complete that migration and finish it, or stop it.",
    )


def refuse_elsewhere(connection, side: str, identifier: str | None) -> None:
    """Raise HandoverError where a fence says that the database belongs to another migration than this one."""
    refuse_foreign(fence.read(connection), side, identifier)


def refuse_foreign(there: fence.Fence | None, side: str, identifier: str | None) -> None:
    """The same of a fence that was read."""
    found = _elsewhere(there, identifier)
    if there and found:
        raise HandoverError(f"The database of the {side} {found[0]}.", found[1], home=there.home)


def incoming(connection) -> tuple[str, str] | None:
    """(what is so, what to do) where a continuous migration has led, or leads, into the database, and is not finished
    yet.
    """
    migration = migration_journal.read_migration(connection)
    if migration is None:
        return None
    origin = '{host}:{port}, database "{database}"'.format(**migration.source)
    return (
        f"is the target of migration {migration.id}, from {origin}, which is {migration.phase.replace('_', ' ')}",
        "Finish that one first, or give it up with handover.postgresql.stop and finish it.",
    )


def outgoing(connection, identifier: str | None = None) -> list[str]:
    """The migrations from this database that have not ended, another one than this, as people are told of them."""
    return [
        '{id} to {host}:{port}, database "{database}"'.format(id=one["id"], **one["target"])
        for one in source_record.read(connection)
        if one["id"] != identifier
    ]


def refuse_occupied(connection, dbname: str) -> None:
    """Raise HandoverError where a migration that goes on needs the target's database as it is, whatever may be
    replaced.
    """
    migration = migration_journal.read_migration(connection)
    found = incoming(connection) if migration and migration.phase != "stopped" else None
    leaving = outgoing(connection)
    if leaving:
        found = (
            f"is the source of a migration that has not ended: {', '.join(leaving)}",
            "Finish that one first, or give it up with handover.postgresql.stop.",
        )
    if found:
        raise HandoverError(f'The target\'s database "{dbname}" {found[0]}.', f"{found[1]} Or use rename.")
