# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a wave's tables, in the snapshot of its slot."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    pass_event_triggers,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import Opening
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import Extent
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import snapshot_source
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_snapshot import (
    SnapshotLoader,
    open_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import connect_for_record
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import apply
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    Snapshot,
    export_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import execute_patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.slot import Slot
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

FINISHED = ("copied", "indexed")
SAMPLE_INTERVAL = 5.0  # seconds
# Keys of these tables, and those that lead to them: tables that they join could be emptied and filled only together.
FOREIGN_KEYS = """
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', k.conrelid::regclass, k.conname),
           pg_get_userbyid(c.relowner)::text
    FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conparentid = 0 AND EXISTS (
        SELECT FROM unnest(%s::text[], %s::text[]) AS t (schema, name)
        JOIN pg_namespace AS n ON n.nspname = t.schema
        JOIN pg_class AS r ON r.relnamespace = n.oid AND r.relname = t.name,
        LATERAL (SELECT r.oid UNION SELECT relid FROM pg_partition_ancestors(r.oid)) AS a (oid)
        WHERE a.oid IN (k.conrelid, k.confrelid))"""


Reader = Opening[Connection]


def open_reader(job: Job) -> Reader:
    """A session with the source for ``copy_wave``, which may be opened before there is a snapshot."""
    return Opening(lambda: job.source.connect(job.dbname, read_only=True))


def copy_wave(job: Job, number: int, made: Slot, reader: Reader, look: Callable[[Connection], object]) -> None:
    """Copy everything that the wave is to hold, and what waits for the cutover, so that the target can be looked at;
    ``look`` at the source before, over the reader's session in the wave's snapshot.

    The journal hears of each table as soon as its rows are there. Raises HandoverError.
    """
    migration_journal.set_wave(job.session, job.id, number, lsn=made.lsn)
    _fill(job, number, made.name, made.snapshot, reader, made.close, look)


def complete(job: Job, number: int, only: frozenset[str] | None = None) -> None:
    """Make what a run that was interrupted after its last rows, or met definitions that the target refused, has left to
    be made; ``only`` entries of these classes, as what others need. Raises HandoverError.
    """
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(open_reader(job)))
        keeper = stack.enter_context(contextlib.closing(job.source.connect(job.dbname, read_only=True)))
        snapshot = export_snapshot(keeper, serializable_deferrable=False)
        _fill(job, None, job.wave_name(number), snapshot, reader, lambda: None, only=only)


def _fill(
    job: Job,
    number: int | None,
    name: str,
    snapshot: Snapshot,
    reader: Reader,
    on_copied,
    look: Callable[[Connection], object] = lambda _session: None,
    only: frozenset[str] | None = None,
) -> None:
    migration = job.read()
    tables = [
        (table.schema, table.name)
        for table in migration.tables
        if (number and table.wave == number) or (table.kind == "at_cutover" and table.state not in FINISHED)
    ]
    drop_foreign_keys(job, tables)
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(contextlib.closing(connect_for_record(job.target, job.goal)))
        migration_journal.make_room_for_done(record)
        session = stack.enter_context(contextlib.closing(reader.take()))
        source = snapshot_source.enter(job.source, session, snapshot, job.params)
        look(session)
        scope = Scope(
            tables=tables,
            ahead=job.ahead,
            later=frozenset((table.schema, table.name) for table in migration.replicated if table.wave is None),
            existing=_has_contents(job),
            only=only,
            sequences=only is None,  # those of columns are made with their tables
            keys_may_wait=True,
            large_objects=False,  # changes of them do not arrive, so they are the cutover's
            on_state=lambda changes: migration_journal.record_tables(record, job.id, [one[:4] for one in changes]),
            on_copied=on_copied,
            on_progress=_ProgressRecord(record, job.id).add,
        )
        loader = open_snapshot(source, job.target, job.maintenance, job.params, name, scope)
        job.ahead = None  # what it said was taken, and fitted
        _leave_out(job, loader)
        result = Filling(loader).fill(job.goal)
    pass_event_triggers(job.session)  # they came along
    if only:
        return
    _keep_definitions(job, loader)
    _keep(job, loader, result)
    apply.quiet_triggers(job)


