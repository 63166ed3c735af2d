# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database was written to since its dump, or since it was filled, as far as the server's statistics tell."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

# What sessions wrote, and nothing that autovacuum does (PostgreSQL documentation, 27.2.19). TRUNCATE counts no rows,
# but gives a table another file. A crash resets all counters, those of the archiver with the time of it, which a clean
# restart keeps; so does a promotion, as a standby has its own. Before 15 a database has a time without a reset, too.
WRITES = """
    SELECT CASE WHEN NOT pg_is_in_recovery() AND current_setting('track_counts')::bool AND NOT EXISTS (
        SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting
        WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND setting ~* '^track_counts=' AND setting !~* '=(on|true|yes|1)$')
    THEN hashtextextended(concat_ws(' ',
        sum(n_tup_ins + n_tup_upd + n_tup_del + CASE relkind WHEN 'r' THEN relfilenode::bigint ELSE 0 END),
        (SELECT (extract(epoch FROM stats_reset) * 1000000)::bigint FROM pg_stat_archiver),
        (SELECT (extract(epoch FROM stats_reset) * 1000000)::bigint FROM pg_stat_database
         WHERE datname = current_database() AND current_setting('server_version_num')::int >= 150000)), 0) END
    FROM pg_stat_all_tables AS s JOIN pg_class AS c ON c.oid = s.relid
    WHERE relpersistence <> 't' AND schemaname NOT IN ('handover', 'information_schema') AND schemaname !~ '^pg_toast'
    AND (schemaname <> 'pg_catalog' OR s.relname IN ('pg_largeobject', 'pg_largeobject_metadata'))"""

SETTLING = 40
SETTLING_PAUSE = 0.05

NOT_QUIET = (
    "Somebody wrote to the source during the dump or up to 10 seconds before. Writes after the snapshot are not in "
    "the dump: find out who wrote, and export again with force: true."
)
UNCOUNTED = (
    "The source does not count its writes, because it is a standby or track_counts is off. That nothing was written "
    "since rests on your source_is_quiet: true alone."
)


def count_writes(connection) -> int | None:
    """A number that is another one after rows or large objects were written, or what counts them was reset. None where
    nobody counts them: on a standby, or where track_counts is off for anybody.

    A session reports what it wrote when it has been idle for a while, 10 seconds at most.
    """
    return value(connection, WRITES)


def settled_writes(connection) -> int | None:
    """The same of a database that was filled just now: a session that has ended reports what it wrote before it is gone
    from pg_stat_activity. None where one does not go, and before 15, when reports took their time.
    """
    others = """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND usename = session_user AND pid <> pg_backend_pid()"""
    if connection.info.server_version < 150000:
        return None
    for _attempt in range(SETTLING):
        if not rows(connection, others):
            return count_writes(connection)
        time.sleep(SETTLING_PAUSE)
    return None


def refuse_stale(connection, manifest: dict, place: str) -> list[str]:
    """Raise HandoverError for a dump that is not the last word of a source that is quiet now; what to say of others."""
    remedy = (
        "Use force: true to export again, and replace: true if the target has an import of this dump. With "
        "source_is_quiet: false, the dump is used as it is."
    )
    time = manifest["snapshot"]["time"]
    if not manifest.get("source_is_quiet"):
        raise HandoverError(f"{place} holds a dump of {time}, when nobody had said that the source is quiet.", remedy)
    then, now = manifest.get("writes"), count_writes(connection)
    if None in (then, now):
        return [UNCOUNTED]
    if then != now:
        raise HandoverError(
            f"Since the dump in {place} was made at {time}, somebody wrote to the source, or its counters were "
            "reset, as by a crash.",
            remedy,
        )
    return []
