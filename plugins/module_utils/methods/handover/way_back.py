# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a stream from the new home to the old one, prepared before the window so that its slot, made in the
window, misses nothing, and so that what would not work is known while nothing has happened yet.
"""

from __future__ import annotations

import time
from dataclasses import replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    columns_of,
    quoted_names,
    rows,
    value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.facts.wal import obstacle_to_logical_slots
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.gates import stamp
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.apply import NOT_BY_OWNER
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import conninfo_parameters
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    applier,
    apply_settings,
    beacon,
    capacity,
    firing_triggers,
    publication,
    replica_identity,
    slot,
    subscription,
    writable,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import execute_patiently

# Tables whose owner we may not become.
FOREIGN = """
    SELECT FROM unnest(%s::text[], %s::text[]) AS t (schema, name) JOIN pg_namespace AS n ON n.nspname = t.schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name WHERE NOT pg_has_role(c.relowner, 'SET')"""

APPLIED_AS = (
    "On the {}, the way back applies changes of all tables as role {}, which is a member of their owners, bypasses "
    "row level security, and is no superuser. The reason: owners may not write to {}."
)

BUSY = """
    SELECT format('process %%s (%%s, database %%s, for %%s s)', pid, usename, datname,
                  extract(epoch FROM clock_timestamp() - xact_start)::int)
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND application_name <> 'handover'
    AND backend_type = 'client backend' AND xact_start < clock_timestamp() - %s * interval '1 second' ORDER BY 1"""


def obstacles(passage: Passage, capacities: list[tuple[str, capacity.Capacity]]) -> list[str]:
    """Why there can be no way back, as far as that can be told beforehand; empty if nothing speaks against it."""
    new, old = passage.route.new.endpoint.side, passage.route.old.endpoint.side
    found = []
    if level := obstacle_to_logical_slots(passage.new, new):
        found.append(level)
    found += [_said(side, one) for side, one in capacities if one.free < 1]
    if not value(passage.new, "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user"):
        found.append(f"The connecting role may not make a replication slot on the {new} (attribute REPLICATION).")
    if not _may_subscribe(passage.old):
        found.append(f"The connecting role may not create subscriptions on the {old}, which would be the subscriber.")
    busy = [text for (text,) in rows(passage.new, BUSY, (passage.params["deadline"] / 4,))]
    if busy:
        found.append(f"Transactions on the {new} prevent a replication slot: {', '.join(busy[:5])}.")
    return found


def too_few_for_all(passage: Passage, capacities: list[tuple[str, capacity.Capacity]]) -> tuple[str, str] | None:
    """(problem, remedy) where there is room for the way back of some databases of this call, and not of all: else it
    would end with part of them handed over.
    """
    short = [(side, one) for side, one in capacities if one.free < passage.waiting]
    if not short:
        return None
    settings = ", ".join(f"{one.setting} of the {side} to {one.used + passage.waiting} or more" for side, one in short)
    return (
        f"There is no room for the ways back of {counted(passage.waiting, 'database')}: "
        + " ".join(_said(side, one) for side, one in short),
        (
            f"Set {settings} and restart there, hand over fewer at a time (handover_databases), or do without ways "
            "back: handover_reverse: false."
        ),
    )


def capacities_of(passage: Passage) -> list[tuple[str, capacity.Capacity]]:
    """What a way back takes, and of which side; what is not visible is left out."""
    new, old = Side(passage.route.new.endpoint, passage.new), Side(passage.route.old.endpoint, passage.old)
    found = [(new, capacity.slots(new)), (new, capacity.senders(new)), (old, capacity.apply_workers(old))]
    found += [(old, capacity.worker_processes(old)), (old, capacity.origins(old))]
    return [(side.endpoint.side, one) for side, one in found if one.most is not None]


def _said(side: str, one: capacity.Capacity) -> str:
    return f"{one.setting} of the {side} is {one.most}, and {one.used} are in use."


def prepare(passage: Passage) -> None:
    """Publication on new, beacon on both, subscription on old, not enabled. Raises HandoverError with the reason."""
    name = passage.route.returning
    slot.drop(passage.new, name)  # of a window that was aborted
    subscription.drop(passage.old, name)
    tables = _choose(passage)
    beacon.prepare(passage.new, passage.old, name)
    publication.create(passage.new, name, [beacon.table(name), *tables])
    publication.restrict_to(passage.new, name, [beacon.table(name), *tables])
    options = _options(passage)
    role = options.owner or value(passage.old, "SELECT current_user::text")
    for statement, undo in apply_settings.statements(passage.old, role):
        _record_undo(passage, passage.old, undo)
        execute_patiently(passage.old, statement)
    try:
        subscription.create(passage.old, name, conninfo(passage), options)
    except subscription.SubscriptionError as error:
        raise _for_this_direction(passage, error.reason) from None
    passage.way_back = True


def conninfo(passage: Passage) -> str:
    """How old's server reaches new's."""
    option = "reverse_replication" if passage.route.direction == FORWARD else "replication"
    found = conninfo_parameters(passage.new.info, passage.route.new.endpoint, passage.params[option] or {})
    return psycopg2.extensions.make_dsn(**{**found, "dbname": passage.route.new.dbname})


def remove(passage: Passage) -> None:
    """Take back what was prepared, as far as the ends are there."""
    name = passage.route.returning
    subscription.drop(passage.old, name)
    slot.drop(passage.new, name)
    publication.drop(passage.new, name)
    passage.way_back = False


def _for_this_direction(passage: Passage, reason: str) -> HandoverError:
    """Why a subscription cannot be made, in words that fit who subscribes to whom here."""
    old, new = passage.route.old.endpoint.side, passage.route.new.endpoint.side
    option = "reverse_replication" if passage.route.direction == FORWARD else "replication"
    return HandoverError(
        f"The way back needs a subscription from the {old} to the {new}, and creating it failed: {reason}.",
        f"Check {option}, which says how the {old}'s server reaches the {new} (unset values come from {new}), and "
        "allow that connection there.",
    )


def foresee(passage: Passage) -> None:
    """Note which tables will not come back by themselves, as far as the catalogs tell."""
    for key, one in _lacking(passage).items():
        if not one.identity:
            _note(passage, key, one.why)


def prove_again(passage: Passage, deadline: float) -> None:
    """In the window: what was redefined on new since the proof may still be published. Raises HandoverError."""
    if stamp(passage.helper) == passage.publishing_stamp:
        return
    there = publication.tables_of(passage.helper, passage.route.returning)
    tables = [key for key in passage.route.tables if key in there]
    patience = max(0.0, (deadline - time.monotonic()) / 2)
    found = writable.refused(passage.helper, _trial(passage), tables, patience=patience)
    writable.refuse(found, "Nothing was handed over. Run this again: it leaves out what cannot come back by itself.")


def _choose(passage: Passage) -> list[tuple[str, str]]:
    """The tables that new may publish, with the identity that they need there for that. It is recorded that the others
    are copied in a window instead: those of the target when it is left again, those of the source in all.
    """
    lacking = _lacking(passage)
    given = {key: one.identity for key, one in lacking.items() if one.identity}
    left_out = {key: one.why for key, one in lacking.items() if not one.identity}
    left_out.update({one.key: one.why for one in writable.refused(passage.new, _trial(passage), list(given), given)})
    for (schema, name), wanted in given.items():
        if (schema, name) not in left_out:
            _record_undo(passage, passage.new, replica_identity.restoring_statement(passage.new, schema, name))
            replica_identity.give(passage.new, schema, name, wanted)
    passage.publishing_stamp = stamp(passage.new)
    rest = [key for key in passage.route.tables if key not in left_out]
    left_out.update({one.key: one.why for one in writable.refused(passage.new, _trial(passage), rest)})
    for key, why in left_out.items():
        _note(passage, key, why)
    passage.measures.not_on_way_back = [".".join(key) for key in sorted(left_out)]
    _record_kinds(passage, left_out)
    return [key for key in rest if key not in left_out]


def _lacking(passage: Passage) -> dict:
    """Tables that new could not publish as they are: identity.Lacking, by (schema, name)."""
    wanted = dict(zip(quoted_names(passage.new, passage.route.tables), passage.route.tables))
    found = replica_identity.lacking(Side(passage.route.new.endpoint, passage.new))
    return {wanted[one.name]: one for one in found if one.name in wanted}


def _record_kinds(passage: Passage, left_out: dict) -> None:
    forward = passage.route.direction == FORWARD
    kinds = dict.fromkeys(passage.route.tables, "replicated") if forward else {}
    kinds.update(dict.fromkeys(left_out, "one_way" if forward else "at_cutover"))
    identifier = passage.route.migration.id
    migration_journal.set_kinds(passage.journal, identifier, kinds)
    passage.route = replace(passage.route, migration=migration_journal.read_migration(passage.journal, identifier))


def _note(passage: Passage, key: tuple[str, str], why: str) -> None:
    new = passage.route.new.endpoint.side
    passage.note(
        f"{'.'.join(key)} is not on the way back: the {new} cannot publish it, because {why}. The next handover in "
        "the other direction copies it while writers wait."
    )


def _trial(passage: Passage) -> str:
    return naming.trial_name(passage.route.migration.id)


def quiet_triggers(passage: Passage) -> None:
    """In the transaction that fences old: what its triggers would do for rows that come back was done on new."""
    statements: list = []
    for one in firing_triggers.firing(passage.lock, passage.route.tables):
        undo = source_record.undo_statement(passage.route.migration.id, one.restoring_statement(passage.lock))
        statements += [sql.SQL(undo), one.quieting_statement()]
    if statements:
        with passage.lock.cursor() as cursor:
            cursor.execute(sql.SQL("; ").join(statements))


def _record_undo(passage: Passage, session, statement: str) -> None:
    """In the record of the end that the session is with: the target's is the journal."""
    at_target = (session is passage.new) == (passage.route.new is passage.route.target)
    record = migration_journal.add_undo if at_target else source_record.record_undo
    record(session, passage.route.migration.id, statement)


