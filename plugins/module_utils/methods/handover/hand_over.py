# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Handing databases over to their new home, and back: one algorithm, two directions, one call."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import seconds_of
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import (
    after,
    cargo,
    gates,
    logins,
    report,
    way_back,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.guardian import Guardian
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage, opened
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import (
    READY,
    Route,
    find_routes,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.window import Window
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, strays
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import Poolers, open_poolers
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import subscription

MARGIN_WITHOUT_POOLER = 1000  # calls of nextval() whose values sessions may hold and use elsewhere
SAFE_FRACTION = 0.5  # of the deadline, that preparing the fence may wait for a table


def hand_over(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_cutover documents. Raises HandoverError, with whether the databases are ``handed_over`` if known."""
    params = {**params, **{name: seconds_of(name, params[name]) for name in ("deadline", "switch_timeout")}}
    try:
        return _hand_over(source, target, params, check_mode)
    except HandoverError as error:
        if "handed_over" not in error.facts and not error.facts.get("unknown"):
            error.facts["handed_over"] = False
        raise


@contextlib.contextmanager
def _told(**facts):
    """What nobody expected of a server is an error of ours, too: its ``facts`` say what was handed over."""
    try:
        yield
    except psycopg2.Error as error:
        raise HandoverError(
            f"A server refused a statement, or was lost: {one_line(error)}.",
            "Check the server's log for the reason, then run this again.",
            sqlstate=error.pgcode,
            **facts,
        ) from None


def _hand_over(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """In one window, or in one for each database."""
    with _told():
        routes = find_routes(source, target, params)
    if params["poolers"] and len(routes) > 1 and not params["together"]:
        raise HandoverError(
            "A pooler loads the entries of all databases at once, so that they would be switched with the first one.",
            "Hand them over with together: true, or call this for one database after the other.",
        )
    groups = [routes] if params["together"] else [[route] for route in routes]
    results = []
    for group in groups:
        try:
            results += _hand_over_together(group, params, check_mode)
        except HandoverError as error:
            found = error.facts["databases"] = [*results, *error.facts.get("databases", [])]
            error.facts["changed"] = any(one["changed"] for one in found)
            raise
    return {"changed": any(one["changed"] for one in results), "direction": params["direction"], "databases": results}


@_told()
def _hand_over_together(routes: list[Route], params: dict, check_mode: bool) -> list[dict]:
    """Databases in one window."""
    with contextlib.ExitStack() as stack:
        poolers = stack.enter_context(open_poolers(params["poolers"]))
        passages = stack.enter_context(opened(routes, params))
        _choose_entries(passages, poolers)
        for passage in passages:
            given = params["sequence_margin"]
            passage.facts["sequence_margin"] = given if given is not None else 0 if poolers else MARGIN_WITHOUT_POOLER
        ready = [passage for passage in passages if passage.route.status == READY]
        if len(ready) == len(passages) and not check_mode:
            _let_go_on(passages[0], poolers)
        for passage in ready:
            _find_out(passage, poolers, check_mode)
            if len(ready) == len(passages):  # else some may lead to new already
                names = [one.route.old.dbname for one in ready]
                passage.facts["gates"] += gates.ask_poolers(passage, poolers, names)
        if check_mode:
            return [report.forecast(passage, poolers) for passage in passages]
        for passage in ready:
            _refuse(passage)
        for passage in ready:
            _prepare(passage)
        _pass(passages, ready, poolers, params)
        with _told(handed_over=True):
            for passage in passages:
                after.complete(passage)
            after.look_at_poolers(passages, poolers)
            results = [report.outcome(passage, poolers) for passage in passages]
        _complain(passages, results)
        return results


def _choose_entries(passages: list[Passage], poolers: Poolers) -> None:
    """The entries of the poolers that belong to these databases."""
    names = {place.dbname for passage in passages for place in (passage.route.source, passage.route.target)}
    for pooler in poolers:
        pooler.choose(names)


def _let_go_on(passage: Passage, poolers: Poolers) -> None:
    """Resume what a run left paused that was killed together with its guardian."""
    if poolers.paused():
        poolers.resume()
        passage.note("Databases were paused at a pooler, and were resumed.")


def _find_out(passage: Passage, poolers: Poolers, check_mode: bool) -> None:
    """What there is to hand over, and what stands in the way."""
    if not check_mode:
        _wake(passage)
    passage.look()
    cargo.look(passage)
    for text in strays.past_the_fence(passage.new, passage.route.new.endpoint.side, contents=True):
        passage.note(f"{text} They are replaced by those of the {passage.route.old.endpoint.side}.")
    passage.facts["gates"] = gates.ask_all(passage)
    if not check_mode:
        continuity.remember(passage.sight, passage.route.migration.id, passage.source, passage.journal)
    passage.facts["fenced_roles"] = logins.to_fence(passage)
    wanted = passage.params["reverse"] is not False
    passage.facts["obstacles_to_way_back"] = way_back.obstacles(passage) if wanted else []
    if wanted and not passage.facts["obstacles_to_way_back"]:
        way_back.foresee(passage)


def _wake(passage: Passage) -> None:
    """Enable streams that an error has disabled, as the loss of a connection does; a lasting one will do so again."""
    for name, state in subscription.state(passage.new, passage.route.flows).items():
        if not state["enabled"]:
            subscription.enable(passage.new, name)
            passage.note(f"The subscription {name} was disabled, and was enabled again.")


def _refuse(passage: Passage) -> None:
    """Raise HandoverError for what stands in the way."""
    closed = [one for one in passage.facts["gates"] if not one["ok"]]
    obstacles = passage.facts["obstacles_to_way_back"]
    if obstacles and passage.params["reverse"]:
        remedy = "Mend that, or do without a way back with reverse: false."
        closed.append({"gate": "way_back", "ok": False, "problem": " ".join(obstacles), "remedy": remedy})
    if closed:
        try:
            gates.refuse(closed)
        except HandoverError as error:
            raise error.of_database(passage.route.source.dbname) from None


def _prepare(passage: Passage) -> None:
    """What clients do not notice: the fence, open on old and closed on new; the way back; sequences as of now."""
    route, params = passage.route, passage.params
    try:
        if params["reverse"] is not False and not passage.facts["obstacles_to_way_back"]:
            _prepare_way_back(passage)
        patience = params["deadline"] * SAFE_FRACTION
        standby = fence.Fence(True, route.old.address, route.migration.id, handed_over=False)
        there = fence.read(passage.new)
        if there and there.closed:
            standby = there
        here = fence.tables_to_fence(passage.new, passage.configuration)
        fence.prepare(passage.new, standby, route.new.dbname, here, 6 * patience)
        passing = fence.Fence(False, route.new.address, route.migration.id)
        fence.prepare(passage.old, passing, route.old.dbname, passage.tables, patience)
        cargo.set_sequences(passage)
        cargo.stow_large_objects(passage)
    except HandoverError as error:
        raise error.of_database(route.source.dbname) from None


def _prepare_way_back(passage: Passage) -> None:
    """Where it turns out to be impossible, that stops us only if the operator insists on it."""
    try:
        way_back.prepare(passage)
    except HandoverError as error:
        if passage.params["reverse"]:
            raise
        way_back.remove(passage)
        passage.facts["obstacles_to_way_back"] = [error.problem]


def _pass(passages: list[Passage], ready: list[Passage], poolers: Poolers, params: dict) -> None:
    """The window, and what follows at once from its commits. Where that does not go well to the end, the guardian is
    not dismissed: it does what it can when this process ends.
    """
    timeline = passages[0].timeline
    poolers.prepare()
    places = poolers.places()
    guardian = Guardian(
        [_for_guardian(passage) for passage in passages],
        poolers.as_records(),
    )
    window = Window(ready, poolers, params["deadline"]) if ready else None
    try:
        if window:
            with _told():
                window.run()
        with _told(handed_over=True):
            after.let_in(passages)
            after.switch(passages, poolers, params, timeline)
        for passage in ready:
            passage.facts["window_ms"] = timeline.milliseconds
    except HandoverError as error:
        if window and window.is_clean and not error.facts.get("handed_over"):
            guardian.dismiss()
            error.problem += _loaded_too_early(poolers, places)
        names = ", ".join(passage.route.source.dbname for passage in passages)
        raise HandoverError(error.problem, error.remedy, **error.facts, timeline=timeline.as_result()).of_database(
            names
        ) from None
    if not {problem["step"] for passage in passages for problem in passage.problems} & {"open", "resume"}:
        guardian.dismiss()


def _loaded_too_early(poolers: Poolers, places: dict) -> str:
    """What to say of poolers that were restarted meanwhile: they know the new home, which is closed."""
    with contextlib.suppress(HandoverError, psycopg2.Error):
        names = [name for name, now in poolers.places().items() if now != places[name]]
        if names:
            return f" Meanwhile {', '.join(names)} loaded where to lead: put its file back, and RELOAD it."
    return ""


def _for_guardian(passage: Passage) -> dict:
    route = passage.route
    ends = {"old": route.old, "new": route.new}
    found = {name: {"parameters": end.endpoint.parameters, "dbname": end.dbname} for name, end in ends.items()}
    source = "old" if route.old is route.source else "new"
    margin = passage.facts["sequence_margin"]
    return {**found, "source": source, "migration": route.migration.id, "slot": route.returning, "margin": margin}


def _complain(passages: list[Passage], results: list[dict]) -> None:
    """Raise HandoverError where something is left to do after a commit."""
    problems = [problem for passage in passages for problem in passage.problems]
    if problems:
        raise HandoverError(
            "It was handed over, but not everything that belongs to that could be done: "
            + " ".join(one["problem"] for one in problems),
            " ".join(dict.fromkeys(one["remedy"] for one in problems)),
            handed_over=True,
            problems=problems,
            databases=results,
            changed=True,
            finished_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
