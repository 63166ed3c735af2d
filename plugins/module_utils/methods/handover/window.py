# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The window: from pausing the poolers to letting them go on, under one deadline.

Up to the commit that closes the fence on old, anything that fails takes everything back. From the commit on there is
no way but forward: every step is tried, and what fails is kept in the passage's problems.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.cutting import cut
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import cargo, messages, way_back
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.fate import CommitInDoubtError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.gates import stamp
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage, limited
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing.table_locks import (
    lock_tables,
    patience_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift, home
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import Poolers
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon, slot

LOCK_TIMEOUT = 200  # milliseconds that writers may wait behind us before we give way and try again
SLOWNESS = 1.0  # seconds after the deadline at which the servers end our sessions by themselves
COMMIT_PATIENCE = 10.0  # seconds; who waits for a standby that is gone has committed all the same
ABORT_PATIENCE = 5.0  # seconds; poolers stand paused until then, if an end does not answer
DOUBT = 15.0  # seconds during which it is asked again whether a commit arrived

DURABLE = """
    UNION ALL SELECT set_config('synchronous_commit', 'local', false)
    WHERE current_setting('synchronous_commit') = 'off'"""
LOST_IN_A_CRASH = "UNION ALL SELECT set_config('synchronous_commit', 'off', false)"


@dataclass(frozen=True)
class Foreseen:
    """What is known before: the milliseconds for which a lock is waited for, the number of the beacon that will be
    written, and how old was seen.
    """

    patience: int
    beacon: int
    sight: dict


class Window:
    """One window for ``passages``, all of them behind ``poolers``."""

    def __init__(self, passages: list[Passage], poolers: Poolers, deadline: float):
        self.passages = passages
        self.poolers = poolers
        self.seconds = deadline
        self.timeline = passages[0].timeline
        self.is_clean = True
        self._deadline = 0.0
        self._foreseen: dict[int, Foreseen] = {}
        self._failures: list[tuple[Passage, BaseException]] = []  # the others are consequences of the first

    @property
    def concerned(self) -> list[Passage]:
        """Those that what went wrong has to do with."""
        return [passage for passage, _error in self._failures[:1]] or self.passages

    def run(self) -> None:
        """Up to the commits. Raises what went wrong; then old goes on as if nothing had happened, as far as could be
        seen to: ``is_clean``.
        """
        together(*(lambda one=one: self._get_ready(one) for one in self.passages))
        self.poolers.await_logins()
        self.timeline.start()
        self._deadline = time.monotonic() + self.seconds
        try:
            with limited(self.passages, self.seconds) as leave:
                self._pause()
                together(*(lambda one=one: self._make_ready(one, leave) for one in self.passages))
            with limited(self.passages, COMMIT_PATIENCE):
                self._commit()
        except Exception as error:
            self._abort()
            if isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) and self._is_over():
                raise self._too_late() from None
            raise
        except BaseException:  # a signal, while other threads go on: a ROLLBACK would let them work outside of it
            for passage in self.passages:
                passage.cut()
            raise  # the guardian does the rest

    def _get_ready(self, passage: Passage) -> None:
        """What can be done and asked before. What is left undone after the deadline, the servers end by themselves:
        also when they cannot hear us. A crash must not take back what is committed here, but on ``writer``, of which
        that is seen to at the end.
        """
        limit = f"{int((self.seconds + SLOWNESS) * 1000)}ms"
        limits = {"statement_timeout": limit, "idle_in_transaction_session_timeout": limit}
        kinds = {passage.lock: DURABLE, passage.new: DURABLE, passage.helper: DURABLE, passage.writer: LOST_IN_A_CRASH}
        sessions = (passage.lock, passage.old, passage.reader, passage.new, passage.helper, passage.writer)
        together(*(lambda one=one: _configure(one, limits, kinds.get(one, "")) for one in sessions))
        found: dict = {}
        together(
            lambda: found.update(patience=patience_of(passage.lock, LOCK_TIMEOUT), sight=messages.take_hold(passage)),
            lambda: found.update(highest=beacon.highest(passage.old, passage.route.flows)),
            lambda: found.update(stamp=stamp(passage.helper)),  # only so that the server has at hand what it takes
        )
        as_wanted = {**found["sight"], "stamp": passage.stamp, "firing": 0}
        self._foreseen[id(passage)] = Foreseen(found["patience"], found["highest"] + messages.AHEAD, as_wanted)

    def _pause(self) -> None:
        if self.poolers:
            with self.timeline.step("pause"):
                self.poolers.pause(self._deadline)

    def _make_ready(self, passage: Passage, leave: Callable[[float], None]) -> None:
        """Everything of one database but the commit: under the locks on old; and meanwhile, as soon as these are there
        or what was written before has arrived, what takes its time on the way there. Once anything has failed, what
        goes on in this or another database of the window is not waited for to the deadline.
        """
        plan = self._foreseen[id(passage)]
        works = [self._close, self._receive, self._send, *([] if passage.copied else [self._bring_large_objects])]

        def attempt(work) -> None:
            try:
                work(passage, plan)
            except BaseException as error:
                self._failures.append((passage, error))
                leave(ABORT_PATIENCE)
                for session in (passage.old, passage.new, passage.reader, passage.writer):
                    if not session.closed:
                        cut(session)  # what it waits for will not come
                raise

        try:
            together(*(lambda work=work: attempt(work) for work in works))
        except (HandoverError, psycopg2.Error):
            raise self._failures[0][1] from None

    def _close(self, passage: Passage, plan: Foreseen) -> None:
        """In the transaction that holds the locks: nothing was redefined since the gates were asked; the fence, and
        roles that lose LOGIN.
        """
        route, roles = passage.route, tuple(passage.findings.fenced_roles)
        closed = fence.Fence(True, route.new.address, route.migration.id, roles)
        # The first takes LOGIN for all: two transactions cannot alter one role.
        then = messages.under_locks(passage, closed, roles if passage is self.passages[0] else ())
        with passage.step("lock"):
            names = [*passage.tables, *cargo.unfenced(passage)]
            mode, patience = "SHARE ROW EXCLUSIVE", plan.patience
            locked = lock_tables(passage.lock, names, mode, patience, self._deadline, then)
        ((seen, is_first),) = locked.answered
        if not is_first:
            raise HandoverError("The locks were lost for a moment.", "Nothing was handed over. Run this again.")
        if seen != plan.sight:
            self._look_closer(passage, plan, seen, closed)

    def _look_closer(self, passage: Passage, plan: Foreseen, seen: dict, closed: fence.Fence) -> None:
        """Something is not as it was before the locks."""
        route = passage.route
        if seen["stamp"] != plan.sight["stamp"]:
            with passage.step("drift"):
                found = drift.since(route.migration, passage.lock)
                if found:
                    raise HandoverError(
                        f"Tables were redefined just now: {drift.describe(found)}.",
                        "Make the same changes on the other side, then run handover.postgresql.replicate, which "
                        "accepts them.",
                    )
        with passage.step("fence"):
            if seen["fence"] != plan.sight["fence"]:  # as others see it, to whom what this transaction says is unknown
                home.refuse_elsewhere(passage.reader, route.old.endpoint.side, route.migration.id)
                fence.close(passage.lock, closed, route.old.dbname, passage.tables)
            if passage.way_back:
                way_back.quiet_triggers(passage)

    def _receive(self, passage: Passage, plan: Foreseen) -> None:
        """On new: everything that was committed on old, and what replication does not bring."""
        seconds = self._deadline - time.monotonic()
        with passage.step("apply"):
            try:
                is_last = not passage.copied
                found = value(passage.new, messages.arrival(passage, plan.beacon, seconds, is_last))
            except psycopg2.Error as error:
                if error.pgcode != beacon.LATE:
                    raise
                raise HandoverError(
                    "The new home did not apply the last changes in time.",
                    "Wait until it has caught up (handover.postgresql.status), or allow more with deadline.",
                ) from None
        if passage.copied:
            with passage.step("copy"):
                cargo.copy_tables(passage)
            self._bring_large_objects(passage, plan)  # triggers on rows may remove some
            with passage.step("slot"):
                found = value(passage.new, messages.sealing(passage))
        passage.way_back_lsn = found

    def _send(self, passage: Passage, plan: Foreseen) -> None:
        """The beacon, and what comes after it: sequences."""
        with passage.step("beacon"):
            [(written, positions)] = rows(passage.old, messages.beacon_and_positions(passage, plan.beacon))
        if written != len(passage.route.flows):
            raise HandoverError("Others wrote beacons at the same time.", "Nothing was handed over. Run this again.")
        with passage.step("sequences"):
            definitions = cargo.set_sequences_at_once(passage, positions)
        if passage.way_back and definitions != passage.publishing_stamp:
            with passage.step("proof"):
                way_back.prove_again(passage, self._deadline)

    def _bring_large_objects(self, passage: Passage, _plan: Foreseen) -> None:
        with passage.step("large_objects"):
            cargo.bring_large_objects(passage)

    def _commit(self) -> None:
        """One database after the other: separate databases cannot be committed together."""
        for passage in self.passages:
            with passage.step("commit"):
                if is_spoken_to(passage.new):
                    rows(passage.new, "SELECT 1")  # it is still there
                try:
                    last_values = value(passage.lock, messages.commit(passage))
                    passage.overtaken = sequences.overtaken_in(passage.sequences, last_values)
                except psycopg2.Error as error:
                    self.is_clean = False
                    if not is_committed(passage, error):
                        raise
                    self.is_clean = True
                passage.decided = True
        for passage in self.passages:
            passage.changed = True

    def _abort(self) -> None:
        """Old goes on: no locks, no pause, no slot that would hold WAL back on new.

        Also where one of several databases was committed already: as long as new is not open, nobody has written there.
        An end that does not answer is not waited for: it rolls back when it does.
        """
        with limited(self.passages, ABORT_PATIENCE):
            together(*(lambda one=one: self._stay(one) for one in self.passages))
        if self.poolers:
            with self.timeline.step("resume"), self._trying():
                self.poolers.resume()
        with limited(self.passages, ABORT_PATIENCE):
            for passage in self.passages:
                with self._trying():
                    slot.drop(passage.helper, passage.route.returning)

    def _stay(self, passage: Passage) -> None:
        if not passage.lock.closed:  # a session that is lost is rolled back by its server
            with self._trying(), passage.lock.cursor() as cursor:
                cursor.execute("ROLLBACK")
        if passage.decided:
            with self._trying():
                fence.open_(passage.old, passage.route.migration.id)
                passage.decided = False

    @contextlib.contextmanager
    def _trying(self):
        """What fails in here is left to the guardian."""
        try:
            yield
        except (HandoverError, psycopg2.Error):
            self.is_clean = False

    def _is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def _too_late(self) -> HandoverError:
        last = self.timeline.as_result()[-1:]
        return HandoverError(
            f"The window took longer than its deadline of {self.seconds:g} s"
            + (f", at the step {last[0]['step']}." if last else "."),
            "Nothing was handed over. The timeline shows what took long; allow more with deadline.",
        )


