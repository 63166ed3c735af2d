# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The window: from pausing the poolers to letting them go on, under one deadline.

Up to the commit that closes the fence on old, anything that fails takes everything back. From the commit on there is
no way but forward: every step is tried, and what fails is kept in the passage's problems.
"""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import cargo, way_back
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.fate import CommitInDoubtError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.gates import stamp
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage, limited
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing.table_locks import lock_tables
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift, home
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import Poolers
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon, slot

LOCK_TIMEOUT = 200  # milliseconds that writers may wait behind us before we give way and try again
POLL = 0.002  # seconds between two looks at the beacon
SLOWNESS = 1.0  # seconds after the deadline at which the servers end our sessions by themselves
COMMIT_PATIENCE = 10.0  # seconds; who waits for a standby that is gone has committed all the same
DOUBT = 15.0  # seconds during which it is asked again whether a commit arrived

DURABLE = """
    SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'"""


class Window:
    """One window for ``passages``, all of them behind ``poolers``."""

    def __init__(self, passages: list[Passage], poolers: Poolers, deadline: float):
        self.passages = passages
        self.poolers = poolers
        self.seconds = deadline
        self.timeline = passages[0].timeline
        self.is_clean = True
        self._deadline = 0.0

    def run(self) -> None:
        """Up to the commits. Raises what went wrong; then old goes on as if nothing had happened, as far as could be
        seen to: ``is_clean``.
        """
        self._limit_sessions()
        self.timeline.start()
        self._deadline = time.monotonic() + self.seconds
        try:
            with limited(self.passages, self.seconds):
                self._pause()
                together(*(lambda one=one: self._make_ready(one) for one in self.passages))
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

    def _limit_sessions(self) -> None:
        """What is left undone after the deadline, the servers end by themselves: also when they cannot hear us."""
        limit = f"{int((self.seconds + SLOWNESS) * 1000)}ms"
        for passage in self.passages:
            for session in (passage.lock, passage.old, passage.new, passage.helper, passage.reader, passage.writer):
                for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    rows(session, "SELECT set_config(%s, %s, false)", (name, limit))
            for session in (passage.lock, passage.new):  # a crash must not take back what they commit
                rows(session, DURABLE)
            # What is done here becomes durable together with what apply has brought, in _receive.
            for session in (passage.helper, passage.writer):
                rows(session, "SELECT set_config('synchronous_commit', 'off', false)")

    def _pause(self) -> None:
        if self.poolers:
            with self.timeline.step("pause"):
                self.poolers.pause(self._deadline)

    def _make_ready(self, passage: Passage) -> None:
        """Everything of one database but the commit."""
        step = passage.step
        with step("lock"):
            names = [*passage.tables, *cargo.unfenced(passage)]
            lock_tables(passage.lock, names, "SHARE ROW EXCLUSIVE", LOCK_TIMEOUT, self._deadline)
        with step("beacon"):
            number = beacon.advance(passage.old, passage.route.flows)
        together(lambda: self._receive(passage, number), lambda: self._close(passage))

    def _receive(self, passage: Passage, number: int) -> None:
        """On new: everything that was committed on old, and what replication does not bring, on disk: apply does not
        wait for that. The slot, for which the server flushes its WAL, comes when no transaction of ours is open there:
        it would wait for the WAL writer to wake up (wal_writer_delay).
        """
        works = [lambda: self._bring(passage, number), lambda: self._prepare_new(passage)]
        together(*works, *([] if passage.copied else [lambda: self._bring_large_objects(passage)]))
        if passage.way_back:
            with passage.step("slot"):
                query = "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')"
                passage.way_back_lsn = value(passage.new, query, (passage.route.returning,))
        else:
            rows(passage.new, "SELECT pg_logical_emit_message(true, 'handover', '')")

    def _bring(self, passage: Passage, number: int) -> None:
        with passage.step("apply"):
            if not beacon.await_(passage.new, passage.route.flows, number, self._deadline, POLL):
                raise HandoverError(
                    "The new home did not apply the last changes in time.",
                    "Wait until it has caught up (handover.postgresql.status), or allow more with deadline.",
                )
        if passage.copied:
            with passage.step("copy"):
                cargo.copy_tables(passage)
            self._bring_large_objects(passage)  # triggers on rows may remove some

    def _bring_large_objects(self, passage: Passage) -> None:
        with passage.step("large_objects"):
            cargo.bring_large_objects(passage)

    def _prepare_new(self, passage: Passage) -> None:
        if passage.way_back:
            with passage.step("proof"):
                way_back.prove_again(passage, self._deadline)
        with passage.step("sequences"):
            cargo.set_sequences(passage)

    def _close(self, passage: Passage) -> None:
        """In the transaction that holds the locks: nothing was redefined since the gates were asked; the fence, and
        roles that lose LOGIN.
        """
        with passage.step("drift"):
            if stamp(passage.lock) != passage.stamp:
                found = drift.since(passage.route.migration, passage.lock)
                if found:
                    raise HandoverError(
                        f"Tables were redefined just now: {drift.describe(found)}.",
                        "Make the same changes on the other side, then run handover.postgresql.replicate, which "
                        "accepts them.",
                    )
        with passage.step("fence"):
            route, roles = passage.route, tuple(passage.findings.fenced_roles)
            home.refuse_elsewhere(passage.lock, route.old.endpoint.side, route.migration.id)
            closed = fence.Fence(True, route.new.address, route.migration.id, roles)
            fence.close(passage.lock, closed, route.old.dbname, passage.tables)
            if passage.way_back:
                way_back.quiet_triggers(passage)
            if passage is not self.passages[0]:  # which takes LOGIN for all: two transactions cannot alter one role
                return
            with passage.lock.cursor() as cursor:
                for role in roles:
                    cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))

    def _commit(self) -> None:
        """One database after the other: separate databases cannot be committed together."""
        for passage in self.passages:
            with passage.step("commit"):
                rows(passage.new, "SELECT 1")  # it is still there
                try:
                    with passage.lock.cursor() as cursor:
                        cursor.execute("COMMIT")
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
        """
        for passage in self.passages:
            if not passage.lock.closed:  # a session that is lost is rolled back by its server
                with self._trying(), passage.lock.cursor() as cursor:
                    cursor.execute("ROLLBACK")
            if passage.decided:
                with self._trying():
                    fence.open_(passage.old, passage.route.migration.id)
                    passage.decided = False
        if self.poolers:
            with self.timeline.step("resume"), self._trying():
                self.poolers.resume()
        for passage in self.passages:
            with self._trying():
                slot.drop(passage.helper, passage.route.returning)

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


def is_committed(passage: Passage, error) -> bool:
    """Whether a commit whose answer did not arrive took place: asked until old answers.

    Raises CommitInDoubtError when it does not within DOUBT seconds: then nobody knows yet.
    """
    if error.pgcode and not error.pgcode.startswith(("08", "57")):
        return False
    deadline = time.monotonic() + DOUBT
    while True:
        try:
            with contextlib.closing(passage.route.old.connect()) as session:
                query = "SELECT FROM pg_stat_activity WHERE pid = %s AND application_name = 'handover'"
                if not rows(session, query, (passage.lock.info.backend_pid,)):
                    found = fence.read(session)
                    return bool(found and found.closed and found.handed_over)
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
