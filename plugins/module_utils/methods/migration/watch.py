# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at migrations that others may rely on: with a heartbeat, judged by guards, and ended where they say so."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import bytes_of, seconds_of
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import ending
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.follow_alone import follow_alone
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.info import (
    has_drifted,
    read_status,
    record,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.stop import Stopping
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.ends import Ends, visit
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.guards import (
    Limits,
    holds_back,
    judge,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon

HEARTBEAT_PATIENCE = 3.0  # seconds for the subscriber to show a beacon
WATCHED = ("copying", "catching_up", "in_step", "handed_over", None)  # None: what cannot be seen is not taken for over
LEVELS = ["not_watched", "ok", "warning", "unknown", "stop"]  # from good to bad


def watch(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_migration_watch documents; ``params`` are its parameters. Raises HandoverError."""
    limits = Limits(
        max_retained_wal=bytes_of("max_retained_wal", params["max_retained_wal"]),
        max_duration=seconds_of("max_duration", params["max_duration"]),
        max_lag=seconds_of("max_lag", params["max_lag"]),
        min_free_space=bytes_of("min_free_space", params["min_free_space"]),
        free_space=bytes_of("free_space", params["free_space"]),
        stop_on=frozenset(params["stop_on"]),
    )
    ends = Ends.reach(source, target, params)
    results = [_watch_one(ends, dbname, goal, limits, params, check_mode) for dbname, goal in ends.pairs]
    result = {
        "databases": results,
        "source": ends.source.as_result(),
        "target": ends.target.as_result(),
        "tripped": [one["database"] for one in results if LEVELS.index(one["level"]) >= LEVELS.index("warning")],
        "changed": any(one["followed"] or (one["stopped"] and one["stopped"]["changed"]) for one in results),
    }
    errors = [one["error"] for one in results if one["error"]]
    if errors:
        raise HandoverError(" ".join(errors), "Fix that, then run this again.", **result)
    return result


def _watch_one(ends: Ends, dbname: str, goal: str, limits: Limits, params: dict, check_mode: bool) -> dict:
    """One migration. That one cannot be stopped does not keep the others from being watched."""
    result: dict[str, Any] = {"stopped": None, "error": None, "followed": [], "not_followed": None}
    with visit(ends.source, dbname) as at_source, visit(ends.target, goal) as at_target:
        may_follow = params["follow_schema"] and not check_mode
        has_followed = may_follow and has_drifted(ends, at_source, at_target, dbname)
        if has_followed:
            _follow(ends, dbname, goal, params, result)
        status = read_status(ends, at_source, at_target, dbname, goal)
        may_follow = may_follow and not has_followed and not status["running"]
        if may_follow and _is_off(status, at_source, at_target):
            _follow(ends, dbname, goal, params, result)
            status = read_status(ends, at_source, at_target, dbname, goal)
        if status["phase"] in WATCHED and not status["errors"] and not check_mode and beat(ends, status):
            status = read_status(ends, at_source, at_target, dbname, goal)
        if not check_mode:
            record(at_source, at_target, status)
    guards = judge(status, limits) if status["phase"] in WATCHED or holds_back(status) else []
    result.update(status=status, guards=guards)
    result.update({name: status[name] for name in ("database", "target_database", "id", "phase")})
    unseen = "unknown" if status["problems"] else "not_watched"
    result["level"] = max((guard["level"] for guard in guards), key=LEVELS.index, default=unseen)
    if result["level"] == "stop":

        def still(at_source, at_target) -> bool:  # another run may have ended it meanwhile, or begun it anew
            now = read_status(ends, at_source, at_target, dbname, goal)
            return any(guard["level"] == "stop" for guard in judge(now, limits))

        try:
            result["stopped"] = ending.end_one(Stopping, ends, dbname, goal, params, check_mode, still=still)
        except HandoverError as error:
            result["error"] = error.as_result()["msg"]
    return result


def _is_off(status: dict, at_source, at_target) -> bool:
    """Whether something may be to follow: a definition that came and went shows in apply's errors only; what is no
    matter of tables, in the home's catalogs.
    """
    if status["drift"] or status["errors"]:
        return True
    journal, source = at_target.connection, at_source.connection
    if status["phase"] != "handed_over" or not (journal and source):
        return False
    home, side = (source, "source") if status["direction"] == "back" else (journal, "target")
    try:
        return definitions_known.is_home_unknown(journal, home, status["id"], side)
    except (HandoverError, psycopg2.Error):  # the next look will tell
        return False


def _follow(ends: Ends, dbname: str, goal: str, params: dict, result: dict) -> None:
    """Changes of the schema, as far as they need no copy. What is left of them is seen by the guard."""
    try:
        where = ends.source.endpoint, ends.target.endpoint, dbname, goal
        found = follow_alone(*where, params["client_directory"])
        result["followed"] = found.statements
        result["not_followed"] = " ".join(found.notices) or None
    except HandoverError as error:
        result["followed"] = error.facts.get("followed", [])
        result["not_followed"] = error.as_result()["msg"]


def beat(ends: Ends, status: dict) -> bool:
    """Write the beacons of the streams that run now, and wait a moment for the other end to show them.

    Whether there was one to write.
    """
    at_source = ends.source, status["database"]
    at_target = ends.target, status["target_database"]
    if (status["phase"], status["direction"]) == ("handed_over", "forward"):
        direction, publisher, subscriber = "back", at_target, at_source
    else:
        direction, publisher, subscriber = "forward", at_source, at_target
    names = [
        stream["name"]
        for stream in status["streams"]
        if stream["direction"] == direction
        and all(stream[end] and stream[end]["present"] for end in ("slot", "subscription"))
    ]
    if not names:
        return False
    with visit(*publisher, read_only=False) as writing, visit(*subscriber) as reading:
        if writing.connection and reading.connection:
            with contextlib.suppress(psycopg2.Error):  # then the status says what is wrong
                number = beacon.advance(writing.connection, names)
                beacon.await_(reading.connection, names, number, time.monotonic() + HEARTBEAT_PATIENCE, 0.02)
    return True
