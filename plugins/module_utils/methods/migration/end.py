# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a continuous migration: stopped, which frees the source at once, and finished, which removes every trace.

Either end may be out of reach. Then the other is done, and what is left to do is returned as SQL; another run does it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.parts import (
    fence,
    migration_journal,
    ownership,
    removal,
    target_database,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.ends import (
    Ends,
    Visit,
    find_records,
    visit,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    naming,
    source_record,
    turn,
)


@dataclass
class Ending:
    """The end of one migration: sessions at both ends, what is known of it, and what was done."""

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


def stop(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Free the sources, and keep what was migrated, as pg_logical_migrate documents. Raises HandoverError."""
    return _each(source, target, params, check_mode, _stop)


def finish(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Remove every trace, and keep the data, as pg_logical_migrate documents. Raises HandoverError."""
    return _each(source, target, params, check_mode, _finish)


def _each(source: Endpoint, target: Endpoint, params: dict, check_mode: bool, work) -> dict:
    """All databases, whatever becomes of one of them. Raises HandoverError in the end."""
    ends = Ends.reach(source, target, params)
    if work is _finish and ends.source.problem and not params["databases"]:
        raise HandoverError(ends.source.problem, f"{ends.source.remedy} If it is gone, name the databases.")
    results, errors = [], []
    for dbname, goal in ends.pairs:
        try:
            results.append(end_one(ends, dbname, goal, params, check_mode, work))
        except HandoverError as error:
            errors.append(error)
    result = {"databases": results, "changed": any(one["changed"] for one in results)}
    if errors:
        problem = " ".join(error.as_result()["msg"] for error in errors[:-1]) + f" {errors[-1].problem}"
        raise HandoverError(problem.strip(), errors[-1].remedy, **result)
    return result


def end_one(ends: Ends, dbname: str, goal: str, params: dict, check_mode: bool, work=None) -> dict:
    """End the migration of one database, by stopping it unless something else is said. Raises HandoverError."""
    with visit(ends.source, dbname, check_mode) as at_source, visit(ends.target, goal, check_mode) as at_target:
        ending = Ending(ends, at_source, at_target, dbname, goal, check_mode)
        ending.left = {end.side: None if end.unknown else [] for end in (at_source, at_target)}
        try:
            _recognise(ending)
            if work is _finish:
                _refuse_too_early(ending, params)
            if ending.identifier is not None:
                with _turn(ending, work or _stop):
                    (work or _stop)(ending, params)
        except HandoverError as error:
            raise error.of_database(dbname) from None
        except psycopg2.Error as error:
            text = " ".join(str(error).split())
            raise HandoverError(f"A server refused a statement: {text}.", MEND).of_database(dbname) from None
        return ending.as_result()


MEND = "Mend the cause, and run this again: it goes on from there."


def _recognise(ending: Ending) -> None:
    """Find the migration by the journal, by both ends' identities, or, with the target gone, by the source's record."""
    source, target = ending.source.connection, ending.target.connection
    servers = ending.ends.source.server, ending.ends.target.server
    if all(servers):
        ending.identifier = naming.migration_id(servers[0], ending.dbname, servers[1], ending.goal)
    if target:
        ending.migration = migration_journal.read_migration(target, ending.identifier)
    records = find_records(ending.ends, source, ending.goal) if source else []
    if ending.migration:
        ending.identifier = ending.migration.id
    elif records and not ending.identifier:
        ending.identifier = records[-1]["id"]
    elif not records and source and ending.target.unknown:
        _refuse_other_address(ending, source_record.read(source))
    ending.undo = [one for record in records if record["id"] == ending.identifier for one in record["undo"]]


def _refuse_other_address(ending: Ending, records: list[dict]) -> None:
    """With the target out of reach, its address is all that tells which migration is meant."""
    addresses = [f"{record['target']['host']}:{record['target']['port']}" for record in records]
    if addresses:
        raise HandoverError(
            f"The target cannot be reached, and the source has records of migrations to another address only: "
            f"{', '.join(addresses)}. {ending.target.problem}",
            "Give the target as it was when the migration began.",
        )


@contextlib.contextmanager
def _turn(ending: Ending, work):
    """No other run on this migration meanwhile: one that copies is ended, to stop it, before it makes anything else."""
    source, target = ending.source.connection, ending.target.connection
    if ending.check_mode or not source:
        yield
        return
    ended = turn.end_holders(source, ending.identifier) if work is _stop and _copies(ending) else []
    with turn.taken(source, ending.identifier):
        if ended:
            target_database.end_sessions(target)
            ending.notices.append(f"A run that was at work was ended: on the source, {', '.join(ended)}.")
        if ending.migration:
            ending.migration = migration_journal.read_migration(target, ending.identifier)
        yield


def _copies(ending: Ending) -> bool:
    """Whether a run that is at work can be one that copies or waits only, and no cutover."""
    migration = ending.migration
    if migration is None:
        return False
    unfinished = any(wave.state == "copying" for wave in migration.waves)
    return migration.phase in ("copying", "catching_up") or (unfinished and not fence.read(ending.source.connection))


# --- stopped -----------------------------------------------------------------------------------------------------


def _stop(ending: Ending, _params: dict) -> None:
    migration = ending.migration
    if migration and (migration.phase, migration.direction) == ("handed_over", "forward"):
        raise HandoverError(
            "It was handed over: the target is the primary, and the source is fenced.",
            "Use state: finished to remove the traces, or roll back first.",
        )
    try:
        _unsubscribe(ending, ending.target)
    except psycopg2.Error as error:  # it counts as out of reach then: the source has to be freed
        ending.target.problem, ending.target.connection = f"The target: {' '.join(str(error).split())}", None
    _unsubscribe(ending, ending.source)
    _free(ending, lift_fence=False)
    if ending.target.connection:
        with _memberships(ending):
            _take_fence_down(ending, ending.target, lift=False)
    _say_what_is_left(ending)
    if migration and migration.phase != "stopped" and ending.target.connection:
        ending.notices += _incomplete(migration)
        if not ending.check_mode:
            migration_journal.set_phase(ending.target.connection, migration.id, "stopped")
            migration_journal.add_event(ending.target.connection, migration.id, "stopped", left=ending.left)
        ending.statements["target"].append("UPDATE handover.migration SET phase = 'stopped'")


def _unsubscribe(ending: Ending, visited: Visit) -> None:
    """Before anything else, so that nobody reads from the slots."""
    if visited.connection:
        ending.run(visited, removal.subscriptions(visited.connection, ending.identifier))


def _free(ending: Ending, lift_fence: bool) -> None:
    """Of both directions: what holds back WAL first, then the rest; the source first, whatever the target says."""
    identifier = ending.identifier
    for visited in (ending.source, ending.target):
        if visited.connection:
            for removed in (removal.slots, removal.publications, removal.roles):
                ending.run(visited, removed(visited.connection, identifier))
        if visited is ending.source and visited.connection:
            ending.run(visited, removal.undo_on_source(visited.connection, identifier, ending.undo))
            stays = _take_fence_down(ending, visited, lift_fence)
            ending.run(visited, removal.record(visited.connection, identifier, stays))


def _take_fence_down(ending: Ending, visited: Visit, lift: bool) -> bool:
    """Whether there is one that stays. An open one, which an aborted cutover may have left, never does."""
    steps, stays = removal.fences(visited.connection, lift)
    ending.run(visited, steps)
    if stays:
        ending.notices.append(FENCE_STAYS.format(visited.side))
    return stays


def _say_what_is_left(ending: Ending) -> None:
    """Nothing is left at an end that was seen; None stands for one that nothing is known of."""
    if ending.source.unknown:
        ending.left["source"] = removal.left_on_source(ending.identifier)
    if ending.target.unknown:
        ending.left["target"] = removal.left_on_target(ending.identifier)


def _incomplete(migration: migration_journal.Migration) -> list[str]:
    """What the data on the target lacks."""
    tables = [f"{table.schema}.{table.name}" for table in migration.tables if table.state != "indexed"]
    notices = ["The target has what was applied until now. Sequences there stand where they were when it began."]
    if tables:
        notices.append(f"Not copied, not completely, or without all indexes: {', '.join(tables)}.")
    return notices


# --- finished ----------------------------------------------------------------------------------------------------


def _finish(ending: Ending, params: dict) -> None:
    migration, target = ending.migration, ending.target.connection
    _unsubscribe(ending, ending.target)
    _unsubscribe(ending, ending.source)
    _free(ending, params["lift_fence"])
    if target is None:  # the database is gone
        return
    with _memberships(ending):
        stays = _take_fence_down(ending, ending.target, params["lift_fence"])
        ending.run(ending.target, removal.undo(target, migration.undo if migration else []))
    if migration:
        ending.run(ending.target, removal.record_of_target(target, stays))
        if not ending.check_mode:
            ownership.drop_leftovers(target)
    else:
        ending.run(ending.target, removal.rest_of_target(target, stays))
    _say_what_is_left(ending)


def _memberships(ending: Ending):
    """Membership in the owners of what is there, as tables and their triggers are their owners' to alter."""
    target = ending.target.connection
    if ending.check_mode or not (ending.migration or fence.read(target)):
        return contextlib.nullcontext()
    return ownership.temporary_memberships(target, catalog.referenced_roles(target))


FENCE_STAYS = (
    "The fence on the {} stays, so that nobody writes there by mistake. To take it down, finish with lift_fence: true."
)


def _refuse_too_early(ending: Ending, params: dict) -> None:
    """Only what is over can be finished."""
    migration = ending.migration
    if ending.target.unknown:
        raise HandoverError(
            f"The target cannot be reached, so whether the migration is over is unknown. {ending.target.problem}",
            "Run again when it can, or use state: stopped to free the source now.",
        )
    if migration is None:
        if _has_traces(ending) and not _was_handed_over(ending):
            raise HandoverError(
                "The target has no journal of this migration, but the source has traces of one.",
                "Use state: stopped, which removes them.",
            )
        return
    if migration.phase == "handed_over" or (migration.phase == "stopped" and params["without_cutover"]):
        return
    if migration.phase == "stopped":
        raise HandoverError(
            f"It was stopped, and never handed over. {' '.join(_incomplete(migration))}",
            "If the target is not to be used as it is, or you have seen to its sequences yourself, use "
            "without_cutover: true.",
        )
    raise HandoverError(
        f"It is not over: its phase is {migration.phase}.", "Cut over first, or give it up with state: stopped."
    )


def _has_traces(ending: Ending) -> bool:
    """Whether the source has anything of the migration but a fence."""
    source, identifier = ending.source.connection, ending.identifier
    if not source or not identifier:
        return False
    recorded = any(one["id"] == identifier for one in source_record.read(source))
    looks = (removal.publication_names, removal.subscriptions, removal.slots)
    return recorded or any(look(source, identifier) for look in looks)


def _was_handed_over(ending: Ending) -> bool:
    """Whether the source is fenced, by which it is known where the journal is gone: finish removed it already, while
    the source was away, or the database went with it.
    """
    found = fence.read(ending.source.connection)
    return bool(found) and found.closed and found.migration == ending.identifier
