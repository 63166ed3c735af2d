# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that were made where the application writes since a handover: their rows join the stream to the other end.

The server copies them itself (PostgreSQL documentation, ALTER SUBSCRIPTION, REFRESH PUBLICATION), and goes on with
changes. What cannot be published is copied in the window of the next handover.
"""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    quoted_names,
    rows,
    value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import following
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.following import Way
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import shapes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    applier,
    beacon,
    publication,
    replication_plan,
    subscription,
    writable,
)

POLL = 0.2  # seconds
# Tables of a subscription: whether the first copy of each is through.
SUBSCRIBED = """
    SELECT n.nspname::text, c.relname::text, r.srsubstate = 'r'
    FROM pg_subscription_rel AS r JOIN pg_subscription AS s ON s.oid = r.srsubid
    JOIN pg_class AS c ON c.oid = r.srrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE s.subname = %s
    AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def made_since(job: Job, ends: Way) -> set[Key]:
    """Tables of the home that are none of before; none where another of their name was there, or nothing is known."""
    before = shapes.recorded(job.session, job.id)
    if before is None:
        return set()
    former = {one.key for one in before.values()}
    return {one.key for oid, one in shapes.read(ends.publisher).items() if oid not in before} - former


def join(job: Job, ends: Way, keys: set[Key]) -> None:
    """Let these, which are there at both ends, come along with their rows. Raises HandoverError where they do not."""
    if not keys:
        return
    planned = replication_plan.read(Side(ends.published[0], ends.publisher), "copy_at_cutover")
    tables = [one for one in planned.tables if one.table.key in keys]
    replicated = [one.table.key for one in tables if one.kind == "replicated"]
    refused = writable.refused(ends.publisher, naming.trial_name(job.id), replicated)
    left = {one.key: one.why for one in refused}
    left.update({one.table.key: one.why for one in tables if one.kind != "replicated"})
    replicated = [key for key in replicated if key not in left]
    _fence(ends, keys)
    if replicated:
        _subscribe(job, ends, replicated)
    for (schema, name), why in left.items():
        job.note(f"{schema}.{name} is not replicated, because {why}: the next handover copies it while writers wait.")
    found = [one.table for one in tables]
    _record(job, ends, keys, [(*one.key, "at_cutover" if one.key in left else "replicated", one.size) for one in found])


def _fence(ends: Way, keys: set[Key]) -> None:
    """Nobody is to write to them but apply."""
    found = fence.read(ends.subscriber)
    if found:
        fence.prepare(ends.subscriber, found, ends.subscribed[1], sorted(keys), 30.0)


def _subscribe(job: Job, ends: Way, keys: list[Key]) -> None:
    """Publish these, and wait until they are copied."""
    name = ends.streams[-1]
    _refuse_filled(ends, name, keys)
    role = naming.applier_name(job.id)
    if value(ends.subscriber, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", (role,)):
        applier.make(ends.subscriber, role, keys, beacon.table(name))
    publication.add_tables(ends.publisher, name, keys)
    subscription.refresh(ends.subscriber, name)
    deadline = time.monotonic() + job.params["timeout"]
    while not set(keys) <= {(schema, table) for schema, table, done in _subscribed(ends, name) if done}:
        if time.monotonic() > deadline:
            raise following.too_late(ends, job.params["timeout"])
        time.sleep(POLL)


def _subscribed(ends: Way, name: str) -> list[tuple[str, str, bool]]:
    return rows(ends.subscriber, SUBSCRIBED, (name,))


def _refuse_filled(ends: Way, name: str, keys: list[Key]) -> None:
    """Raise HandoverError for tables that had rows before the first copy of ours."""
    there = {(schema, table) for schema, table, _done in _subscribed(ends, name)}
    waiting = [key for key in keys if key not in there]
    query = sql.SQL("SELECT EXISTS (SELECT FROM {})")
    filled = [".".join(key) for key in waiting if value(ends.subscriber, query.format(sql.Identifier(*key)))]
    if filled:
        raise HandoverError(
            f"Tables were made that the {ends.side} has already, with rows: {', '.join(filled)}.",
            f"Drop or empty them on the {ends.side}, if these rows are none that you need, then run this again.",
        )


def _record(job: Job, ends: Way, keys: set[Key], kinds: list[tuple[str, str, str, int]]) -> None:
    """They are known from now on."""
    session, migration, now = job.session, job.read(), drift.fingerprint(ends.publisher)
    names = [name for name in quoted_names(ends.publisher, sorted(keys)) if name in now]
    known = shapes.recorded(session, job.id) or {}
    made = {oid: one for oid, one in shapes.read(ends.publisher).items() if one.key in keys}
    with transaction(session):
        migration_journal.add_tables(session, job.id, kinds)
        replicated = [(schema, name) for schema, name, kind, _size in kinds if kind == "replicated"]
        migration_journal.join_wave(session, job.id, migration.waves[-1].number, replicated)
        fingerprint = {**(migration.fingerprint or {}), **{name: now[name] for name in names}}
        migration_journal.update(session, job.id, fingerprint=fingerprint, verified=None)
        shapes.record(session, job.id, {**known, **made})
        job.event("joined", tables=sorted(names))
