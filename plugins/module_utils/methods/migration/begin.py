# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The beginning of a continuous migration: everything is looked at, then the target's database and both records are
made, before anything is published.
"""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import read_server
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.methods import destination
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import apply
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    event_triggers,
    replica_identity,
    replication_plan,
    subscription,
    writable,
)


def read_plan(job: Job) -> replication_plan.ReplicationPlan:
    """What becomes of each table. Raises HandoverError for those that cannot be replicated."""
    return replication_plan.read(Side(job.source, job.source_session), job.params["no_identity"])


def make_target(job: Job) -> None:
    """The target's database with its journal: under a name of ours until that is there, or in one that is empty."""
    refuse_occupied(job)
    if not job.params["create"]:
        target_database.clear(job.target, job.maintenance, job.goal)
        with target_database.visit(job.target, job.maintenance, job.goal) as session:
            _begin_journal(job, session)
        return
    properties = databases.read_properties(job.source_session, job.dbname)
    working = destination.make_working(destination_of(job), job.goal, properties)
    with contextlib.closing(job.target.connect(working)) as session:
        _begin_journal(job, session)
    destination.take_place(destination_of(job), job.goal)


def refuse_occupied(job: Job) -> None:
    """Nothing of the operator's is replaced unless they name it. Raises HandoverError."""
    destination.refuse_occupied(destination_of(job), job.goal, None)


def destination_of(job: Job) -> destination.Destination:
    """Where it goes, as imports know it."""
    return destination.Destination(job.target, job.maintenance, job.params, job.check_mode)


def _begin_journal(job: Job, session) -> None:
    migration_journal.begin(session, job.id, describe(job.source_session, job.dbname))


def describe(session, dbname: str) -> dict:
    """One end as the other one records it."""
    server = read_server(session)
    return {
        "system_identifier": server.system_identifier,
        "version": server.version,
        "database": dbname,
        "host": session.info.host,
        "port": session.info.port,
    }


def check_connection(job: Job) -> None:
    """The target subscribes to nothing, and takes it back: better to know now than when everything is copied."""
    statements = subscription.extension_statements(job.session)
    if statements:
        migration_journal.add_undo(job.session, job.id, statements[1])
        target_database.execute(job.session, statements[0])
    name, options = naming.trial_name(job.id), subscription.SubscriptionOptions()
    subscription.attempt(job.session, name, job.conninfo(), options, _ownership(job))


def _ownership(job: Job) -> list:
    """What will have become of the database when all is copied, with the memberships that this role has by then."""
    properties, there = databases.read_properties(job.source_session, job.dbname), job.capabilities.roles
    named = {properties["owner"], *(one["grantee"] for one in properties["acl"] or ())} - {None}
    gives = job.params["create"] and not job.params["no_owner"] and properties["owner"] in there
    if apply.is_subscriber(job):
        gives = not apply.join_owners(job, [properties["owner"]] if gives else []) and gives
    privileges = not job.params["no_privileges"]
    return databases.ownership_statements(job.goal, properties, named - there, gives, privileges)[0]


def prepare_source(job: Job, planned: replication_plan.ReplicationPlan) -> None:
    """The record, and the replica identities that the operator left to us: each recorded before it is changed."""
    source_record.begin(job.source_session, job.id, describe(job.session, job.goal))
    given = {one.table.key: one.identity for one in planned.tables if one.identity}
    refuse_refused(refused(job, list(given), given))
    for key, wanted in given.items():
        former = replica_identity.restoring_block(job.source_session, *key, wanted)
        source_record.record_undo(job.source_session, job.id, former)
        former = replica_identity.restoring_statement(job.source_session, *key)
        migration_journal.add_undo(job.session, job.id, former)
        replica_identity.give(job.source_session, *key, wanted)
        job.event("identity", table=".".join(key), identity=wanted)


def refused(job: Job, keys: list[tuple[str, str]], identities: dict | None = None) -> list[writable.Refused]:
    """Those of the tables that the source would refuse to change once they are published."""
    return writable.refused(job.source_session, naming.trial_name(job.id), keys, identities)


def refuse_refused(found: list[writable.Refused]) -> None:
    """Raise HandoverError for these, if there are any."""
    writable.refuse(
        found,
        "Give them a replica identity without generated columns. Or use no_identity: copy_at_cutover, which copies "
        "them while writers wait.",
    )


def leave_to_cutover(job: Job, found: list[writable.Refused]) -> None:
    """Tables that cannot be published: refused, or left to the cutover, as ``no_identity`` says."""
    if job.params["no_identity"] != "copy_at_cutover":
        refuse_refused(found)
    migration_journal.set_kinds(job.session, job.id, {one.key: "at_cutover" for one in found})
    if found:
        job.event("left_to_cutover", tables=[str(one) for one in found])
    for one in found:
        job.note(
            f"{'.'.join(one.key)} is not replicated, because the source would refuse changes of its rows: "
            f"{one.why}. The cutover copies it while writers wait."
        )


def refuse_unwritable(job: Job, planned: replication_plan.ReplicationPlan) -> None:
    """From 16 on apply becomes the owner of each table, unless a superuser decides otherwise: owners must be able to
    write. Raises HandoverError.
    """
    if job.capabilities.superuser or job.capabilities.major < 16 or job.params["no_owner"]:
        return
    refusing = apply.refusing_owners(job.source_session, [one.table.key for one in planned.replicated])
    if refusing:
        raise apply.unwritable(refusing)


def refuse_event_triggers(job: Job) -> None:
    """Raise HandoverError for those that keep the source from being made ready, while nothing was done yet."""
    found = event_triggers.refusal(job.source_session)
    if found:
        raise HandoverError(f"On the source, {found[0]}", found[1])


def record_tables(job: Job, planned: replication_plan.ReplicationPlan) -> None:
    """Every table with rows, and what is to become of it."""
    tables = [(*one.table.key, one.kind, one.table.size) for one in planned.tables]
    migration_journal.add_tables(job.session, job.id, tables)
    for one in planned.at_cutover:
        job.note(f"{one.table} is not replicated, because {one.why}: the cutover copies it while writers wait.")
    for name in planned.structure_only:
        job.note(f"{name} is a foreign table: the migration brings its definition over; its rows stay where they are.")
    job.event("planned", replicated=len(planned.replicated), at_cutover=len(planned.at_cutover))
