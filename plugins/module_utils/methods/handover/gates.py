# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be true before a window is opened: each gate is asked, and says what to do where it is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import seconds_of
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import quoted_names, rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import role_changes
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.findings import GateAnswer
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import STAMP, Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, drift
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import (
    SETTLING,
    Poolers,
    is_place_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    event_triggers,
    subscription,
)

Found = TypeVar("Found")
GATES: dict[str, Callable[[Passage], tuple[str, str] | None]] = {}
BESIDE = ("transactions", "permissions", "event_triggers", "roles", "sessions")  # no others wait for what they find
SHOWN = 10  # things named in a message


def gate(name: str):
    """Register a function of a Passage: it returns nothing where all is well, else (problem, remedy)."""

    def register(function):
        GATES[name] = function
        return function

    return register


def ask_all(passage: Passage, beside: Callable[[], Found]) -> tuple[list[GateAnswer], Found]:
    """What every gate answers, in order, and what was found ``beside`` it with the passage. Gates ask over the sessions
    that hold the turns, and some over another pair.
    """
    answers: dict[str, GateAnswer] = {}

    def ask(one: Passage, names: Iterable[str]) -> None:
        for name in names:
            answers[name] = GateAnswer(name, *(GATES[name](one) or ()))

    old, new = passage.turns
    one, other = replace(passage, old=old, new=new), replace(passage, old=passage.reader, new=passage.writer)
    rest = [name for name in GATES if name not in BESIDE]
    *_none, found = together(lambda: ask(one, rest), lambda: ask(other, BESIDE), beside)
    passage.sight, passage.lag_seconds, passage.stamp = one.sight, one.lag_seconds, one.stamp
    passage.roles = other.roles
    return [answers[name] for name in GATES], found


def ask_poolers(passage: Passage, poolers: Poolers, dbnames: list[str]) -> list[GateAnswer]:
    """The same for each pooler: its sessions with a server are sessions of old, with the databases of the window.
    Without any, a note says so.
    """
    answers = []
    for pooler in poolers:
        leads = pooler.leads_to(passage.old, dbnames, SETTLING)
        places = pooler.places()
        foreign = sorted(f"{name} to {place[2]}" for name, place in places.items() if place[2] not in dbnames)
        problem = ""
        if foreign:
            problem = f"Entries of the pooler {pooler.name} point at other databases: {', '.join(foreign)}."
        elif leads is False:
            problem = f"The pooler {pooler.name} points at another server than {passage.route.old.endpoint.describe()}."
        elif leads is None and any(is_place_of(place, passage.new) for place in places.values()):
            problem = f"The pooler {pooler.name} has loaded the new home already."
        elif leads is None:
            said = ", ".join(f"{name}: {place[0]}:{place[1]}" for name, place in sorted(places.items()))
            passage.note(
                f"The pooler {pooler.name} has no session that would show where it points; its settings say {said}."
            )
        remedy = (
            "RELOAD it if its file is right. Otherwise correct poolers, or databases of that pooler." if problem else ""
        )
        answers.append(GateAnswer(f"pooler {pooler.name}", problem, remedy))
    return answers


def refuse(closed: list[GateAnswer]) -> None:
    """Raise HandoverError for gates that are closed."""
    if closed:
        raise HandoverError(
            "The database was not handed over, and nothing was changed: " + " ".join(one.problem for one in closed),
            " ".join(dict.fromkeys(one.remedy for one in closed)),
            gates=[one.as_result() for one in closed],
        )


@gate("continuity")
def continuous(passage: Passage):
    """Nothing was lost on the way, as far as can be seen. First, as a beacon would cover it."""
    passage.sight = continuity.look(passage.source, passage.journal, passage.route.migration)
    for text in passage.sight.accepted:
        passage.note(text)
    if passage.sight.breaks:
        return " ".join(one["problem"] for one in passage.sight.breaks), continuity.remedy(passage.sight)
    if passage.sight.unseen:
        return f"It is unknown whether changes were lost. {' '.join(passage.sight.unseen)}", continuity.LET_SEE
    return None


