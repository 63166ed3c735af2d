# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The publishing end of a migration, from its catalogs alone: slots, the WAL that they hold back, beacons."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Publishing:
    """What the server says at one moment; ``now`` is its clock.

    ``slots`` by name: ``active``, ``active_pid``, ``wal_status``, ``retained_bytes`` (WAL that the slot holds back,
    None for a lost one), ``lag_bytes`` (WAL that the subscriber has not confirmed), ``safe_bytes`` (what may still be
    written before the slot is lost, None for no limit), ``invalidation`` (since 17, why it is lost), ``sender`` (the
    row of pg_stat_replication: ``state``, ``caught_up``, ``replay_lag`` in seconds, ``started`` in seconds since 1970;
    None without one, or privilege).
    ``keep_bytes`` is max_slot_wal_keep_size, None for no limit. ``data_directory`` is None where it is hidden.
    """

    now: object
    slots: dict
    keep_bytes: int | None
    data_directory: str | None


def read_publishing(connection, prefix: str) -> Publishing:
    """The slots of this database whose names begin so (PostgreSQL documentation, 52.20 and 27.2.4)."""
    query = """
        SELECT clock_timestamp(), (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
               (SELECT setting FROM pg_settings WHERE name = 'data_directory')"""
    now, keep, directory = rows(connection, query)[0]
    keep_bytes = None if keep is None or keep < 0 else keep * MEGABYTE
    return Publishing(now, _slots(connection, prefix), keep_bytes, directory)


def _slots(connection, prefix: str) -> dict:
    invalidation = "invalidation_reason" if connection.info.server_version >= 170000 else "NULL"
    query = f"""
        WITH wal (position) AS (
            SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)
        SELECT slot_name::text, jsonb_build_object(
            'active', active, 'active_pid', active_pid, 'wal_status', wal_status,
            'retained_bytes', CASE WHEN wal_status <> 'lost'
                                   THEN greatest(pg_wal_lsn_diff(position, restart_lsn), 0)::bigint END,
            'lag_bytes', greatest(pg_wal_lsn_diff(position, confirmed_flush_lsn), 0)::bigint,
            'safe_bytes', safe_wal_size, 'invalidation', {invalidation},
            'sender', CASE WHEN r.state IS NOT NULL THEN jsonb_build_object(
                'state', r.state, 'caught_up', r.state = 'streaming' AND r.replay_lsn >= r.sent_lsn,
                'replay_lag', extract(epoch FROM r.replay_lag), 'started', extract(epoch FROM r.backend_start)) END)
        FROM wal, pg_replication_slots AS s LEFT JOIN pg_stat_replication AS r ON r.pid = s.active_pid
        WHERE starts_with(slot_name, %s) AND database = current_database()"""
    return dict(rows(connection, query, (prefix,)))


def read_beacons(connection, migration: str) -> dict:
    """``{stream: (n, at)}`` of the beacons in this database; at is None where the row cannot be read.

    The table ``handover.beacon_<id>_w1`` belongs to the stream ``handover_<id>_w1``.
    """
    query = """
        SELECT c.relname::text, has_table_privilege(c.oid, 'SELECT')
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'handover' AND c.relkind = 'r' AND starts_with(c.relname, %s)"""
    names = [table for table, may in rows(connection, query, (f"beacon_{migration}_",)) if may]
    if not names:
        return {}
    one = sql.SQL("SELECT {} AS name, (SELECT n FROM {}), (SELECT at FROM {})")
    parts = [one.format(sql.Literal(name), *[sql.Identifier("handover", name)] * 2) for name in names]
    found = rows(connection, sql.SQL(" UNION ALL ").join(parts))
    return {name.replace("beacon", "handover", 1): (number, at) for name, number, at in found}
