# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waves: tables that are copied in the snapshot of one slot, and then kept up by the subscription that goes on from it.

A wave whose copy was interrupted keeps the tables that are finished, if its slot is still there; the others wait for
the next wave. Its slot is never dropped while a finished table depends on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import Opening
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    apply,
    begin,
    recopy,
    wave_copy,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import shapes, type_shapes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    publication,
    replication_plan,
    slot,
)

SHOWN = 20  # tables named in a message


def settle(job: Job) -> None:
    """Bring what an interrupted run left into order: afterwards every wave has its subscription."""
    for wave in job.read().waves:
        if wave.state == "copying":
            target_database.end_leftovers(job.session, job.goal, [job.maintenance.info.backend_pid])
            _settle(job, wave)


def copy_waiting(job: Job) -> None:
    """Copy the tables that have no wave yet, in as many waves as are asked for, and see that nothing else is missing:
    a run may have been interrupted after its last rows, and before what comes after them.
    """
    recopy.part(job)
    migration = job.read()
    waiting = [table for table in migration.replicated if table.wave is None]
    if not waiting and migration.waves:
        last = migration.waves[-1]
        lacking = any(table.state not in wave_copy.FINISHED for table in migration.at_cutover)
        if lacking or migration.failures or not last.copied:
            wave_copy.complete(job, last.number)
        if lacking or not last.copied:
            migration_journal.set_wave(job.session, job.id, last.number, "copied")
        if len(job.read().failures) < len(migration.failures):
            job.event("completed", left=len(job.read().failures))
        return
    count = max(1, job.params["waves"] - len(migration.waves))
    apart = apply.apart(job, waiting)
    others = [table for table in waiting if table not in apart]
    groups = shares(others, count, replication_plan.joined(job.source_session)) if others or not apart else []
    for group in [*groups, *([apart] if apart else [])]:
        run_wave(job, group)


def shares(tables: list, count: int, joined: Sequence = ()) -> list[list]:
    """The tables in up to ``count`` groups of about the same number of bytes; at least one group, maybe empty.

    Tables that are ``joined``, in pairs of (schema, name), stay together: the target truncates by the wave.
    """
    knots = _knots(tables, joined)
    groups = [[] for _number in range(max(1, min(count, len(knots))))]
    for knot in sorted(knots, key=lambda knot: -_size(knot)):
        min(groups, key=_size).extend(knot)
    return groups


def _size(tables: list) -> int:
    return sum(table.bytes or 0 for table in tables)


def _knots(tables: list, joined: Sequence) -> list[list]:
    """The tables, those together that lead to each other."""
    leads = {}
    for one, other in joined:
        leads.setdefault(one, set()).add(other)
        leads.setdefault(other, set()).add(one)
    found, knot_of = [], {}
    for table in tables:
        key = (table.schema, table.name)
        if key not in knot_of:
            found.append([])
            ahead = [key]
            while ahead:
                one = ahead.pop()
                if knot_of.setdefault(one, found[-1]) is found[-1]:
                    ahead += leads.pop(one, ())
        knot_of[key].append(table)
    return found


def run_wave(job: Job, tables: list) -> None:
    """Publish, make the slot, copy in its snapshot, subscribe. Raises HandoverError; a rerun goes on from there."""
    migration = job.read()
    number = max((wave.number for wave in migration.waves), default=0) + 1
    name, keys = job.wave_name(number), _publishable(job, [(table.schema, table.name) for table in tables])
    migration_journal.begin_wave(job.session, job.id, number, name, keys)
    job.event("wave", name=name, tables=len(keys))
    try:
        with (
            contextlib.closing(wave_copy.open_reader(job)) as reader,
            contextlib.closing(_publish(job, name, keys)) as made,
        ):
            wave_copy.copy_wave(job, number, made, reader, lambda session: _take_fingerprint(job, session, name, keys))
        _refuse_altered(job, number, keys)
        migration_journal.set_wave(job.session, job.id, number, "copied")
        apply.subscribe(job, number)
    except Exception as error:
        kept = _free_slot(job, name, number)
        if not kept or not isinstance(error, HandoverError):
            raise
        remedy = f"{error.remedy} Until then, the slot {name} holds back WAL on the source; state: stopped frees it."
        raise HandoverError(error.problem, remedy.strip(), **error.facts) from None


