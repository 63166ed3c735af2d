# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about lost changes (parts/migration/continuity.py): refused, or, on request, tables are copied again.

They wait for another wave, with a slot of its own. A wave none of whose tables can be trusted goes altogether: its
slot, or what the subscription has of it, may belong to another history of the servers.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import apply
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    publication,
    slot,
    subscription,
)


def check(job: Job) -> None:
    """See that nothing was lost. Raises HandoverError, unless ``refresh`` asks for a new copy of what may be."""
    migration = job.read()
    sight = continuity.look(job.source_session, job.session, migration)
    if not job.check_mode:
        continuity.remember(sight, job.id, job.source_session, job.session)
    if sight.breaks and not (job.params["refresh"] and sight.publisher == "source"):
        continuity.refuse(sight)
    for text in sight.accepted:
        job.note(text)
    if sight.breaks and not job.check_mode:
        _copy_again(job, migration, sight)


def conclude(job: Job) -> None:
    """Remember both ends as they are after a run. Raises HandoverError for what was broken meanwhile."""
    sight = continuity.look(job.source_session, job.session, job.read())
    continuity.remember(sight, job.id, job.source_session, job.session)
    continuity.refuse(sight)


def _keys_of(migration: migration_journal.Migration, wave: migration_journal.Wave) -> list[tuple[str, str]]:
    """(schema, name) of the tables of a wave that are replicated."""
    return [(one.schema, one.name) for one in migration.replicated if one.wave == wave.number]


def _copy_again(job: Job, migration: migration_journal.Migration, sight: continuity.Sight) -> None:
    lost = _lost(job, migration, sight)
    _release(job, migration, lost)
    amount = sum(map(len, lost.values()))
    job.event("copied_again", tables=amount, breaks=sight.breaks)
    job.note(f"{counted(amount, 'table')} copied again, because changes to them were lost, or may have been.")
    _settle(job)


def copy_anew(job: Job, keys: list[tuple[str, str]]) -> None:
    """Let these tables wait for another wave, whose snapshot shows them as they are now; others go on."""
    leaving = [one for one in job.read().replicated if (one.schema, one.name) in keys and one.wave is not None]
    if leaving:
        names = sorted(f"{one.schema}.{one.name}" for one in leaving)
        with transaction(job.session):
            migration_journal.set_phase(job.session, job.id, "copying")
            migration_journal.update(job.session, job.id, verified=None)
            migration_journal.let_leave(job.session, job.id, [(one.schema, one.name) for one in leaving])
            job.event("copied_anew", tables=names)
        job.note(f"Tables that were rewritten on the source are copied again: {', '.join(names)}.")
    part(job)


def part(job: Job) -> None:
    """See that no stream carries tables that leave its wave, and that all changes are through which it has carried. A
    run that is killed meanwhile has them leave still.
    """
    migration = job.read()
    leaving = [(one.schema, one.name) for one in migration.tables if one.state == migration_journal.LEAVING]
    if not leaving:
        return
    conclude(job)  # what was lost until now must not be forgotten
    staying = {wave: _keys_of(migration, wave) for wave in migration.subscribed}
    for wave, kept in staying.items():
        if kept:
            publication.restrict_to(job.source_session, wave.name, [beacon.table(wave.name), *kept])
        else:
            _drop_wave(job, wave)
    names = [wave.name for wave, kept in staying.items() if kept]
    if names:
        apply.await_step(job, job.params["timeout"], names)
    _settle(job)  # a wave that has gone leaves its name to another
    migration_journal.record_tables(job.session, job.id, [(*key, "waiting", None) for key in leaving])


def _settle(job: Job) -> None:
    after = continuity.look(job.source_session, job.session, job.read())
    continuity.settle(after, job.id, job.source_session, job.session)


def _release(job: Job, migration: migration_journal.Migration, lost: dict[int, set]) -> None:
    """Let tables, by wave, wait for another one, when changes of before are through."""
    for wave in migration.waves:
        kept = [key for key in _keys_of(migration, wave) if key not in lost[wave.number]]
        if kept and lost[wave.number]:
            publication.restrict_to(job.source_session, wave.name, [beacon.table(wave.name), *kept])
    partly = [wave for wave in migration.waves if 0 < len(lost[wave.number]) < _size(migration, wave)]
    if partly:  # changes of before would be applied to what is copied after them
        apply.await_step(job, job.params["timeout"], [wave.name for wave in partly])
    with transaction(job.session):
        migration_journal.set_phase(job.session, job.id, "copying")
        migration_journal.update(job.session, job.id, verified=None)
    for wave in migration.waves:
        if wave in partly:
            gone = lost[wave.number]
            kept = [key for key in _keys_of(migration, wave) if key not in gone]
            migration_journal.release_tables(job.session, job.id, wave.number, kept)
        elif lost[wave.number]:
            _drop_wave(job, wave)


def _size(migration: migration_journal.Migration, wave: migration_journal.Wave) -> int:
    return sum(1 for one in migration.replicated if one.wave == wave.number)


def _lost(job: Job, migration: migration_journal.Migration, sight: continuity.Sight) -> dict[int, set]:
    """(schema, name) of the tables that cannot be trusted, by wave."""
    found = {}
    for wave in migration.waves:
        keys = [(one.schema, one.name) for one in migration.replicated if one.wave == wave.number]
        breaks = [one for one in sight.breaks if one["stream"] in (None, wave.name)]
        named = {name for one in breaks for name in one["tables"] or ()}
        every = any(one["tables"] is None for one in breaks)
        found[wave.number] = {key for key, name in zip(keys, job.quoted(keys)) if every or name in named}
    return found


def _drop_wave(job: Job, wave: migration_journal.Wave) -> None:
    """Everything of it on both ends; its tables wait for another."""
    subscription.drop(job.session, wave.name)
    slot.drop(job.source_session, wave.name)
    publication.drop(job.source_session, wave.name)
    for session in (job.source_session, job.session):
        beacon.drop(session, wave.name)
    migration_journal.drop_wave(job.session, job.id, wave.number)
