# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps others from reading a table."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows


def exclusive_locks(connection: Connection) -> list[str]:
    """Tables of this database that somebody has locked so that nobody reads them, with the process that did it:
    ``public.orders (process 4711, application "psql")``.
    """
    query = """
        SELECT format('%s (process %s, application "%s")', l.relation::regclass, l.pid, a.application_name)
        FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.relation >= 16384
        ORDER BY 1"""
    return [text for (text,) in rows(connection, query)]
