# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A live database on its way into another: its schema, rows, indexes and keys as one snapshot shows them."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import bytes_of
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, clients
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import archive, staging
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import STATISTICS, Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.row_counts import (
    count_rows,
    differences,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.building import (
    FOREIGN_KEY,
    make_keys,
    read_definitions,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.identities import existing_entries
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.loading import Counts, Loading, Options
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.plan import Table, hold, read_tables
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import origin, sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    Snapshot,
    connect_to_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import large_objects

LOCK_WAIT_TIMEOUT = 480000  # ms
MAINTENANCE_MEMORY = (64, 1024)  # MB, least and most of one session


@dataclass
class Scope:
    """What of the database is transferred, and who hears of it.

    ``tables``: (schema, name) of those whose rows are copied; None: all but unlogged ones, which ``unlogged`` adds.
    ``later``: those whose rows another transfer copies; keys, triggers and whatever else their rows, or rows that refer
    to them, have to be there for is made then.
    ``hold`` keeps the tables from being truncated or redefined until all is copied; otherwise each is locked only
    while it is read.
    ``existing``: the target has some of it already, from a run before. Objects that are there are left alone, and the
    tables are emptied before they are copied. ``keys_may_wait``: a foreign key that rows do not satisfy yet is added
    unchecked, or left out, and listed in ``pending_constraints``. ``on_state`` and ``on_copied`` as in Loading.
    """

    tables: list | None = None
    later: frozenset = frozenset()
    unlogged: bool = False
    hold: bool = False
    existing: bool = False
    keys_may_wait: bool = False
    sequences: bool = True
    large_objects: bool = True
    on_state: object = lambda changes: None
    on_copied: object = lambda: None


class Transfer(Filling):
    """One database in one snapshot, and what becomes of it on the target.

    ``tables`` are those that are copied (plan.Table), known before ``fill``; ``left_out`` the (schema, name) of those
    whose rows are left out together with an excluded extension. After ``fill``: ``counts`` (loading.Counts),
    ``pending_constraints`` (``{"schema", "table", "name", "statement", "added"}``: the statement is what makes it good)
    and ``notices``. ``session`` is one on the source that stands in the snapshot; whoever made it closes it.
    """

    def __init__(
        self,
        source: Endpoint,
        target: Endpoint,
        connection,
        dbname: str,
        params: dict,
        snapshot: Snapshot,
        session,
        dump_id: str,
        scope: Scope | None = None,
    ):
        self.source = source
        self.dbname = dbname
        self.snapshot = snapshot
        self.session = session
        self.scope = scope or Scope()
        self.notices = []
        self.kept = []
        self.counts = []
        self.facts = {}  # what a rerun must know to continue
        self.pending_constraints = []
        self.patience = params.get("lock_wait_timeout") or LOCK_WAIT_TIMEOUT
        server = catalog.read_server(session)
        client = self.client_of_dump = choose_client(session, connection, params)
        found = read_tables(session)
        tables, unlogged = self._choose_tables(found)
        if self.scope.hold:
            _hold(session, tables)
        self.selection = schema.Selection(
            tuple(params.get("exclude_schemas") or ()),
            tuple(params.get("exclude_tables") or ()),
            statistics=params["analyze"] == "auto"
            and self.scope.tables is None
            and connection.info.server_version >= schema.STATISTICS_SINCE * 10000,
        )
        contents = self._describe(client, tables)
        described = {
            **origin.describe(session, dbname),
            "dump_id": dump_id,
            "client": client.version,
            "source": {**server.as_result(), "database": dbname},
        }
        params = {"no_tablespaces": True, "extra_args": [], **params}
        super().__init__(target, connection, params, described, contents)
        lost = {(one.namespace, one.tag) for one in self.fitting.skipped_rows()}
        self.tables = [table for table in tables if table.key not in lost]
        self.left_out = sorted(lost)
        self.awaiting = self._await({table.root for table in found if table.key in self.scope.later})
        if unlogged:
            names = ", ".join(map(str, unlogged[:10]))
            self.notices.append(f"The rows of {len(unlogged)} unlogged tables were left out: {names}.")

    def keep(self, finished: dict[tuple[str, str], tuple[int, int]]) -> None:
        """Leave tables as they are that a former run of the same scope has filled: (rows, bytes) by (schema, name).
        Unlogged ones are copied again, as a crash of the target has emptied them.
        """
        self.scope.existing = True
        kept = {table for table in self.tables if table.key in finished and not table.unlogged}
        self.kept = [Counts(table, 0, *finished[table.key]) for table in self.tables if table in kept]
        self.tables = [table for table in self.tables if table not in kept]

    def digest(self) -> str:
        """Of everything that the schema consists of, in an order that knows nothing of sizes. Statistics are no part of
        it, nor is the database itself, which may be closed to others so that it is quiet.
        """
        entries = [entry for entry in self.fitting.contents.entries if not _is_beside_schema(entry)]
        text = repr(sorted(repr((one.desc, one.namespace, one.tag, one.owner, one.definition)) for one in entries))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def preview(self, dbname: str) -> dict:
        """What check mode can say: as ever, and how much would be copied by how many sessions."""
        found = super().preview(dbname)
        arguments = self.selection.arguments(self.client_of_dump, self.session, None, self.patience)
        command = archive.dump_command(self.client_of_dump, self.source, self.dbname, arguments, "(temporary)")
        size = sum(table.size for table in self.tables)
        return {
            **found,
            "command": command,
            "tables": len(self.tables),
            "bytes": size,
            "jobs": self.jobs,
            "notices": [*self.notices, *found["notices"]],
        }

    def _begun(self, session) -> None:
        if self.facts:
            import_journal.record_facts(session, self.facts)

    def _result(self) -> dict:
        return {
            **super()._result(),
            **self.facts,
            "tables": len(self.counts),
            "rows": sum(one.rows for one in self.counts),
            "bytes": sum(one.bytes for one in self.counts),
            "jobs": self.jobs,
            "notices": self.notices,
        }

    def _choose_tables(self, found: list[Table]) -> tuple[list[Table], list[Table]]:
        """(those to copy, unlogged ones that nobody asked for)."""
        if self.scope.tables is not None:
            wanted = set(map(tuple, self.scope.tables))
            return [table for table in found if table.key in wanted], []
        if self.scope.unlogged:
            return found, []
        return [table for table in found if not table.unlogged], [table for table in found if table.unlogged]

    def _await(self, roots: set) -> set[int]:
        """Dump ids of what waits for rows that come later; ``roots`` are partitioned tables that wait for them too."""
        contents, names = self.fitting.contents, self.scope.later | roots
        tables = {one.dump_id for one in contents.entries if one.desc == "TABLE" and (one.namespace, one.tag) in names}
        waiting = {one.dump_id for one in contents.dependents(tables) if one.section == "post-data"}
        return waiting | {one.dump_id for one in contents.dependents(waiting)}

    def _describe(self, client: clients.Client, tables: list[Table]) -> Contents:
        """The schema, with the data of the tables in it; those that are left out of the schema are not copied."""
        arguments = self.selection.arguments(client, self.session, self.snapshot.name, self.patience)
        contents = schema.dump(client, self.source.for_programs(self.session), self.dbname, arguments)
        unknown = schema.list_data(contents, tables, schema.populated_views(self.session))
        if unknown and not self.selection.is_partial:
            raise HandoverError(
                f"pg_dump did not describe tables that hold rows: {', '.join(map(str, unknown[:10]))}.",
                "Run this again; if it is so again, report it with the definition of such a table.",
            )
        for table in unknown:
            tables.remove(table)
        return contents

    # Stages

    def _stages(self) -> list[staging.Stage]:
        """As ever, but that rows, indexes and keys are one, and statistics come after them."""
        stages = super()._stages()
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
        later = keys | {entry.dump_id for entry in self.fitting.contents.dependents(keys)}
        chosen = {True: [], False: []}
        for entry in stage.entries:
            chosen[entry.dump_id in later].append(entry)
        return [staging.Stage("rest", chosen[False]), staging.Stage("foreign keys", chosen[True])]

    def _run(self, stage: staging.Stage, dbname: str) -> None:
        entries = [entry for entry in stage.entries if entry.dump_id not in self.awaiting]
        if self.scope.existing:
            there = self._existing(dbname)
            entries = [entry for entry in entries if entry.dump_id not in there or entry.section == "data"]
        if stage.name == "foreign keys":
            self._make_keys([entry for entry in entries if entry.desc == FOREIGN_KEY], dbname)
            entries = [entry for entry in entries if entry.desc != FOREIGN_KEY]
        stage = staging.Stage(stage.name, entries, stage.parallel)
        if stage.parallel:
            self._load(stage, dbname)
        elif entries:
            super()._run(stage, dbname)

    def _make_keys(self, entries: list, dbname: str) -> None:
        definitions = read_definitions(self.session, self.fitting.contents, self._wanted(entries), True)
        with contextlib.closing(self._connect_target(dbname)) as session:
            pending = make_keys(session, definitions, may_wait=True)
        self.pending_constraints += [_pending(one, self.session) for one in pending]

    def _existing(self, dbname: str) -> set[int]:
        with contextlib.closing(self.target.connect(dbname)) as session:
            return existing_entries(self.session, session, self.fitting.contents)

    def _load(self, stage: staging.Stage, dbname: str) -> None:
        """The copy engine's part; sequences and large objects go before it, as they may take the snapshot's session."""
        definitions = [entry for entry in stage.entries if entry.section == "post-data"]
        definitions = read_definitions(
            self.session, self.fitting.contents, self._wanted(definitions), self.params["no_tablespaces"]
        )
        flow = Flow(bytes_of("max_rate", self.params.get("max_rate")))
        self._carry_more(dbname, flow)
        options = Options(
            jobs=self.jobs,
            flow=flow,
            split_above=bytes_of("split_tables_larger_than", self.params.get("split_tables_larger_than")),
            start_over=self.scope.existing,
            analyze=self._analyzes_at_once(),
            keys_may_wait=self.scope.keys_may_wait,
            on_state=self.scope.on_state,
            on_copied=self.scope.on_copied,
        )
        loading = Loading(self._connect_source, self._begin(), lambda: self._connect_target(dbname), options)
        self.counts = loading.run(self.tables, definitions, self.session.info.server_version)
        self.notices += loading.notices
        self.pending_constraints = [_pending(one, self.session) for one in loading.pending_constraints]
        self.counts += self.kept
        self.compared = _by_table(self.counts)
        if self.params.get("count_rows"):
            self._compare_rows(dbname)

    def _compare_rows(self, dbname: str) -> None:
        """What went into each table is what is in it."""
        expected = _by_table([one for one in self.counts if one.table.extension is None])  # others have more rows
        with self.stages.stage("row counts"):
            actual = count_rows(lambda: self.target.connect(dbname, read_only=True), expected, self.jobs)
        different = differences(expected, actual)
        if different:
            raise HandoverError(
                f"{len(different)} tables do not have the rows that were copied; the first: {different[0]}.",
                "Something else writes to the target; run this again.",
                different_row_counts=different[:100],
            )

    def _carry_more(self, dbname: str, flow: Flow) -> None:
        """Sequences' values and large objects."""
        with contextlib.closing(self.target.connect(dbname)) as session:
            if self.scope.sequences:
                chosen = self._sequences(session)
                sequences.apply(session, [one for one in sequences.read(self.session) if one.key in chosen])
            if self.scope.large_objects and (large_objects.count(self.session) or large_objects.count(session)):
                owners = set() if self.params["no_owner"] else self.obtainable
                grantees = set() if self.params["no_privileges"] else set(self.capabilities.roles)
                large_objects.copy(self.session, session, owners, grantees, flow)

    def _sequences(self, session) -> set[tuple[str, str]]:
        """Those that were made here, and those that extensions made, which are in no archive, if we may set them."""
        described = {(one.namespace, one.tag) for one in self.fitting.contents.entries if one.desc == "SEQUENCE"}
        made = {(one.namespace, one.tag) for one in self.fitting.remaining() if one.desc == "SEQUENCE"}
        return made | (sequences.settable(session) - described)

    def _owners_elsewhere(self) -> set[str]:
        return large_objects.owners(self.session) if self.scope.large_objects else set()

    def _analyzes_at_once(self) -> bool:
        return self.params["analyze"] == "full" or (self.params["analyze"] == "auto" and not self._has_statistics())

    def _only_lacking(self, mode: str) -> bool:
        """Tables with rows of their own were analyzed as soon as they were loaded."""
        return mode in ("auto", "full")

    # Sessions

    def _begin(self) -> str:
        name = sql.Literal(self.snapshot.name).as_string(self.session)
        return f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {name}"

    def _connect_source(self):
        session = self.source.connect(self.dbname, read_only=True, lock_timeout=self.patience)
        self._configure(session, {})
        return session

    def _connect_target(self, dbname: str):
        session = self.target.connect(dbname)
        self._configure(session, _building_settings(session, self.jobs))
        return session

    def _configure(self, session, settings: dict) -> None:
        """Rows travel in the encoding of the database that they come from, so that nothing is lost on the way. Text of
        type money means the same on both sides in the same locale only.
        """
        encoding = self.origin["properties"]["encoding"]
        _set(session, {**settings, "client_encoding": encoding, "xmloption": "content", "lc_monetary": "C"})


def _is_beside_schema(entry) -> bool:
    of_database = entry.desc in ("ACL", "COMMENT", "SECURITY LABEL") and entry.tag.startswith("DATABASE ")
    return of_database or entry.desc in ("DATABASE", "DATABASE PROPERTIES", *STATISTICS)


def choose_client(session, connection, params: dict) -> clients.Client:
    """The pg_dump for this source and this target. Raises HandoverError where there is none."""
    return clients.choose_for_dump(
        clients.find_clients(params["client_directory"]),
        session.info.server_version // 10000,
        connection.info.server_version // 10000,
        catalog.has_pg_attver(session),
        params["client_directory"],
    )


@contextlib.contextmanager
def in_snapshot(source: Endpoint, dbname: str, snapshot: Snapshot):
    """A session for Transfer, where another one has exported the snapshot."""
    with contextlib.closing(connect_to_snapshot(source, dbname, snapshot)) as session:
        yield session


def connect_for_record(target: Endpoint, dbname: str):
    """A session for ``on_state``. It waits for no disk: what it says of a table is lost in a crash of the target if the
    table's rows are, which were committed in the same way before (PostgreSQL documentation, 30.4).
    """
    session = target.connect(dbname)
    _set(session, {"synchronous_commit": "off"})
    return session


def _building_settings(session, jobs: int) -> dict:
    """Memory for building indexes, as much as the sessions may have together of what the server has for itself."""
    query = """
        SELECT (SELECT setting::bigint * 8 / 1024 FROM pg_settings WHERE name = 'shared_buffers'),
               (SELECT setting::bigint / 1024 FROM pg_settings WHERE name = 'maintenance_work_mem')"""
    shared, now = catalog.rows(session, query)[0]
    least, most = MAINTENANCE_MEMORY
    memory = max(now, min(most, max(least, shared // jobs)))
    return {"synchronous_commit": "off", "maintenance_work_mem": f"{memory}MB", "check_function_bodies": "off"}


def _set(session, settings: dict) -> None:
    with session.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


def _hold(session, tables: list[Table]) -> None:
    changed = hold(session, tables)
    if changed:
        raise HandoverError(
            f"Tables were truncated or redefined while the copy began: {', '.join(changed[:10])}.",
            "Run this again.",
        )


def _by_table(counts: list[Counts]) -> list[dict]:
    """Rows by the table that they were loaded through: a partition, or the root of partitions."""
    found = {}
    for one in counts:
        through_root = one.table.through_root
        schema, name = one.table.root if through_root else one.table.key
        entry = {"schema": schema, "table": name, "with_partitions": through_root, "rows": 0}
        found.setdefault((schema, name), entry)["rows"] += one.rows
    return list(found.values())


def _pending(pending: dict, session) -> dict:
    """A foreign key that is not valid yet, as a journal may keep it."""
    definition = pending["definition"]
    table, name = catalog.rows(
        session,
        "SELECT c.relname::text, k.conname::text FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid"
        " WHERE k.oid = %s",
        (int(definition.entry.oid),),
    )[0]
    place = definition.entry.namespace
    validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    validate = validate.format(sql.Identifier(place, table), sql.Identifier(name)).as_string(session)
    statement = validate if pending["added"] else definition.entry.definition.strip().rstrip(";")
    return {"schema": place, "table": table, "name": name, "statement": statement, "added": pending["added"]}