@gate("in_step")
def in_step(passage: Passage):
    """All subscriptions are there, enabled and applying."""
    flows = passage.route.flows
    states = subscription.state(passage.new, flows)
    missing = sorted(set(flows) - set(states))
    if missing or not flows:
        return (
            f"Changes no longer flow: no subscription {', '.join(missing) or 'at all'}.",
            "Check handover.postgresql.status; without replication, a handover in this direction is not possible.",
        )
    stopped = [name for name, one in states.items() if not one["enabled"]]
    if stopped:
        return (
            f"The subscription {', '.join(stopped)} is disabled: an error in apply or somebody disabled it.",
            (
                "The subscriber's log has the error. Fix its cause, then run handover.postgresql.replicate to enable "
                "the subscription."
            ),
        )
    return None


@gate("lag")
def lag(passage: Passage):
    """A beacon takes no longer than cutover_max_lag from old to new."""
    flows, limit = passage.route.flows, seconds_of("cutover_max_lag", passage.params["cutover_max_lag"])
    if set(subscription.state(passage.new, flows)) != set(flows) or not flows:
        return None  # said above
    if passage.sight.breaks:
        return None  # another beacon would cover what was lost
    started = time.monotonic()
    number = beacon.advance(passage.old, flows)
    if not beacon.await_(passage.new, flows, number, started + limit):
        return (
            f"The new home is more than {limit:g} s behind, or does not apply changes.",
            "Check handover.postgresql.status. Wait until it has caught up, or allow more with cutover_max_lag.",
        )
    passage.lag_seconds = round(time.monotonic() - started, 3)
    return None


@gate("drift")
def no_drift(passage: Passage):
    """Definitions of tables are as the migration took them over. Remembers a stamp to compare in the window."""
    passage.stamp = stamp(passage.old)
    found, followed = drift.since(passage.route.migration, passage.old), passage.followed
    if followed.refusal:
        return followed.refusal.problem, followed.refusal.remedy
    if followed.is_due:
        left = ("replaced",) if passage.route.migration.phase == "handed_over" else drift.MEMBERSHIP
        found = [one for one in found if one["change"] in left]
    if found:
        return (
            f"Tables were redefined since the migration began: {drift.describe(found, SHOWN)}.",
            "Make the same changes on the other side, then run handover.postgresql.replicate, which accepts them.",
        )
    return None


@gate("definitions")
def all_made(passage: Passage):
    """The new home has all that the migration was to make there; the old one had it before."""
    failures = passage.route.migration.failures if passage.route.direction == FORWARD else []
    names = [one["object"] for one in failures]
    if names:
        return (
            f"{counted(len(names), 'object')} could not be made on the new home: {_some(names)}.",
            "Fix the causes there, or name them in handover_leave_out; then run handover.postgresql.replicate.",
        )
    return None


@gate("statistics")
def analyzed(passage: Passage):
    """The planner of the new home knows its tables."""
    query = """
        SELECT format('%I.%I', s.schemaname, s.relname) FROM pg_stat_user_tables AS s
        WHERE s.schemaname <> 'handover' AND s.last_analyze IS NULL AND s.last_autoanalyze IS NULL
        AND pg_relation_size(s.relid) > 0 AND NOT EXISTS (
            SELECT FROM pg_stats AS p WHERE p.schemaname = s.schemaname AND p.tablename = s.relname) ORDER BY 1"""
    keys = [(one.schema, one.name) for one in passage.route.migration.at_cutover]
    at_cutover = quoted_names(passage.new, keys)
    names = [name for (name,) in rows(passage.new, query) if name not in at_cutover]
    if names and passage.route.direction != FORWARD:  # who goes back may be in a hurry
        passage.note(f"The source has no statistics of {counted(len(names), 'table')}: run ANALYZE there.")
        return None
    if names:
        return (
            f"The new home has no statistics of {counted(len(names), 'table')}: {_some(names)}.",
            "Run ANALYZE there.",
        )
    return None


