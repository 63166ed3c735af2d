# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Membership in the owners of what is restored, for a role that is not a superuser, and only while it restores.

``ALTER ... OWNER TO owner`` and what follows it need SET and INHERIT on the owner (PostgreSQL documentation, 21.3).
The connecting role gets both through a role of ours that lies between: dropping that one role takes everything back,
memberships that existed before are not touched, and parallel runs do not take away each other's.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import Trial, reason, transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

# handover_owners_<backend pid>_<start of that backend, microseconds since 1970>: tells whether its run still lives.
PREFIX = "handover_owners_"
NAME = re.compile(PREFIX + r"(\d+)_(\d+)")
BACKEND_START = "(extract(epoch FROM backend_start) * 1000000)::pg_catalog.int8"


@dataclass
class Memberships:
    """``taken``: owners held for the run; ``refused``: ``{"role", "reason"}`` of those that could not be taken.

    ``left_behind``, after the block: why the role between is still there; the next run drops it.
    """

    taken: list[str] = field(default_factory=list)
    refused: list[dict] = field(default_factory=list)
    left_behind: str = ""


@contextlib.contextmanager
def temporary_memberships(conn, owners):
    """Membership in ``owners`` as long as the block runs; yields Memberships.

    ``conn`` must stay open for the whole block, in autocommit mode; other sessions of the same role have
    the memberships too. Raises HandoverError if the server fails for another reason than a missing privilege.
    """
    borrowed = _of_other_runs(conn) if _drop_leftovers(conn)[0] else set()
    needed = [owner for owner in sorted(set(owners)) if owner in borrowed or not _holds(conn, owner)]
    result = Memberships()
    if not needed:
        yield result
        return
    name = PREFIX + "{}_{}".format(*rows(conn, _own_backend())[0])
    try:
        with transaction(conn) as cursor:
            _take(conn, Trial(cursor), name, needed, result)
        yield result
    finally:
        result.left_behind = _drop(conn, name)


def lasting_memberships(conn, name: str, owners) -> Memberships:
    """Membership in ``owners`` through a role of this name, until that is dropped; it may be there already.

    For the owner of a subscription: apply becomes the owner of each table (PostgreSQL documentation, 29.11).
    """
    needed = [owner for owner in sorted(set(owners)) if not _holds(conn, owner)]
    result = Memberships()
    if needed:
        with transaction(conn) as cursor:
            _take(conn, Trial(cursor), name, needed, result)
    return result


def drop_leftovers(conn) -> list[str]:
    """Drops the roles of runs that were killed and gives their names. Those of live runs are left alone."""
    return _drop_leftovers(conn)[1]


def _drop_leftovers(conn) -> tuple[list[str], list[str]]:
    """(the roles of all runs, those of them that were dropped)."""
    query = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname ~ %s"
    found = [name for (name,) in rows(conn, query, (f"^{NAME.pattern}$",))]
    return found, [name for name in found if not _is_alive(conn, name) and not _drop(conn, name)]


def _take(conn, attempts: Trial, name: str, owners: list[str], result: Memberships) -> None:
    """The role between, its memberships in the owners, and ours in it: committed together or not at all."""
    ours = sql.Identifier(name)
    options = sql.SQL(" WITH INHERIT TRUE, SET TRUE" if conn.info.server_version >= 160000 else "")
    there = value(conn, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %s)", (name,))
    trust.refuse_shared_role(conn, name)
    no_role = "" if there else attempts.attempt(sql.SQL("CREATE ROLE {} NOLOGIN").format(ours))
    no_role = no_role or attempts.attempt(sql.SQL("GRANT {} TO CURRENT_USER").format(ours) + options)
    for owner in owners:
        grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), ours) + options
        refused = no_role or attempts.attempt(grant)
        if _holds(conn, owner):
            result.taken.append(owner)
        else:
            no_use = "The connecting role is NOINHERIT: without SET ROLE, a membership gives it nothing."
            result.refused.append({"role": owner, "reason": refused or no_use})


def _holds(conn, owner: str) -> bool:
    """Whether the connecting role may give objects to this owner and go on altering them. A missing role: False."""
    may_set = "SET" if conn.info.server_version >= 160000 else "MEMBER"
    query = (
        "SELECT coalesce(bool_and(pg_catalog.pg_has_role(oid, %s) AND pg_catalog.pg_has_role(oid, 'USAGE')), false)"
        " FROM pg_catalog.pg_roles WHERE rolname = %s"
    )
    return value(conn, query, (may_set, owner))


def _of_other_runs(conn) -> set[str]:
    """Owners that parallel runs have borrowed, directly or through another: theirs will be gone before ours ends."""
    query = """
        WITH RECURSIVE borrowed AS (
            SELECT oid FROM pg_catalog.pg_roles WHERE rolname ~ %s
            UNION SELECT m.roleid FROM pg_catalog.pg_auth_members AS m JOIN borrowed ON borrowed.oid = m.member
        )
        SELECT rolname FROM borrowed JOIN pg_catalog.pg_roles USING (oid)
    """
    return {name for (name,) in rows(conn, query, (f"^{NAME.pattern}$",))}


def _own_backend() -> str:
    return f"SELECT pid, {BACKEND_START} FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"


def _is_alive(conn, name: str) -> bool:
    """Whether the session that made the role is there; yes if its process number is taken by one we may not see."""
    pid, started = map(int, NAME.fullmatch(name).groups())
    query = f"SELECT {BACKEND_START} FROM pg_catalog.pg_stat_activity WHERE pid = %s"
    return any(found in (None, started) for (found,) in rows(conn, query, (pid,)))


def _drop(conn, name: str) -> str:
    """Empty if the role is gone, else the server's reason."""
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg2.Error as error:
        return reason(error)
    return ""
