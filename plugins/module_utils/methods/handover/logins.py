# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles that are to lose LOGIN on old."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import other_databases, rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.naming import PREFIX
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence

# We, the streams of any migration that are sent from here, and, as their workers log in, the owners of those that
# come here.
OURS = """
    SELECT current_user::text UNION SELECT session_user::text
    UNION SELECT usename::text FROM pg_stat_replication AS r JOIN pg_replication_slots ON active_pid = r.pid
        WHERE starts_with(slot_name::text, %(prefix)s)
    UNION SELECT pg_get_userbyid(subowner)::text FROM pg_subscription WHERE starts_with(subname::text, %(prefix)s)"""


def to_fence(passage: Passage) -> list[str]:
    """Those of fence_roles that may log in on old now, or that another fence there keeps from it: whichever database
    comes back first needs them. Raises HandoverError for one that is not there, or that has to log in. Streams flow:
    the gates have been asked.
    """
    wanted, place = passage.params["fence_roles"], passage.route.old.endpoint.side
    if not wanted:
        return []
    query = "SELECT rolname::text, rolcanlogin FROM pg_roles WHERE rolname = ANY (%s)"
    found = dict(rows(passage.old, query, (wanted,)))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise HandoverError(f"The {place} has no role {', '.join(missing)}.", "Correct fence_roles.")
    needed = _needed(passage)
    refused = [name for name in wanted if name in needed]
    if refused:
        raise HandoverError(
            f"fence_roles names {', '.join(refused)}: the collection and its replication log in to the {place} as "
            "these roles, and without LOGIN there would be no way back.",
            "Remove it from fence_roles. If the application uses this role as well, give the collection its own: "
            f"set {place}.user and {_option(passage)}.user.",
        )
    fenced = _fenced_before(passage, {name for name in found if not found[name]})
    return [name for name in wanted if found[name] or name in fenced]


def _fenced_before(passage: Passage, names: set[str]) -> set[str]:
    """Those of the roles that a fence in any database of old keeps from logging in."""
    if not names:
        return set()
    fenced, unknown = fence.roles_without_login(passage.route.old.endpoint, other_databases(passage.old, []))
    open_questions = sorted(names - fenced)
    if unknown and open_questions:
        passage.note(
            f"{', '.join(open_questions)} had no LOGIN before. It is unknown whether a handover of "
            f"{', '.join(unknown)} took it; if so, a rollback of this database alone does not give it back."
        )
    return names & fenced


def _needed(passage: Passage) -> set[str]:
    """Roles as which we, or our streams, log in on old."""
    found = {name for (name,) in rows(passage.old, OURS, {"prefix": PREFIX})}
    return found | {(passage.params[_option(passage)] or {}).get("user")}


def _option(passage: Passage) -> str:
    """The option that says how new's server reaches old's."""
    return "replication" if passage.route.direction == FORWARD else "reverse_replication"
