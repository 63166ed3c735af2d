# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of continuous migrations, from any machine, by journal and catalogs alone."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone

from ansible_collections.handover.postgresql.plugins.module_utils.base import next_step
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import side_by_side
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import continuity, drift, home, strays
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration.ends import (
    Ends,
    Visit,
    find_records,
    visit,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring import estimates
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.publishing import (
    read_beacons,
    read_publishing,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.streams import (
    stream_errors,
    streams,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.subscribing import (
    read_subscribing,
    unsteady,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn

SAMPLE_INTERVAL = 10  # seconds that two samples are apart at least
RECENT_SAMPLES = 200
TIMES = ("copied", "in_step", "cut_over", "rolled_back", "stopped")
NO_WAL = {
    "server": None,
    "retained_bytes": None,
    "max_slot_wal_keep_bytes": None,
    "safe_bytes": None,
    "status": None,
    "data_directory": None,
}
WAL_STATUSES = [None, "reserved", "extended", "unreserved", "lost"]  # from good to bad


def info(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_migration_info documents; ``params`` are its parameters. Raises HandoverError."""
    ends = Ends.reach(source, target, params)

    def look(pair: tuple[str, str]) -> dict:
        with visit(ends.source, pair[0]) as at_source, visit(ends.target, pair[1]) as at_target:
            status = read_status(ends, at_source, at_target, *pair)
            if params["samples"]:
                status["samples"] = curves(at_target, status["id"], params["samples"])
            if not check_mode:
                record(at_source, at_target, status)
            return status

    return {
        "databases": side_by_side(look, ends.pairs),
        "source": ends.source.as_result(),
        "target": ends.target.as_result(),
        "changed": False,
    }


def read_status(ends: Ends, at_source: Visit, at_target: Visit, dbname: str, goal: str) -> dict:
    """The status of one migration as the module returns it. What cannot be told is None."""
    migration = _tolerantly(at_target, migration_journal.read_migration)
    _refuse_other_source(ends, at_source, migration, dbname)
    record = _tolerantly(
        at_source, lambda connection: (find_records(ends, connection, goal, strict=False) or [None])[-1]
    )
    identifier = (migration and migration.id) or (record and record["id"]) or _expected_id(ends, dbname, goal)
    status = {
        "database": dbname,
        "target_database": goal,
        "id": identifier,
        "phase": migration.phase if migration else None if at_target.unknown else "none",
        "direction": migration.direction if migration else None,
    }
    status.update(_streams(at_source, at_target, identifier, migration))
    status.update(_progress(at_target, migration, record, status))
    _judge_continuity(at_source, at_target, migration, status)
    status["drift"] = _drift(at_target if leads_back(migration) else at_source, migration)
    status["running"] = _tolerantly(
        at_source, lambda connection: turn.holders(connection, identifier) if identifier else []
    )
    _say_where_it_lives(status, at_source)
    for visited in (at_source, at_target):
        said = _tolerantly(visited, lambda connection, side=visited.side: strays.past_the_fence(connection, side))
        status["notices"] = [*status["notices"], *(said or [])]
    if status["phase"] == "none" and status["streams"]:
        status["errors"] = [*(status["errors"] or []), LEFT_BEHIND]
    status["problems"] = [visited.problem for visited in (at_source, at_target) if visited.problem]
    way_back = any(stream["direction"] == "back" for stream in status["streams"])
    status["next"] = next_step.of_status({**status, "way_back": way_back})
    return status


def _say_where_it_lives(status: dict, at_source: Visit) -> None:
    """Add what other migrations of the source's database have to do with this one."""
    found = _tolerantly(at_source, lambda connection: home.elsewhere(connection, status["id"]))
    if found and status["phase"] in HELD:
        error = {
            "kind": "home",
            "stream": None,
            "problem": f"The database of the source {found[0]}.",
            "remedy": found[1],
        }
        status["errors"] = [*(status["errors"] or []), error]
    elif found:
        status["notices"] = [*status["notices"], f"The database of the source {found[0]}."]
    own = _tolerantly(at_source, fence.read)
    if own and own.closed and own.migration == status["id"] and status["phase"] in ("none", "stopped"):
        status["notices"] = [*status["notices"], f"The source is fenced: it was handed over to {own.home}."]
    others = _tolerantly(at_source, lambda connection: home.outgoing(connection, status["id"]))
    if others and status["phase"] == "handed_over":
        text = f"Other migrations from this database exist and cannot be handed over now: {', '.join(others)}."
        status["notices"] = [*status["notices"], text]


def _refuse_other_source(ends: Ends, at_source: Visit, migration, dbname: str) -> None:
    """Nothing that is seen there is said of this migration."""
    if not migration or not at_source.connection:
        return
    origin = migration.source
    if (origin["system_identifier"], origin["database"]) != (ends.source.server.system_identifier, dbname):
        at_source.problem = OTHER_SOURCE.format(**origin)
        at_source.connection = None


OTHER_SOURCE = (
    'The migration into this database comes from another source: database "{database}" of the server that was '
    "{host}:{port}. Correct source, databases or rename."
)


def _judge_continuity(at_source: Visit, at_target: Visit, migration, status: dict) -> None:
    """What was lost on the way, or may have been, and whether the verification still counts; None where an end is
    missing, or cannot be asked.
    """
    sight = None
    if migration and at_source.connection and at_target.connection:
        with contextlib.suppress(psycopg2.Error):  # what keeps us from it is said by who looks at one end alone
            sight = at_target.sight = continuity.look(at_source.connection, at_target.connection, migration)
    status["continuity"] = None
    if migration and migration.phase == "stopped":
        status["continuity"] = []
    elif sight and (sight.breaks or not sight.unseen):
        status["continuity"] = sight.breaks
    if status["continuity"]:
        remedy = continuity.remedy(sight)
        found = [
            {"kind": "continuity", "stream": one["stream"], "problem": one["problem"], "remedy": remedy}
            for one in sight.breaks
        ]
        status["errors"] = [*(status["errors"] or []), *found]
    if status["verified"]:
        outdated = continuity.outdated(status["verified"], sight) if sight else None
        shown = {name: one for name, one in status["verified"].items() if name != "seen"}
        status["verified"] = {**shown, "outdated": outdated}


HELD = ("copying", "catching_up", "in_step", "handed_over")

LEFT_BEHIND = {
    "kind": "left_behind",
    "stream": None,
    "problem": "There is no journal in the target database, but a migration has left slots or subscriptions behind.",
    "remedy": "handover.postgresql.stop removes them.",
}


def _tolerantly(visited: Visit, look):
    """``look(connection)``, or None where there is no session; a session that is lost is a problem of its end."""
    if visited.connection is None:
        return None
    try:
        return look(visited.connection)
    except psycopg2.Error as error:
        visited.problem = visited.problem or f"The {visited.side}: {one_line(error)}"
        if visited.connection.closed:
            visited.connection = None
        return None


def _expected_id(ends: Ends, dbname: str, goal: str) -> str | None:
    servers = ends.source.server, ends.target.server
    return naming.migration_id(servers[0], dbname, servers[1], goal) if all(servers) else None


def _streams(at_source: Visit, at_target: Visit, identifier: str | None, migration) -> dict:
    """Slots, subscriptions and beacons of both directions, and what follows from them."""
    if identifier is None:
        return {"streams": [], "errors": None, "lag": {"bytes": None, "seconds": None}, "wal": dict(NO_WAL)}
    waves = migration.waves if migration and migration.phase != "stopped" and not leads_back(migration) else []
    expected = {wave.name: wave.state == "subscribed" for wave in waves if wave.lsn}
    forward, source_wal = _direction("forward", at_source, at_target, identifier, expected)
    back, target_wal = _direction("back", at_target, at_source, identifier, {})
    live, wal, subscriber = forward, _wal("source", forward, source_wal), at_target
    if leads_back(migration):
        live, wal, subscriber = back, _wal("target", back, target_wal), at_source
    subscribed = [stream for stream in live if expected.get(stream["name"], True)]
    failing = _failing(subscriber, identifier, subscribed)
    errors = [one for stream in live for one in stream_errors(stream, stream in subscribed, failing or set())]
    return {
        "streams": forward + back,
        "errors": None if failing is None else errors,
        "lag": {name: _worst([stream[f"lag_{name}"] for stream in subscribed]) for name in ("bytes", "seconds")},
        "wal": wal,
    }


def _failing(subscriber: Visit, identifier: str, subscribed: list[dict]) -> set | None:
    """Subscriptions whose worker does not stay; only where there is a sign of it that is worth a second look. None if
    that could not be had.
    """
    found = [stream["subscription"] for stream in subscribed if (stream["subscription"] or {}).get("present")]
    found = [one for one in found if one["enabled"] is not False]  # None: hidden
    if not any(one["worker_pid"] is None or one["apply_errors"] or one["doubtful"] for one in found):
        return set()
    prefix = f"{naming.PREFIX}{identifier}_"
    return _tolerantly(subscriber, lambda connection: unsteady(connection, prefix))


def leads_back(migration) -> bool:
    """Whether the target is the primary, and changes go back to the source, if anywhere."""
    return bool(migration) and (migration.phase, migration.direction) == ("handed_over", "forward")


def _direction(direction: str, publisher: Visit, subscriber: Visit, identifier: str, expected: dict) -> tuple:
    """(streams of one direction, what the publishing server says)."""
    prefix = f"{naming.PREFIX}{identifier}_"
    publishing = _tolerantly(publisher, lambda connection: read_publishing(connection, prefix))
    subscribing = _tolerantly(subscriber, lambda connection: read_subscribing(connection, prefix))
    beacons = [
        _tolerantly(end, lambda connection: read_beacons(connection, identifier)) for end in (publisher, subscriber)
    ]
    return streams(expected, direction, publishing, subscribing, (beacons[0], beacons[1])), publishing


def _worst(amounts: list):
    """The highest, or None if there is none or one is not known."""
    return max(amounts) if amounts and None not in amounts else None


def _wal(server: str, found: list[dict], publishing) -> dict:
    """What the slots hold back on the server that publishes."""
    if publishing is None:
        return {**NO_WAL, "server": server}
    slots = [stream["slot"] for stream in found if stream["slot"] and stream["slot"]["present"]]
    statuses = [slot["wal_status"] for slot in slots]
    return {
        "server": server,
        "retained_bytes": max((slot["retained_bytes"] or 0 for slot in slots), default=0),
        "max_slot_wal_keep_bytes": publishing.keep_bytes,
        "safe_bytes": min((slot["safe_bytes"] for slot in slots if slot["safe_bytes"] is not None), default=None),
        "status": max(statuses, key=WAL_STATUSES.index, default=None),
        "data_directory": publishing.data_directory,
    }


def _progress(at_target: Visit, migration, record: dict | None, status: dict) -> dict:
    """Times, tables, bytes, how fast they are copied, and how long that, or catching up, will take."""
    now = _tolerantly(at_target, _clock) or datetime.now(timezone.utc)
    started = record["started"] if record else None
    if migration:
        started = migration.started
    result = {"started": started, "age_seconds": estimates.seconds_since(started, now)}
    result.update({name: migration and getattr(migration, name) for name in TIMES})
    result.update(verified=migration and migration.verified, notices=migration.notices if migration else [])
    result["failures"] = migration.failures if migration else []
    result["waves"] = estimates.waves(migration) if migration else []
    result["slowest_tables"] = estimates.slowest(migration) if migration else []
    if migration is None:
        return {**result, "tables": None, "bytes": None, "bytes_per_second": None, "eta_seconds": None}
    amounts = estimates.copied_bytes(migration)
    samples = _recent_samples(at_target, migration.id)
    copying = rate = eta = None
    if migration.phase == "copying" and amounts["total"] is not None:
        rate = estimates.copy_rate(migration, samples, now, amounts["copied"])
        copying = amounts["total"] - amounts["copied"]
        eta = estimates.remaining_seconds(copying, rate)
    if migration.phase == "catching_up":
        lag = status["lag"]["bytes"]
        growth = estimates.rate(samples, "lag_bytes", now, lag)
        eta = estimates.remaining_seconds(lag, growth and -growth)
    tables = estimates.table_states(migration)
    return {**result, "tables": tables, "bytes": amounts, "bytes_per_second": rate, "eta_seconds": eta}


def _clock(connection) -> datetime:
    return value(connection, "SELECT clock_timestamp()")


def _recent_samples(at_target: Visit, identifier: str) -> list[dict]:
    """The last samples of the journal, oldest first; none where they cannot be read."""
    look = migration_journal.read_samples
    return _tolerantly(at_target, lambda connection: look(connection, identifier, RECENT_SAMPLES)) or []


def curves(at_target: Visit, identifier: str | None, points: int) -> list[dict]:
    """The samples of the whole migration, for plots."""

    def look(connection):
        present = migration_journal.is_present(connection)
        return migration_journal.read_curves(connection, identifier, points) if present else []

    return _tolerantly(at_target, look) or []


def _drift(publisher: Visit, migration) -> list[dict] | None:
    """What changed in the definitions of the publisher's tables since they were taken over, or None where that cannot
    be told. After a stop it matters to nobody.
    """
    if migration is None or not migration.fingerprint:
        return None
    if migration.phase == "stopped":
        return []
    return _tolerantly(publisher, lambda connection: drift.since(migration, connection))


def has_drifted(ends: Ends, at_source: Visit, at_target: Visit, dbname: str) -> bool:
    """Whether definitions were changed, and nobody works on the migration: asked before the status, which waits until
    apply is steady, as it may stand still for that very reason.
    """
    migration = _tolerantly(at_target, migration_journal.read_migration)
    _refuse_other_source(ends, at_source, migration, dbname)
    if not migration or not at_source.connection or turn.holders(at_source.connection, migration.id):
        return False
    return bool(_drift(at_target if leads_back(migration) else at_source, migration))


def record(at_source: Visit, at_target: Visit, status: dict) -> None:
    """What a look leaves behind, where it can be written: a sample, and what both ends are to remember. The sessions
    may write from here on.
    """
    for visited in (at_source, at_target):
        _tolerantly(visited, lambda connection: value(connection, WRITABLE))
    _record_sample(at_target, status)
    if status["continuity"] is None or status["phase"] == "stopped" or status["running"]:
        return  # a run remembers by itself
    sessions = at_source.connection, at_target.connection
    if all(sessions) and at_target.sight:
        with contextlib.suppress(psycopg2.Error):  # who may not write here is told what is seen all the same
            continuity.remember(at_target.sight, status["id"], *sessions)


WRITABLE = "SELECT set_config('default_transaction_read_only', 'off', false)"


def _record_sample(at_target: Visit, status: dict) -> None:
    """Record what was seen in the journal, for plots and rates, where it can be written and the last one is not new."""
    if status["phase"] not in ("copying", "catching_up", "in_step", "handed_over") or not at_target.connection:
        return
    amounts = {
        "retained_bytes": status["wal"]["retained_bytes"],
        "lag_bytes": status["lag"]["bytes"],
        "lag_seconds": status["lag"]["seconds"],
        "copied_bytes": status["bytes"]["copied"],
    }
    recent = """
        SELECT EXISTS (SELECT FROM handover.sample
                       WHERE migration_id = %s AND at > clock_timestamp() - %s * interval '1 s')"""
    with contextlib.suppress(psycopg2.Error):  # a plot is not worth a failure
        if not value(at_target.connection, recent, (status["id"], SAMPLE_INTERVAL)):
            migration_journal.add_sample(at_target.connection, status["id"], **amounts)
