# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a continuous migration: what stopping it and finishing it have in common.

Either end may be out of reach. Then the other is done, and what is left to do is returned as SQL; another run does it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import ClassVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.exact import Exact
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import (
    rehearsal_database,
    removal,
    strays,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.ends import Ends, Visit, visit
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.recognition import recognise
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import event_triggers, turn
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import scratch


@dataclass
class Ending(Exact):
    """The end of one migration: sessions at both ends, what is known of it, and what was done. How it ends is said by
    who inherits from this: stop.Stopping and finish.Finishing.
    """

    ends: Ends
    source: Visit
    target: Visit
    dbname: str
    goal: str
    check_mode: bool
    migration: migration_journal.Migration | None = None
    identifier: str | None = None
    undo: list[str] = field(default_factory=list)
    statements: dict = field(default_factory=lambda: {"source": [], "target": []})
    left: dict = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    ends_copies: ClassVar[bool] = False  # whether a run that copies is ended for it
    needs_names: ClassVar[bool] = False  # whether databases have to be named where the source is out of reach

    def refuse(self, params: dict) -> None:
        """Raise HandoverError where this is not its end."""

    def work(self, params: dict) -> None:
        """Do it. Raises HandoverError."""
        raise NotImplementedError

    def conclude(self, params: dict) -> None:
        """Do what is left to do, also where it is not known which migration there was. Raises HandoverError."""

    def run(self, visited: Visit, steps: list[removal.Step]) -> None:
        """Do the steps at one end, or only list them."""
        for step in steps:
            if not self.check_mode:
                step.run()
            self.statements[visited.side] += step.statements

    def as_result(self) -> dict:
        """What the module returns of this database."""
        return {
            "database": self.dbname,
            "target_database": self.goal,
            "id": self.identifier,
            "changed": any(self.statements.values()),
            "statements": self.statements,
            "left": self.left,
            "notices": self.notices + [end.problem for end in (self.source, self.target) if end.problem],
        }


def end_each(kind: type[Ending], source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """All databases, whatever becomes of one of them. Raises HandoverError in the end."""
    ends = Ends.reach(source, target, params)
    if kind.needs_names and ends.source.problem and not params["databases"]:
        raise HandoverError(ends.source.problem, f"{ends.source.remedy} If it is gone, name the databases.")
    results, errors = [], []
    for dbname, goal in ends.pairs:
        try:
            results.append(end_one(kind, ends, dbname, goal, params, check_mode))
            _forget_scratch(ends, goal, results[-1], check_mode)
        except HandoverError as error:
            errors.append(error)
    result = {"databases": results, "changed": any(one["changed"] for one in results)}
    if errors:
        problem = " ".join(error.as_result()["msg"] for error in errors[:-1]) + f" {errors[-1].problem}"
        raise HandoverError(problem.strip(), errors[-1].remedy, **result)
    return result


def _forget_scratch(ends: Ends, goal: str, result: dict, check_mode: bool) -> None:
    """What rehearsals and verifications left is in no database of the migration, and may be all that there is."""
    if ends.target.problem is None:
        statements = rehearsal_database.forget(ends.target.endpoint, goal, check_mode)
        if result["id"]:
            statements += scratch.drop_left(ends.target.endpoint, result["id"], check_mode)
        result["statements"]["target"] += statements
        result["changed"] = result["changed"] or bool(statements)


def end_one(
    kind: type[Ending], ends: Ends, dbname: str, goal: str, params: dict, check_mode: bool, still=None
) -> dict | None:
    """End the migration of one database, in the way that is the ``kind``'s. Everything is looked at again once nobody
    else is at work on it; if ``still(source's visit, target's visit)`` says no by then, nothing is done, and None
    returned. Raises HandoverError.
    """
    with visit(ends.source, dbname, check_mode) as at_source:
        try:
            with visit(ends.target, goal) as at_target:
                seen = recognise(ends, at_source, at_target, dbname, goal).identifier
            with contextlib.ExitStack() as stack:
                ended = [] if check_mode else _take_turn(stack, ends, at_source, goal, seen, kind.ends_copies)
                at_target = stack.enter_context(visit(ends.target, goal, check_mode))
                if still and not ended and not still(at_source, at_target):
                    return None
                ending = _recognise(kind(ends, at_source, at_target, dbname, goal, check_mode), seen)
                ending.notices += [f"A running run was ended; its session on the source was {one}." for one in ended]
                ending.refuse(params)
                if ending.identifier is not None:
                    ending.work(params)
                ending.conclude(params)
                _say_what_is_not_known(ending)
                return ending.as_result()
        except HandoverError as error:
            raise error.of_database(dbname) from None
        except psycopg2.Error as error:
            text = one_line(error)
            mend = " ".join([*_let_through(at_source, ends, goal), MEND])
            raise HandoverError(f"A server refused a statement: {text}.", mend).of_database(dbname) from None


def _let_through(at_source: Visit, ends: Ends, goal: str) -> list[str]:
    """What keeps event triggers out of our way, at either end where they are in it."""
    with contextlib.suppress(psycopg2.Error, HandoverError), visit(ends.target, goal, False) as at_target:
        seen = [one for one in (at_source, at_target) if one.connection]
        found = [(one, event_triggers.acting(one.connection)) for one in seen]
        return [f"On the {one.side}: {event_triggers.remedy(one.connection, them)}." for one, them in found if them]
    return []


MEND = "Fix the cause, then run this again: it goes on from there."


def _recognise(ending: Ending, seen: str | None) -> Ending:
    """What there is to end, which has to be the migration that was ``seen`` before."""
    ends, at_source, at_target = ending.ends, ending.source, ending.target
    ending.left = {end.side: None if end.unknown else [] for end in (at_source, at_target)}
    found = recognise(ends, at_source, at_target, ending.dbname, ending.goal)
    if found.identifier != seen:
        raise HandoverError("Another run has begun or ended a migration of this database meanwhile.", "Run this again.")
    ending.identifier, ending.migration, ending.undo = found.identifier, found.migration, found.undo
    ending.notices += [found.notice] if found.notice else []
    return ending


def _take_turn(
    stack: contextlib.ExitStack, ends: Ends, at_source: Visit, goal: str, seen: str | None, ends_copies: bool
) -> list:
    """No other run on this migration until the stack is left: one that copies is ended, to stop it, before it makes
    anything else. Returns who that was.
    """
    source = at_source.connection
    if not source or seen is None:
        return []
    ended, holding = [], turn.holding(source, seen) if ends_copies else []
    if holding:
        with visit(ends.target, goal) as at_target:  # after it was seen who holds it: nobody else is ended
            ended = turn.end_holders(source, seen, holding) if _copies(source, at_target, seen) else []
    stack.enter_context(turn.taken(source, seen))
    stack.enter_context(turn.home(source, at_source.side))
    ends.target.look_again()
    with visit(ends.target, goal) as at_target:
        if ended and at_target.connection:
            target_database.end_sessions(at_target.connection)
    return ended


def _copies(source, at_target: Visit, seen: str) -> bool:
    """Whether a run that is at work can be one that copies or waits only, and no cutover."""
    migration = migration_journal.read_migration(at_target.connection, seen) if at_target.connection else None
    if migration is None:
        return False
    unfinished = any(wave.state == "copying" for wave in migration.waves)
    return migration.phase in ("copying", "catching_up") or (unfinished and not fence.read(source))


def unsubscribe(ending: Ending, visited: Visit) -> None:
    """Before anything else, so that nobody reads from the slots."""
    if visited.connection:
        ending.run(visited, removal.subscriptions(visited.connection, ending.identifier))


def unsubscribe_both(ending: Ending) -> None:
    """A target that refuses it counts as out of reach then, because the source has to be freed."""
    try:
        unsubscribe(ending, ending.target)
    except psycopg2.Error as error:
        ending.target.problem, ending.target.connection = f"The target: {one_line(error)}", None
    unsubscribe(ending, ending.source)


def free(ending: Ending, lift_fence: bool) -> None:
    """Of both directions: what holds back WAL first, then the rest; the source first, whatever the target says."""
    identifier = ending.identifier
    for visited in (ending.source, ending.target):
        if visited.connection:
            for removed in (removal.slots, removal.publications, removal.roles):
                ending.run(visited, removed(visited.connection, identifier))
        if visited is ending.source and visited.connection:
            ending.run(visited, removal.undo_on_source(visited.connection, identifier, ending.undo))
            stays = take_fence_down(ending, visited, lift_fence)
            ending.run(visited, removal.record(visited.connection, identifier, stays))


def take_fence_down(ending: Ending, visited: Visit, lift: bool) -> bool:
    """Whether there is one that stays. An open one, which an aborted cutover may have left, never does."""
    found = fence.read(visited.connection)
    if found and not is_ours(ending, visited, found):
        if found.closed:
            ending.notices.append(OTHER_FENCE.format(visited.side, found.migration, found.home))
        return True
    ending.notices += strays.past_the_fence(visited.connection, visited.side, contents=True)
    steps, stays = removal.fences(visited.connection, found, lift)
    ending.run(visited, steps)
    if stays:
        ending.notices.append(FENCE_STAYS.format(visited.side))
    return stays


def is_ours(ending: Ending, visited: Visit, found: fence.Fence) -> bool:
    """Whether the fence is of this migration, or names the other end as the database's home: the migration may have had
    another identity, before an end was upgraded.
    """
    other, name = (ending.ends.target, ending.goal) if visited is ending.source else (ending.ends.source, ending.dbname)
    return found.migration == ending.identifier or found.home == other.endpoint.describe(name).split(", ", 1)[1]


def say_what_is_left(ending: Ending) -> None:
    """Nothing is left at an end that was seen; None stands for one that nothing is known of."""
    if ending.source.unknown:
        ending.left["source"] = removal.left_on_source(ending.identifier)
    if ending.target.unknown:
        ending.left["target"] = removal.left_on_target(ending.identifier)


def _say_what_is_not_known(ending: Ending) -> None:
    """What is named as ours are, and belongs to no migration that either end knows, is not ours to remove unasked.
    Raises HandoverError where nothing else was done.
    """
    found = {}
    for visited in (ending.source, ending.target):
        if visited.connection:
            records = source_record.read(visited.connection) + [
                {"id": one.id} for one in migration_journal.read_all(visited.connection)
            ]
            known = {ending.identifier, *(one["id"] for one in records)}
            found[visited.side] = removal.strangers(visited.connection, known)
    for side, statements in found.items():
        if statements:
            ending.left[side] = [*(ending.left[side] or []), *statements]
            ending.notices.append(f"{STRANGERS.format(side)} {'; '.join(statements)}.")
    if any(found.values()) and not any(ending.statements.values()):
        raise HandoverError(" ".join(ending.notices), "Run these statements if nobody needs it.", left=ending.left)


STRANGERS = (
    "The {} has slots, publications or subscriptions with no record of their migration, so it is unknown whose they "
    "are. These statements remove them:"
)
OTHER_FENCE = "The fence on the {} stays: it belongs to migration {}, which handed the database over to {}."


def incomplete(migration: migration_journal.Migration) -> list[str]:
    """What the data on the target lacks."""
    tables = [f"{table.schema}.{table.name}" for table in migration.tables if table.state != "indexed"]
    notices = [
        "The target has what was applied until now. Its sequences stand where they were when the migration began."
    ]
    if tables:
        notices.append(f"Not copied, incomplete, or without all indexes: {', '.join(tables)}.")
    return notices


def memberships_of_owners(ending: Ending):
    """Membership in the owners of what is there, as tables and their triggers are their owners' to alter."""
    target = ending.target.connection
    if ending.check_mode or not (ending.migration or fence.read(target)):
        return contextlib.nullcontext()
    return memberships.temporary_memberships(target, catalog.referenced_roles(target))


FENCE_STAYS = (
    "The fence on the {} stays, so that nobody writes there by mistake. To remove it, finish with lift_fence: true."
)
