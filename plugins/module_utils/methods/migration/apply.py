# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Subscriptions of waves: made, enabled, watched until they are in step."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import read_tables
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    applier,
    apply_settings,
    beacon,
    firing_triggers,
    publication,
    slot,
    subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import (
    execute_patiently,
    patiently,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

IN_STEP = 5.0  # seconds: a beacon that takes no longer to arrive
FAILURES = 2  # of apply while it is waited for; one may be a lost connection

# Tables to which their owner may not write, as apply would from 16 on.
NOT_BY_OWNER = """
    SELECT format('%%I.%%I', n.nspname, c.relname) FROM unnest(%s::text[], %s::text[]) AS t (schema, name)
    JOIN pg_namespace AS n ON n.nspname = t.schema JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
    JOIN pg_roles AS o ON o.oid = c.relowner
    WHERE c.relrowsecurity AND c.relforcerowsecurity AND NOT (o.rolsuper OR o.rolbypassrls)
    OR NOT has_table_privilege(o.oid, c.oid, 'SELECT') OR NOT has_table_privilege(o.oid, c.oid, 'INSERT')
    OR NOT has_table_privilege(o.oid, c.oid, 'UPDATE') OR NOT has_table_privilege(o.oid, c.oid, 'DELETE')
    OR NOT has_table_privilege(o.oid, c.oid, 'TRUNCATE') ORDER BY 1"""

DATABASE_OWNER = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()"

APPLIED_AS = (
    "Owners may not write to {}. These tables have a subscription of their own, which applies changes as role {}. "
    "That role is a member of their owners, bypasses row level security, and is no superuser."
)

OWNERS = """
    SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM unnest(%s::text[], %s::text[]) AS t (schema, name)
    JOIN pg_namespace AS n ON n.nspname = t.schema JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
    ORDER BY 1"""


def subscribe(job: Job, number: int) -> None:
    """Subscribe to the finished tables of a wave, and enable that if their indexes are there."""
    with job.stages.stage("subscription"):
        migration = job.read()
        name = job.wave_name(number)
        keys = [(table.schema, table.name) for table in migration.replicated if table.wave == number]
        publication.restrict_to(job.source_session, name, [beacon.table(name), *keys])
        options = _options(job, name, keys)
        for statement, undo in apply_settings.statements(job.session, options.owner or _own_role(job)):
            migration_journal.add_undo(job.session, job.id, undo)
            execute_patiently(job.session, statement)
        subscription.create(
            job.session,
            name,
            job.conninfo(),
            options,
            lambda session: migration_journal.set_wave(session, job.id, number, "subscribed"),
        )
        done = {"run_as_owner": options.run_as_owner, "owner": options.owner, "binary": options.binary}
        job.event("subscribed", name=name, tables=len(keys), **done)
        enable_ready(job)


def enable_ready(job: Job) -> None:
    """Enable the subscriptions whose tables have their indexes, without which apply would be slow, or fail."""
    migration = job.read()
    if not migration.waves[-1].copied and firing_triggers.firing(job.source_session, _keys(migration)):
        return  # the next copy makes the triggers that would fire, and quiets them
    states = subscription.state(job.session, migration.names)
    for wave in migration.subscribed:
        ready = all(table.state == "indexed" for table in migration.replicated if table.wave == wave.number)
        if ready and states.get(wave.name, {}).get("enabled") is False:
            subscription.enable(job.session, wave.name)
            job.event("enabled", name=wave.name)


def quiet_triggers(job: Job) -> None:
    """Keep triggers of the target from doing what was done on the source, until the migration is finished."""
    found = firing_triggers.firing(job.session, _keys(job.read()))
    if not found:
        return
    owners = rows(job.session, OWNERS, columns_of([(one.schema, one.table) for one in found]))
    with memberships.temporary_memberships(
        job.maintenance, [] if job.capabilities.superuser else [o for (o,) in owners]
    ):
        for one in found:
            migration_journal.add_undo(job.session, job.id, one.restoring_statement(job.session))
            execute_patiently(job.session, one.quieting_statement())
            job.note(
                f"The trigger {one} does not fire for replicated rows on the target until the migration is finished."
            )
            job.event("quieted", trigger=str(one))


def _keys(migration: migration_journal.Migration) -> list[tuple[str, str]]:
    return [(table.schema, table.name) for table in migration.replicated]


def _options(job: Job, name: str, keys: list[tuple[str, str]]) -> subscription.SubscriptionOptions:
    binary = all(one.binary and not one.extensions for one in read_tables(job.source_session, keys))
    owner = _applier(job, name, keys)
    return subscription.SubscriptionOptions(owner is not None, binary and _same_era(job), owner)


def _own_role(job: Job) -> str:
    """Who subscribes, unless somebody else is to own the subscription."""
    return value(job.session, "SELECT current_user::text")


def _same_era(job: Job) -> bool:
    """Whether both ends know binary replication."""
    return min(job.source_session.info.server_version, job.session.info.server_version) >= 140000


def _applier(job: Job, name: str, keys: list[tuple[str, str]]) -> str | None:
    """The role that apply has to be, as tables' owners may not write; None where it becomes each of them, from 16 on,
    or is who subscribes, before. Raises HandoverError.

    Who subscribes and is not a superuser becomes a member of the tables' owners, until the migration is finished.
    """
    if job.session.info.server_version < 160000:
        return None
    refusing = refusing_owners(job.session, keys)
    if refusing and not job.capabilities.superuser:
        raise unwritable(refusing)
    if refusing:
        role = naming.applier_name(job.id)
        applier.make(job.session, role, keys, beacon.table(name))
        job.note(APPLIED_AS.format(", ".join(refusing), role))
        return role
    if not is_subscriber(job):
        return None
    refused = join_owners(job, [owner for (owner,) in rows(job.session, OWNERS, columns_of(keys))])
    if refused:
        reasons = "; ".join(f"{one['role']}: {one['reason']}" for one in refused)
        raise HandoverError(
            "The connecting role must be a member of every table owner for apply to work, and could not be made "
            f"one: {reasons}.",
            "Grant these roles to it with the options INHERIT and SET, or use no_owner: true.",
        )
    return None


def apart(job: Job, tables: list) -> list:
    """Those of the tables to which changes are to be applied by a subscription of their own: where a superuser would
    subscribe, and their owners may not write.
    """
    if not job.capabilities.superuser or job.session.info.server_version < 160000:
        return []
    keys = [(table.schema, table.name) for table in tables]
    refusing = set(refusing_owners(job.source_session, keys))
    return [table for table, quoted in zip(tables, job.quoted(keys)) if quoted in refusing]


def is_subscriber(job: Job) -> bool:
    """Whether the connecting role owns the subscription and is no superuser, so that apply takes memberships."""
    since_16 = job.session.info.server_version >= 160000
    return since_16 and not job.capabilities.superuser and not subscription.uses_aiven_extras(job.session)


def refusing_owners(connection, keys: list[tuple[str, str]]) -> list[str]:
    """Tables, quoted, that their owner may not write: who revoked that from himself, or forces policies on himself."""
    return [name for (name,) in rows(connection, NOT_BY_OWNER, columns_of(keys))]


def unwritable(tables: list[str]) -> HandoverError:
    """The refusal of a target whose apply would have to be these tables' owners."""
    return HandoverError(
        f"The target applies changes as the table owner, but the owners of {counted(len(tables), 'table')} cannot "
        f"write to them: {', '.join(tables[:20])}.",
        "On the source, turn FORCE ROW LEVEL SECURITY off for these tables, or give their owners all privileges on "
        "them. Or connect to the target as a superuser.",
    )


def join_owners(job: Job, owners: list[str]) -> list[dict]:
    """Membership that lasts in the tables' owners, which apply becomes, and in the database's, without which this role
    may neither subscribe there nor, perhaps, connect. Returns the owners that were refused, but for the database's.
    """
    name = naming.owners_name(job.id)
    drop = sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)).as_string(job.session)
    migration_journal.add_undo(job.session, job.id, drop)
    of_database = value(job.session, DATABASE_OWNER)
    refused = memberships.lasting_memberships(job.maintenance, name, [*owners, of_database]).refused
    return [one for one in refused if one["role"] in owners]