def _configure(session, limits: dict[str, str], more: str) -> None:
    query = "SELECT set_config(name, setting, false) FROM unnest(%s, %s) AS s (name, setting)" + more
    rows(session, query, (list(limits), list(limits.values())))


def is_spoken_to(session) -> bool:
    """Whether the server of an idle session has said something by itself: what else but that the session ends?"""
    return bool(select.select([session], [], [], 0)[0])


def _is_handed_over(session) -> bool:
    found = fence.read(session)
    return bool(found and found.closed and found.handed_over)


def is_committed(passage: Passage, error) -> bool:
    """Whether a commit whose answer did not arrive took place: asked until old answers.

    Raises CommitInDoubtError when it does not within DOUBT seconds: then nobody knows yet.
    """
    if error.pgcode and not error.pgcode.startswith(
        ("08", "57")
    ):  # of the commit, or of what was asked together with it
        return _is_handed_over(passage.lock)
    deadline = time.monotonic() + DOUBT
    while True:
        try:
            with contextlib.closing(passage.route.old.connect()) as session:
                query = "SELECT FROM pg_stat_activity WHERE pid = %s AND application_name = 'handover'"
                if not rows(session, query, (passage.lock.info.backend_pid,)):
                    return _is_handed_over(session)
        except (HandoverError, psycopg2.Error):
            pass
        if time.monotonic() > deadline:
            raise CommitInDoubtError(
                f"{passage.route.old.description} was lost while it committed. It is unknown whether the database "
                "was handed over.",
                "Run the same again as soon as that server can be reached: it finds out, and completes the handover "
                "or begins anew. Do not switch anything before.",
            )
        time.sleep(0.1)
