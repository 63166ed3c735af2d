# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions change while a migration is under way, and those of the other end are brought to the same.

Apply stops at the first row that does not fit, and tries again by itself. So nothing is lost by following late; and a
change that ends the old definition is made at that very row, or when all rows of the old are through.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    Cursor,
    Endpoint,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import read_capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    passing_definitions,
    recopy,
    wave_copy,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.trying_out import refused, try_out
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import amendments, shapes, type_shapes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    EARLY,
    LATE,
    TURNING,
    Amendment,
    shown,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.renaming import rename
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.type_amendments import type_steps
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon, subscription
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

ROUNDS = 5  # looks, each of which may find what was changed during the one before
MOST_RETURNS = 5  # of names that were not yet due, before apply counts as stuck by something else
POLL = 0.05  # seconds
LACKING = ("42704", "42883", "3F000", "42P01")  # SQLSTATEs: types, functions, schemas, sequences
Types = dict[int, type_shapes.TypeShape]


@dataclass(frozen=True)
class Way:
    """From where to where: the sessions with the publisher's and the subscriber's database, one with some database of
    the subscriber's server, who is whom, the names of the streams, and how both databases are reached.
    """

    publisher: Connection
    subscriber: Connection
    maintenance: Connection
    side: str
    is_superuser: bool
    streams: list[str]
    published: tuple[Endpoint, str]
    subscribed: tuple[Endpoint, str]

    @property
    def is_back(self) -> bool:
        """Whether it leads to the source, after a handover."""
        return self.side == "source"


@contextlib.contextmanager
def way(job: Job) -> Iterator[Way]:
    """The way that changes take now."""
    migration = job.read()
    source, target = (job.source, job.dbname), (job.target, job.goal)
    if (migration.phase, migration.direction) != ("handed_over", "forward"):
        sessions = job.source_session, job.session, job.maintenance
        yield Way(*sessions, "target", job.capabilities.superuser, migration.names, source, target)
        return
    with contextlib.closing(job.source.connect_for_maintenance()) as maintenance:
        is_superuser, streams = read_capabilities(maintenance).superuser, [naming.back_name(job.id)]
        yield Way(job.session, job.source_session, maintenance, "source", is_superuser, streams, target, source)


@dataclass
class Outlook:
    """How both ends are defined, and what is to be done about it."""

    before: dict[int, shapes.Shape]
    now: dict[int, shapes.Shape]
    plan: amendments.Amendments
    names: dict[int, shapes.Key] = field(default_factory=dict)
    there: dict[int, shapes.Shape] = field(default_factory=dict)
    left: list[tuple[int, str, str, str, str]] = field(default_factory=list)
    types: tuple[Types | None, Types] = (None, {})

    @property
    def is_unchanged(self) -> bool:
        """Whether there is nothing to be done, nor to be known."""
        return self.known() == self.before and self.types[0] in (None, self.types[1]) and not self.left

    @property
    def tables(self) -> dict[int, int]:
        """The subscriber's oids by the publisher's."""
        by_key = {one.key: oid for oid, one in self.there.items()}
        found = {oid: by_key.get(was.key) for oid, was in self.before.items()}
        found.update({oid: by_key.get(self.now[oid].key) for oid in self.now if found.get(oid, 0) is None})
        return {oid: one for oid, one in found.items() if one is not None}

    def tree(self, oid: int) -> list[int]:
        """A table of the subscriber's and those above it, the highest first."""
        parents = [one for one in self.there[oid].parents if one in self.there]
        return [*(self.tree(parents[0]) if parents else []), oid]

    def known(self) -> dict[int, shapes.Shape]:
        """What the journal is to know when the plan was carried out."""
        refused = {one.table for one in self.plan.refusals}
        return {
            oid: was if str(was) in refused else self.now[oid] for oid, was in self.before.items() if oid in self.now
        }

    def statements(self, session: Connection) -> list[str]:
        """All that would be run, if nothing is in the way."""
        names = dict(self.names)
        return [shown(session, step, names) for step in self.plan.in_order]