def _publishable(job: Job, keys: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the tables that the application can go on changing when they are published. Raises HandoverError."""
    found = begin.refused(job, keys)
    begin.leave_to_cutover(job, found)
    refused = {one.key for one in found}
    return [key for key in keys if key not in refused]


def _publish(job: Job, name: str, keys: list[tuple[str, str]]) -> slot.Slot:
    """The publication and the slot, with the snapshot that the wave is copied in."""
    replication = Opening(lambda: job.source.connect_for_replication(job.dbname))
    with job.stages.stage("slot"), contextlib.closing(replication):
        _sweep(job, name)
        beacon.prepare(job.source_session, job.session, name)
        publication.create(job.source_session, name, [beacon.table(name), *keys])
        return slot.create(replication.take(), name, job.source_session, job.params["slot_patience"])


def _take_fingerprint(job: Job, session: Connection, name: str, keys: list[tuple[str, str]]) -> None:
    """Definitions of the wave's tables as of its snapshot: later ones are drift. Raises HandoverError for tables that
    are not published any more: the snapshot may show others of the same names, and nobody would see them change.
    """
    names = set(job.quoted(keys))
    current, shaped = drift.fingerprint(session), shapes.read(session)
    types = type_shapes.read(session)
    lost = sorted(set(keys) - publication.tables_of(session, name))
    if lost:
        shown = ", ".join(f"{schema}.{table}" for schema, table in lost[:SHOWN])
        raise HandoverError(
            f"{counted(len(lost), 'table')} dropped while the slot was made: {shown}.", "Run this again."
        )
    recorded = job.read().fingerprint or {}
    recorded.update({name: found for name, found in current.items() if name in names})
    migration_journal.update(job.session, job.id, fingerprint=recorded)
    known = shapes.recorded(job.session, job.id) or {}
    taken = {oid: one for oid, one in shaped.items() if oid not in known or one.key in keys}
    shapes.record(job.session, job.id, {**known, **taken})
    type_shapes.record(job.session, job.id, {**types, **(type_shapes.recorded(job.session, job.id) or {})})


def _altered(job: Job, keys: list[tuple[str, str]]) -> tuple[list[dict], list[tuple[str, str]]]:
    """(Drift of these tables since the snapshot of their wave, those of them that have none); tables that are gone
    count as such. To that snapshot, a table that was rewritten before it was copied looked empty (PostgreSQL
    documentation, 13.6).
    """
    quoted = dict(zip(job.quoted(keys), keys))
    found = drift.since(job.read(), job.source_session)
    found = [one for one in found if one["table"] in quoted and one["change"] not in ("new", "gone")]
    names = {one["table"] for one in found}
    return found, [key for name, key in quoted.items() if name not in names]


def _refuse_altered(job: Job, number: int, keys: list[tuple[str, str]]) -> None:
    """Raise HandoverError for tables that were altered while the wave was copied: they wait for another one."""
    found, others = _altered(job, keys)
    if found:
        migration_journal.release_tables(job.session, job.id, number, others)
        raise HandoverError(
            f"Tables were altered on the source while they were copied: {drift.describe(found)}.",
            "Run this again: it says what to do, and copies these tables.",
            drift=found,
        )


def _settle(job: Job, wave: migration_journal.Wave) -> None:
    """Subscribe to what is finished, or forget the wave."""
    tables = [table for table in job.read().tables if table.wave == wave.number]
    _found, finished = _altered(
        job, [(table.schema, table.name) for table in tables if table.state in wave_copy.FINISHED]
    )
    there = slot.read(job.source_session, [wave.name]).get(wave.name)
    if finished and wave.lsn and there and there["wal_status"] != "lost":
        migration_journal.release_tables(job.session, job.id, wave.number, finished)
        apply.subscribe(job, wave.number)
        job.event("interrupted", wave=wave.name, kept=len(finished), copied_again=len(tables) - len(finished))
        return
    _sweep(job, wave.name)
    beacon.drop(job.source_session, wave.name)
    beacon.drop(job.session, wave.name)
    migration_journal.drop_wave(job.session, job.id, wave.number)
    job.event("interrupted", wave=wave.name, kept=0, copied_again=len(tables))


def _sweep(job: Job, name: str) -> None:
    """Remove slot and publication of this name from the source: what an earlier run may have left."""
    slot.drop(job.source_session, name)
    publication.drop(job.source_session, name)


def _free_slot(job: Job, name: str, number: int) -> bool:
    """After an error: drop the slot, unless a finished table or a subscription depends on it. Whether it is there."""
    with contextlib.suppress(Exception):  # the error that brought us here says more
        migration = job.read()
        finished = any(table.wave == number and table.state in wave_copy.FINISHED for table in migration.tables)
        if not finished and name not in migration.names:
            _sweep(job, name)
            return False
    return True
