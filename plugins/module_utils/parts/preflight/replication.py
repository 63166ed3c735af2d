# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what logical replication needs of the servers (PostgreSQL documentation, 29.11)."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.facts.wal import (
    levels_for_logical_slots,
    obstacle_to_logical_slots,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.servers import is_older
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.capacity import (
    Capacity,
    apply_workers,
    origins,
    senders,
    slots,
    worker_processes,
)

CONTINUOUS = ("continuous",)
RESTART = "then restart the {side}. Managed services have a parameter for this."
# The first minors that restrict output plugins; what came before has no such setting.
PLUGINS_RESTRICTED = {14: 24, 15: 19, 16: 15, 17: 11, 18: 5}
SHORT_TIMEOUT = 10_000  # milliseconds


@server_check("wal_level", "The source writes WAL for logical replication.", CONTINUOUS)
def wal_level(pair: Pair):
    """wal_level must be logical; changing it needs a restart. From PostgreSQL 19 on, the default replica is enough."""
    obstacle = obstacle_to_logical_slots(pair.source.connection, "source")
    if obstacle:
        least = levels_for_logical_slots(pair.source.connection)[0]
        yield Finding(
            "blocker",
            obstacle,
            "No logical slot can be made.",
            f"ALTER SYSTEM SET wal_level = '{least}';\n-- " + RESTART.format(side="source"),
        )


@server_check("replication_slots", "The source has a free replication slot for each database.", CONTINUOUS)
def replication_slots(pair: Pair):
    """One for each database as long as the migration takes, and a second one after an interruption."""
    yield from _too_few(pair.source, slots(pair.source), len(pair.databases), "replication slot")


@server_check("wal_senders", "The source has a free WAL sender for each database.", CONTINUOUS)
def wal_senders(pair: Pair):
    """One for each database, and a second one while the next wave is copied."""
    yield from _too_few(pair.source, senders(pair.source), len(pair.databases), "WAL sender")


@server_check("apply_workers", "The target has a free apply worker for each database.", CONTINUOUS, needs_target=True)
def free_apply_workers(pair: Pair):
    """Apply workers count as logical replication workers and as worker processes."""
    for capacity in (apply_workers(pair.target), worker_processes(pair.target)):
        yield from _too_few(pair.target, capacity, len(pair.databases), "apply worker")


@server_check("origins", "The target has a free replication origin for each database.", CONTINUOUS, needs_target=True)
def free_origins(pair: Pair):
    """Without an origin the target does not know how far it has come."""
    yield from _too_few(pair.target, origins(pair.target), len(pair.databases), "replication origin")


def _too_few(side: Side, capacity: Capacity, needed: int, noun: str):
    """A blocker where there are fewer than one for each database; said where there is no second one for waves."""
    name = side.endpoint.side
    if capacity.most is None:
        command = f"SHOW {capacity.setting};"
        yield Finding("unknown", f"{capacity.setting} of the {name} is not visible to this role.", remedy=command)
        return
    wanted = _wanted(capacity, needed)
    if capacity.free >= wanted:
        return
    blocked = capacity.free < needed
    yield Finding(
        "blocker" if blocked else "info",
        f"{capacity.setting} is {capacity.most} on the {name}, {capacity.used} are in use; "
        f"{counted(needed, 'database')} need one {noun} each.",
        "The last databases cannot begin; migrate fewer at a time."
        if blocked
        else "None would be left to continue after an interruption.",
        f"ALTER SYSTEM SET {capacity.setting} = {capacity.used + wanted};\n-- {RESTART.format(side=name)}",
        [capacity.setting],
    )


@server_check("way_back", "After the cutover changes can flow back to the source.", CONTINUOUS, needs_target=True)
def way_back(pair: Pair):
    """For the rollback the roles are exchanged: the target publishes, the source subscribes."""
    needed = len(pair.databases)
    short = [
        (side, capacity)
        for side, capacity in (
            (pair.target, slots(pair.target)),
            (pair.target, senders(pair.target)),
            (pair.source, apply_workers(pair.source)),
            (pair.source, worker_processes(pair.source)),
            (pair.source, origins(pair.source)),
        )
        if capacity.most is not None and capacity.free < needed
    ]
    wanted = [(side, one.setting, str(one.most), str(one.used + _wanted(one, needed))) for side, one in short]
    level, levels = pair.target.settings.get("wal_level"), levels_for_logical_slots(pair.target.connection)
    if level not in levels:
        wanted.insert(0, (pair.target, "wal_level", level, levels[0]))
    for side, setting, value, better in wanted:
        name = side.endpoint.side
        yield Finding(
            "warning",
            f"{setting} is {value} on the {name}; for {counted(needed, 'database')} it has to be {better}.",
            "After the cutover, there will be no rollback without loss.",
            f"ALTER SYSTEM SET {setting} = '{better}';\n-- {RESTART.format(side=name)}",
            [f"{name}.{setting}"],
        )


def _wanted(capacity: Capacity, databases: int) -> int:
    """Twice as many of what waves need, so that all remedies for one setting say the same number."""
    return databases * (2 if capacity.setting in ("max_replication_slots", "max_wal_senders") else 1)


@server_check("output_plugins", "The source lets pgoutput decode changes.", CONTINUOUS)
def output_plugins(pair: Pair):
    """output_plugin_libraries of the newest minors names the plugins that slots may use."""
    source = pair.source
    allowed = source.defaults.get("output_plugin_libraries")
    if allowed is None:
        major, restricted = source.server.major, PLUGINS_RESTRICTED
        if major in restricted and not is_older(source.server.version, restricted) and not source.sees_all_settings:
            seen = "output_plugin_libraries of the source is not visible to this role."
            yield Finding("unknown", seen, remedy="As a superuser: SHOW output_plugin_libraries;")
    elif "pgoutput" not in [name.strip(' "') for name in allowed.split(",")]:
        better = ", ".join(filter(None, (allowed, "pgoutput")))
        yield Finding(
            "blocker",
            f"output_plugin_libraries is '{allowed}' on the source.",
            "Subscriptions need a slot with pgoutput, and the source refuses to make one.",
            f"ALTER SYSTEM SET output_plugin_libraries = {better};\nSELECT pg_reload_conf();",
        )


@server_check("replication_timeouts", "The timeouts of replication are neither off nor very short.", CONTINUOUS)
def replication_timeouts(pair: Pair):
    """wal_sender_timeout on the source, wal_receiver_timeout on the target; 0 turns them off."""
    for side, setting in ((pair.source, "wal_sender_timeout"), (pair.target, "wal_receiver_timeout")):
        if side is None:
            continue
        milliseconds, name = int(side.defaults[setting]), side.endpoint.side
        if milliseconds >= SHORT_TIMEOUT:
            continue
        yield Finding(
            "warning",
            f"{setting} is {milliseconds} ms on the {name}"
            + (", so there is no timeout." if milliseconds == 0 else "."),
            "If a connection breaks silently, nobody notices, and its slot stays taken."
            if milliseconds == 0
            else (
                "While a large transaction is applied, the connection is cut, and the transaction is sent again and "
                "again."
            ),
            f"ALTER SYSTEM SET {setting} = '60s';\nSELECT pg_reload_conf();",
            [f"{name}.{setting}"],
        )
