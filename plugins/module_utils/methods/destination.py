# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a database goes: whether it may go there, and how it takes the place when everything is in it."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError, IncompleteError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import database_names
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling, options_of
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import FittedArchive
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import home
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn


@dataclass
class Destination:
    """The target of one run, and what its options (``params``) say about all databases that go there."""

    target: Endpoint
    connection: Connection
    params: dict
    check_mode: bool

    def visit(self, dbname: str):
        """A session in a database of the target."""
        return target_database.visit(self.target, self.connection, dbname, self.check_mode)


@contextlib.contextmanager
def only_run(run: Destination, goal: str):
    """One run at a time brings something into a database; the lock goes with the session, whatever ends it."""
    sys.audit(turn.EVENT, goal)
    shown = goal.replace("{", "{{").replace("}", "}}")
    problem = f'Another run is importing into database "{shown}"; its session is {{}}.'
    with turn.held(run.connection, f"handover.postgresql import {goal}", problem):
        yield


def refuse_occupied(run: Destination, goal: str, former: dict | None) -> None:
    """Nothing of the operator's is replaced unless they name it; what another migration needs, not even then."""
    params = run.params
    _refuse_needed(run, goal)
    if not target_database.exists(run.connection, goal):
        if not params["create"]:
            raise HandoverError(
                f'The target has no database "{goal}", and create is false.',
                "Create it there, or correct rename, or use create: true.",
            )
        return
    left = former and not former["completed"]
    if left and not params["create"]:
        return  # what is in it is ours, from a run that was killed
    if (left and former["made"]) or (params["replace"] and goal in params["replace_databases"]):
        if params["create"] and goal == run.connection.info.dbname:
            raise HandoverError(
                f'Database "{goal}" cannot be replaced, because it is the one that the module connects to.',
                "Name another database in target.dbname, or use create: false to keep it and replace its contents.",
            )
        return
    with run.visit(goal) as session:
        objects = target_database.own_objects(session)
    if objects or params["create"]:
        remedy = f"To replace it, use replace: true and replace_databases: [{goal}]"
        remedy += "." if params["create"] else ", or empty it."
        if not objects:
            remedy = "Use create: false to import into it, or drop it."
        raise HandoverError(
            f'The target already has a database "{goal}"'
            + (
                f", which holds {counted(len(objects), 'object')} ({', '.join(objects[:5])})."
                if objects
                else "; it is empty."
            ),
            remedy,
        )


def _refuse_needed(run: Destination, goal: str) -> None:
    """Raise HandoverError for a database that a migration leads into or out of, as far as this role may look."""
    if goal in database_names(run.connection):
        with run.visit(goal) as session, contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
            home.refuse_occupied(session, goal)


def create_and_fill(run: Destination, goal: str, filling: Filling) -> dict:
    """Fill a database under a name of ours; give it its own when everything is there, or before, if it takes that."""
    place = make_place(run, goal, filling.archive)
    try:
        result = filling.fill(place)
    except BaseException:
        with contextlib.suppress(Exception):  # the error that brought us here says more
            target_database.drop(run.connection, place)
        raise
    filling.require_all(place)
    if place != goal:
        take_place(run, goal)
    return result


def each(databases: list[str], work) -> list[dict]:
    """What ``work(dbname)`` returns. Where definitions fail, the other databases are seen to before that is raised."""
    done, errors = [], []
    for dbname in databases:
        try:
            done.append(work(dbname))
        except IncompleteError as error:
            errors.append(error)
        progress.leave(dbname)
    if not errors:
        return done
    if len(databases) == 1:
        raise errors[0]
    failures = [{"database": error.facts["database"], **one} for error in errors for one in error.facts["failures"]]
    problem, remedy = (" ".join(dict.fromkeys(texts)) for texts in zip(*((one.problem, one.remedy) for one in errors)))
    raise IncompleteError(problem, remedy, failures=failures, databases=done)


def find_pending(run: Destination, goal: str, is_ours) -> tuple[str, dict] | None:
    """(database, result) of a former run with the same options, for whose journal ``is_ours`` holds, that has brought
    everything but some definitions.
    """
    for place in (target_database.working_name(goal), goal):
        if not target_database.is_valid(run.connection, place):
            continue
        with run.visit(place) as session:
            entry = import_journal.read(session)
        result = (entry and entry["result"]) or {}
        is_pending = entry and not entry["completed"] and result.get("failures")
        if is_pending and is_ours(entry) and result.get("options") == options_of(run.params):
            return place, result
    return None


def complete_pending(run: Destination, goal: str, filling: Filling, found: tuple[str, dict]) -> dict:
    """Make what is pending in the database that was found; it gets its own name when nothing is pending any more.
    Raises HandoverError that names what still is.
    """
    place, former = found
    filling.go_on(former)
    if run.check_mode:
        return {**filling.preview(place), "failures": former["failures"]}
    result = filling.fill(place)
    filling.require_all(place)
    if place != goal:
        take_place(run, goal)
    return result


def make_place(run: Destination, goal: str, archive: FittedArchive, made: str | None = None) -> str:
    """An empty database to fill, under a name of ours, or under its own where something in it takes that: it is known
    for ours by its journal, which says that it is incomplete until all is there. ``made``: make_working has made it.
    """
    working = made or make_working(run, goal, archive.origin["properties"])
    if not archive.fitting.needs_own_name:
        return working
    with run.visit(working) as session:
        import_journal.begin(session, archive.origin["dump_id"], archive.origin["source"])
    take_place(run, goal)
    return goal


def make_working(run: Destination, goal: str, properties: dict) -> str:
    """An empty database with these properties, under a name of ours."""
    working = target_database.working_name(goal)
    target_database.drop(run.connection, working)
    databases.create(run.connection, working, properties, run.params["locale_map"])
    with run.visit(working) as session:
        import_journal.make_schema(session, made=True)
    return working


def take_place(run: Destination, goal: str) -> None:
    """Give the filled database its own name, in the place of one that may be replaced."""
    if target_database.exists(run.connection, goal):
        target_database.drop(run.connection, goal)
    target_database.rename(run.connection, target_database.working_name(goal), goal)


def clear_and_fill(run: Destination, goal: str, filling: Filling) -> dict:
    """Fill a database that exists. After an error it is incomplete, which its journal says; a rerun starts over, unless
    only definitions are missing.
    """
    target_database.clear(run.target, run.connection, goal)
    result = filling.fill(goal)
    filling.require_all(goal)
    return result
