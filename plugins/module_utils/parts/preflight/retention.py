# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the WAL that a slot holds back while a database is copied: the slot may be lost, or the disk fill up."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import duration, size
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair

CONTINUOUS = ("continuous",)
SAMPLE_SECONDS = 0.3
LONGEST_MIGRATION = 14 * 86400  # seconds
DAY = 86400
MEGABYTE = 1024 * 1024


def wal_rate(side: Side) -> float | None:
    """Bytes of WAL a second: the most of what is written now, since the last checkpoint, and since statistics began.

    None on a standby. Statistics of WAL come from pg_stat_wal, which 14 and later have.
    """
    if side.server.in_recovery:
        return None
    before, since = side.value("SELECT pg_current_wal_lsn()"), time.monotonic()
    time.sleep(SAMPLE_SECONDS)
    written = side.value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), %s)::float8", (before,))
    rates = [written / (time.monotonic() - since)]
    rates += side.rows("""
        SELECT (pg_wal_lsn_diff(pg_current_wal_lsn(), redo_lsn)
                / greatest(extract(epoch FROM clock_timestamp() - checkpoint_time), 1))::float8
        FROM pg_control_checkpoint()""")[0]
    if side.server.major >= 14:
        rates += side.rows("""
            SELECT (wal_bytes / greatest(extract(epoch FROM clock_timestamp() - stats_reset), 1))::float8
            FROM pg_stat_wal""")[0]
    return max(rate for rate in rates if rate is not None)


@server_check("slot_limits", "The source keeps a slot that falls behind.", CONTINUOUS)
def slot_limits(pair: Pair):
    """max_slot_wal_keep_size, against the rate of WAL, and idle_replication_slot_timeout (since 18)."""
    source = pair.source
    keep, rate = source.number("max_slot_wal_keep_size"), source.once(wal_rate)
    if keep is not None and keep >= 0:
        lasts = keep * MEGABYTE / rate if rate else None
        if lasts is None or lasts < LONGEST_MIGRATION:
            forecast = f"at {size(round(rate))}/s, as of late, {duration(lasts)}" if lasts else "its rate is unknown"
            yield Finding(
                "warning" if lasts is None or lasts < DAY else "info",
                f"max_slot_wal_keep_size is {size(keep * MEGABYTE)} on the source; {forecast}.",
                "If copying or catching up takes longer, the slot is lost, and the migration has to begin anew.",
                "ALTER SYSTEM SET max_slot_wal_keep_size = -1;\nSELECT pg_reload_conf();\n"
                "-- or to as much as the disk has room for",
                ["max_slot_wal_keep_size"],
            )
    idle = source.number("idle_replication_slot_timeout")
    if idle:
        yield Finding(
            "warning",
            f"idle_replication_slot_timeout is {duration(idle)} on the source.",
            "While tables are copied, nobody reads from the slot; if that takes longer, the slot is lost.",
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0;\nSELECT pg_reload_conf();",
            ["idle_replication_slot_timeout"],
        )


@server_check("wal_disk", "The WAL that a slot holds back is limited, so it cannot fill the source's disk.", CONTINUOUS)
def wal_disk(pair: Pair):
    """SQL does not show free disk space, so without a limit you have to check it."""
    keep = pair.source.number("max_slot_wal_keep_size")
    if keep is not None and keep >= 0:
        return
    rate = pair.source.once(wal_rate)
    forecast = f", {size(round(rate * DAY))} a day at the rate of late," if rate else ""
    yield Finding(
        "unknown",
        f"WAL{forecast} is kept on the source's disk until the target has it; its free space is not visible in SQL.",
        "A full disk stops the source.",
        "On the source: df -h \"$(psql -XAtc 'SHOW data_directory')/pg_wal\"; services show it in their console.",
    )
