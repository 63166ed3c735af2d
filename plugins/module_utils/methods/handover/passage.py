# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One database in one run: its route, its sessions, what was found out about it, and what becomes of it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.cutting import cut
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.exact import Exact
from ansible_collections.handover.postgresql.plugins.module_utils.base.timeline import Timeline
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.findings import (
    Findings,
    Measures,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import (
    Route,
    find_route,
    of_database,
    sessions_with,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.schema_changes import Followed
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import read_tables
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.continuity import Sight
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import

# Catalogs in which every change of a table's definition leaves another row, and how many rows there are. What is ours,
# and pg_class, of which making the fence's triggers changes rows, are no such change.
STAMP = """
    WITH own AS MATERIALIZED (
        SELECT oid, hashtext(format('%s %s%s %s %s', oid, relreplident, relpersistence, relnamespace, relname)) AS sign
        FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384 AND relnamespace NOT IN (
            SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_(toast|temp)' OR nspname = 'handover'))
    SELECT sum(amount)::text || ' ' || sum(signs)::text FROM (
        SELECT count(*) AS amount, sum(sign) AS signs FROM own
        UNION ALL SELECT count(*), sum(a.xmin::text::bigint) FROM pg_attribute AS a JOIN own ON own.oid = attrelid
        UNION ALL SELECT count(*), sum(k.xmin::text::bigint) FROM pg_constraint AS k JOIN own ON own.oid = conrelid
        UNION ALL SELECT count(*), sum(i.xmin::text::bigint) FROM pg_index AS i JOIN own ON own.oid = indrelid
        UNION ALL SELECT count(*), sum(i.xmin::text::bigint) FROM pg_inherits AS i JOIN own ON own.oid = inhrelid
        UNION ALL SELECT count(*), sum(d.xmin::text::bigint) FROM pg_attrdef AS d JOIN own ON own.oid = adrelid
    ) AS catalog"""


@dataclass(frozen=True)
class Problem:
    """What could not be done after a commit: the step, and what to do about it."""

    step: str
    problem: str
    remedy: str

    def as_result(self) -> dict:
        """For the module's result."""
        return {"step": self.step, "problem": self.problem, "remedy": self.remedy}


@dataclass(frozen=True)
class SentBack:
    """A beacon that was sent on the way back, and when, by time.monotonic()."""

    number: int
    at: float


@dataclass
class Passage(Exact):
    """Sessions: ``lock`` holds the locks on old; ``old`` and ``new`` are for everything else, ``helper`` is a second
    one on new, ``reader`` and ``writer`` are for large objects of old and new, ``others`` come and go, but for the
    first two, which hold the turns on old and new. ``tables`` are
    those to fence, ``copied`` those that are copied in the window (source_tables.SourceTable), ``sequences``
    (sequences.Sequence) old's as new was last set to them. Of large objects, ``catalogs`` are those that can be locked
    on old, ``readable`` says whether they can be read on old and on new, and ``large_objects`` are the versions on old
    and on new when new was last made like old. Passages of one window share its ``timeline``; ``alone`` if there is
    one.

    ``stamp`` is of old's definitions when the gates were asked, ``publishing_stamp`` of new's when it was proven that
    new may publish them. ``sight`` is how both ends were seen at
    the gates (continuity.Sight).

    ``followed`` is how new was altered, or would be, before its gates were asked.

    ``left_out`` are sequences, (schema, name) each, that stay behind with extensions that the target was not given.

    ``findings`` are there as soon as the gates were asked, and ``measures`` are filled in from the window on.
    ``sequence_margin``: how many calls further new's sequences are set.

    ``overtaken`` are sequences of old that moved on until the commit, ``opening`` is the statement that opens new's
    fence if it says what this run made it say.

    ``decided`` is set by the commit, ``way_back`` says whether there will be one, ``way_back_lsn`` where its slot
    begins, ``sent_back`` the beacon that has not been seen to come back yet, ``problems`` what is left to do.
    """

    route: Route
    params: dict
    sequence_margin: int
    lock: Connection
    old: Connection
    new: Connection
    helper: Connection
    reader: Connection
    writer: Connection
    others: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    copied: list = field(default_factory=list)
    sequences: list = field(default_factory=list)
    left_out: set = field(default_factory=set)
    catalogs: list = field(default_factory=list)
    readable: tuple = ()
    large_objects: tuple = ()
    followed: Followed = field(default_factory=Followed)
    stamp: str = ""
    publishing_stamp: str = ""
    sight: Sight | None = None
    lag_seconds: float | None = None
    findings: Findings | None = None
    measures: Measures = field(default_factory=Measures)
    roles: role_import.Plan | None = None
    overtaken: list | None = None
    opening: str = ""
    way_back: bool = False
    way_back_lsn: str | None = None
    sent_back: SentBack | None = None
    decided: bool = False
    changed: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    alone: bool = True
    waiting: int = 1
    notices: list = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def turns(self) -> list:
        """The sessions that hold the turns, on old and on new."""
        return self.others[:2]

    @property
    def journal(self):
        """The session with the target's database, where the journal is."""
        return self.new if self.route.new is self.route.target else self.old

    @property
    def source(self):
        """The session with the source's database."""
        return self.old if self.route.new is self.route.target else self.new

    @property
    def both_ends(self) -> list[tuple[str, Connection]]:
        """Which side it is, and the session with it: old, then new."""
        return [(self.route.old.endpoint.side, self.old), (self.route.new.endpoint.side, self.new)]

    def step(self, name: str):
        """Time a step of this database."""
        return self.timeline.step(name, None if self.alone else self.route.source.dbname)

    def note(self, text: str) -> None:
        """Something that the operator is to know."""
        if text not in self.notices:
            self.notices.append(text)

    def look(self) -> None:
        """Find out which tables there are to fence and to copy."""
        migration = self.route.migration
        chosen = migration.at_cutover + (migration.one_way if self.route.new is self.route.source else [])
        names = [(table.schema, table.name) for table in chosen]
        self.copied = read_tables(self.old, names) if names else []
        self.tables = fence.tables_to_fence(self.old, self.configuration)
        self.left_out = migration_journal.sequences_left_out(self.journal, migration.id)

    @property
    def configuration(self) -> list[tuple[str, str]]:
        """Tables of extensions whose rows are copied."""
        return [table.key for table in self.copied if table.extension]

    def cut(self) -> None:
        """End the sessions at once, whatever they wait for: the servers roll back what is open."""
        for session in (self.lock, self.old, self.new, self.helper, self.reader, self.writer, *self.others):
            if session is not None and not session.closed:
                cut(session)


@contextlib.contextmanager
def limited(passages: list[Passage], seconds: float):
    """What happens inside ends with the sessions when its time is over, also where an end does not answer. Yields what
    leaves it so many ``seconds`` more at most.
    """
    timers: list[threading.Timer] = []

    def cut_all():
        for passage in passages:
            passage.cut()

    def leave(seconds: float) -> None:
        timers.append(threading.Timer(seconds, cut_all))
        timers[-1].daemon = True
        timers[-1].start()

    leave(seconds)
    try:
        yield leave
    finally:
        for timer in timers:
            timer.cancel()


@contextlib.contextmanager
def opened(routes: list[Route], params: dict, waiting: int, sequence_margin: int, only_look: bool = False):
    """Yields a Passage for each route, with its sessions, and with the migration's turn; all end with the block. To
    ``only_look``, three sessions with each end are enough. Raises HandoverError, also when another run is at work.
    """
    with contextlib.ExitStack() as stack:
        passages, timeline = [], Timeline()
        for route in routes:
            each = 2 if only_look else 3
            more = [*[route.old] * each, *[route.new] * each]
            keeper, other_keeper, *others = stack.enter_context(sessions_with(route.source, route.target, *more))
            stack.enter_context(turn.taken(keeper, route.migration.id))
            for session, place in ((keeper, route.source), (other_keeper, route.target)):
                stack.enter_context(turn.home(session, place.endpoint.side))
            with of_database(route.source.dbname):  # another run may have gone on until now
                route = find_route(route.source, route.target, route.direction, keeper, other_keeper)
            if only_look:
                old, reader, new, writer = others
                lock, helper = old, new
            else:
                lock, old, reader, new, helper, writer = others
            turns = [keeper, other_keeper] if route.old is route.source else [other_keeper, keeper]
            passage = Passage(
                route,
                params,
                sequence_margin,
                lock=lock,
                old=old,
                reader=reader,
                new=new,
                helper=helper,
                writer=writer,
                others=turns,
                timeline=timeline,
                alone=len(routes) == 1,
                waiting=waiting,
            )
            passages.append(passage)
        yield passages
