# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A loader for a live database: the copy engine brings rows, indexes and keys as one snapshot shows them."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import beside
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent, progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import bytes_of
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import source_schema
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
    prepare,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.read_ahead import (
    ReadAhead,
    read_ahead,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.restorer import Restorer
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import (
    connect_for_building,
    connect_for_reading,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
    SnapshotSource,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.source_schema import SourceSchema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import dump_command
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import STATISTICS, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import is_of_column
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import (
    VIOLATION,
    Failure,
    failure_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.foreign_keys import FOREIGN_KEY
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.building import (
    Definition,
    as_pending,
    definitions_of,
    make_keys,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.course import CopyOptions, Counts
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.engine import CopyEngine
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.existing import existing_entries
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.made_first import made_first
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import large_objects

NOT_UNCHECKED = "rows break it, and this server cannot have it unchecked, as it is of a partitioned table"


class SnapshotLoader:
    """``tables`` are those that are copied (SourceTable); ``left_out`` the (schema, name) of those whose rows are left
    out together with an excluded extension; ``facts`` what a rerun must know to continue, for the journal.

    After ``fill``: ``counts`` (engine.Counts), ``pending_constraints`` (``{"schema", "table", "name", "statement",
    "added"}``: the statement is what makes it good) and ``notices``.
    """

    def __init__(self, source: SnapshotSource, schema: SourceSchema, archive: FittedArchive, scope: Scope):
        self.source = source
        self.schema = schema
        self.archive = archive
        self.scope = scope
        self.compared: list[dict[str, Any]] | None = None
        self.notices: list[str] = []
        self.kept: list[Counts] = []
        self.counts: list[Counts] = []
        self.facts: dict[str, Any] = {}
        self.pending_constraints: list[dict[str, Any]] = []
        self._engine: CopyEngine | None = None
        self._read: ReadAhead | None = None
        self.left_out = sorted({(one.namespace, one.tag) for one in archive.fitting.skipped_rows()})
        self.tables = [table for table in schema.seen.tables if table.key not in self.left_out]
        self._awaiting = _awaiting(archive, {*scope.later, *schema.seen.awaited_roots})

    def keep(self, finished: dict[tuple[str, str], tuple[int, int]]) -> None:
        """Leave tables as they are that a former run of the same scope has filled: (rows, bytes) by (schema, name).
        Unlogged ones are copied again, as a crash of the target has emptied them.
        """
        self.scope.existing = True
        kept = {table for table in self.tables if table.key in finished and not table.unlogged}
        self.kept = [Counts(table, 0, *finished[table.key]) for table in self.tables if table in kept]
        self.tables = [table for table in self.tables if table not in kept]

    def keep_rows(self) -> None:
        """Everything but definitions is there."""
        self.scope.existing, self.scope.sequences, self.scope.large_objects = True, False, False
        self.tables, self.facts = [], {}

    def preview(self, dbname: str) -> dict[str, Any]:
        """How the schema would be described, and how much would be copied by how many sessions."""
        source, schema = self.source, self.schema
        return {
            "command": dump_command(schema.client, source.endpoint, source.dbname, schema.arguments, "(temporary)"),
            "tables": len(self.tables),
            "bytes": sum(table.size for table in self.tables),
            "jobs": self.archive.jobs,
            "notices": self.notices,
        }

    def owners_elsewhere(self) -> set[str]:
        """Those of large objects, which are in no archive of a schema."""
        return large_objects.owners(self.source.session) if self.scope.large_objects else set()

    def begin(self, session: Connection, stack: contextlib.ExitStack) -> None:
        """The facts go into the journal before anything is copied."""
        if self.facts:
            import_journal.record_facts(session, self.facts)
        stack.callback(lambda: self._engine.stop() if self._engine else None)

    def has_analyzed(self) -> bool:
        """Tables with rows of their own were analyzed as soon as they were loaded."""
        return self.archive.params["analyze"] in ("auto", "full")

    def leaves_alone(self) -> bool:
        """Replication goes on after a part of the tables, and a sample is looked at and dropped."""
        return self.scope.tables is None and self.scope.sample is None

    def result(self) -> dict[str, Any]:
        """Facts, amounts and notices."""
        return {
            **self.facts,
            "tables": len(self.counts),
            "rows": sum(one.rows for one in self.counts),
            "bytes": sum(one.bytes for one in self.counts),
            "jobs": self.archive.jobs,
            "notices": self.notices,
        }

    # Stages

    def stages(self) -> list[staging.Stage]:
        """The archive's own, but that rows, indexes and keys are one, and statistics come after them."""
        stages = staging.plan_stages(self.archive.contents, self.archive.fitting.remaining())
        loaded = [entry for stage in stages if stage.parallel for entry in stage.entries]
        statistics = [entry for entry in loaded if entry.desc in STATISTICS]
        loaded = [entry for entry in loaded if entry.desc not in STATISTICS]
        before = [stage for stage in stages if stage.name in ("schemas", "definitions")]
        after = [part for stage in stages if stage not in before and not stage.parallel for part in self._parts(stage)]
        middle = [staging.Stage("rows, indexes and keys", loaded, True)]
        middle += [staging.Stage("statistics", statistics)] if statistics else []
        return [*before, *middle, *after]

    def _parts(self, stage: staging.Stage) -> list[staging.Stage]:
        """The rest, and the foreign keys in it (to partitioned tables) with what needs them, if they may wait."""
        keys = (
            {entry.dump_id for entry in stage.entries if entry.desc == FOREIGN_KEY} if stage.name == "rest" else set()
        )
        if not keys or not self.scope.keys_may_wait:
            return [stage]
        later = keys | {entry.dump_id for entry in self.archive.contents.dependents(keys)}
        chosen: dict[bool, list[Entry]] = {True: [], False: []}
        for entry in stage.entries:
            chosen[entry.dump_id in later].append(entry)
        return [staging.Stage("rest", chosen[False]), staging.Stage("foreign keys", chosen[True])]

    def run(self, stage: staging.Stage, restorer: Restorer) -> None:
        """What is there already, or waits for rows that come later, is left alone."""
        entries = self._due(stage, restorer)
        if stage.name == "foreign keys":
            restorer.close()
            self._make_keys([entry for entry in entries if entry.desc == FOREIGN_KEY], restorer.dbname)
            entries = [entry for entry in entries if entry.desc != FOREIGN_KEY]
        if stage.parallel:
            self._load(entries, restorer)
        elif stage.name == "definitions":
            self._define(entries, restorer)
        elif entries:
            restorer.run(staging.Stage(stage.name, entries))

    def _due(self, stage: staging.Stage, restorer: Restorer) -> list[Entry]:
        only = self.scope.only
        entries = [one for one in stage.entries if one.dump_id not in self._awaiting]
        if only:
            entries = [one for one in entries if one.desc in only and not is_of_column(one)]
        if self.scope.existing:
            there = existing_entries(self.source.session, restorer.session, self.archive.contents)
            entries = [entry for entry in entries if entry.dump_id not in there or entry.section == "data"]
        return entries

    def _define(self, entries: list[Entry], restorer: Restorer) -> None:
        """What the largest tables are made of is first, so that their rows come while one of the sessions makes the
        others. More at once would keep the largest back, for which all wait in the end.
        """
        if self._may_begin():
            tables, first, entries = made_first(entries, self.tables, self.archive.jobs - 1)
            if tables:
                restorer.run(staging.Stage("definitions", first))
                self._engine = self._make_engine(restorer.dbname)
                total = sum(table.size for table in self.tables)
                self._engine.begin(tables, total, self.source.session.info.server_version)
        if entries:
            self._read_while(restorer, staging.Stage("definitions", entries))

    def _read_while(self, restorer: Restorer, stage: staging.Stage) -> None:
        """The source is idle meanwhile, and each question takes as long as it is far."""
        session = self.source.session
        self._engine = self._engine or self._make_engine(restorer.dbname)
        self._engine.open_sources(self.tables)
        self._read, _none = beside(session, lambda: read_ahead(session, self.scope), lambda: restorer.run(stage))

    def _may_begin(self) -> bool:
        """Whether rows may come before all is made that a role may need to write them, and into empty tables."""
        is_plain = self.scope.sample is None and not self.scope.existing
        return is_plain and self.archive.capabilities.superuser and self.archive.jobs > 1

    # Rows, indexes, keys, and what is in no archive

    def _make_keys(self, entries: list[Entry], dbname: str) -> None:
        definitions = self._definitions(entries, no_tablespaces=True)
        with contextlib.closing(connect_for_building(self.archive, dbname)) as session:
            put_off, failures = make_keys(session, definitions, may_wait=True)
        self._put_off(put_off)
        self._fail(failures)

    def _definitions(self, entries: list[Entry], no_tablespaces: bool) -> list[Definition]:
        archive = self.archive
        return definitions_of(archive.contents, archive.wanted(entries), self._seen().owners, no_tablespaces)

    def _seen(self) -> ReadAhead:
        self._read = self._read or read_ahead(self.source.session, self.scope)
        return self._read

    def _put_off(self, pending: list[dict[str, Any]]) -> None:
        if self.scope.left_unchecked:  # for good, as far as we are concerned
            self.archive.unchecked += [one["definition"].entry for one in pending if one["added"]]
            pending = [one for one in pending if not one["added"]]
            self._fail([failure_of(one["definition"].entry, NOT_UNCHECKED, VIOLATION) for one in pending])
            return
        self.pending_constraints += [as_pending(self.source.session, **one) for one in pending]

    def _fail(self, failures: list[Failure]) -> None:
        """In archive order: what needs another one that failed is told from what failed by itself."""
        place = {entry.dump_id: number for number, entry in enumerate(self.archive.contents.entries)}
        for failure in sorted(failures, key=lambda one: place[one.dump_id]):
            self.archive.fitting.fail(failure)

    def _load(self, entries: list[Entry], restorer: Restorer) -> None:
        """The copy engine's part; sequences and large objects go before it, as they may take the snapshot's session."""
        source, params = self.source, self.archive.params
        built = [entry for entry in entries if entry.section == "post-data"]
        definitions = self._definitions(built, params["no_tablespaces"])
        restorer.close()
        engine = self._engine = self._engine or self._make_engine(restorer.dbname)
        self._carry_more(restorer, engine.options.flow)
        with progress.measured(source.dbname, lambda: self._look(engine)):
            self.counts = engine.run(self.tables, definitions, source.session.info.server_version)
        self.notices += engine.notices
        self._put_off(engine.pending_constraints)
        self._fail(engine.failures)
        self.counts += self.kept
        self.compared = _by_table(self.counts)
        if params.get("count_rows"):
            counted = _by_table([one for one in self.counts if one.table.extension is None])  # others have more rows
            restorer.compare_rows(counted, "copied", "Something else writes to the target; run this again.")

    def _make_engine(self, dbname: str) -> CopyEngine:
        source, archive = self.source, self.archive
        return CopyEngine(
            lambda: connect_for_reading(source, archive),
            source.begin,
            lambda: connect_for_building(archive, dbname),
            self._options(Flow(bytes_of("max_rate", archive.params.get("max_rate")))),
        )

    def _look(self, engine: CopyEngine) -> Extent:
        amounts = engine.amounts()
        self.scope.on_progress(amounts)
        return amounts

    def _options(self, flow: Flow) -> CopyOptions:
        params, analyze = self.archive.params, self.archive.params["analyze"]
        return CopyOptions(
            jobs=self.archive.jobs,
            flow=flow,
            split_above=bytes_of("split_tables_larger_than", params.get("split_tables_larger_than")),
            sample=self.scope.sample,
            sample_path=self.scope.sample_path,
            start_over=self.scope.existing,
            analyze=analyze == "full" or (analyze == "auto" and not self.archive.has_statistics),
            keys_may_wait=self.scope.keys_may_wait,
            on_state=self.scope.on_state,
            on_copied=self.scope.on_copied,
        )

    def _carry_more(self, restorer: Restorer, flow: Flow) -> None:
        """Sequences' values and large objects."""
        here, session, archive = self.source.session, restorer.session, self.archive
        if self.scope.sequences:
            chosen = self._sequences(session)
            sequences.apply(session, [one for one in self._seen().sequences if one.key in chosen])
        if self.scope.large_objects and (self._seen().large_objects or large_objects.count(session)):
            owners = set() if archive.params["no_owner"] else restorer.obtainable
            grantees = set() if archive.params["no_privileges"] else set(archive.capabilities.roles)
            with contextlib.closing(archive.target.connect(restorer.dbname)) as own:  # counted as written when it ends
                large_objects.copy(here, own, owners, grantees, flow)

    def _sequences(self, session: Connection) -> set[tuple[str | None, str]]:
        """Those that were made here, and those that extensions made, which are in no archive, if we may set them."""
        described = {(one.namespace, one.tag) for one in self.archive.contents.entries if one.desc == "SEQUENCE"}
        made = {(one.namespace, one.tag) for one in self.archive.fitting.remaining() if one.desc == "SEQUENCE"}
        return made | (sequences.settable(session) - described - self.archive.fitting.left_out_of_extensions())


def open_snapshot(
    source: SnapshotSource,
    target: Endpoint,
    connection: Connection,
    params: dict[str, Any],
    dump_id: str,
    scope: Scope | None = None,
) -> SnapshotLoader:
    """Describe what the snapshot holds, and fit it to the target; ``connection`` is the maintenance session there.
    Raises HandoverError.
    """
    scope = scope or Scope()
    params = {"no_tablespaces": True, "restore_extra_args": [], **params}
    schema = source_schema.describe(source, connection, params, scope)
    described = {**schema.seen.origin, "dump_id": dump_id, "client": schema.client.version}
    loader = SnapshotLoader(source, schema, prepare(target, connection, params, described, schema.contents), scope)
    if unlogged := schema.seen.unlogged:
        names = ", ".join(map(str, unlogged[:10]))
        loader.notices.append(f"The rows of {counted(len(unlogged), 'unlogged table')} were left out: {names}.")
    return loader


def _awaiting(archive: FittedArchive, names: set[tuple[str, str] | None]) -> set[int]:
    """Dump ids of what waits for the rows of these tables, which come later."""
    contents = archive.contents
    tables = {one.dump_id for one in contents.entries if one.desc == "TABLE" and (one.namespace, one.tag) in names}
    waiting = {one.dump_id for one in contents.dependents(tables) if one.section == "post-data"}
    return waiting | {one.dump_id for one in contents.dependents(waiting)}


def _by_table(counts: list[Counts]) -> list[dict[str, Any]]:
    """Rows by the table that they were loaded through: a partition, or the root of partitions."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in counts:
        through_root = one.table.through_root
        schema, name = one.table.root if through_root and one.table.root else one.table.key
        entry = {"schema": schema, "table": name, "with_partitions": through_root, "rows": 0}
        found.setdefault((schema, name), entry)["rows"] += one.rows
    return list(found.values())
