# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions besides tables that were made, changed or dropped where the application writes since a handover, brought
to the other end, so that one can go back there: by a fresh pg_dump of the home's schema.

The other end keeps what it alone has: nothing is dropped there that the home was not known to have, and has no more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import pass_event_triggers
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import lent_rights
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
    prepare,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.restorer import Restorer
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    following,
    home_tables,
    redefining,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.following import Way
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import edited
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import (
    DescribedEntry,
    describe_entry,
    is_of_column,
    key_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import statement_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.staging import plan_stages
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.existing import (
    REPEATABLE,
    existing_entries,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.schema import populated_views
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import origin, statistics
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.definitions_known import (
    KnownDefinitions,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    firing_triggers,
    subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import execute_patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

# Of these, servers of all majors say the same, so that two ends can be compared.
COMPARABLE = ("FUNCTION", "PROCEDURE")


@dataclass
class HomeDefinitions(redefining.Redefinitions):
    """With the ``archive`` of it, fitted to the other end, what was known ``before``, by the same keys, and the
    ``tables`` that are new.
    """

    archive: FittedArchive | None = None
    before: dict[str, DescribedEntry] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    tables: set[Key] = field(default_factory=set)

    def was_changed(self, key: str) -> bool:
        """Whether it is new, or says something else."""
        now, before = self.entries.get(key), self.before.get(key)
        return now is not None and (before is None or before.digest != now.digest)


def remember(job: Job) -> None:
    """Before a handover: what the new home has is known, so that what is changed there is told from that. Raises
    HandoverError where it cannot be described.
    """
    with following.way(job) as ends:
        home = replace(ends, publisher=ends.subscriber, maintenance=ends.publisher, published=ends.subscribed)
        stamp = read_stamp(home.publisher)
        with _as_owners(home):
            client, contents = redefining.describe(job, home)
    known = KnownDefinitions(stamp, client.version, _all_entries(contents))
    definitions_known.record_home(job.session, job.id, ends.side, known)


@contextlib.contextmanager
def _as_owners(ends: Way) -> Iterator[None]:
    """With the rights of whoever has made something at the publisher: to describe it, and to publish it."""
    if ends.publisher.info.parameter_status("is_superuser") == "on":
        yield
        return
    owners = [owner for (owner,) in catalog.rows(ends.publisher, redefining.OWNERS)]
    with contextlib.ExitStack() as stack:
        keeper = stack.enter_context(contextlib.closing(ends.published[0].connect_for_maintenance()))
        stack.enter_context(memberships.temporary_memberships(keeper, owners))
        yield


def begin(job: Job) -> HomeDefinitions | None:
    """Look for what was changed or dropped, and drop or replace that at the other end, as it may be in the way of other
    changes, and of rows. None where nothing was changed, or nothing flows there. Raises HandoverError where the home
    cannot be described.
    """
    home, side = (job.source_session, "source") if job.read().direction == "back" else (job.session, "target")
    if not definitions_known.is_home_unknown(job.session, home, job.id, side):
        return None
    with following.way(job) as ends:
        if not subscription.state(ends.subscriber, ends.streams):
            return None
        with _as_owners(ends):
            found = _look(job, ends)
        contents = found.archive.contents
        redefining.carry_out(job, ends, found, contents, set(), lambda: _make_needed(job, ends, found))
        if job.check_mode:
            job.followed += [_shown(entry) for entry in _lacking(ends, found)]
    return found


def _look(job: Job, ends: Way) -> HomeDefinitions:
    stamp = read_stamp(ends.publisher)
    client, contents = redefining.describe(job, ends)
    entries = _all_entries(contents)
    found = HomeDefinitions(stamp, client.version, entries, {})
    found.before = _known(job, ends, client, entries)
    found.tables = home_tables.made_since(job, ends)
    redefining.find(job, ends, found, found.before, contents, set())
    dbname = ends.published[1]
    described = {
        **origin.describe(ends.publisher, dbname),
        "source": {**catalog.read_server(ends.publisher).as_result(), "database": dbname},
        "dump_id": job.id,
        "client": client.version,
    }
    params = {**job.params, "jobs": 1, "no_tablespaces": True, "restore_extra_args": []}
    found.archive = prepare(ends.subscribed[0], ends.maintenance, params, described, contents)
    return found


def _known(job: Job, ends: Way, client: Client, entries: dict[str, DescribedEntry]) -> dict[str, DescribedEntry]:
    """What the home had. Where that is not known, whatever both ends have by now, less functions that differ: so
    nothing is dropped.
    """
    known = definitions_known.recorded_home(job.session, job.id, ends.published[0].side)
    if known and known.client == client.version:
        return known.entries
    if known:  # another one says the same in other words
        now = {key: entries[key] for key in known.entries if key in entries}
        same = {key: replace(known.entries[key], digest=one.digest, text=one.text) for key, one in now.items()}
        return {**known.entries, **same}
    job.note(
        "What the new home had when it was handed over to is not known, as schema changes were not followed then. "
        "What was dropped there before now is not followed."
    )
    there = _all_entries(redefining.describe_by(client, ends.subscriber, *ends.subscribed))
    found = {}
    for key, one in entries.items():
        if key in there:
            found[key] = replace(one, digest=there[key].digest) if one.desc in COMPARABLE else one
        elif one.desc == "EXTENSION":  # the home may have come with it
            found[key] = one
    return found


def _all_entries(contents: Contents) -> dict[str, DescribedEntry]:
    """By key, in the archive's order; the database itself aside."""
    by_id = {entry.dump_id: entry for entry in contents.entries}
    found = [one for one in Fitting(contents, []).remaining() if one.definition and not is_of_column(one)]
    return {key_of(one): describe_entry(one, by_id) for one in found}


def _lacking(ends: Way, found: HomeDefinitions) -> list[Entry]:
    """What was made or changed, and the other end does not have, with what goes along; in the archive's order. What
    needs a table that is not there, and not new, is not done.
    """
    contents, fitting = found.archive.contents, found.archive.fitting
    there = existing_entries(ends.publisher, ends.subscriber, contents)
    lacking = [one for one in contents.entries if one.desc == "TABLE" and one.dump_id not in there]
    tables = {one.dump_id for one in lacking if (one.namespace, one.tag) not in found.tables}
    without = tables | {one.dump_id for one in contents.dependents(tables)}
    made = {one.dump_id for one in contents.entries if found.was_changed(key_of(one)) and one.dump_id not in there}
    objects = {one.dump_id for one in contents.entries if one.dump_id in made and one.desc not in REPEATABLE}
    made |= {one.dump_id for one in contents.dependents(objects) if one.dump_id not in there}
    found.undone = {key_of(one) for one in contents.entries if one.dump_id in made & without}
    wanted = {one.dump_id for one in fitting.remaining() if one.definition}
    return [one for one in contents.entries if one.dump_id in (made & wanted) - without - found.tried]


def make_needed(job: Job, found: HomeDefinitions) -> None:
    """What changes of tables need, such as types of columns."""
    with following.way(job) as ends:
        _make_needed(job, ends, found)


def _make_needed(job: Job, ends: Way, found: HomeDefinitions) -> None:
    _make(job, ends, found, [one for one in _lacking(ends, found) if one.desc in redefining.NEEDED])


def complete(job: Job, found: HomeDefinitions) -> list[str]:
    """Make what is missing, and record all that; what could not be done is returned, in sentences."""
    with job.stages.stage("following the schema"), following.way(job) as ends:
        redefining.rename_namesakes(job, ends, found)
        tables = [key for key in found.todo if key.startswith("TABLE ")]
        lacking = _lacking(ends, found)
        if tables or lacking:  # rows of before may be on their way
            _await_step(job, ends)
        refused = _join(job, ends, found, lacking) if found.tables else {}
        refused |= _make(job, ends, found, _lacking(ends, found) if found.tables else lacking)
        if redefining.attempt(job, ends, found, [*found.refused, *tables]):
            refused = _make(job, ends, found, _lacking(ends, found)) | refused
        _refresh(ends, found, lacking)
        _quiet_triggers(job, ends)
        pass_event_triggers(ends.subscriber)  # they came along
    former = found.before
    undone = found.undone | refused.keys()
    kept = {key: one for key, one in found.known(former).items() if key not in undone}
    kept |= {key: former[key] for key in undone if key in former}
    left = [*redefining.sentences(found), *refused.values()]
    stamp = None if left or found.undone else found.stamp
    known = KnownDefinitions(stamp, found.client, kept)
    definitions_known.record_home(job.session, job.id, ends.published[0].side, known)
    return left


def _join(job: Job, ends: Way, found: HomeDefinitions, lacking: list[Entry]) -> dict[str, str]:
    """Make new tables with what their rows need, and let these come; foreign keys that lead to them wait for that."""
    contents = found.archive.contents
    tables = [one for one in contents.entries if one.desc == "TABLE" and (one.namespace, one.tag) in found.tables]
    needing = contents.dependents({one.dump_id for one in tables})
    theirs = {one.dump_id for one in needing if one.desc in ("CONSTRAINT", "INDEX")}
    refused = _make(job, ends, found, [one for one in lacking if one.section == "pre-data"])
    refused |= _make(job, ends, found, [one for one in _lacking(ends, found) if one.dump_id in theirs])
    lost = {(one.namespace, one.tag) for one in tables if key_of(one) in refused}
    with _as_owners(ends):
        home_tables.join(job, ends, found.tables - lost)
    return refused


def _await_step(job: Job, ends: Way) -> None:
    """Until the other end has what was committed until now: rows that keys and unique indexes need."""
    timeout = job.params["timeout"]
    number = beacon.advance(ends.publisher, ends.streams)
    if not beacon.await_(ends.subscriber, ends.streams, number, time.monotonic() + timeout, 0.05):
        raise following.too_late(ends, timeout)


def _make(job: Job, ends: Way, found: HomeDefinitions, entries: list[Entry]) -> dict[str, str]:
    """Make these by pg_restore's statements; what was refused, and why, in sentences, by key."""
    archive, fitting = found.archive, found.archive.fitting
    ownerless = [] if archive.params["no_owner"] else [one for one in entries if _lacks_owner(archive, one)]
    lacks = f"the {ends.side} has no role {{}}: make it there"
    refused = {key_of(one): _sentence(one, lacks.format(one.owner)) for one in ownerless}
    wanted = [one for one in entries if key_of(one) not in refused]
    found.tried |= {one.dump_id for one in entries}
    if wanted:
        with contextlib.ExitStack() as stack:
            obtainable = lent_rights.take_ownership(archive, set(), stack)
            place = edited(archive.contents, stack)
            restorer = Restorer(archive, ends.subscriber, place, obtainable, job.stages)
            stack.callback(restorer.close)
            for stage in plan_stages(archive.contents, archive.wanted(wanted)):
                restorer.run(stage)
    reasons = {one["object"]: one["reason"] for one in fitting.skipped}
    reasons.update({one.object: one.message for one in fitting.failures})
    for one in wanted:
        if fitting.is_skipped(one):
            refused[key_of(one)] = _sentence(one, reasons.get(one.name, "it was refused"))
    done = [_shown(one) for one in wanted if not fitting.is_skipped(one)]
    if done:
        job.followed += done
        job.event("followed", tables=[], statements=done)
    return refused


def _lacks_owner(archive: FittedArchive, entry: Entry) -> bool:
    return bool(entry.owner) and not entry.owner.startswith("pg_") and entry.owner not in archive.capabilities.roles


def _sentence(entry: Entry, why: str) -> str:
    return f"{key_of(entry)}: {why.rstrip('.')}. The statement: {_shown(entry)}"


def _shown(entry: Entry) -> str:
    return statement_of(entry).rstrip(";")


def _refresh(ends: Way, found: HomeDefinitions, made: list[Entry]) -> None:
    """Materialized views that have contents at home."""
    populated = populated_views(ends.publisher)
    views = [
        (one.namespace, one.tag)
        for one in made
        if one.desc == "MATERIALIZED VIEW" and int(one.oid) in populated and not found.archive.fitting.is_skipped(one)
    ]
    statistics.refresh(ends.subscriber, views)


def _quiet_triggers(job: Job, ends: Way) -> None:
    """What new ones would do for rows that come was done at home."""
    tables = [(table.schema, table.name) for table in job.read().replicated]
    firing = firing_triggers.firing(ends.subscriber, tables)
    if not firing:
        return
    record = source_record.record_undo if ends.is_back else migration_journal.add_undo
    owners = [] if ends.is_superuser else [owner for (owner,) in catalog.rows(ends.subscriber, redefining.OWNERS)]
    with memberships.temporary_memberships(ends.maintenance, owners):
        for one in firing:
            record(ends.subscriber, job.id, one.restoring_statement(ends.subscriber))
            execute_patiently(ends.subscriber, one.quieting_statement())
            job.event("quieted", trigger=str(one))
