# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration is abandoned, whatever its state: the source is as it was, and what was made on the target is gone."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.methods import destination
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import ending
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import source_writes, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import (
    import_journal,
    migration_journal,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import home, removal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships


def abandon(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Free the sources, and drop what was made, as pg_logical_migrate documents. Raises HandoverError."""
    return ending.end_each(Abandoning, source, target, params, check_mode)


class Abandoning(ending.Ending):
    """What is at work ends, too, if it copies only. Nothing is begun that cannot be completed."""

    ends_copies = True
    needs_names = True

    def refuse(self, params: dict) -> None:
        """A database that somebody may need, or that was there before, goes only where the operator names it. Raises
        HandoverError.
        """
        target, named = self.target.connection, self.goal in params["abandon_databases"]
        if not named and _lives_there(self):
            raise HandoverError(
                f'The database was handed over: it lives in database "{self.goal}" of the target.',
                "Roll it back first. Or use abandon_databases to name it and lose what was written since the cutover.",
            )
        if target is None:
            return
        leaving = home.outgoing(target)
        if leaving:
            raise HandoverError(
                f'Database "{self.goal}" of the target is the source of a migration that has not ended: '
                f"{', '.join(leaving)}.",
                "Finish that one first, or give it up with state: stopped.",
            )
        if import_journal.is_made(target) and self.goal == _way_in(self):
            raise HandoverError(
                f'Database "{self.goal}" cannot be dropped, because it is the one that the module connects to.',
                "Name another database in target.dbname.",
            )
        reason = None if named else _needed(self)
        if reason:
            raise HandoverError(
                f'Database "{self.goal}" of the target {reason}.',
                "To abandon it all the same, use abandon_databases to name it; what it holds is lost. Or use state: "
                "stopped, which frees the source and keeps it.",
            )

    def work(self, params: dict) -> None:
        """Free the source, and give roles and settings of the target's server back. Raises HandoverError."""
        ending.unsubscribe_both(self)
        ending.free(self, lift_fence=True)
        if self.target.connection:
            with ending.memberships_of_owners(self):
                ending.take_fence_down(self, self.target, lift=True)
                undo = self.migration.undo if self.migration else []
                self.run(self.target, removal.undo(self.target.connection, undo))
                if self.migration and not self.check_mode:  # whoever is killed from here on has not handed it over
                    migration_journal.set_phase(self.target.connection, self.migration.id, "stopped")
        ending.say_what_is_left(self)

    def conclude(self, params: dict) -> None:
        """Drop the database, or empty one that was there before, and drop what a run left that was killed."""
        if self.target.unknown:
            return
        endpoint = self.ends.target.endpoint
        with contextlib.closing(endpoint.connect_for_maintenance(read_only=self.check_mode)) as connection:
            run = destination.Destination(endpoint, connection, params, self.check_mode)
            with contextlib.nullcontext() if self.check_mode else destination.only_run(run, self.goal):
                self._remove(connection)
                working = target_database.working_name(self.goal)
                if target_database.exists(connection, working):
                    self._drop(connection, working)
            if not self.check_mode:
                memberships.drop_leftovers(connection)

    def _remove(self, connection) -> None:
        session = self.target.connection
        if session is None:
            return
        if _entry(self) is None and self.migration is None:
            self.run(self.target, removal.rest_of_target(session, fence_stays=False))
            if any(self.statements.values()):
                self.notices.append(STAYS.format(self.goal))
        elif import_journal.is_made(session):
            session.close()
            self.target.connection = None  # from now on, the target has no such database
            self._drop(connection, self.goal)
        else:
            empty = target_database.clear
            step = removal.Step(
                target_database.clearing(session), lambda: empty(self.ends.target.endpoint, connection, self.goal)
            )
            self.run(self.target, [step])
            self.notices.append(EMPTIED.format(self.goal))

    def _drop(self, connection, dbname: str) -> None:
        statement = sql.SQL("DROP DATABASE {}").format(sql.Identifier(dbname)).as_string(connection)
        step = removal.Step([statement], lambda: target_database.drop(connection, dbname))
        self.run(self.target, [step])


STAYS = 'Database "{}" of the target stays: no journal there says that it was made for this migration.'
EMPTIED = 'Database "{}" of the target was there before the migration: it stays, without what was in it.'


def _lives_there(abandoning: Abandoning) -> bool:
    """Whether the target is the database's home: by the fence on the source, or, without one, by the journal."""
    source, migration = abandoning.source.connection, abandoning.migration
    found = fence.read(source) if source else None
    if found and found.closed and ending.is_ours(abandoning, abandoning.source, found):
        return True
    return bool(migration) and (migration.phase, migration.direction) == ("handed_over", "forward")


def _way_in(abandoning: Abandoning) -> str:
    """The database of the target to which the module connects."""
    with contextlib.closing(abandoning.ends.target.endpoint.connect_for_maintenance(read_only=True)) as connection:
        return connection.info.dbname


def _entry(abandoning: Abandoning) -> dict | None:
    """What the target's journal says of an import, which may be into a database of a continuous migration, too."""
    return import_journal.read(abandoning.target.connection)


def _needed(abandoning: Abandoning) -> str | None:
    """Why the target's database may be somebody's, if it is about to go."""
    target, entry, migration = abandoning.target.connection, _entry(abandoning), abandoning.migration
    if entry is None and migration is None:
        return None
    if not import_journal.is_made(target):
        return "was there before the migration, or was made by an older release"
    users = target_database.users(target, abandoning.goal)
    if users:
        return f"is in use: {some(users, 5)}"
    return _of_another_source(abandoning, entry) or _written(target, entry) if migration is None else None


def _of_another_source(abandoning: Abandoning, entry: dict) -> str | None:
    """An import is known by its database's name only, which other servers may have as well."""
    server, origin = abandoning.ends.source.server, entry["source"]
    if not server or not origin:
        return None
    if (origin["system_identifier"], origin["database"]) == (server.system_identifier, abandoning.dbname):
        return None
    return "was brought from another server, or from another database, than the given source"


def _written(target, entry: dict) -> str | None:
    """Once it was filled, nobody but its users writes to it."""
    then, now = entry["completed"] and entry["writes"], source_writes.count_writes(target)
    if None in (then, now) or then == now:
        return None
    return "was written to since it was filled, or its counters were reset, as by a crash"
