# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's definitions as the target's server writes them: its schema, restored into a database of ours there.

Servers write the same definition differently, from major to major, and before and after a restore on the same one.
What is on the target and what is here was written by one server, and restored once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, clients
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import (
    Capabilities,
    read_capabilities,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import archive, script
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    Snapshot,
    connect_to_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import configure
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.instant import DatabaseAddress

PREFIX = "handover_verify_"
# What says nothing about other definitions, or would have a say in what we do.
NOT_NEEDED = {
    "ACL", "COMMENT", "DEFAULT ACL", "EVENT TRIGGER", "MATERIALIZED VIEW DATA", "SECURITY LABEL", "USER MAPPING",
}  # fmt: skip
ARGUMENTS = ["--no-owner", "--no-privileges", "--no-tablespaces"]


@dataclass(frozen=True)
class Origin:
    """What is restored: the database of an end as a snapshot shows it, with locales by other names on the target;
    ``lock_wait_timeout`` (ms) for pg_dump; ``client_directory``: where to look for programs, None for the usual places.
    """

    end: DatabaseAddress
    snapshot: Snapshot
    locale_map: dict[str, str]
    lock_wait_timeout: int
    client_directory: list[str] | None


def name_of(pair: str) -> str:
    """The database of the verification of this pair, by the migration's id."""
    return PREFIX + hashlib.sha256(pair.encode()).hexdigest()[:16]


@contextlib.contextmanager
def one_server(origin: Origin, target: DatabaseAddress, pair: str) -> Iterator[Connection]:
    """Yields a session in it; it is gone afterwards. Raises HandoverError where there can be none. Objects that the
    target refuses are not in it.
    """
    name = name_of(pair)
    with contextlib.closing(target.endpoint.connect_for_maintenance()) as connection:
        capabilities = read_capabilities(connection)
        if not (capabilities.createdb or capabilities.superuser):
            raise HandoverError(
                f"Role {capabilities.role} may make no database on the target.", "Give it CREATEDB for the comparison."
            )
        with _turn(connection, pair), _server_errors(), contextlib.ExitStack() as stack:
            target_database.drop(connection, name)  # of a run that was killed
            stack.callback(target_database.drop, connection, name)
            _make(origin, connection, name)
            _fill(origin, DatabaseAddress(target.endpoint, name), capabilities)
            session = stack.enter_context(contextlib.closing(target.endpoint.connect(name)))
            configure(session)
            with session.cursor() as cursor:
                cursor.execute("BEGIN")
            yield session
            session.close()


@contextlib.contextmanager
def _server_errors() -> Iterator[None]:
    """What a server refuses is no more than that this comparison cannot be made."""
    try:
        yield
    except psycopg2.Error as error:
        raise HandoverError(f"A server refused it: {one_line(error)}", "Fix that, then run it again.") from None


def drop_left(target: Endpoint, pair: str, check_mode: bool = False) -> list[str]:
    """Remove what a run of this pair that was killed has left: what was done, or would be, as SQL. Another run that is
    at work keeps what it has.
    """
    name = name_of(pair)
    with contextlib.closing(target.connect_for_maintenance()) as connection:
        if target_database.exists(connection, name):
            with contextlib.suppress(HandoverError), _turn(connection, pair):
                if not check_mode:
                    target_database.drop(connection, name)
                return [f"DROP DATABASE {name}"]
    return []


def _turn(connection: Connection, pair: str) -> AbstractContextManager[None]:
    busy = "Another run compares these databases: on the target, {}."
    return turn.held(connection, f"handover.postgresql verify {pair}", busy)


def _make(origin: Origin, connection: Connection, name: str) -> None:
    with contextlib.closing(origin.end.connect(read_only=True)) as source:
        properties = databases.read_properties(source, origin.end.dbname)
    databases.create(connection, name, properties, origin.locale_map)


def _fill(origin: Origin, place: DatabaseAddress, capabilities: Capabilities) -> None:
    """Restore all definitions that the target takes."""
    source = origin.end
    found = clients.find_clients(origin.client_directory)
    with contextlib.closing(connect_to_snapshot(source.endpoint, source.dbname, origin.snapshot)) as session:
        major = session.info.server_version // 10000
        with_attver = catalog.has_pg_attver(session)
        client = clients.choose_for_dump(found, major, capabilities.major, with_attver, origin.client_directory)
        chosen = schema.SchemaSelection().arguments(client, session, origin.snapshot.name, origin.lock_wait_timeout)
        contents = schema.dump(client, source.endpoint.for_programs(session), source.dbname, chosen)
    fitting = Fitting(contents, [])
    fitting.fit(capabilities, no_privileges=True)
    entries = [entry for entry in fitting.remaining() if entry.desc not in NOT_NEEDED]
    restore = clients.choose_for_restore(found, client.major, capabilities.major, origin.client_directory)
    with contextlib.ExitStack() as stack:
        directory = archive.edited(fitting.contents, stack)
        session = stack.enter_context(contextlib.closing(place.connect()))
        script.prepare(session, fitting.contents)
        _restore(session, restore, place, directory, fitting.contents, entries)


def _restore(
    session: Connection,
    client: clients.Client,
    place: DatabaseAddress,
    directory: str,
    contents: Contents,
    entries: list[Entry],
) -> None:
    """Many entries at a time; those among which the server refuses one, one by one."""
    programs, written = place.endpoint.for_programs(session), script.ArchivePlace(directory, contents.codec)
    while entries:
        some = entries[: script.WRITTEN_TOGETHER]
        done = script.run(session, client, programs, written, some, ARGUMENTS)
        refused = some[done : done + script.TOGETHER]
        archive.restore(client, programs, place.dbname, directory, refused, ARGUMENTS)
        entries = entries[done + len(refused) :]