def look(job: Job, ends: Way) -> Outlook | None:
    """What was changed; None where an older release has begun the migration, and nothing is known by number."""
    before = shapes.recorded(job.session, job.id)
    if before is None:
        return None
    now, there = together(lambda: shapes.read(ends.publisher), lambda: shapes.read(ends.subscriber))
    types, types_there = read_types(job, ends)
    left = passing_definitions.left(ends.subscriber)
    for_a_while = {(oid, column) for oid, _schema, _table, column, _owner in left}
    roots = Outlook({}, {}, amendments.Amendments(), there=there)
    by_key = {one.key: _without(one, {roots.tree(oid)[0], oid}, for_a_while) for oid, one in there.items()}
    plan = amendments.plan(before, now, by_key, _published(job))
    if plan.anew and (ends.is_back or not job.may_copy):
        why = "it would have to be copied anew" + ("" if ends.is_back else ", as handover.postgresql.replicate does")
        plan = amendments.Amendments(refusals=[amendments.Refusal(str(now[oid]), why) for oid in _anew(plan, now)])
    plan.steps[:0] = type_steps(types[0] or {}, types[1], types_there)
    return Outlook(before, now, plan, {oid: one.key for oid, one in there.items()}, there, left, types)


def read_types(job: Job, ends: Way) -> tuple[tuple[Types | None, Types], Types]:
    """((the publisher's types as they were known, as they are), the subscriber's)."""
    now, there = together(lambda: type_shapes.read(ends.publisher), lambda: type_shapes.read(ends.subscriber))
    return (type_shapes.recorded(job.session, job.id), now), there


def record(job: Job, outlook: Outlook) -> None:
    """Let the journal know what was found, but for what is not followed."""
    shapes.record(job.session, job.id, outlook.known())
    type_shapes.record(job.session, job.id, outlook.types[1])


def _published(job: Job) -> set[shapes.Key]:
    """Tables that have to be identified, unless the operator lets others wait for the cutover."""
    if job.params["no_identity"] == "copy_at_cutover":
        return set()
    return {(one.schema, one.name) for one in job.read().replicated if one.wave is not None}


def _without(shape: shapes.Shape, tree: set[int], left: set[tuple[int, str]]) -> shapes.Shape:
    """The shape without columns that are there for a while."""
    if not left:
        return shape
    columns = {one.number: one for one in shape.columns.values() if not {(oid, one.name) for oid in tree} & left}
    return replace(shape, columns=columns)


def _anew(plan: amendments.Amendments, now: dict[int, shapes.Shape]) -> list[int]:
    return sorted(oid for oid, one in now.items() if one.key in plan.anew)


def follow(job: Job, may_make: Callable[[], None] | None = None) -> list[dict]:
    """Bring the subscriber's tables to the publisher's definitions; what is not followed is returned: ``table``,
    ``reason``. ``may_make()`` makes what else may be lacking, such as types.

    Raises HandoverError for a statement that the subscriber refuses, and where apply does not go on.
    """
    outlook = None
    with way(job) as ends:
        for _round in range(ROUNDS):
            outlook = look(job, ends)
            if outlook is None or outlook.is_unchanged:
                break
            if job.check_mode:
                job.followed += outlook.statements(ends.subscriber)
                break
            if outlook.plan.is_empty and not outlook.left:
                if not outlook.plan.refusals:
                    record(job, outlook)
                break
            with job.stages.stage("following the schema"):
                try:
                    _Run(job, ends, outlook).run()
                except HandoverError as error:
                    if may_make is None or error.facts.get("sqlstate") not in LACKING:
                        raise
                    may_make()
                    may_make = None
    refusals = outlook.plan.refusals if outlook else []
    return [{"table": one.table, "reason": one.reason} for one in refusals]


def try_out_between(
    job: Job,
    ends: Way,
    before: Callable[[Cursor], object],
    after: Callable[[Cursor], object] | None,
    owners: Iterable[str],
) -> None:
    """See that the subscriber would take what there is to follow, between what is done there ``before`` and ``after``
    with the rights of these ``owners``. Raises HandoverError.
    """
    outlook = look(job, ends)
    if outlook is not None:
        run = _Run(job, ends, outlook)
        with run.as_owners(owners):
            run.try_out(before, after)


