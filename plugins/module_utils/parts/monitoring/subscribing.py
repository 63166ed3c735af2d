# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subscribing end of a migration, from its catalogs alone: subscriptions, their workers, their errors."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

# Seconds. After an error the launcher waits wal_retrieve_retry_interval, 5 s, before it starts a worker again.
STEADY = 1.0
PATIENCE = 6.0


@dataclass(frozen=True)
class Subscribing:
    """What the server says at one moment; ``now`` is its clock.

    ``subscriptions`` by name: ``enabled`` (None where the role may not see it), ``worker_pid`` (of the apply worker,
    None if there is none now), ``received_lsn``, ``last_message_seconds`` (since anything came from the publisher),
    ``apply_errors`` (since 15, since the subscription was made; None before).
    """

    now: object
    subscriptions: dict


def read_subscribing(connection, prefix: str) -> Subscribing:
    """The subscriptions of this database whose names begin so (PostgreSQL documentation, 27.2.8 and 27.2.9)."""
    since_15, since_16 = (connection.info.server_version >= number for number in (150000, 160000))
    stats = "LEFT JOIN pg_stat_subscription_stats AS e USING (subid)" if since_15 else ""
    query = f"""
        SELECT s.subname::text, jsonb_build_object(
            'worker_pid', s.pid, 'received_lsn', s.received_lsn::text,
            'last_message_seconds', extract(epoch FROM clock_timestamp() - s.last_msg_receipt_time),
            'apply_errors', {"e.apply_error_count" if since_15 else "NULL"})
        FROM pg_stat_subscription AS s {stats}
        WHERE starts_with(s.subname, %s) AND s.relid IS NULL {"AND s.leader_pid IS NULL" if since_16 else ""}"""
    now = value(connection, "SELECT clock_timestamp()")
    found = dict(rows(connection, query, (prefix,)))
    enabled = _enabled(connection, prefix)
    here = {name: one for name, one in found.items() if enabled is None or name in enabled}
    return Subscribing(now, {name: {"enabled": enabled and enabled[name], **one} for name, one in here.items()})


def _enabled(connection, prefix: str) -> dict | None:
    """``{subscription: enabled}`` of this database, or None where a service hides pg_subscription."""
    privilege = "SELECT has_column_privilege('pg_subscription', 'subenabled', 'SELECT')"
    if not value(connection, privilege):
        return None
    query = """
        SELECT subname::text, subenabled FROM pg_subscription
        WHERE starts_with(subname, %s) AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    return dict(rows(connection, query, (prefix,)))


def unsteady(connection, prefix: str) -> set[str]:
    """Enabled subscriptions without an apply worker that stays: looked at until it has, or PATIENCE has run out.

    After an error the worker ends, and is started again for ever.
    """
    deadline = time.monotonic() + PATIENCE
    before, bad = {}, set()
    while True:
        now = read_subscribing(connection, prefix).subscriptions
        workers = {name: one["worker_pid"] for name, one in now.items() if one["enabled"] is not False}
        bad = {name for name, pid in workers.items() if pid is None or before.get(name) != pid}
        if not bad or time.monotonic() > deadline:
            return bad
        before = workers
        time.sleep(STEADY)
