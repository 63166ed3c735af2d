# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the replication that is there already: what holds WAL back, who reads from the source, what it reads."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, size, some
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair

CONTINUOUS = ("continuous",)
OURS = "handover_"
NOW = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"


@server_check("idle_slots", "No replication slot of the source is lost or left alone.")
def idle_slots(pair: Pair):
    """Slots that nobody reads from: they hold WAL back, or are lost and only take a place."""
    found = pair.source.rows(f"""
        SELECT slot_name::text, wal_status, coalesce(pg_wal_lsn_diff({NOW}, restart_lsn), 0)::bigint
        FROM pg_replication_slots WHERE NOT active AND NOT temporary ORDER BY 1""")
    lost = [name for name, status, _held in found if status == "lost"]
    idle = [(name, held) for name, status, held in found if status != "lost"]
    if lost:
        yield Finding(
            "warning",
            f"{counted(len(lost), 'replication slot')} of the source without the WAL needed to go on: {some(lost)}.",
            "Their readers have to begin anew, and the slots take up room.",
            script([f"SELECT pg_drop_replication_slot('{name}');" for name in lost]),
            lost,
        )
    if idle:
        held = size(max(bytes_held for _name, bytes_held in idle))
        yield Finding(
            "warning",
            f"{counted(len(idle), 'replication slot')} of the source without a reader, with up to {held} of WAL: "
            f"{some([name for name, _held in idle])}.",
            "WAL grows until the disk is full, and VACUUM removes less; a migration adds more WAL.",
            "-- those that nobody needs any more\n"
            + script([f"SELECT pg_drop_replication_slot('{name}');" for name, _held in idle]),
            [name for name, _held in idle],
        )


@server_check("consumers", "Nobody reads changes of these databases by logical decoding.")
def consumers(pair: Pair):
    """Change data capture and subscribers read from logical slots, which a migration does not carry over."""
    found = pair.source.rows(
        """
        SELECT s.slot_name::text, format('%%s (%%s, database %%I%%s)', s.slot_name, s.plugin, s.database,
               CASE WHEN a.application_name <> '' THEN ', read by ' || a.application_name ELSE '' END)
        FROM pg_replication_slots AS s LEFT JOIN pg_stat_activity AS a ON a.pid = s.active_pid
        WHERE s.slot_type = 'logical' AND s.database = ANY (%s) AND NOT starts_with(s.slot_name, %s) ORDER BY 1""",
        (pair.databases, OURS),
    )
    if found:
        yield Finding(
            "warning",
            f"{counted(len(found), 'logical slot')} of these databases: {some([text for _name, text in found])}.",
            "After the cutover, their readers get no more changes.",
            "Plan how each reader begins anew at the target: publications are carried over if the target allows it; "
            "slots and positions are not.",
            [name for name, _text in found],
        )


@server_check("source_subscriptions", "The source subscribes to nothing.")
def source_subscriptions(pair: Pair):
    """Changes that come by subscription do not fire the fence's triggers, and are not restored with a dump."""
    found = pair.source.rows(
        """
        SELECT s.subname::text, format('%%I: %%I', d.datname, s.subname), quote_ident(s.subname), s.subenabled
        FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
        WHERE d.datname = ANY (%s) AND NOT starts_with(s.subname, %s) ORDER BY d.datname, s.subname""",
        (pair.databases, OURS),
    )
    enabled = [quoted for _name, _text, quoted, is_enabled in found if is_enabled]
    if found:
        yield Finding(
            "warning" if enabled else "info",
            f"The source has {counted(len(found), 'subscription')}: {some([text for _name, text, *_rest in found])}.",
            "They are not carried over."
            + (" The fence does not stop their writes: they would go on changing the source." if enabled else ""),
            "-- at the cutover, in each database; then make them on the target\n"
            + script([f"ALTER SUBSCRIPTION {name} DISABLE;" for name in enabled])
            if enabled
            else "Make them on the target after the cutover.",
            [name for name, *_rest in found],
        )


@server_check("standbys", "The source has no standbys.")
def standbys(pair: Pair):
    """Standbys are not carried over, and those that the source waits for can hold up a migration."""
    source = pair.source
    found = source.rows("""
        SELECT coalesce(nullif(r.application_name, ''), 'process ' || r.pid) FROM pg_stat_replication AS r
        WHERE r.state IS DISTINCT FROM 'backup' AND NOT EXISTS (
            SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
        ORDER BY 1""")
    synchronous = source.defaults.get("synchronous_standby_names") or ""
    if found or synchronous:
        waits = f"; it waits for {synchronous}" if synchronous else ""
        names = some([name for (name,) in found]) or "none now"
        yield Finding(
            "info",
            f"{counted(len(found), 'standby')} of the source: {names}{waits}.",
            "They are not carried over; applications that read from them have to move, too.",
            "Order standbys, or high availability, for the target.",
            [name for (name,) in found],
        )
    slots = [name.strip() for name in (source.defaults.get("synchronized_standby_slots") or "").split(",")]
    missing = source.rows(
        """
        SELECT name FROM unnest(%s) AS name WHERE name <> '' AND NOT EXISTS (
            SELECT FROM pg_replication_slots WHERE slot_name = name AND active)""",
        (slots,),
    )
    if missing:
        unread = [name for (name,) in missing]
        yield Finding(
            "warning",
            f"synchronized_standby_slots of the source names slots that nobody reads from: {some(unread)}.",
            "Logical slots with failover send nothing until those standbys are back.",
            "ALTER SYSTEM RESET synchronized_standby_slots;\nSELECT pg_reload_conf();",
            unread,
            methods=CONTINUOUS,
        )


@database_check("publications", "The database has no publications.")
def publications(database: Database):
    """Your own; those of a migration are called handover_."""
    found = database.rows(
        """
        SELECT quote_ident(pubname), puballtables FROM pg_publication
        WHERE NOT starts_with(pubname, %s) ORDER BY 1""",
        (OURS,),
    )
    if found:
        everything = [name for name, all_tables in found if all_tables]
        yield Finding(
            "info",
            f"{counted(len(found), 'publication')}: {some([name for name, _all in found])}.",
            "They are created on the target, too"
            + (f"; {some(everything)} FOR ALL TABLES only if the role there is a superuser." if everything else "."),
            "",
            [name for name, _all in found],
        )