@gate("verification")
def verified(passage: Passage):
    """The contents were compared, lately enough, and are equal."""
    found, params = passage.route.migration.verified, passage.params
    required = params["require_verification"]
    if not (passage.route.direction == FORWARD if required is None else required):
        return None
    remedy = "Run handover.postgresql.verify, or set require_verification: false."
    if passage.followed.is_due:
        return (
            "The new home is to follow changes of the schema first; then what was verified does not count any more.",
            f"Run handover.postgresql.watch, which lets it follow. {remedy}",
        )
    if not found:
        return "The contents were not verified.", remedy
    if found["verdict"] != "equal":
        return f"The last verification found the contents {found['verdict']}.", remedy
    outdated = continuity.outdated(found, passage.sight)
    if outdated:
        return f"The last verification does not count any more: {'; '.join(outdated)}.", remedy
    limit = seconds_of("verified_within", params["verified_within"])
    age = value(passage.journal, "SELECT extract(epoch FROM clock_timestamp() - %s::timestamptz)", (found["at"],))
    if age > limit:
        return f"The last verification is {age:.0f} s old, more than verified_within allows.", remedy
    return None


@gate("writers")
def nobody_writes_to_new(passage: Passage):
    """No other session is about to write to the new home. From then on its fence keeps others out."""
    query = """
        SELECT DISTINCT format('process %s (%s, "%s")', a.pid, a.usename, a.application_name)
        FROM pg_stat_activity AS a LEFT JOIN pg_locks AS l ON l.pid = a.pid AND l.locktype = 'relation'
            AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
            AND l.relation >= 16384
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.application_name <> 'handover'
        AND a.backend_type = 'client backend' AND (a.backend_xid IS NOT NULL OR l.pid IS NOT NULL) ORDER BY 1"""
    found = [text for (text,) in rows(passage.new, query)]
    if found:
        return f"Sessions write to the new home: {_some(found)}.", "End them there."
    return None


@gate("transactions")
def nothing_in_the_way(passage: Passage):
    """No transaction on old is that old, or prepared, that the window would have to wait for it."""
    limit = min(5.0, passage.params["deadline"] / 2)
    query = """
        SELECT format('process %%s (%%s, "%%s", for %%s s)', a.pid, a.usename, a.application_name,
                      extract(epoch FROM clock_timestamp() - a.xact_start)::int)
        FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.application_name <> 'handover'
        AND a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - %s * interval '1 second'
        AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.relation >= 16384
                    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
        UNION ALL SELECT format('prepared transaction %%L', gid) FROM pg_prepared_xacts
        WHERE database = current_database() ORDER BY 1"""
    found = [text for (text,) in rows(passage.old, query, (limit,))]
    if found:
        return f"Transactions that have written stay open: {_some(found)}.", "Let them end, or end them."
    return None


@gate("permissions")
def may_fence(passage: Passage):
    """The connecting roles may fence both ends."""
    for place, session in passage.both_ends:
        names = fence.not_permitted(session, fence.tables_to_fence(session))
        if names:
            return (
                f"The fence needs the owner of {counted(len(names), 'table')} of the {place}: {_some(names)}.",
                f"Make the connecting role a member of their owners on the {place}, or connect as a superuser.",
            )
    return None


@gate("event_triggers")
def definitions_may_change(passage: Passage):
    """No event trigger keeps us from fencing, or from publishing the way back."""
    for place, session in passage.both_ends:
        found = event_triggers.refusal(session)
        if found:
            return f"On the {place}, {found[0]}", found[1]
    return None


@gate("roles")
def roles_are_there(passage: Passage):
    """Roles are at the new home as they are at the old one, or will be before the window."""
    if passage.params["roles"] == "ignore":
        return None
    plan = passage.roles = role_changes.look(passage)
    if not plan.statements or passage.params["roles"] == "bring":
        return None
    return (
        f"Roles of the new home differ from those of the old one: {role_changes.describe(plan)}.",
        "Bring them over with roles: bring, leave some alone with skip_roles, or do without with roles: ignore.",
    )


@gate("sessions")
def fence_binds_everybody(passage: Passage):
    """No setting lets sessions pass the fence of either end."""
    for place, session in passage.both_ends:
        found = fence.passing(session)
        if found:
            whom, statements = (list(dict.fromkeys(column)) for column in zip(*found))
            return (
                (
                    f"On the {place}, session_replication_role = replica is set for {_some(whom)}; the fence does not "
                    "stop these sessions."
                ),
                f"There: {'; '.join(statements)}. Then end the sessions that have it.",
            )
    return None


def stamp(session) -> str:
    """Changes with every change of a table's definition."""
    return value(session, STAMP)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
