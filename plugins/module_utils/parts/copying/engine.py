# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy engine: which rows, indexes and keys of a database are copied and built when, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import keep, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import Failure
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import wire
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.building import (
    Definition,
    build,
    make_keys,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.course import CopyOptions, Counts
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.crew import Crew, Task, Worker
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import (
    encoded,
    execute,
    in_unicode,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import (
    BATCH_BYTES,
    BATCH_TABLES,
    SMALL,
    Piece,
    batches,
    sampled,
    split,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import (
    Manner,
    commit,
    relay,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import (
    SourceTable,
    refuse_rewritten,
)

COPY, BUILD, ANALYZE = range(3)  # in order of urgency
SMALL_KEYS = 64
ALMOST = 0.99  # of a piece that has not ended


class CopyEngine:
    """One run of the copy engine. After it: ``failures``, definitions that the target refused, in no order.

    ``connect_source()`` gives a session outside of any transaction, ``begin`` the statement that puts a transaction of
    it into the snapshot; ``connect_target()`` a session that may write.
    """

    def __init__(self, connect_source, begin: str, connect_target, options: CopyOptions):
        self.options = options
        self.notices = []
        self.pending_constraints = []
        self.failures: list[Failure] = []
        self._begin = begin
        self._crew = Crew(options.jobs, connect_source, connect_target)
        self._counts = {}
        self._builds = {}
        self._families = {}
        self._keys = {}
        self._small_keys = []
        self._unready = set()
        self._uncopied = 1  # batches, and what run() is given
        self._sorted = False
        self._copied_before: list[SourceTable] = []
        self._manners = {}
        self._referenced = set()
        self._built = self._to_build = 0

    def begin(self, tables: list[SourceTable], total: int, server_version: int) -> None:
        """Copy these of the tables that run() is going to be given, ``total`` bytes in all, while others are made.
        Whoever begins runs or stops it.
        """
        with self._crew.target() as session, in_unicode(session):
            self._look_at_target(session, tables)
        self._counts = {table.oid: Counts(table) for table in tables}
        self._add_copies(tables, total, server_version)
        self._crew.start()

    def open_sources(self, tables: list[SourceTable]) -> None:
        """Open sessions with the source, as many as these tables need, meanwhile. Whoever opens runs or stops it."""
        self._crew.open_sources(sum(bool(table.size) for table in tables))

    def stop(self) -> None:
        """Nothing of it goes on."""
        self._crew.stop(HandoverError("The copy was given up.", "Run this again."))

    def run(self, tables: list[SourceTable], definitions: list[Definition], server_version: int) -> list[Counts]:
        """Copy the tables and make the definitions; ``server_version`` is the source's. Raises HandoverError."""
        with self._crew.standing_still():
            self._prepare(tables, definitions, server_version)
        self._crew.run()
        return list(self._counts.values())

    # Before the start

    def _prepare(self, tables: list[SourceTable], definitions: list[Definition], server_version: int) -> None:
        others = [table for table in tables if table.oid not in self._counts]
        self._counts.update({table.oid: Counts(table) for table in others})
        self._unready = set(self._counts)
        of_no_table = self._sort(definitions)
        with self._crew.target() as session:
            with in_unicode(session):
                self._look_at_target(session, others)
            if self.options.start_over:
                _empty(session, [table for table in others if not self._is_empty(session, table)])
            for group in in_groups(of_no_table, SMALL_KEYS):
                self.failures += build(session, group)
        self._to_build = len(definitions) - len(of_no_table)
        self._sorted = True
        self._add_copies(others, sum(table.size for table in tables), server_version)
        self._continue(self._copied_before)
        self._pass_batch()
        if not tables:
            self._add_small_keys()

    def _add_copies(self, tables: list[SourceTable], total: int, server_version: int) -> None:
        pieces = [piece for table in tables for piece in self._pieces(table, total, server_version) if table.size]
        for piece in pieces:
            self._counts[piece.table.oid].pieces += 1
        groups = batches(pieces)
        self._uncopied += len(groups)
        for group in groups:
            self._crew.add(self._copy_task(group))
        self._pass_empty([table for table in tables if not table.size and self._completed_with(table)])

    def _pieces(self, table: SourceTable, total: int, server_version: int) -> list[Piece]:
        if self.options.sample is not None:
            return [sampled(table, self.options.sample, server_version, self.options.sample_path)]
        return split(table, self.options.jobs, total, self.options.split_above, server_version)

    def _sort(self, definitions: list[Definition]) -> list[Definition]:
        """Foreign keys by the tables that they wait for, others by the table that they belong to. Returned are those
        of no table with rows of its own: of partitioned tables, of materialized views. They take no time.
        """
        for oid, counts in self._counts.items():
            for one in dict.fromkeys((oid, counts.table.root_oid or oid)):
                self._families.setdefault(one, set()).add(oid)
        others = []
        for definition in definitions:
            if definition.is_foreign_key:
                self._await_tables(definition)
            elif definition.table in self._counts:
                self._builds.setdefault(definition.table, []).append(definition)
            else:
                others.append(definition)
        return others

    def _await_tables(self, definition: Definition) -> None:
        """Where a table is partitioned, all its partitions are meant, as far as they are to be copied."""
        sides = (definition.table, definition.referenced)
        key = _Key(definition, frozenset(sides).union(*(self._families.get(side, ()) for side in sides)))
        key.waiting = {oid for oid in key.tables if oid in self._counts}
        key.size = sum(self._counts[oid].table.size for oid in key.waiting)
        for oid in key.waiting:
            self._keys.setdefault(oid, []).append(key)
        if not key.waiting:
            self._add_key(key)

    def _look_at_target(self, session, tables: list[SourceTable]) -> None:
        """How each table can be copied: what this role may there, and which versions its extensions have."""
        query = """
            SELECT n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'TRUNCATE'), c.oid IN (
                SELECT confrelid FROM pg_constraint WHERE confrelid <> conrelid)
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"""
        found = rows(session, query)
        truncatable = {(schema, name): may for schema, name, may, _referenced in found}
        self._referenced = {(schema, name) for schema, name, _may, referenced in found if referenced}
        versions = set(rows(session, "SELECT extname::text, extversion FROM pg_extension"))
        missing = [str(table) for table in tables if table.key not in truncatable]
        if missing:
            raise HandoverError(
                f"The target has no table {', '.join(missing[:10])}.", "Start over, so that the table is made there."
            )
        for table in tables:
            may_freeze = truncatable[table.key] and not table.through_root and table.extension is None
            may_freeze = may_freeze and table.key not in self._referenced  # by a key, as a new partition may be
            self._manners[table.oid] = Manner(table.binary and table.extensions <= versions, may_freeze)
        closed = [str(table) for table in tables if not truncatable[table.key] and table.extension is None]
        text = [str(table) for table in tables if table.columns and not self._manners[table.oid].binary]
        self._note("loaded without FREEZE, because the role may not truncate them; VACUUM freezes rows later", closed)
        self._note(
            "copied as text, because a column's type has no binary format that means the same on both servers",
            text,
        )

    def _is_empty(self, session, table: SourceTable) -> bool:
        """Of those that are referenced, which cannot be truncated by themselves."""
        if table.key not in self._referenced:
            return False
        with session.cursor() as cursor:
            cursor.execute(encoded(session, sql.SQL("SELECT 1 FROM ONLY {} LIMIT 1").format(table.identifier)))
            return cursor.fetchone() is None

    def _note(self, what: str, names: list[str]) -> None:
        if names:
            self.notices.append(f"{counted(len(names), 'table')} {what}: {some(names, 10)}.")

    # Rows

    def _copy_task(self, group: list[Piece]) -> Task:
        urgency = (COPY, -sum(piece.size for piece in group))
        copied = []
        return Task(
            urgency,
            lambda worker: copied.extend(self._copy(worker, group)),
            lambda: self._copied(copied),
            light=group[0].size <= SMALL,
        )

    def _copy(self, worker: Worker, group: list[Piece]) -> list[tuple[Piece, int, int]]:
        """One transaction on each side; a table that is copied by itself and whole is emptied, and its rows frozen."""
        freeze = len(group) == 1 and group[0].is_whole and self._manners[group[0].table.oid].freeze

        def how(table: SourceTable) -> Manner:
            return Manner(self._manners[table.oid].binary, freeze)

        self._tell([piece.table for piece in group if not piece.first], "copying")
        table = group[0].table
        bring = wire.carry if self.options.sample is None and worker.may(wire.is_open) else relay
        keep(worker.source, self._begin)
        keep(worker.target, "BEGIN")
        if freeze:
            keep(worker.target, encoded(worker.target, sql.SQL("TRUNCATE ONLY {}").format(table.identifier)))
        copied = list(bring(worker.source, worker.target, group, how, self.options.flow))
        if not group[0].is_whole:
            refuse_rewritten(worker.source, table)
        commit("target", worker.target, table)
        commit("source", worker.source, table)
        return copied

    def _copied(self, copied: list[tuple[Piece, int, int]]) -> None:
        """Go on with the tables of which this was the last piece."""
        complete = []
        for piece, count, size in copied:
            counts = self._counts[piece.table.oid]
            counts.rows += count
            counts.bytes += size
            counts.done += piece.size
            counts.pieces -= 1
            if not counts.pieces:
                complete += self._completed_with(piece.table)
        self._tell(complete, "copied")
        self._continue(complete)
        self._pass_batch()

    def _pass_batch(self) -> None:
        self._uncopied -= 1
        if not self._uncopied:
            self.options.on_copied()

    def _completed_with(self, table: SourceTable) -> list[SourceTable]:
        """What is complete now that all rows of this table are there. Where they may be in other partitions, it is all
        of these together, or none yet: they are counted and, after an interruption, emptied as one.
        """
        if not table.through_root:
            return [table]
        family = [self._counts[oid] for oid in self._families[table.root_oid]]
        return [] if any(one.pieces for one in family) else [one.table for one in family]

    def _pass_empty(self, tables: list[SourceTable]) -> None:
        """Tables without a page have no rows for any snapshot."""
        for group in in_groups(tables, BATCH_TABLES):
            self._tell(group, "copied")
            self._continue(group)

    def _tell(self, tables: list[SourceTable], state: str) -> None:
        counts = [self._counts[table.oid] for table in tables]
        if counts:
            known = state != "copying"
            amounts = [(one.rows, one.bytes) if known else (None, None) for one in counts]
            self.options.on_state([(*one.table.key, state, *amount) for one, amount in zip(counts, amounts)])

    def amounts(self) -> Extent:
        """How far it is by now; asked by any thread."""
        counts = list(self._counts.values())
        total, copied = sum(one.table.size for one in counts), sum(one.done for one in counts)
        usual = sum(one.bytes for one in counts) / copied if copied else 1.0
        under_way: dict[tuple[str, str], tuple[int, int]] = {}
        for piece, size in self.options.flow.under_way():
            one = self._counts[piece.table.oid]
            share = min(size / ((one.ratio or usual or 1.0) * max(piece.size, 1)), ALMOST)
            done, _of = under_way.get(piece.table.key, (one.done, 0))
            under_way[piece.table.key] = (done + int(share * piece.size), piece.table.size)
            copied += int(share * piece.size)
        complete = sum(not one.pieces for one in counts)
        built = {"indexes and keys": (self._built, self._to_build)} if self._to_build else {}
        return Extent((copied, total), (complete, len(counts)), under_way, built)

    # Indexes, keys, statistics

    def _continue(self, tables: list[SourceTable]) -> None:
        """These tables have their rows: their indexes are next, those of small ones together. Before run(), it is not
        known which these are.
        """
        if not self._sorted:
            self._copied_before += tables
            return
        small = [table for table in tables if table.size <= SMALL]
        for group in [*([small] if small else []), *([table] for table in tables if table.size > SMALL)]:
            self._build_group(group)

    def _build_group(self, tables: list[SourceTable]) -> None:
        definitions = [one for table in tables for one in self._builds.get(table.oid, ())]
        if not definitions:
            self._ready(tables)
        elif tables[0].size <= SMALL:
            self._crew.add(self._build_task(definitions, tables))
        else:
            remaining = {id(definition) for definition in definitions}

            def done(definition):
                remaining.discard(id(definition))
                if not remaining:
                    self._ready(tables)

            for definition in definitions:
                self._crew.add(self._build_task([definition], tables, lambda one=definition: done(one)))

    def _build_task(self, definitions: list[Definition], tables, done=None) -> Task:
        size = sum(table.size for table in tables)
        claims = frozenset(table.oid for table in tables)
        awaited = [key.size for table in tables for key in self._keys.get(table.oid, ())]  # foreign keys wait for it
        sharing = len(definitions) == 1 and definitions[0].is_index
        return Task(
            (BUILD, -max([size, *awaited]), sharing),
            lambda worker: self._build(worker, definitions),
            lambda: self._built_all(definitions, done or (lambda: self._ready(tables))),
            alone=frozenset() if sharing else claims,
            shared=claims if sharing else frozenset(),
            light=size <= BATCH_BYTES,
        )

    def _build(self, worker: Worker, definitions: list[Definition]) -> None:
        """The server's own workers do what none of ours has to: sorting with several takes it more in all."""
        keep(worker.target, f"SET max_parallel_maintenance_workers = {self._crew.idle}")
        self.failures += build(worker.target, definitions)

    def _ready(self, tables: list[SourceTable]) -> None:
        """These tables are indexed: their statistics are next, and foreign keys whose both sides are ready."""
        self._tell(tables, "indexed")
        self._unready -= {table.oid for table in tables}
        if self.options.analyze and tables:
            self._crew.add(self._analyze_task(tables))
        for key in (key for table in tables for key in self._keys.get(table.oid, ())):
            key.waiting -= {table.oid for table in tables}
            if not key.waiting and not key.added:
                self._add_key(key)
        if not self._unready:
            self._add_small_keys()

    def _analyze_task(self, tables: list[SourceTable]) -> Task:
        names = sql.SQL(", ").join(table.identifier for table in tables)
        return Task(
            (ANALYZE, -sum(table.size for table in tables)),
            lambda worker: execute(worker.target, sql.SQL("ANALYZE {}").format(names)),
            alone=frozenset(table.oid for table in tables),
            light=True,
        )

    def _add_key(self, key: _Key) -> None:
        """Those of small tables are made many at a time."""
        key.added = True
        if key.size > BATCH_BYTES:
            self._crew.add(self._key_task([key]))
            return
        self._small_keys.append(key)
        if len(self._small_keys) == SMALL_KEYS:
            self._add_small_keys()

    def _add_small_keys(self) -> None:
        if self._small_keys:
            self._crew.add(self._key_task(self._small_keys))
            self._small_keys = []

    def _key_task(self, keys: list[_Key]) -> Task:
        return Task(
            (BUILD, -sum(key.size for key in keys)),  # not after all others: keys of the same table are made in turn
            lambda worker: self._make_keys(worker, [key.definition for key in keys]),
            lambda: self._built_all([key.definition for key in keys]),
            alone=frozenset().union(*(key.tables for key in keys)),
            light=sum(key.size for key in keys) <= BATCH_BYTES,
        )

    def _make_keys(self, worker: Worker, definitions: list[Definition]) -> None:
        put_off, failures = make_keys(worker.target, definitions, self.options.keys_may_wait)
        self.pending_constraints += put_off
        self.failures += failures

    def _built_all(self, definitions: list[Definition], done: Callable[[], object] = lambda: None) -> None:
        self._built += len(definitions)
        done()


@dataclass
class _Key:
    """A foreign key: the tables that it has to do with, those of them that are not ready, and the bytes in them."""

    definition: Definition
    tables: frozenset
    waiting: set = field(default_factory=set)
    size: int = 0
    added: bool = False


def _empty(session, tables: list[SourceTable]) -> None:
    """What an interrupted run left in them goes. Tables of extensions hold rows that are not ours."""
    for group in in_groups([table for table in tables if table.extension is None], BATCH_TABLES):
        names = sql.SQL(", ONLY ").join(table.identifier for table in group)
        execute(session, sql.SQL("TRUNCATE ONLY {}").format(names))