class _ProgressRecord:
    """How far it is, for the status, which other sessions ask for. What is not recorded now is a second later."""

    def __init__(self, record, identifier: str):
        self._record = record
        self._id = identifier
        self._sampled = time.monotonic()

    def add(self, extent: Extent) -> None:
        """Called once a second."""
        done = {key: amount for key, (amount, _total) in extent.under_way.items()}
        with contextlib.suppress(psycopg2.Error):
            if done:
                migration_journal.record_done(self._record, self._id, done)
            if time.monotonic() - self._sampled > SAMPLE_INTERVAL:
                migration_journal.add_sample_of_copy(self._record, self._id)
                self._sampled = time.monotonic()


def drop_foreign_keys(job: Job, keys: list[tuple[str, str]]) -> None:
    """Of tables that are to be copied again, on the target; the copy makes them again when all rows are there."""
    found = foreign_keys(job, keys)
    owners = [] if job.capabilities.superuser else sorted({owner for _statement, owner in found})
    with memberships.temporary_memberships(job.maintenance, owners):
        for statement, _owner in found:
            execute_patiently(job.session, statement)


def foreign_keys(job: Job, keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(the statement that drops it, the owner of its table) of each foreign key that joins these tables."""
    return rows(job.session, FOREIGN_KEYS, columns_of(keys)) if keys else []


def _has_contents(job: Job) -> bool:
    """Whether an earlier run has begun to fill the target."""
    return any(name != "schema handover" for name in target_database.own_objects(job.session))


def _leave_out(job: Job, loader: SnapshotLoader) -> None:
    """Tables whose rows stay behind with an excluded extension are no part of the migration."""
    known = {(table.schema, table.name) for table in job.read().tables}
    left = [key for key in loader.left_out if key in known]
    migration_journal.remove_tables(job.session, job.id, left)
    for schema, name in left:
        job.note(f"{schema}.{name} stays behind, because an extension that it needs is left out.")
    of_extensions = loader.archive.fitting.left_out_of_extensions()
    if of_extensions:
        job.event("left_out", relations=sorted(of_extensions))


def _keep_definitions(job: Job, loader: SnapshotLoader) -> None:
    """What was made is known from now on; what was known before may have been changed since."""
    known = definitions_known.recorded(job.session, job.id)
    entries = {one.key: one for one in loader.schema.described}
    if known is None:
        known = definitions_known.KnownDefinitions(None, loader.schema.client.version)
    together = {**entries, **known.entries}
    if together.keys() != known.entries.keys():
        kept = definitions_known.KnownDefinitions(known.stamp, known.client, together)
        definitions_known.record(job.session, job.id, kept)


def _keep(job: Job, loader: SnapshotLoader, result: dict) -> None:
    """What is still to be done, and what the operator has to know."""
    migration = job.read()  # tables of earlier runs have their indexes by now, too
    done = [(one.schema, one.name, "indexed", None) for one in migration.tables if one.state == "copied"]
    if done:
        migration_journal.record_tables(job.session, job.id, done)
    if result["failures"] or migration.failures:
        migration_journal.keep_failures(job.session, job.id, result["failures"])
    pending = migration.pending
    there = {(one["schema"], one["table"], one["name"]) for one in pending}
    new = [one for one in loader.pending_constraints if (one["schema"], one["table"], one["name"]) not in there]
    migration_journal.update(job.session, job.id, pending=[*pending, *new])
    for text in loader.notices:
        job.note(text)
    for stage in result["stages"]:
        job.stages.add(f"copy: {stage['stage']}", stage["seconds"])
    for name in ("skipped", "edits"):
        job.copied[name] = [*job.copied.get(name, []), *result[name]]
    job.copied["toast_compression"] = result["toast_compression"]
