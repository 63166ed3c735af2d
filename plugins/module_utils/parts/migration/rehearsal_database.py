# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database on the target in which a migration is rehearsed, and what is left of it when a run was killed.

Its name is known before it is made, by the name of the database to come; whether its run is still there, by an advisory
lock of the run's maintenance session.
"""

from __future__ import annotations

import contextlib
import hashlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    Endpoint,
    psycopg2,
    sql,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import rehearsal_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn

PREFIX = "handover_rehearsal_"
LEFT = """
    SELECT datname::text FROM pg_database AS d WHERE datname ~ '^handover_rehearsal_[0-9a-f]{16}$'
    AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
    ORDER BY 1"""


def name_of(goal: str) -> str:
    """The name of the database in which the one that is to be called ``goal`` is rehearsed."""
    return f"{PREFIX}{hashlib.sha256(goal.encode()).hexdigest()[:16]}"


def identifier_of(name: str) -> str:
    """What stands for a migration in names of roles and subscriptions that its rehearsal makes: no other one's."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def only_run(connection: Connection, name: str):
    """One rehearsal of a database at a time; the lock goes with the maintenance session, whatever ends that."""
    return turn.held(connection, _key(name), "Another run rehearses this database; its session on the target is {}.")


def drop(connection: Connection, name: str) -> None:
    """The role through which its subscription was tried, and the database: last, as sweeping goes by databases."""
    role = naming.owners_name(identifier_of(name))
    try:
        if rows(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)):  # who may drop none makes none
            target_database.execute(connection, sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
    finally:
        target_database.drop(connection, name)


def sweep(connection: Connection) -> None:
    """Drop what runs have left that were killed, whichever database they were about; those at work keep theirs."""
    for (name,) in rows(connection, LEFT):
        with contextlib.suppress(psycopg2.Error, HandoverError):  # another role's, whose next run sees to it
            if value(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (_key(name),)):
                drop(connection, name)
                value(connection, "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (_key(name),))


def forget(target: Endpoint, goal: str, check_mode: bool) -> list[str]:
    """Remove all that rehearsals for a database left on the target: what was done, or would be, as SQL."""
    statements, name = [], name_of(goal)
    with contextlib.closing(target.connect_for_maintenance(read_only=check_mode)) as connection:
        if target_database.exists(connection, name):
            statements.append(f"DROP DATABASE {name}")
            if not check_mode:
                with only_run(connection, name):
                    drop(connection, name)
        if rehearsal_journal.is_recorded(connection, goal):
            literal = sql.Literal(goal).as_string(connection)
            statements.append(f"DELETE FROM handover.rehearsal WHERE goal = {literal}")
            if not check_mode:
                rehearsal_journal.remove(connection, goal)
    return statements


def _key(name: str) -> str:
    return f"handover.postgresql rehearsal {name}"