def _options(passage: Passage) -> subscription.SubscriptionOptions:
    """Apply as the tables' owners where they may write, and we may become them; else as a role that may what they may
    and no more, or, where we are no superuser, as ourselves.
    """
    tables = passage.route.tables
    if passage.old.info.server_version < 160000:
        return subscription.SubscriptionOptions()
    refusing = [name for (name,) in rows(passage.old, NOT_BY_OWNER, columns_of(tables))]
    if not value(passage.old, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        return subscription.SubscriptionOptions(
            run_as_owner=bool(refusing) or bool(rows(passage.old, FOREIGN, columns_of(tables)))
        )
    if not refusing:
        return subscription.SubscriptionOptions()
    role = naming.applier_name(passage.route.migration.id)
    applier.make(passage.old, role, tables, beacon.table(passage.route.returning))
    passage.note(APPLIED_AS.format(passage.route.old.endpoint.side, role, ", ".join(refusing)))
    return subscription.SubscriptionOptions(run_as_owner=True, owner=role)


def _may_subscribe(connection) -> bool:
    query = """
        SELECT rolsuper OR EXISTS (SELECT FROM pg_extension WHERE extname = 'aiven_extras') OR EXISTS (
            SELECT FROM pg_roles AS p WHERE p.rolname = 'pg_create_subscription' AND pg_has_role(p.oid, 'USAGE'))
        FROM pg_roles WHERE rolname = current_user"""
    return value(connection, query)