# --- in step ---------------------------------------------------------------------------------------------------------


def await_step(job: Job, timeout: float, names: list[str] | None = None) -> float:
    """Wait until a beacon takes no longer than IN_STEP seconds to all subscriptions, or to those named; return how
    long it took.

    Raises HandoverError for errors of apply, a slot that is lost, or when ``timeout`` seconds are over.
    """
    names = names or job.read().names
    deadline = time.monotonic() + timeout
    health = Health(job, names)
    while True:
        started = time.monotonic()
        number = beacon.advance(job.source_session, names)
        if beacon.await_(job.session, names, number, min(started + IN_STEP, deadline)):
            return time.monotonic() - started
        health.check()
        behind = max((one["lag_bytes"] or 0 for one in slot.read(job.source_session, names).values()), default=0)
        progress.lag(job.dbname, int(behind))
        if time.monotonic() > deadline:
            raise HandoverError(
                f"The target is not in step after {timeout:.0f} s: it is {behind} bytes of WAL behind.",
                "The target goes on catching up by itself. Run this again later, or with a longer timeout.",
                lag_bytes=int(behind),
            )


def how_to_begin_anew(job: Job) -> str:
    """The end of a sentence that says that there is no other way on."""
    return (
        f"free the source with state: stopped, then begin anew with replace: true and replace_databases: [{job.goal}]"
    )