class _Run:
    """One plan, carried out."""

    def __init__(self, job: Job, ends: Way, outlook: Outlook) -> None:
        self.job, self.ends, self.outlook, self.plan = job, ends, outlook, outlook.plan
        self._names = dict(outlook.names)
        self._done: list[str] = []
        self._undo: list[Amendment] = []
        self._returns = 0

    def run(self) -> None:
        plan, job = self.plan, self.job
        with self.as_owners():
            self.try_out()
        if plan.anew:
            wave_copy.drop_foreign_keys(job, plan.anew)
        with self.as_owners():
            self._execute(plan.of(EARLY))
            turning = self._turn(plan.of(TURNING))
            passed = list(map(passing_definitions.dropping, passing_definitions.left(self.ends.subscriber)))
            self._execute([*turning, *plan.of(LATE), *passed], last=True)
        if plan.anew:  # a run that is killed before has to find them again
            recopy.copy_anew(job, plan.anew)
            record(job, self.outlook)

    @contextlib.contextmanager
    def as_owners(self, others: Iterable[str] = ()) -> Iterator[None]:
        """With the rights of those who own the subscriber's tables, and of others."""
        owners = {one.owner for one in self.outlook.there.values()} | {one.owner for one in self.plan.steps} | {*others}
        with memberships.temporary_memberships(self.ends.maintenance, [] if self.ends.is_superuser else owners):
            yield

    def try_out(
        self,
        before: Callable[[Cursor], object] = lambda _cursor: None,
        after: Callable[[Cursor], object] | None = None,
    ) -> None:
        """See that the subscriber would take it, between what is done there ``before`` and ``after``. Raises
        HandoverError.
        """

        def prepare(cursor: Cursor) -> None:
            before(cursor)
            for text, _owner in wave_copy.foreign_keys(self.job, self.plan.anew):
                cursor.execute(text)

        if self.plan.steps or after:
            try_out(self.ends.subscriber, self.ends.side, self.plan.in_order, self._names, prepare, after)

    def _turn(self, steps: list[Amendment]) -> list[Amendment]:
        """Those of them that are left when all rows are through that were written before."""
        has_late = self.plan.of(LATE) or self.plan.passing or self.outlook.left
        if not self.ends.streams or not (steps or has_late):
            return steps
        while stuck := self._wait():
            fitting = self._fit(steps, stuck)
            if fitting is not None:
                steps = fitting
                continue
            if not steps or self._returns > MOST_RETURNS:
                self._take_back(self._undo)
                raise self._stuck()
            same = [one for one in steps if one.age == steps[0].age]
            self._execute(same)
            self._undo += [one for one in same if one.undo]
            steps = steps[len(same) :]
        return steps

    def _fit(self, steps: list[Amendment], stuck: list[str]) -> list[Amendment] | None:
        """Let the rows in that are next, as the slots tell what they need: the steps that are left then. None where
        that is not told, or they lack nothing.

        Of several streams, those first that were written first: where parts of a table are in several, their columns
        have the same names, and no row of before may meet those of later.
        """
        ends, outlook = self.ends, self.outlook
        found = passing_definitions.misfits(ends.publisher, ends.subscriber, stuck, outlook.tables)
        if not found:
            return None
        first = min(found, key=lambda one: one.lsn)
        tree = outlook.tree(first.table)
        guessed = [one for one in self._undo if one.renames and one.oid in tree]
        if guessed and first.columns:  # what they lack may be one of these columns, by a name that it had before
            self._take_back(guessed)
            self._undo = [one for one in self._undo if one not in guessed]
            self._returns += 1
            return [*guessed, *steps]
        now, steps = passing_definitions.amended(first, steps, tree, outlook.there[first.table].owner)
        self._execute(now)
        return steps

    def _wait(self) -> list[str]:
        """Until the target shows what was committed until now, or apply fails: the streams that do not go on. Where
        parts of a table are in several streams, each comes as far as it does.
        """
        job, ends, streams = self.job, self.ends, self.ends.streams
        number = beacon.advance(ends.publisher, streams)
        deadline = time.monotonic() + job.params["timeout"]
        before, failed = subscription.state(ends.subscriber, streams), set[str]()
        while True:
            late = {name for name, (n, _at) in beacon.read(ends.subscriber, streams).items() if n < number}
            failed &= late
            if not late or (failed and (failed == late or not self._is_spread)):
                return sorted(failed)
            now = subscription.state(ends.subscriber, streams)
            failed |= {one for one in late if one in before and _has_failed(before[one], now.get(one))}
            if time.monotonic() > deadline:
                raise too_late(ends, job.params["timeout"])
            for name, one in now.items():
                if before.get(name, {}).get("pid") is None and one["pid"] is not None:
                    before[name] = one  # now it works
            time.sleep(POLL)

    @functools.cached_property
    def _is_spread(self) -> bool:
        """Whether parts of one table are in several streams."""
        waves = {(one.schema, one.name): one.wave for one in self.job.read().replicated if one.wave is not None}
        streams: dict[int, set[int]] = {}
        for oid, one in self.outlook.there.items():
            if one.key in waves:
                streams.setdefault(self.outlook.tree(oid)[0], set()).add(waves[one.key])
        return any(len(found) > 1 for found in streams.values())

    def _take_back(self, steps: list[Amendment]) -> None:
        """What was renamed may not be what stops apply: rows of before may be waiting."""
        undone = [
            Amendment(
                step.when, step.oid, step.owner, step.undo, key=self.outlook.names.get(step.oid) if step.key else None
            )
            for step in reversed(steps)
            if step.undo is not None
        ]
        self._execute(undone)

    def _stuck(self) -> HandoverError:
        return HandoverError(
            f"The {self.ends.side} has the other end's definitions, as far as they are known, and still does not apply "
            "changes.",
            f"The {self.ends.side}'s log has the error. Rows may have been written under a definition that "
            "there was for a while only. Fix its cause; it tries again by itself. Then run this again.",
            followed=self._done,
        )

    def _execute(self, steps: list[Amendment], last: bool = False) -> None:
        """All in one transaction, with what the journal is to know then. Raises HandoverError."""
        if not steps and not last:
            return
        job, session = self.job, self.ends.subscriber

        def work() -> tuple[list[str], dict[int, shapes.Key]]:
            names, done = dict(self._names), []
            with transaction(session) as cursor:
                for step in steps:
                    done.append(shown(session, step, names))
                    try:
                        cursor.execute(done[-1])
                    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
                        raise
                    except psycopg2.Error as error:
                        raise refused(self.ends.side, done[-1], error, self._done) from None
                if session is job.session:
                    self._keep(steps, done, last)
            return done, names

        done, self._names = patiently(session, work)
        if session is not job.session:  # a run that is killed in between finds that it is done
            with transaction(job.session):
                self._keep(steps, done, last)
        self._done += done
        job.followed += done

    def _keep(self, steps: list[Amendment], done: list[str], last: bool) -> None:
        """What the journal is to know of it."""
        if last:
            self._record()
        if done:
            self.job.event("followed", tables=self._tables(steps), statements=done)

    def _tables(self, steps: list[Amendment]) -> list[str]:
        return sorted({".".join(self.outlook.names[step.oid]) for step in steps if step.oid})

    def _record(self) -> None:
        job = self.job
        if not self.plan.anew:
            record(job, self.outlook)
        migration_journal.update(job.session, job.id, verified=None)
        rename(job.session, self.ends.publisher, job.id, self.plan.renamed)


def too_late(ends: Way, timeout: float) -> HandoverError:
    """Rows that were written before are not through after so many seconds."""
    return HandoverError(
        f"The {ends.side} is not in step after {timeout:.0f} s, so it could not follow changes of the schema.",
        "It goes on catching up. Run this again later, or with a longer timeout.",
    )


def _has_failed(before: dict, now: dict | None) -> bool:
    """Whether a subscription's worker has ended, or has counted an error, since ``before``."""
    if now is None or not now["enabled"]:
        return True
    if (now["errors"] or 0) > (before["errors"] or 0):
        return True
    return before["pid"] is not None and now["pid"] != before["pid"]
