# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a stream from the new home to the old one, prepared before the window so that its slot, made in the
window, misses nothing, and so that what would not work is known while nothing has happened yet.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    columns_of,
    quoted_names,
    rows,
    value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.wal import obstacle_to_logical_slots
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.apply import NOT_BY_OWNER
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import conninfo_parameters
from ansible_collections.handover.postgresql.plugins.module_utils.parts import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    identity,
    publication,
    slot,
    source_record,
    subscription,
    triggers,
)

BUSY = """
    SELECT format('process %%s (%%s, database %%s, for %%s s)', pid, usename, datname,
                  extract(epoch FROM clock_timestamp() - xact_start)::int)
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND application_name <> 'handover'
    AND backend_type = 'client backend' AND xact_start < clock_timestamp() - %s * interval '1 second' ORDER BY 1"""


def obstacles(passage: Passage) -> list[str]:
    """Why there can be no way back, as far as that can be told beforehand; empty if nothing speaks against it."""
    new, old = passage.route.new.endpoint.side, passage.route.old.endpoint.side
    found = []
    if level := obstacle_to_logical_slots(passage.new, new):
        found.append(level)
    elif not _has_free_slot(passage):
        found.append(f"All replication slots or WAL senders of the {new} are taken.")
    if not value(passage.new, "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user"):
        found.append(f"The connecting role may not make a replication slot on the {new} (attribute REPLICATION).")
    if not _may_subscribe(passage.old):
        found.append(f"The connecting role may not subscribe on the {old}, which would be the subscriber.")
    busy = [text for (text,) in rows(passage.new, BUSY, (passage.params["deadline"] / 4,))]
    if busy:
        found.append(f"Transactions on the {new} keep a replication slot from being made: {', '.join(busy[:5])}.")
    return found


def prepare(passage: Passage) -> None:
    """Publication on new, beacon on both, subscription on old, not enabled. Raises HandoverError with the reason."""
    name, route = passage.route.returning, passage.route
    slot.drop(passage.new, name)  # of a window that was aborted
    subscription.drop(passage.old, name)
    _identify(passage)
    beacon.prepare(passage.new, passage.old, name)
    publication.create(passage.new, name, [beacon.table(name), *route.tables])
    publication.restrict_to(passage.new, name, [beacon.table(name), *route.tables])
    try:
        subscription.create(passage.old, name, conninfo(passage), _options(passage))
    except HandoverError as error:
        raise _for_this_direction(passage, error) from None
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


def _for_this_direction(passage: Passage, error: HandoverError) -> HandoverError:
    """Why a subscription cannot be made, in words that fit who subscribes to whom here."""
    old, new = passage.route.old.endpoint.side, passage.route.new.endpoint.side
    option = "reverse_replication" if passage.route.direction == FORWARD else "replication"
    reason = error.problem.partition(": ")[2] or error.problem
    return HandoverError(
        f"The {old} does not subscribe to the {new}, as a way back takes: {reason}",
        f"The {old}'s server connects to the {new} by the option {option}, which takes its values from {new} where it "
        f"has none: correct it, and see that the {new} lets the {old} in.",
    )


def _identify(passage: Passage) -> None:
    """Tables that new could not publish as they are: whole old rows identify rows there. Raises HandoverError."""
    wanted = dict(zip(quoted_names(passage.new, passage.route.tables), passage.route.tables))
    lacking = [one for one in identity.lacking(Side(passage.route.new.endpoint, passage.new)) if one.name in wanted]
    refused = [one.name for one in lacking if not one.may_be_full]
    if refused:
        raise HandoverError(f"The new home cannot publish {', '.join(refused)}: they have no replica identity.", "")
    for one in lacking:
        schema, name = wanted[one.name]
        _record_undo(passage, passage.new, identity.restoring_statement(passage.new, schema, name))
        identity.set_full(passage.new, schema, name)


def quiet_triggers(passage: Passage) -> None:
    """In the transaction that fences old: what its triggers would do for rows that come back was done on new."""
    for one in triggers.firing(passage.lock, passage.route.tables):
        _record_undo(passage, passage.lock, one.restoring_statement(passage.lock))
        with passage.lock.cursor() as cursor:
            cursor.execute(one.quieting_statement())


def _record_undo(passage: Passage, session, statement: str) -> None:
    """In the record of the end that the session is with: the target's is the journal."""
    at_target = (session is passage.new) == (passage.route.new is passage.route.target)
    record = migration_journal.add_undo if at_target else source_record.record_undo
    record(session, passage.route.migration.id, statement)


def _options(passage: Passage) -> subscription.Options:
    """Apply as the tables' owners where they may write; else as ourselves."""
    since_16 = passage.old.info.server_version >= 160000
    superuser = value(passage.old, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    refusing = since_16 and rows(passage.old, NOT_BY_OWNER, columns_of(passage.route.tables))
    return subscription.Options(run_as_owner=since_16 and (not superuser or bool(refusing)))


def _has_free_slot(passage: Passage) -> bool:
    query = """
        SELECT current_setting('max_replication_slots')::int > (
                   SELECT count(*) FROM pg_replication_slots WHERE slot_name <> %s)
               AND current_setting('max_wal_senders')::int > (SELECT count(*) FROM pg_stat_replication)"""
    return value(passage.new, query, (passage.route.returning,))


def _may_subscribe(connection) -> bool:
    query = """
        SELECT rolsuper OR EXISTS (SELECT FROM pg_extension WHERE extname = 'aiven_extras') OR EXISTS (
            SELECT FROM pg_roles AS p WHERE p.rolname = 'pg_create_subscription' AND pg_has_role(p.oid, 'USAGE'))
        FROM pg_roles WHERE rolname = current_user"""
    return value(connection, query)