class Health:
    """What does not get better by waiting. ``check`` may be called again and again, and raises HandoverError."""

    def __init__(self, job: Job, names: list[str]):
        self.job = job
        self.names = names
        self.errors = {name: state["errors"] for name, state in subscription.state(job.session, names).items()}
        self.workers = {name: set() for name in names}

    def check(self) -> None:
        """Slots that are gone or lost, subscriptions that are gone or stopped, apply that fails again and again."""
        slots = slot.read(self.job.source_session, self.names)
        states = subscription.state(self.job.session, self.names)
        begin_anew = f"The migration cannot go on from here: {how_to_begin_anew(self.job)}."
        for name in self.names:
            if name not in slots:
                raise HandoverError(f"The replication slot {name} is gone from the source.", begin_anew)
            if slots[name]["wal_status"] == "lost":
                problem = f"The replication slot {name} is lost: the source has removed WAL that the migration needs."
                raise HandoverError(problem, begin_anew)
            if name not in states:
                raise HandoverError(f"The subscription {name} is gone from the target.", begin_anew)
            self._check_apply(name, states[name])

    def _check_apply(self, name: str, state: dict) -> None:
        see = "The target's log has the error. Fix its cause; the target tries again by itself."
        if not state["enabled"]:
            raise HandoverError(f"The subscription {name} was disabled meanwhile.", "Run this again to enable it.")
        self.workers[name] |= {state["pid"]} - {None}
        failed = (state["errors"] or 0) - (self.errors.get(name) or 0)
        if failed >= FAILURES or len(self.workers[name]) > FAILURES:
            raise HandoverError(f"The subscription {name} keeps failing to apply changes.", see)


def validate_pending(job: Job) -> None:
    """Check the foreign keys that could not be checked while waves were apart. What still fails stays pending; the
    journal hears of each at once, and one that is there already is of a run that was killed before that.
    """
    left = job.read().pending
    for one in list(left):
        gone = False
        try:
            _make_good(job, one)
        except (psycopg2.errors.UndefinedObject, psycopg2.errors.UndefinedTable):
            gone = True
        except (psycopg2.errors.ForeignKeyViolation, HandoverError):
            shown = f" Rows break it if this finds some: {one['query']}" if one.get("query") else ""
            job.note(f"{_not_yet(one)}.{shown}")
            continue
        left.remove(one)
        notices = [text for text in job.read().notices if not text.startswith(_not_yet(one))]
        migration_journal.update(job.session, job.id, pending=left, notices=notices)
        if gone:
            job.note(f"The foreign key {one['name']} of {one['table']} is gone from the target.")
        else:
            job.event("validated", constraint=one["name"], table=one["table"])


def _not_yet(pending: dict) -> str:
    return f"The foreign key {pending['name']} of {pending['table']} is not validated yet"


def _make_good(job: Job, pending: dict) -> None:
    try:
        _run(job, pending["statement"])
    except psycopg2.errors.DuplicateObject:
        table, name = sql.Identifier(pending["schema"], pending["table"]), sql.Identifier(pending["name"])
        _run(job, sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, name))


def _run(job: Job, statement) -> None:
    def work():
        with job.session.cursor() as cursor:
            cursor.execute(statement)

    patiently(job.session, work, patience=20)
