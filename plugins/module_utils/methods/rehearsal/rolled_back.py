# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsal in the empty database itself, for a role that may make none: in one transaction, which is rolled back.

All is done in one session, with a savepoint before whatever may be refused. Whoever is killed leaves nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import lent_rights
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_snapshot import SnapshotLoader
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import connect_for_reading
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import script, staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import RestoreError, edited
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import (
    VIOLATION,
    failure_of,
    statement_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.foreign_keys import FOREIGN_KEY
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import building
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import sampled
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow, Manner, relay
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import statistics

BEFORE_ROWS = ("schemas", "definitions")
# Should anything commit, the server refuses: a row refers to one that is not there, which is looked at last.
NEVER = """
    CREATE TEMPORARY TABLE handover_never (
        id int PRIMARY KEY, other int REFERENCES handover_never DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO handover_never VALUES (1, 2)"""
OF_RESOURCES = "53"  # SQLSTATE class: no memory for locks, say, which is nobody's fault
NO_ROOM = (
    "All is done in one transaction, which has a lock on each object until it ends: raise max_locks_per_transaction on "
    "the target, or give the role CREATEDB there."
)


@contextlib.contextmanager
def kept(session: Connection) -> Iterator[None]:
    """What is done inside stays, unless the server refuses it. Raises HandoverError where the server has no room."""
    with session.cursor() as cursor:
        cursor.execute("SAVEPOINT handover")
        try:
            yield
        except psycopg2.Error as error:
            if session.closed:
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT handover; RELEASE SAVEPOINT handover")
            if (error.pgcode or "").startswith(OF_RESOURCES):
                raise HandoverError(f"The target has no room for this: {one_line(error)}.", NO_ROOM) from None
            raise
        except HandoverError as error:
            cursor.execute("ROLLBACK TO SAVEPOINT handover; RELEASE SAVEPOINT handover")
            if (error.facts.get("sqlstate") or "").startswith(OF_RESOURCES):
                raise HandoverError(error.problem, NO_ROOM) from None
            raise
        cursor.execute("RELEASE SAVEPOINT handover")


class RolledBack:
    """The filling of ``place``, a session in the empty database, from what ``loader`` describes, with so many rows of
    each table (``sample``).
    """

    def __init__(self, loader: SnapshotLoader, place: Connection, stages: Stages, sample: int) -> None:
        self.loader = loader
        self.archive = loader.archive
        self.place = place
        self.stages = stages
        self.sample = sample
        self._directory = ""
        self._revocations: list[sql.Composed] = []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Whatever happens inside does not stay."""
        with self.place.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(NEVER)
            try:
                yield
            finally:
                if not self.place.closed:
                    cursor.execute("ROLLBACK")

    def fill(self) -> Iterator[HandoverError]:
        """Everything that can be done in a transaction, in the order of a filling; what rows, or tables, are refused.
        Definitions that are refused are the archive's failures. Raises HandoverError where it cannot go on.
        """
        archive = self.archive
        with contextlib.ExitStack() as stack:
            lent_rights.take_ownership(archive, set(), stack)
            self._directory = edited(archive.contents, stack)
            script.prepare(self.place, archive.contents)
            loaded = False
            for stage in staging.plan_stages(archive.contents, archive.fitting.remaining()):
                if stage.name not in BEFORE_ROWS and not loaded:
                    loaded = True
                    yield from self._load()
                if stage.name == "definitions" and not archive.capabilities.superuser:
                    self._let_owners_create()
                if stage.name == "privileges":
                    self._undo()
                if stage.name != "data":
                    with self.stages.stage(stage.name):
                        self._make(stage.entries)
                        archive.fitting.require_rows()
            self._undo()
            with contextlib.suppress(psycopg2.Error), kept(self.place):
                lent_rights.open_public_schema(self.place, archive)
            with self.stages.stage("materialized views"):
                self._refresh()

    def _let_owners_create(self) -> None:
        closed = lent_rights.closed_to_owners(self.place)
        self._all([sql.SQL("GRANT CREATE ON {} TO PUBLIC").format(thing) for thing in closed])
        self._revocations = [sql.SQL("REVOKE CREATE ON {} FROM PUBLIC").format(thing) for thing in closed]

    def _undo(self) -> None:
        self._all(self._revocations)
        self._revocations = []

    def _all(self, statements: list[sql.Composed]) -> None:
        for statement in statements:
            self._took(statement)

    def _took(self, statements: bytes | sql.Composed) -> bool:
        with contextlib.suppress(psycopg2.Error), kept(self.place), self.place.cursor() as cursor:
            cursor.execute(statements)
            return True
        return False

    # Definitions

    def _make(self, entries: list[Entry]) -> None:
        archive, waiting = self.archive, entries
        programs = archive.target.for_programs(self.place)
        while waiting := archive.wanted(waiting):
            entries, waiting = waiting[: script.WRITTEN_TOGETHER], waiting[script.WRITTEN_TOGETHER :]
            arguments = archive.arguments(parallel=False)
            text = script.write(archive.client, programs, self._directory, entries, arguments)
            remaining, parts = iter(entries), []
            for count, statements in script.transactions(text, entries, archive.contents.codec, together=1):
                parts.append(([next(remaining) for _one in range(count)], statements))
            self._run(parts)

    def _run(self, parts: list[tuple[list[Entry], bytes]]) -> None:
        """All at once, or else by halves: what needs something that was refused is not tried."""
        parts = [part for part in parts if self.archive.wanted(part[0])]
        if not parts:
            return
        try:
            with kept(self.place), self.place.cursor() as cursor:
                cursor.execute(b"\n".join(statements for _entries, statements in parts))
        except psycopg2.Error as error:
            if self.place.closed:
                raise
            if len(parts) == 1:
                self._refused(parts[0][0][0], error)
                return
            middle = len(parts) // 2
            self._run(parts[:middle])
            self._run(parts[middle:])

    def _refused(self, entry: Entry, error: psycopg2.Error) -> None:
        """Raises HandoverError for what holds rows."""
        if entry.desc == FOREIGN_KEY and error.pgcode == VIOLATION:
            self._put_off(entry)
            return
        fitting, message = self.archive.fitting, f"ERROR:  {reason(error)}"
        unknown = fitting.explain([RestoreError(entry, message, statement_of(entry)[:1000])])
        if unknown:
            raise HandoverError(unknown[0].describe(), "Fix the cause on the source.", sqlstate=error.pgcode)

    def _put_off(self, entry: Entry) -> None:
        """A foreign key whose rows are not in the sample."""
        source = self.loader.source.session
        owners = building.read_owners(source)
        [definition] = building.definitions_of(self.archive.contents, [entry], owners, no_tablespaces=True)
        added: Any = False
        with contextlib.suppress(psycopg2.Error), kept(self.place):
            added = building.add_unchecked(self.place, entry, definition.statement)
            if added is not True:  # the transaction has to go back
                raise psycopg2.ProgrammingError
        if isinstance(added, bool):
            self.loader.pending_constraints.append(building.as_pending(source, definition, added))
        else:
            self.archive.fitting.fail(added)

    # Rows

    def _load(self) -> Iterator[HandoverError]:
        with self.stages.stage("rows"):
            for group in in_groups(lent_rights.grants_for_building(self.archive), script.TOGETHER):
                if not self._took(b"\n".join(group)):
                    for one in group:
                        self._took(one)
            versions = set(rows(self.place, "SELECT extname::text, extversion FROM pg_extension"))
            with contextlib.closing(connect_for_reading(self.loader.source, self.archive)) as source:
                for table in self.loader.tables:
                    try:
                        if table.size:
                            self._copy(source, table, table.binary and table.extensions <= versions)
                    except HandoverError as error:
                        if error.remedy == NO_ROOM:
                            raise
                        yield error

    def _copy(self, source: Connection, table: SourceTable, binary: bool) -> None:
        piece = sampled(table, self.sample, source.info.server_version)
        with kept(self.place), source.cursor() as cursor:
            cursor.execute(self.loader.source.begin)
            try:
                list(relay(source, self.place, [piece], lambda _table: Manner(binary), Flow()))
            finally:
                if not source.closed:
                    cursor.execute("ROLLBACK")

    def _refresh(self) -> None:
        archive = self.archive
        if archive.params["refresh_materialized_views"]:
            views = staging.refreshes(archive.fitting.remaining())
            for view, error in statistics.refresh(self.place, list(views), partial(kept, self.place)).items():
                archive.fitting.fail(failure_of(views[view], error, error.pgcode))
