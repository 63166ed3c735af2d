# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the commit on: new is let in, clients are switched, and what led here is taken away. Every step may be done
already, by an earlier run or by the guardian; what fails is kept as a problem, and a rerun does the rest.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from functools import partial

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.timeline import Timeline
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import cargo
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import (
    Passage,
    Problem,
    SentBack,
    limited,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import FORWARD
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import (
    definitions_known,
    shapes,
    type_shapes,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, drift
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import (
    SETTLING,
    Poolers,
    is_place_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    beacon,
    publication,
    slot,
    subscription,
)

OPEN_PATIENCE = 10.0  # seconds; then the guardian goes on trying
WAY_BACK_PATIENCE = 10.0  # seconds until the first beacon comes back; a worker may take 5 s to start

OPEN, RESUME = "open", "resume"  # steps that the guardian goes on trying

SESSIONS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND application_name <> 'handover'"""


def attempt(passage: Passage, what: str, work, remedy: str = "Run this again."):
    """``work()``; its failure becomes a problem of the passage."""
    try:
        return work()
    except (HandoverError, psycopg2.Error, OSError, subprocess.SubprocessError) as error:
        problem = error.problem if isinstance(error, HandoverError) else one_line(error)
        more = error.remedy if isinstance(error, HandoverError) else remedy
        passage.problems.append(Problem(what, problem, more or remedy))
        return None


def is_left_to_guardian(passages: list[Passage]) -> bool:
    """Whether a step failed by which clients go on."""
    return any(problem.step in (OPEN, RESUME) for passage in passages for problem in passage.problems)


def let_in(passages: list[Passage], poolers: Poolers, params: dict) -> None:
    """Open the fence on new: from here on the application may write there. Poolers, which keep their clients waiting
    still, load their configuration at the same time, unless a command is to be run before.
    """
    works = [partial(_open, passage) for passage in passages]
    if poolers and all(one.decided for one in passages) and not params["switch_command"]:
        works.append(partial(_reload, passages[0], poolers))
    with limited(passages, OPEN_PATIENCE):
        for passage in passages:
            if passage.decided or _is_closed(passage):
                with passage.step("overtake"):
                    attempt(passage, "sequences", lambda one=passage: cargo.overtake_sequences(one), SEQUENCES_REMEDY)
        together(*works)


def _open(passage: Passage) -> None:
    with passage.step("open"):
        opened = attempt(passage, OPEN, lambda: _open_fence(passage))
        passage.changed = passage.changed or bool(opened)


def _open_fence(passage: Passage) -> bool:
    """Whether that was left to do."""
    if passage.decided and passage.opening:
        with contextlib.suppress(psycopg2.Error), passage.new.cursor() as cursor:
            cursor.execute(passage.opening)
            return True
    return fence.open_(passage.new, passage.route.migration.id)


def _reload(passage: Passage, poolers: Poolers) -> None:
    with passage.timeline.step("reload"):
        attempt(passage, "reload", poolers.reload)


SEQUENCES_REMEDY = (
    "The new home is open. If a session fetched sequence values at that moment past the poolers, the new home may "
    "give the same values again: compare the sequences of both ends, and advance those of the new home."
)


def _is_closed(passage: Passage) -> bool:
    """Whether nobody can have written to new yet, where an earlier run was interrupted."""
    found = attempt(passage, OPEN, lambda: fence.read(passage.new))
    return bool(found and found.closed)


def switch(passages: list[Passage], poolers: Poolers, params: dict, timeline: Timeline) -> bool:
    """Send clients to new: the operator's command, then the poolers. Where an earlier run has done that, only poolers
    that it did not reach, or whose file was wrong. Returns whether there was something to do.
    """
    first, recorded = passages[0], all(one.route.is_recorded for one in passages)
    if recorded and not attempt(first, "poolers", lambda: _are_left_behind(passages, poolers)):
        return False
    first.changed = True
    if params["switch_command"] and not recorded:
        with timeline.step("switch"):
            attempt(first, "switch_command", lambda: run_command(params), "Run that command by hand.")
    if poolers:
        if not poolers.have_loaded() and not any(one.step == "reload" for one in first.problems):
            _reload(first, poolers)
        with timeline.step("resume"):
            attempt(first, RESUME, poolers.resume)
    return True


def _are_left_behind(passages: list[Passage], poolers: Poolers) -> bool:
    names = [one.route.new.dbname for one in passages]
    return poolers.paused() or any(one.leads_to(passages[0].new, names) is False for one in poolers)


def run_command(params: dict) -> None:
    """Run ``switch_command``, without a shell. Raises HandoverError, OSError, or TimeoutExpired."""
    done = subprocess.run(
        params["switch_command"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=params["switch_timeout"],
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise HandoverError(
            f"switch_command ended with status {done.returncode}: {said}", "Fix its cause and run it by hand."
        )


def look_at_poolers(passages: list[Passage], poolers: Poolers, before: dict[str, dict]) -> None:
    """Whether the poolers lead to new now; where they have sessions with a server by now, these are asked. ``before``
    is where they led.
    """
    passage, names = passages[0], [one.route.new.dbname for one in passages]
    seen = []
    for pooler in poolers:
        answer = attempt(
            passage, "poolers", lambda one=pooler: (one.leads_to(passage.new, names, SETTLING), one.places())
        )
        if answer is None:
            continue
        leads, places = answer
        seen.append(
            {
                "pooler": pooler.name,
                "databases": pooler.databases,
                "leads_to_new": leads,
                "places": {name: list(place) for name, place in places.items()},
            }
        )
        unmoved = leads is None and passage.decided and places == before.get(pooler.name)
        if unmoved:
            unmoved = not all(is_place_of(place, passage.new) for place in places.values())
        if leads is False or unmoved or _misled(passages, before.get(pooler.name, {}), places):
            problem = f"The pooler {pooler.name} does not point at the new home, but: {_shown(places)}."
            remedy = "Write the new home into its [databases], and run this again."
            passage.problems.append(Problem("reload", problem, remedy))
    passage.measures.poolers = seen or None


def _misled(passages: list[Passage], before: dict[str, tuple], places: dict[str, tuple]) -> list[str]:
    """Entries that lead to another database than that which took the place of theirs."""
    successors = {one.route.old.dbname: one.route.new.dbname for one in passages}
    wanted = {name: successors.get(place[2]) for name, place in before.items()}
    return [name for name, place in places.items() if wanted.get(name, place[2]) not in (place[2], None)]


def _shown(places: dict) -> str:
    return ", ".join(f"{name} to {place[0]}:{place[1]}/{place[2]}" for name, place in sorted(places.items()))


def complete(passage: Passage) -> None:
    """Take away the stream that led here, let the one that leads back flow, and write it into the journal. Whether it
    flows is for ``prove_way_back`` to say.
    """
    if passage.decided:
        with contextlib.suppress(psycopg2.Error):
            passage.measures.fence_lsn = value(passage.old, "SELECT pg_current_wal_lsn()::text")
    together(*(partial(_without_limit, session) for session in (passage.old, passage.new, passage.reader)))
    if passage.params["terminate_sessions"] and passage.changed:
        passage.measures.terminated = attempt(passage, "terminate_sessions", lambda: value(passage.old, SESSIONS))
    stopped, _none = together(
        lambda: attempt(passage, "stop_stream", lambda: _stop_stream(passage)), lambda: _look_for_strays(passage)
    )
    if stopped:
        attempt(passage, "way_back", lambda: _start_way_back(passage), WAY_BACK_REMEDY)
    if not passage.route.is_recorded:
        attempt(passage, "journal", lambda: _record(passage))
        attempt(passage, "journal", lambda: _remember(passage))
        passage.changed = True


def _without_limit(session) -> None:
    with contextlib.suppress(psycopg2.Error):  # what needs a session that is lost says so
        rows(session, "SELECT set_config('statement_timeout', '0', false)")


def _look_for_strays(passage: Passage) -> None:
    if passage.decided:
        passage.measures.strays = attempt(passage, "strays", lambda: cargo.strays(passage), STRAYS_REMEDY) or []


STRAYS_REMEDY = "Check whether large objects, sequences or tables were changed on the old server after the commit."
WAY_BACK_REMEDY = "Check the subscriber's log. Without the way back, there is no rollback without loss."


def _stop_stream(passage: Passage) -> bool:
    """Before anything flows the other way: what comes back must not be sent on again. True when that is done."""
    for name in passage.route.flows:
        if name == passage.route.returning:
            continue
        gone = [subscription.drop(passage.new, name), slot.drop(passage.old, name), publication.drop(passage.old, name)]
        passage.changed = passage.changed or any(gone)
    return True


def _start_way_back(passage: Passage) -> None:
    """Enable its subscription, and send a beacon for ``prove_way_back``."""
    name = passage.route.returning
    states, slots = subscription.state(passage.old, [name]), slot.read(passage.new, [name])
    passage.way_back = name in states and name in slots
    if not passage.way_back:
        return
    if not states[name]["enabled"]:
        subscription.enable(passage.old, name)
        passage.changed = True
    passage.sent_back = SentBack(beacon.advance(passage.new, [name]), time.monotonic())


def is_due(passage: Passage) -> bool:
    """Whether its way back has had the time that it may take."""
    return bool(passage.sent_back) and time.monotonic() > passage.sent_back.at + WAY_BACK_PATIENCE


def prove_way_back(passage: Passage) -> None:
    """See the beacon come back; that needs no session of the passage but one with old, which may be another by now."""
    if passage.sent_back:
        attempt(passage, "way_back", lambda: _await_beacon(passage, passage.sent_back), WAY_BACK_REMEDY)
    passage.sent_back = None


def _await_beacon(passage: Passage, sent: SentBack) -> None:
    route = passage.route
    with contextlib.ExitStack() as stack:
        session = passage.old
        if session.closed:
            session = stack.enter_context(contextlib.closing(route.old.connect()))
        if not beacon.await_(session, [route.returning], sent.number, sent.at + WAY_BACK_PATIENCE, pause=0.02):
            raise HandoverError(
                f"The way back does not work: no change reached {route.old.description} within "
                f"{WAY_BACK_PATIENCE:g} s.",
                WAY_BACK_REMEDY,
            )
    passage.measures.way_back_seconds = round(time.monotonic() - sent.at, 3)


def _record(passage: Passage) -> None:
    """Phase, direction, times, the definitions as they are at the new home, and after a rollback the wave."""
    route, session, identifier = passage.route, passage.journal, passage.route.migration.id
    column = "cut_over" if route.direction == FORWARD else "rolled_back"
    changes = {"phase": "handed_over", "direction": route.direction, "fingerprint": drift.fingerprint(passage.new)}
    changes[column] = value(session, "SELECT clock_timestamp()::text")
    with transaction(session):
        if route.direction != FORWARD:
            _record_wave(passage)
        migration_journal.update(session, identifier, **changes)
        if not passage.params["follow_schema"]:
            definitions_known.forget_home(session, identifier)
        shapes.record(session, identifier, shapes.read(passage.new))
        type_shapes.record(session, identifier, type_shapes.read(passage.new))
        migration_journal.add_event(
            session,
            identifier,
            "handed_over",
            direction=route.direction,
            timeline=passage.timeline.as_result(),
            window_ms=passage.measures.window_ms,
            fence_lsn=passage.measures.fence_lsn,
            way_back=passage.way_back,
        )


def _remember(passage: Passage) -> None:
    """From here on, both ends are looked at the other way round."""
    ends, identifier = (passage.source, passage.journal), passage.route.migration.id
    continuity.remember(
        continuity.look(*ends, migration_journal.read_migration(passage.journal, identifier)), identifier, *ends
    )


def _record_wave(passage: Passage) -> None:
    """The target follows by one wave again, in the place of the former ones; by none without a way back."""
    route, session, identifier = passage.route, passage.journal, passage.route.migration.id
    for wave in route.migration.waves:
        if wave.name != route.returning:
            migration_journal.drop_wave(session, identifier, wave.number)
    if passage.way_back:
        migration_journal.begin_wave(session, identifier, route.next_wave, route.returning, route.tables)
        migration_journal.set_wave(session, identifier, route.next_wave, "subscribed", passage.way_back_lsn)
    migration_journal.record_tables(session, identifier, [(*table, "indexed", None) for table in route.tables])
