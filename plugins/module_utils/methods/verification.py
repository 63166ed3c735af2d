# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact comparison of databases on two servers: also while both are live, at one instant."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base import next_step
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import server_error
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import bytes_of
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, naming
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import jobs_for
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import connect_to_snapshot
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.source_writes import count_writes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import (
    import_journal,
    migration_journal,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import subscription
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.memberships import temporary_memberships
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import (
    descriptions,
    digests,
    instant,
    large_object_digests,
    left_behind,
    positions,
    scratch,
    table_rows,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import (
    Exclusion,
    Outcome,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import Reading
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.record import (
    Record,
    may_use_journal,
)

FLUSH = 2.0  # seconds after which finished tables are recorded
AT_CUTOVER = "the cutover brings it over"
AHEAD = "the target has gone on since the cutover"


@dataclass
class Course:
    """How a pair of databases is compared. ``migration``: of the journal, None after a dump; ``live``: whether both
    go on being written; ``publisher``: the side whose changes are carried to the other, by the publications ``names``;
    ``hidden``: whether the journal is closed to this role. ``behind``: what the operator had the migration leave.
    """

    migration: migration_journal.Migration | None
    live: bool = False
    publisher: str = "source"
    names: tuple[str, ...] = ()
    hidden: bool = False
    behind: left_behind.LeftBehind = field(default_factory=left_behind.LeftBehind)

    @property
    def not_carried(self) -> str | None:
        """Why sequences and large objects need not be the same now."""
        if not self.live:
            return None
        return AT_CUTOVER if self.publisher == "source" else AHEAD

    @property
    def left_out(self) -> dict[tuple[str, str], str]:
        """Tables whose rows are not carried, with the reason."""
        if not self.live:
            return {}
        reason = AT_CUTOVER if self.publisher == "source" else AHEAD
        return {(table.schema, table.name): reason for table in [*self.migration.at_cutover, *self._not_coming_back]}

    @property
    def replicated(self) -> set[tuple[str, str]] | None:
        """Tables that a subscription applies changes to; None where it is not live."""
        if not self.live:
            return None
        waves = {wave.number for wave in self.migration.subscribed}
        found = {(table.schema, table.name) for table in self.migration.replicated if table.wave in waves}
        return found - {(table.schema, table.name) for table in self._not_coming_back}

    @property
    def _not_coming_back(self) -> list[migration_journal.WaveTable]:
        return self.migration.one_way if self.publisher == "target" else []


def verify(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_verify documents; ``params`` are its parameters. Raises HandoverError where something differs."""
    max_rate = bytes_of("max_rate", params["max_rate"])
    with contextlib.closing(source.connect_for_maintenance(read_only=True)) as connection:
        source_server = catalog.read_server(connection)
        selected = catalog.select_databases(connection, params["databases"], params["ignore_databases"])
    if not selected:
        raise HandoverError("No database is selected, so nothing was compared.", "Name it in databases.")
    with contextlib.closing(target.connect_for_maintenance(read_only=True)) as connection:
        target_server = catalog.read_server(connection)
        there = catalog.database_names(connection)
    result: dict[str, Any] = {
        "changed": False,
        "source": source_server.as_result(),
        "target": target_server.as_result(),
        "databases": [],
    }
    errors = []
    for dbname in selected:
        goal = params["rename"].get(dbname, dbname)
        pair = naming.migration_id(source_server, dbname, target_server, goal)
        if goal not in there:
            problem = {"class": "database", "object": goal, "problem": "the target has no such database"}
            following = next_step.of("different")
            result["databases"].append(_of(dbname, goal, verdict="different", different=[problem], next=following))
            continue
        job = Verification(
            instant.DatabaseAddress(source, dbname), instant.DatabaseAddress(target, goal), pair, params, max_rate
        )
        try:
            found = job.preview() if check_mode else job.run()
        except (HandoverError, psycopg2.Error) as error:
            errors.append((error if isinstance(error, HandoverError) else server_error(error)).of_database(dbname))
            found = _not_compared(goal, errors[-1])
        result["databases"].append(_of(dbname, goal, **found))
    _fail_on_errors(result, errors)
    if not check_mode:
        _fail_on_differences(result)
    return result


def _of(dbname: str, goal: str, **found) -> dict:
    return {"database": dbname, "target_database": goal, "changed": False, **found}


def _not_compared(goal: str, error: HandoverError) -> dict:
    """What is said of a database that could not be compared."""
    unknown = {"class": "database", "object": goal, "reason": error.as_result()["msg"]}
    said = {"problem": error.problem, "remedy": error.remedy, "next": next_step.of("again:verify")}
    return {"verdict": "incomplete", "unknown": [unknown], **said}


def _fail_on_errors(result: dict, errors: list[HandoverError]) -> None:
    """Raise HandoverError, with everything that was found in others, if a database could not be compared."""
    if errors:
        facts = {**errors[0].facts, **result}
        raise HandoverError(" ".join(error.problem for error in errors), errors[0].remedy, **facts)


def _fail_on_differences(result: dict) -> None:
    """Raise HandoverError, with everything that was found, unless all databases are the same as far as one looked."""
    differing = [one for one in result["databases"] if one["verdict"] == "different"]
    if differing:
        named = "; ".join(
            f"{one['database']}: " + ", ".join(f"{what['class']} {what['object']}" for what in one["different"][:5])
            for one in differing
        )
        raise HandoverError(
            f"The databases are not the same ({named}).",
            "The result lists all differences in databases[].different. Fix them, or exclude what may differ, with "
            "the reason.",
            **result,
        )


@dataclass
class Verification:
    """Of one pair of databases."""

    source: instant.DatabaseAddress
    target: instant.DatabaseAddress
    pair: str
    params: dict
    max_rate: int | None

    def preview(self) -> dict:
        """What would be compared, and how."""
        with contextlib.ExitStack() as stack:
            source, target = (stack.enter_context(contextlib.closing(end.connect(True))) for end in self._ends)
            course = self._course(source, target)
            tables = catalog.rows(source, f"SELECT count(*)::int FROM {catalog.OWN_RELATIONS} AND c.relkind = 'r'")
            return {
                "verdict": None,
                "instant": {"live": course.live, "locks": len(self._locked(course)), "publisher": course.publisher},
                "tables": tables[0][0],
                "bytes": catalog.data_size(source),
                "next": next_step.of("check:verify"),
            }

    @property
    def _ends(self) -> tuple[instant.DatabaseAddress, instant.DatabaseAddress]:
        return self.source, self.target

    def run(self) -> dict:
        """Compare. Raises HandoverError where it cannot be begun."""
        started, stages = time.monotonic(), Stages(self.source.dbname)
        scratch.drop_left(self.target.endpoint, self.pair)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._as_owner_on_target())
            source, target = (stack.enter_context(contextlib.closing(end.connect())) for end in self._ends)
            course = self._course(source, target)
            sight = self._look(source, target, course)
            record = Record(target, self.pair)
            writes = self._writes(source, target, course)
            resume = self.params["verify_resume"] and None not in writes  # who knows what was written in between
            earlier = record.begin(self._evidence(course, writes, sight), resume)
            with stages.stage("instant"):
                moment = stack.enter_context(self._moment(course))
            excluded = [Exclusion(one["class"], one["name"], one["reason"]) for one in self.params["verify_exclude"]]
            outcome = Outcome([*excluded, *course.behind.exclusions], why_lacking=course.behind.reason)
            amounts = self._compare(course, moment, record, earlier, outcome, stages)
            after = self._writes(source, target, course)
            result: dict[str, Any] = {
                **outcome.as_result(),
                "instant": moment.as_result(),
                "quiet": None if course.live or None in writes else writes == after,
                "tables": amounts.tables,
                "rows": amounts.rows,
                "bytes": amounts.bytes,
                "resumed_tables": len(earlier),
                "oldest_instant": min([moment.snapshots["target"].time, *(at for _digest, at in earlier.values())]),
                "waited_ms": round(moment.waited_ms, 1),
                "seconds": round(time.monotonic() - started, 3),
                "stages": stages.as_result(),
            }
            over = course.migration
            state = {"phase": over.phase, "direction": over.direction, "way_back": course.live} if over else None
            result["next"] = next_step.after_comparison(result["verdict"], state, bool(self.params["verify_tables"]))
            result["notices"] = [*outcome.notices, *_notices(course, result)]
            self._remember((source, target), course, record, result, sight)
            return result

    @contextlib.contextmanager
    def _as_owner_on_target(self):
        """Membership in the owners of what is on the target, as an import has it, for a role that is not a superuser:
        without it, services' administrators cannot read what they have imported."""
        endpoint, dbname = self.target.endpoint, self.target.dbname
        with contextlib.closing(endpoint.connect_for_maintenance()) as connection:
            if catalog.value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
                yield
                return
            with target_database.visit(endpoint, connection, dbname) as session:
                owners = catalog.referenced_roles(session)
            query = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s"
            with temporary_memberships(connection, [*owners, catalog.value(connection, query, (dbname,))]):
                yield

    def _course(self, source, target) -> Course:
        """How these two can be compared, by the journal on the target."""
        if not may_use_journal(target):
            return Course(None, hidden=True)
        former = import_journal.read(target)
        return replace(self._way(source, target), behind=left_behind.read(former and former["result"]))

    def _way(self, source, target) -> Course:
        """Which of them is written to, and carried to the other."""
        migration = migration_journal.read_migration(target, self.pair)
        if migration is None or migration.phase == "stopped":
            return Course(migration)
        if migration.phase == "copying":
            raise HandoverError(
                "Its tables are still being copied.",
                "Wait until the migration is in step; pg_migration_info says how far it is.",
            )
        if migration.phase != "handed_over" or migration.direction == "back":
            return Course(migration, True, "source", tuple(migration.names))
        back = naming.back_name(self.pair)
        return Course(migration, True, "target", (back,)) if subscription.exists(source, back) else Course(migration)

    def _look(self, source, target, course: Course) -> continuity.Sight | None:
        """How both ends are before they are compared, to which the result is bound. Before a beacon is written, which
        would cover what was lost.
        """
        if not course.live:
            return None
        sight = continuity.look(source, target, course.migration)
        continuity.remember(sight, self.pair, source, target)
        return sight

    def _locked(self, course: Course) -> list[tuple[str, str]]:
        """Tables of which writers are kept out for the moment."""
        wants = table_rows.Selection(self.params["verify_tables"]).wants
        return sorted(table for table in course.replicated or () if wants(table))

    def _moment(self, course: Course):
        """The pair of snapshots."""
        if not course.live:
            return instant.quiet(self.source, self.target)
        publisher, subscriber = self._ends if course.publisher == "source" else reversed(self._ends)
        options = self.params["lock_timeout"], self.params["lock_patience"]
        return instant.live(publisher, subscriber, list(course.names), self._locked(course), *options)

    def _writes(self, source, target, course: Course) -> list[int | None]:
        """How much was written to both, as far as that tells something."""
        return [] if course.live else [count_writes(source), count_writes(target)]

    def _evidence(self, course: Course, writes: list, sight) -> dict:
        """What must not have changed for tables found equal by a run that was killed to count in the next."""
        continuous = sight and sight.as_constants()
        return {"live": course.live, "publisher": course.publisher, "writes": writes, "continuity": continuous}

    def _compare(self, course, moment, record: Record, earlier: dict, outcome: Outcome, stages: Stages):
        """Everything, class after class."""
        keeper = Keeper(record, moment.snapshots["target"].time)

        def connect(side: str):
            end = self.source if side == "source" else self.target
            connection = connect_to_snapshot(end.endpoint, end.dbname, moment.snapshots[side])
            digests.configure(connection)
            return connection

        selection = table_rows.Selection(
            self.params["verify_tables"],
            course.left_out,
            course.replicated,
            {identity: digest for identity, (digest, _at) in earlier.items()},
        )
        with contextlib.ExitStack() as stack:
            opened = together(lambda: connect("source"), lambda: connect("target"))
            sides = {
                side: stack.enter_context(contextlib.closing(one)) for side, one in zip(("source", "target"), opened)
            }
            versions = {side: one.info.server_version for side, one in sides.items()}
            jobs = jobs_for(self.params["jobs"], 1 << 16)
            with stages.stage("rows"):
                reading = Reading(connect, versions, jobs, self.max_rate, keeper.add)
                with progress.measured(self.source.dbname, reading.extent):
                    amounts = table_rows.compare(sides, reading, selection, outcome, self.params["show_values"])
                keeper.flush()
            if not self.params["verify_tables"]:
                with stages.stage("sequences"):
                    positions.compare(sides["source"], sides["target"], outcome, course.not_carried)
                with stages.stage("large objects"):
                    large_object_digests.compare(sides, outcome, self.max_rate, course.not_carried)
                with stages.stage("descriptions"):
                    origin = scratch.Origin(
                        self.source,
                        moment.snapshots["source"],
                        self.params["locale_map"],
                        self.params["lock_patience"] * 1000,
                        self.params["client_directory"],
                    )
                    one_server = functools.partial(scratch.one_server, origin, self.target, self.pair)
                    descriptions.compare(sides, outcome, self._looks(course), one_server)
        return amounts

    def _looks(self, course: Course) -> descriptions.Looks:
        """How descriptions are compared."""
        pending = course.migration.pending if course.live else []
        return descriptions.Looks(
            owners=not self.params["no_owner"],
            privileges=not self.params["no_privileges"],
            live=course.live,
            not_carried=course.not_carried,
            pending=frozenset((one["schema"], one["table"], one["name"]) for one in pending),
            locale_map=tuple(self.params["locale_map"].items()),
            behind=course.behind,
        )

    def _remember(self, ends: tuple, course: Course, record: Record, result: dict, sight) -> None:
        """Write into the journal what was found, unless it was about some tables only. Where everything is equal, what
        was found broken before has lost nothing.
        """
        target = ends[1]
        record.finish(result["verdict"])
        if course.migration is None or self.params["verify_tables"]:
            return
        counts = {name: sum(one[name] for one in result["classes"].values()) for name in ("different", "unknown")}
        verdict = result["verdict"]
        verified = {"at": result["oldest_instant"], "verdict": verdict, "equal": verdict == "equal", **counts}
        migration_journal.update(target, self.pair, verified={**verified, "seen": sight and sight.as_evidence()})
        if sight and sight.breaks and verdict == "equal" and not self.params["verify_exclude"]:
            continuity.settle(sight, self.pair, *ends)
        migration_journal.add_event(target, self.pair, "verified", **verified, waited_ms=result["waited_ms"])


class Keeper:
    """Records tables found equal, now and then."""

    def __init__(self, record: Record, at: str):
        self._record = record
        self._at = at
        self._lock = threading.Lock()
        self._waiting = []
        self._flushed = time.monotonic()

    def add(self, pair) -> None:
        """A table of which both ends have been read; called by any thread. One without rows is read again: it may have
        been truncated after the instant."""
        if not pair.equal or pair.unread or not pair.digests["source"].rows:
            return
        with self._lock:
            self._waiting.append((pair.identity, pair.digests["source"]))
            due = time.monotonic() - self._flushed > FLUSH
        if due:
            self.flush()

    def flush(self) -> None:
        """Record what is waiting."""
        with self._lock:
            some, self._waiting, self._flushed = self._waiting, [], time.monotonic()
        self._record.add(some, self._at)


def _notices(course: Course, result: dict) -> list[str]:
    """What one has to know to read the result."""
    found = []
    if course.hidden:
        found.append(
            "The connecting role may not use the journal on the target. So the databases were compared as if nobody "
            "wrote to them, and nothing was recorded."
        )
    if result["quiet"] is False:
        found.append("Somebody wrote during the comparison: equal means equal as of each end's snapshot.")
    if not course.live and result["quiet"] is None:
        found.append(
            "It is unknown whether somebody wrote during the comparison: equal means equal as of each end's snapshot."
        )
    if result["resumed_tables"] and course.live:
        found.append(
            f"An earlier run compared {counted(result['resumed_tables'], 'table')}; for these, the result is as of "
            f"{result['oldest_instant']} or later."
        )
    return found
