# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From where to where a database is handed over: one algorithm knows two directions, and calls its ends old and new."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import side_by_side, together
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    Server,
    read_server,
    select_databases,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.naming import back_name, migration_id, wave_name
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals.migration_journal import Migration
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import home

FORWARD, BACK = "forward", "back"
READY, COMMITTED = "ready", "committed"


@dataclass(frozen=True)
class Place:
    """One end: a database of a server."""

    endpoint: Endpoint
    dbname: str
    server: Server

    def connect(self, **options):
        """A session as Endpoint.connect gives it."""
        return self.endpoint.connect(self.dbname, **options)

    @property
    def description(self) -> str:
        """For messages: ``the source, db.example.com:5432, database "shop"``."""
        return self.endpoint.describe(self.dbname)

    @property
    def address(self) -> str:
        """For people who are sent there: ``db.example.com:5432, database "shop"``."""
        return self.description.split(", ", 1)[1]


@dataclass(frozen=True)
class Route:
    """One database on its way. ``status``: ``ready``, or ``committed`` if its handover was and is to be completed."""

    direction: str
    source: Place
    target: Place
    migration: Migration
    status: str

    @property
    def old(self) -> Place:
        """Where the application writes until the handover."""
        return self.source if self.direction == FORWARD else self.target

    @property
    def new(self) -> Place:
        """Where it writes from then on."""
        return self.target if self.direction == FORWARD else self.source

    @property
    def flows(self) -> list[str]:
        """Names of the streams (publication and slot at old, subscription at new) that keep new in step."""
        return self.migration.names if self.direction == FORWARD else [back_name(self.migration.id)]

    @property
    def next_wave(self) -> int:
        """Number of the wave by which the target follows again after a rollback."""
        numbers = [wave.number for wave in self.migration.waves]
        return max(numbers) if self.direction == BACK and self.is_recorded else max(numbers) + 1

    @property
    def returning(self) -> str:
        """Name of the stream (publication and slot at new, subscription at old) by which everything may come back."""
        identifier = self.migration.id
        return back_name(identifier) if self.direction == FORWARD else wave_name(identifier, self.next_wave)

    @property
    def tables(self) -> list[tuple[str, str]]:
        """(schema, name) of the replicated tables."""
        return [(table.schema, table.name) for table in self.migration.replicated]

    @property
    def is_recorded(self) -> bool:
        """Whether the journal says that this handover was completed."""
        return _is_recorded(self.migration, self.direction)


def find_routes(source: Endpoint, target: Endpoint, params: dict) -> list[Route]:
    """The databases that params name, each with where it stands. Raises HandoverError for what cannot go this way."""

    def look(endpoint: Endpoint) -> tuple[list[str], Server]:
        with contextlib.closing(endpoint.connect_for_maintenance()) as connection:
            wanted, ignored = params["databases"], params["ignore_databases"]
            names = select_databases(connection, wanted, ignored) if endpoint is source else []
            return names, read_server(connection)

    (names, here), (_names, there) = together(lambda: look(source), lambda: look(target))
    for server, endpoint in ((here, source), (there, target)):
        if server.in_recovery:
            raise HandoverError(f"{endpoint.describe()} is a standby.", "Give the primary.")
    if here.system_identifier == there.system_identifier:
        raise HandoverError("Source and target are the same server.", "Correct source or target.")

    def find(name: str) -> Route:
        places = Place(source, name, here), Place(target, params["rename"].get(name, name), there)
        with of_database(name), sessions_with(*places) as sessions:
            return find_route(*places, params["direction"], *sessions)

    return side_by_side(find, names)


@contextlib.contextmanager
def of_database(dbname: str):
    """What fails inside is said of this one."""
    try:
        yield
    except HandoverError as error:
        raise error.of_database(dbname) from None


def find_route(source: Place, target: Place, direction: str, here: Connection, there: Connection) -> Route:
    """Where one database stands, seen by a session with each end. Raises HandoverError where it cannot go this way."""
    identifier = migration_id(source.server, source.dbname, target.server, target.dbname)
    migration = migration_journal.read_migration(there, identifier)
    if migration is None:
        raise HandoverError(
            "The target has no journal of a continuous migration of this database.",
            "Bring it into step first: handover.postgresql.replicate. A dump needs no cutover.",
        )
    found = together(lambda: fence.read(here), lambda: fence.read(there))
    for place, one in zip((source, target), found):
        home.refuse_foreign(one, place.endpoint.side, identifier)
    fences = dict(zip((FORWARD, BACK), found))
    _refuse_wrong_phase(migration, direction)
    closed = {way: _says_so(found, migration) for way, found in fences.items()}
    other = BACK if direction == FORWARD else FORWARD
    if closed[other] and not _is_recorded(migration, other):
        word, playbook = ("handover", "cutover") if other == FORWARD else ("rollback", "rollback")
        raise HandoverError(f"Its {word} was begun and not completed.", f"Complete it: handover.postgresql.{playbook}.")
    if direction == BACK and migration.phase != "handed_over":
        raise HandoverError("It was not handed over.", "There is nothing to roll back.")
    status = COMMITTED if closed[direction] or _is_recorded(migration, direction) else READY
    return Route(direction, source, target, migration, status)


@contextlib.contextmanager
def sessions_with(*places: Place):
    """Yields a session with each of these, all of which end with the block; they are opened at once."""
    with contextlib.ExitStack() as stack:

        def open_one(place: Place):
            return stack.enter_context(contextlib.closing(place.connect()))

        yield together(*(lambda one=place: open_one(one) for place in places))


def _refuse_wrong_phase(migration: Migration, direction: str) -> None:
    if migration.phase == "stopped":
        raise HandoverError("Its migration was stopped.", "Begin a new one: handover.postgresql.replicate.")
    if migration.phase not in ("in_step", "handed_over"):
        word = "handed over" if direction == FORWARD else "rolled back"
        raise HandoverError(
            f"It cannot be {word}: it is still {migration.phase.replace('_', ' ')}.",
            "Wait until it is in step: handover.postgresql.status says how far it is.",
        )


def _is_recorded(migration: Migration, direction: str) -> bool:
    """Whether the journal says that the last handover went this way, and was completed."""
    return migration.phase == "handed_over" and migration.direction == direction


def _says_so(found, migration: Migration) -> bool:
    """Whether a fence tells that the database was handed over from where it stands."""
    return found is not None and found.closed and found.handed_over and found.migration == migration.id
