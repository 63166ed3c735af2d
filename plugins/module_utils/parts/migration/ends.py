# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a pair, either of which may be out of reach: then that is said, and the other is worked on."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import (
    import_journal,
    migration_journal,
    source_record,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.continuity import Sight


@dataclass
class End:
    """One server. ``server`` and ``databases`` are None where it cannot be reached, and ``problem`` says why."""

    endpoint: Endpoint
    server: catalog.Server | None = None
    databases: list[str] | None = None
    problem: str | None = None
    remedy: str = ""

    @classmethod
    def reach(cls, endpoint: Endpoint) -> End:
        """Look whether it is there, and what databases it has."""
        try:
            with contextlib.closing(endpoint.connect_for_maintenance(read_only=True)) as connection:
                return cls(endpoint, catalog.read_server(connection), catalog.database_names(connection))
        except HandoverError as error:
            return cls(endpoint, problem=error.problem, remedy=error.remedy)

    def look_again(self) -> None:
        """See which databases it has by now, if it could be reached before."""
        if self.problem is None:
            now = End.reach(self.endpoint)
            self.server, self.databases, self.problem, self.remedy = now.server, now.databases, now.problem, now.remedy

    @property
    def side(self) -> str:
        """``source`` or ``target``."""
        return self.endpoint.side

    def as_result(self) -> dict:
        """For the module's result."""
        return {"server": self.server and self.server.as_result(), "problem": self.problem}


@dataclass
class Visit:
    """A session in a database of one end, or none: because the end or the database cannot be reached (``problem``),
    or because the end has no such database (``problem`` is None). That of the target may keep how both ends were seen,
    ``sight``.
    """

    side: str
    connection: Connection | None = None
    problem: str | None = None
    sight: Sight | None = None

    @property
    def unknown(self) -> bool:
        """Whether it cannot be told what is there."""
        return self.problem is not None


@contextlib.contextmanager
def visit(end: End, dbname: str, read_only: bool = True):
    """Yields a Visit; the session ends with the block."""
    if end.problem is not None or dbname not in end.databases:
        yield Visit(end.side, problem=end.problem)
        return
    with contextlib.ExitStack() as stack:
        try:
            connection = _enter(stack, end, dbname, read_only)
        except HandoverError as error:
            yield Visit(end.side, problem=error.problem)
            return
        yield Visit(end.side, connection)


def _enter(stack: contextlib.ExitStack, end: End, dbname: str, read_only: bool):
    """A session in a database, which its privileges may open only to its owner: then as a member of that."""
    try:
        return stack.enter_context(contextlib.closing(end.endpoint.connect(dbname, read_only=read_only)))
    except HandoverError as error:
        if read_only or CLOSED not in error.problem:
            raise
    keeper = stack.enter_context(contextlib.closing(end.endpoint.connect_for_maintenance()))
    return stack.enter_context(target_database.visit(end.endpoint, keeper, dbname))


CLOSED = "permission denied for database"


@dataclass
class Ends:
    """Source and target of a run, and the databases that it is about: ``pairs`` are (on the source, on the target)."""

    source: End
    target: End
    pairs: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def reach(cls, source: Endpoint, target: Endpoint, params: dict) -> Ends:
        """Find the databases by params databases, ignore_databases and rename. Raises HandoverError if neither end
        can be reached, or the source has not what is named.
        """
        ends = cls(End.reach(source), End.reach(target))
        if ends.source.problem and ends.target.problem:
            raise HandoverError(
                f"{ends.source.problem} {ends.target.problem}", "At least one of the two servers must be reachable."
            )
        rename = params["rename"]
        ends.pairs = [(name, rename.get(name, name)) for name in params["databases"]] or ends._find(params)
        ends._refuse_unknown()
        return ends

    def _refuse_unknown(self) -> None:
        """A misspelled name must not look like a database without a migration."""
        there = [(self.source.databases, 0), (self.target.databases, 1)]
        for pair in self.pairs:
            if all(names is not None and pair[which] not in names for names, which in there):
                raise HandoverError(
                    f'The source has no database "{pair[0]}", and the target has no database "{pair[1]}".',
                    "Correct databases.",
                )

    def _find(self, params: dict) -> list[tuple[str, str]]:
        """The databases of the source, or those that the journals on the target say came from it."""
        ignored = {"postgres", *params["ignore_databases"]}
        if self.source.databases is not None:
            rename = params["rename"]
            return [(name, rename.get(name, name)) for name in self.source.databases if name not in ignored]
        former_names = {goal: name for name, goal in params["rename"].items()}
        found = []
        for goal in self.target.databases:
            if goal in ignored:
                continue
            with visit(self.target, goal) as there:
                if there.connection and import_journal.has_schema(there.connection):
                    migration = migration_journal.read_migration(there.connection)
                    name = migration.source["database"] if migration else former_names.get(goal, goal)
                    found.append((name, goal))
        return found


def find_records(ends: Ends, connection, goal: str, strict: bool = True) -> list[dict]:
    """The source's records of migrations of this database into database ``goal`` of the target, most recent last.

    By the target's identity where it can be asked, else by its address, as the record has it; if that is not
    ``strict``, the only one there is will do.
    """
    found = [record for record in source_record.read(connection) if record["target"]["database"] == goal]
    if ends.target.server:
        identifier = ends.target.server.system_identifier
        return [record for record in found if record["target"]["system_identifier"] == identifier]
    parameters = ends.target.endpoint.parameters
    address = (parameters.get("host") or parameters.get("hostaddr"), str(parameters.get("port", "5432")))
    there = [one for one in found if (one["target"]["host"], str(one["target"]["port"])) == address]
    return there or (found if not strict and len(found) == 1 else [])
