# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing databases over to their new home, and back: one algorithm, two directions, one call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import at_once, together
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import seconds_of
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import (
    after,
    cargo,
    gates,
    logins,
    report,
    role_changes,
    schema_changes,
    way_back,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.fate import (
    CommitInDoubtError,
    Fate,
    as_handover_error,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.findings import Findings, GateAnswer
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.guardian import Guardian
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import (
    Passage,
    opened,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.proofs import Proofs
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import (
    READY,
    Route,
    find_routes,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.schema_changes import Followed
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.window import Window
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, strays
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import Poolers, open_poolers
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import subscription

MARGIN_WITHOUT_POOLER = 1000  # calls of nextval() whose values sessions may hold and use elsewhere
SAFE_FRACTION = 0.5  # of the deadline, that preparing the fence may wait for a table

Item = TypeVar("Item")
Result = TypeVar("Result")


def hand_over(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_cutover documents. Raises HandoverError, with whether the databases are ``handed_over`` if known."""
    params = {**params, **{name: seconds_of(name, params[name]) for name in ("deadline", "switch_timeout")}}
    fate = Fate()
    try:
        _hand_over(source, target, params, check_mode, fate)
    except (HandoverError, psycopg2.Error) as error:
        raise fate.told_by(as_handover_error(error)) from None
    return {"changed": fate.changed, "direction": params["direction"], "databases": fate.results}


def _hand_over(source: Endpoint, target: Endpoint, params: dict, check_mode: bool, fate: Fate) -> None:
    """In one window, or in one for each database."""
    routes = find_routes(source, target, params)
    followed = _follow(routes, params, check_mode)
    if any(one.statements for one in followed.values()) and not check_mode:
        routes = find_routes(source, target, params)
    if params["poolers"] and len(routes) > 1 and not params["together"]:
        raise HandoverError(
            "PgBouncer reloads all entries at once, so every database would switch together with the first.",
            "Hand them over with together: true, or call this for one database after the other.",
        )
    run = _Run(routes, params, check_mode, fate, followed)
    try:
        for windows in _side_by_side([routes] if params["together"] else [[route] for route in routes]):
            run.proofs.make(after.is_due)
            for window in run.hand_over(windows):
                run.hand_over([window])
        run.guardian.end()
        run.proofs.make()
    except (HandoverError, psycopg2.Error) as error:
        run.guardian.end()
        raise run.proofs.told_by(as_handover_error(error)) from None


def _follow(routes: list[Route], params: dict, check_mode: bool) -> dict[str, Followed]:
    return schema_changes.follow(routes, params["client_directory"], check_mode) if params["follow_schema"] else {}


def _side_by_side(windows: list[list[Route]]) -> list[list[list[Route]]]:
    """Those of which all but the windows themselves is done at the same time: first one alone, as most of what is wrong
    with it is wrong with all.
    """
    return [windows[:1], *in_groups(windows[1:], at_once())]


@dataclass
class _Party:
    """The databases of one window, and how it was before: ``places`` are where their poolers led."""

    poolers: Poolers
    passages: list[Passage]
    forecasts: list[dict] = field(default_factory=list)
    places: dict[str, dict] = field(default_factory=dict)

    @property
    def ready(self) -> list[Passage]:
        """Those that are to be handed over; the others were, and are to be completed."""
        return [passage for passage in self.passages if passage.route.status == READY]


class _Run:
    """One call."""

    def __init__(
        self, routes: list[Route], params: dict, check_mode: bool, fate: Fate, followed: dict[str, Followed]
    ) -> None:
        self.routes, self.followed = routes, followed
        self.params, self.check_mode, self.fate = params, check_mode, fate
        self.proofs, self.guardian = Proofs(fate), Guardian()

    def hand_over(self, windows: list[list[Route]]) -> list[list[Route]]:
        """One window after the other; what comes before and after is done for all of them at the same time. Returns
        those for which a server had no room for more sessions beside the others'.
        """
        passed: list[_Party] = []
        left: list[list[Route]] = []
        with contextlib.ExitStack() as stack:
            begun = _each(lambda routes: self._begin(stack, routes), windows)
            try:
                for number, party in enumerate(begun):
                    self.fate.begin_window()
                    if isinstance(party, HandoverError) and "unreachable_side" in party.facts and len(windows) > 1:
                        left = windows[number:]
                        break
                    if isinstance(party, HandoverError):
                        raise party
                    if self.check_mode:
                        self.fate.results += party.forecasts
                        continue
                    party.places = _pass(party, self.params, self.fate, self.guardian)
                    passed.append(party)
            except (HandoverError, psycopg2.Error) as error:
                try:
                    self._follow(passed)
                except HandoverError as more:
                    raise as_handover_error(error).beside(more) from None
                raise
            self._follow(passed)
        return left

    def _begin(self, stack: contextlib.ExitStack, routes: list[Route]) -> _Party:
        """Up to the window, whose sessions end with ``stack``. Raises HandoverError for what stands in the way."""
        done = 0 if self.check_mode else len(self.fate.results)
        waiting = [route.status for route in self.routes[done:]].count(READY)  # not handed over before this call
        poolers = stack.enter_context(open_poolers(self.params["poolers"]))
        margin = _sequence_margin(self.params, poolers)
        passages = stack.enter_context(opened(routes, self.params, waiting, margin, self.check_mode))
        party = _Party(poolers, passages)
        _choose_entries(passages, poolers)
        asked = []  # else some poolers may lead to new already
        if len(party.ready) == len(passages):
            asked = [one.route.old.dbname for one in passages]
            if not self.check_mode:
                _let_go_on(passages[0], poolers)
        for passage in party.ready:
            passage.followed = self.followed.get(passage.route.source.dbname, Followed())
            for text in passage.followed.notices:
                passage.note(text)
            passage.findings = _find_out(passage, poolers, asked, self.check_mode)
        if self.check_mode:
            party.forecasts = [report.forecast(passage, poolers) for passage in passages]
            return party
        for passage in party.ready:
            _refuse(passage)
        for passage in party.ready:
            _prepare(passage)
        return party

    def _follow(self, parties: list[_Party]) -> None:
        """What is done after the windows, and the results. Raises HandoverError for what is left to do.

        The ways back of the first window are proven at once, those of others later: a worker may take seconds to start.
        """
        is_first = not self.fate.results
        outcomes = _each(lambda party: _outcomes(party, is_first), parties)
        for party, found in zip(parties, outcomes):
            if isinstance(found, HandoverError):
                raise found
            self.fate.results += found
            self.proofs.leave(party.passages)
        self.fate.complain([passage for party in parties for passage in party.passages])


def _each(work: Callable[[Item], Result], items: list[Item]) -> list[Result | HandoverError]:
    """``work(item)`` of each, at the same time, or the error that it raised."""

    def attempt(item: Item) -> Result | HandoverError:
        try:
            return work(item)
        except (HandoverError, psycopg2.Error) as error:
            return as_handover_error(error)

    if len(items) == 1:  # without a thread: a signal ends it at once
        return [attempt(items[0])]
    return together(*(partial(attempt, item) for item in items))


def _outcomes(party: _Party, is_first: bool) -> list[dict]:
    for passage in party.passages:
        after.complete(passage)
    after.look_at_poolers(party.passages, party.poolers, party.places)
    if is_first:
        for passage in party.passages:
            after.prove_way_back(passage)
    return [report.outcome(passage, party.poolers) for passage in party.passages]


def _sequence_margin(params: dict, poolers: Poolers) -> int:
    if params["sequence_margin"] is not None:
        return params["sequence_margin"]
    return 0 if poolers else MARGIN_WITHOUT_POOLER


def _choose_entries(passages: list[Passage], poolers: Poolers) -> None:
    """The entries of the poolers that belong to these databases."""
    names = {place.dbname for passage in passages for place in (passage.route.source, passage.route.target)}
    for pooler in poolers:
        pooler.choose(names)


def _let_go_on(passage: Passage, poolers: Poolers) -> None:
    """Resume what a run left paused that was killed together with its guardian."""
    if poolers.paused():
        poolers.resume()
        passage.note("A pooler still paused some databases; they were resumed.")


def _find_out(passage: Passage, poolers: Poolers, asked: list[str], check_mode: bool) -> Findings:
    """What there is to hand over, and what stands in the way: also what poolers say of the databases ``asked`` for."""
    if not check_mode:
        _wake(passage)
    answers, found = gates.ask_all(passage, lambda: _look(passage))
    if not check_mode:
        continuity.remember(passage.sight, passage.route.migration.id, passage.source, passage.journal)
    answers += found["answers"]
    if asked:
        answers += gates.ask_poolers(passage, poolers, asked)
    return Findings(
        answers=answers,
        lag_seconds=passage.lag_seconds,
        cargo=found["cargo"],
        unfenced=found["unfenced"],
        fenced_roles=logins.to_fence(passage),
        obstacles_to_way_back=found["obstacles"],
    )


def _look(passage: Passage) -> dict:
    """What the gates do not look at: what there is to bring and to fence, what is in the way of a way back, and the
    answer whether there is room for one.
    """
    passage.look()
    found = {"cargo": cargo.look(passage), "unfenced": fence.unfenced_tables(passage.old, passage.tables)}
    for text in strays.past_the_fence(passage.new, passage.route.new.endpoint.side, contents=True):
        passage.note(f"{text} The large objects of the {passage.route.old.endpoint.side} replace them.")
    wanted = passage.params["reverse"] is not False
    capacities = way_back.capacities_of(passage) if wanted else []
    obstacles = way_back.obstacles(passage, capacities) if wanted else []
    answers = []
    if wanted and not obstacles:
        answers.append(GateAnswer("ways_back", *(way_back.too_few_for_all(passage, capacities) or ())))
        way_back.foresee(passage)
    return {**found, "obstacles": obstacles, "answers": answers}


def _wake(passage: Passage) -> None:
    """Enable streams that an error has disabled, as the loss of a connection does; a lasting one will do so again."""
    for name, state in subscription.state(passage.new, passage.route.flows).items():
        if not state["enabled"]:
            subscription.enable(passage.new, name)
            passage.note(f"The subscription {name} was disabled; it was enabled again.")


def _refuse(passage: Passage) -> None:
    """Raise HandoverError for what stands in the way."""
    closed, obstacles = passage.findings.closed, passage.findings.obstacles_to_way_back
    if obstacles and passage.params["reverse"]:
        remedy = "Fix that, or do without a way back: reverse: false."
        closed.append(GateAnswer("way_back", " ".join(obstacles), remedy))
    if closed:
        try:
            gates.refuse(closed)
        except HandoverError as error:
            raise error.of_database(passage.route.source.dbname) from None


def _prepare(passage: Passage) -> None:
    """What clients do not notice: the fence, open on old and closed on new; the way back; sequences as of now."""
    route = passage.route
    patience = passage.params["deadline"] * SAFE_FRACTION
    passing = fence.Fence(False, route.new.address, route.migration.id)
    try:
        if passage.params["roles"] == "bring":
            role_changes.bring(passage)
        together(
            lambda: _prepare_new(passage, 6 * patience),
            lambda: fence.prepare(passage.reader, passing, route.old.dbname, passage.tables, patience),
        )
        cargo.set_sequences(passage)
        cargo.stow_large_objects(passage)
    except HandoverError as error:
        raise error.of_database(route.source.dbname) from None


def _prepare_new(passage: Passage, patience: float) -> None:
    """The way back, and the fence of new, which is closed for as long as the application is not here."""
    route = passage.route
    if passage.params["reverse"] is not False and not passage.findings.obstacles_to_way_back:
        _prepare_way_back(passage)
    standby = fence.Fence(True, route.old.address, route.migration.id, handed_over=False)
    there = fence.read(passage.new)
    if there and there.closed:
        standby = there
    here = fence.tables_to_fence(passage.new, passage.configuration)
    fence.prepare(passage.new, standby, route.new.dbname, here, patience)
    passage.opening = fence.opening(passage.new, standby)


def _prepare_way_back(passage: Passage) -> None:
    """Where it turns out to be impossible, that stops us only if the operator insists on it."""
    try:
        way_back.prepare(passage)
    except HandoverError as error:
        if passage.params["reverse"]:
            raise
        way_back.remove(passage)
        passage.findings = replace(passage.findings, obstacles_to_way_back=[error.problem])


def _pass(party: _Party, params: dict, fate: Fate, guardian: Guardian) -> dict[str, dict]:
    """The window, and what follows at once from its commits. Where that does not go well to the end, the guardian is
    not dismissed: it does what it can when this process ends. Returns where the poolers led before they were switched.
    """
    passages, ready, poolers = party.passages, party.ready, party.poolers
    timeline = passages[0].timeline
    poolers.prepare()
    places = poolers.places()
    guardian.watch([_for_guardian(passage) for passage in passages], poolers.as_records())
    window = Window(ready, poolers, params["deadline"]) if ready else None
    try:
        if window:
            window.run()
        fate.handed_over = True
        after.let_in(passages, poolers, params)
        before = places if after.switch(passages, poolers, params, timeline) else {}
    except (HandoverError, psycopg2.Error) as failure:
        error = as_handover_error(failure)
        if isinstance(error, CommitInDoubtError):
            fate.handed_over = None
        fate.timeline = timeline.as_result()
        if window and window.is_clean and not fate.handed_over:
            guardian.dismiss()
            error.problem += _loaded_too_early(poolers, places)
        concerned = window.concerned if window and not fate.handed_over else passages
        raise error.of_database(", ".join(passage.route.source.dbname for passage in concerned)) from None
    for passage in ready:
        passage.measures.window_ms = timeline.milliseconds
    if not after.is_left_to_guardian(passages):
        guardian.dismiss()
    return before


def _loaded_too_early(poolers: Poolers, places: dict) -> str:
    """What to say of poolers that were restarted meanwhile: they know the new home, which is closed."""
    with contextlib.suppress(HandoverError, psycopg2.Error):
        names = [name for name, now in poolers.places().items() if now != places[name]]
        if names:
            return f" Meanwhile {', '.join(names)} loaded its new entries: put its file back, and RELOAD it."
    return ""


def _for_guardian(passage: Passage) -> dict:
    route = passage.route
    ends = {"old": route.old, "new": route.new}
    found = {name: {"parameters": end.endpoint.parameters, "dbname": end.dbname} for name, end in ends.items()}
    source = "old" if route.old is route.source else "new"
    margin = passage.sequence_margin
    return {**found, "source": source, "migration": route.migration.id, "slot": route.returning, "margin": margin}
