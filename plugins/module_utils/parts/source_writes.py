# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a database was written to since its dump, as far as the server's statistics tell."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value

# What sessions wrote, and nothing that autovacuum does (PostgreSQL documentation, 27.2.19). TRUNCATE counts no rows,
# but gives a table another file.
WRITES = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN coalesce(sum(
        n_tup_ins + n_tup_upd + n_tup_del + CASE relkind WHEN 'r' THEN relfilenode::bigint ELSE 0 END), 0)::bigint END
    FROM pg_stat_user_tables AS s JOIN pg_class AS c ON c.oid = s.relid
    WHERE relpersistence <> 't' AND schemaname <> 'handover'"""

NOT_QUIET = (
    "The source was written to during the dump or up to 10 seconds before. What was written after the snapshot is not "
    "in it: find out who wrote, and export again with force: true."
)


def count_writes(connection) -> int | None:
    """A number that is another one after rows were written. None on a standby, where nobody counts them.

    A session reports what it wrote when it has been idle for a while, 10 seconds at most.
    """
    return value(connection, WRITES)


def refuse_stale(connection, manifest: dict, place: str) -> None:
    """Raise HandoverError for a dump that is not the last word of a source that is quiet now."""
    remedy = (
        "Use force: true to export again, and replace: true if the target has an import of this dump. "
        "With source_is_quiet: false the dump is taken as it is."
    )
    time = manifest["snapshot"]["time"]
    if not manifest.get("source_is_quiet"):
        raise HandoverError(f"{place} holds a dump of {time}, when nobody had said that the source is quiet.", remedy)
    then, now = manifest.get("writes"), count_writes(connection)
    if None not in (then, now) and then != now:
        raise HandoverError(f"The source was written to after {time}, when the dump in {place} was made.", remedy)
