# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time works on a migration, from whatever machine; and one at a time decides where a database lives,
whichever migration it is about.
"""

from __future__ import annotations

import contextlib
import sys

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

PATIENCE = "3s"  # for the session of a run that was killed
EVENT = "handover.turn"  # of Python's auditing: whoever observes the process is told before a turn is asked for
HOME = "handover.postgresql home of this database"  # advisory locks are a database's own

HOLDER = """
    SELECT format('process %%s%%s, since %%s', l.pid, coalesce(' from ' || host(a.client_addr), ''),
                  date_trunc('second', a.backend_start)), l.pid
    FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended(%s, 0)"""


@contextlib.contextmanager
def taken(connection, identifier: str):
    """Hold the turn of this migration while the block runs; it goes with the session, whatever ends that. What a run
    decides by, it reads in the block: another one may have gone on until then.

    ``connection`` is to the source's database. Raises HandoverError when another run has it.
    """
    sys.audit(EVENT, identifier)
    with held(
        connection, _key(identifier), "Another run is working on this migration; its session on the source is {}."
    ):
        yield


@contextlib.contextmanager
def home(connection, side: str):
    """Hold the turn of the connection's database, which is at the ``side`` named: nobody else decides meanwhile where
    it lives, nor touches its fence. Raises HandoverError when another run, of any migration, has it.
    """
    problem = f"Another run hands over the database of the {side}, or ends a migration of it; its session is {{}}."
    with held(connection, HOME, problem):
        yield


@contextlib.contextmanager
def held(connection, key: str, problem: str):
    """Hold an advisory lock of the connection's database; ``problem`` says of whom, in {}, has it. Raises HandoverError
    with that when it is not to be had soon.
    """
    try:
        query = f"SET LOCAL lock_timeout = '{PATIENCE}'; SELECT pg_advisory_lock(hashtextextended(%s, 0))"
        rows(connection, query, (key,))
    except psycopg2.errors.LockNotAvailable:
        found = ", ".join(text for text, _pid in rows(connection, HOLDER, (key,)))
        raise HandoverError(problem.format(found or "a process"), "Wait until it has ended, or stop it.") from None
    try:
        yield
    finally:
        with contextlib.suppress(psycopg2.Error):  # the session is gone, and the turn with it
            value(connection, "SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def holders(connection, identifier: str) -> list[str]:
    """Who has the turn: ``process 4711 from 192.0.2.1, since 2026-11-20 19:00:00+00``; empty if nobody has."""
    return [text for text, _pid in rows(connection, HOLDER, (_key(identifier),))]


def holding(connection, identifier: str) -> list[int]:
    """The sessions that have the turn, by process id."""
    return [pid for _text, pid in rows(connection, HOLDER, (_key(identifier),))]


def end_holders(connection, identifier: str, pids: list[int]) -> list[str]:
    """End these sessions, without which their runs fail, as far as they still have the turn; who that was. None where
    that is not permitted.
    """
    query = f"SELECT holder, pg_terminate_backend(pid) FROM ({HOLDER}) AS found (holder, pid) WHERE pid = ANY (%s)"
    try:
        return [text for text, _done in rows(connection, query, (_key(identifier), pids))]
    except psycopg2.errors.InsufficientPrivilege:
        return []


def _key(identifier: str) -> str:
    return f"handover.postgresql migration {identifier}"
