# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that a source needs for logical replication: raised, never lowered (PostgreSQL documentation, 29.11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import is_loopback, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.facts.configuration import (
    Setting,
    normal,
    read_settings,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.wal import levels_for_logical_slots

# A standby that has less of these than its primary stops, or pauses from 14 on (PostgreSQL documentation, 26.4).
NOT_LESS_ON_STANDBYS = ("max_wal_senders", "max_worker_processes")
MOST_WANTED_TIMEOUT = 60_000  # milliseconds; wal_sender_timeout as it comes
OUR_SLOTS = "handover_%"


@dataclass(frozen=True)
class Wanted:
    """What the migration is to be: the role that the target connects as, and what the operator chose."""

    role: str
    databases: list[str]
    both_ways: bool
    remote: bool
    listen_addresses: str
    max_slot_wal_keep_size: str | None


@dataclass(frozen=True)
class Need:
    """A setting that the migration needs: whether a value of it will do, and the value to give it otherwise."""

    setting: Setting
    value: str
    reason: str
    will_do: Callable[[str], bool]

    @property
    def name(self) -> str:
        return self.setting.name

    @property
    def must_be_changed(self) -> bool:
        """Whether the files say too little; None, where they cannot be read, counts as what is in force."""
        configured = self.setting.running if self.setting.configured is None else self.setting.configured
        return not self.will_do(configured)

    @property
    def is_in_force(self) -> bool:
        return self.will_do(self.setting.running)

    def as_result(self) -> dict:
        former = self.setting.running if self.setting.configured is None else self.setting.configured
        return {
            "name": self.name,
            "former": former,
            "value": self.value,
            "reason": self.reason,
            "restart": self.setting.restart,
        }


@dataclass(frozen=True)
class Use:
    """What of the server others than this migration use."""

    slots: int
    senders: int
    origins: int
    subscriptions: int


def needs(connection, wanted: Wanted) -> list[Need]:
    """All settings that matter, met or not. Raises HandoverError for a guard that would lose a slot at once."""
    use, count = _use(connection, wanted), len(wanted.databases)
    has_origins_setting = connection.info.server_version >= 180000  # before, max_replication_slots limits them, too
    spare = "one for each database, and one more to continue after an interruption"
    back = "one for each database on the way back"
    slots = use.slots + 2 * count
    if wanted.both_ways and not has_origins_setting:
        slots = max(slots, use.origins + count)
    lowest = {"max_replication_slots": (slots, spare), "max_wal_senders": (use.senders + 2 * count, spare)}
    if wanted.both_ways:
        lowest["max_logical_replication_workers"] = (use.subscriptions + count, back)
        if has_origins_setting:
            lowest["max_active_replication_origins"] = (use.origins + count, back)
    others = ["wal_level", "max_worker_processes", "listen_addresses", "max_slot_wal_keep_size"]
    found = read_settings(connection, [*lowest, *others])
    levels = levels_for_logical_slots(connection)
    made = [Need(found["wal_level"], levels[0], "logical replication", lambda text: text in levels)]
    made += [_at_least(found[name], *bound) for name, bound in lowest.items()]
    if wanted.both_ways:
        made.append(_worker_processes(found, lowest["max_logical_replication_workers"][0]))
    if wanted.remote:
        made.append(_listening(found["listen_addresses"], wanted.listen_addresses))
    if wanted.max_slot_wal_keep_size is not None:
        made.append(_guard(connection, found["max_slot_wal_keep_size"], wanted.max_slot_wal_keep_size))
    return made


def _use(connection, wanted: Wanted) -> Use:
    """Slots and senders of ours are not counted, so that a second run asks for no more than the first."""
    ours = "slot_name LIKE %(slots)s AND database = ANY (%(databases)s)"
    query = f"""
        SELECT (SELECT count(*) FROM pg_replication_slots WHERE NOT coalesce({ours}, false))::int,
               (SELECT count(*) FROM pg_stat_replication WHERE usename IS DISTINCT FROM %(role)s
                AND application_name <> 'handover' AND application_name NOT LIKE %(slots)s)::int,
               (SELECT count(*) FROM pg_replication_origin)::int,
               (SELECT count(subname) FROM pg_subscription WHERE subenabled AND subname NOT LIKE %(slots)s)::int"""
    parameters = {"slots": OUR_SLOTS, "databases": wanted.databases, "role": wanted.role}
    slots, senders, origins, subscriptions = rows(connection, query, parameters)[0]
    # A standby or subscriber that is away for the moment has a slot, and wants a sender when it is back.
    return Use(slots, max(senders, slots), origins, subscriptions)


def _at_least(setting: Setting, number: int, reason: str) -> Need:
    return Need(setting, str(number), reason, lambda text: int(text) >= number)


def _worker_processes(found: dict[str, Setting], apply_workers: int) -> Need:
    """Apply workers are worker processes, too: others keep the room that they have now."""
    processes, workers = (
        _configured(found[name]) for name in ("max_worker_processes", "max_logical_replication_workers")
    )
    number = max(workers, apply_workers) + max(processes - workers, 1)
    return _at_least(found["max_worker_processes"], number, "room for apply workers besides other workers")


def _configured(setting: Setting) -> int:
    return int(setting.running if setting.configured is None else setting.configured)


def _listening(setting: Setting, addresses: str) -> Need:
    def reaches_beyond(text: str) -> bool:
        return any(not is_loopback(address.strip()) for address in text.split(","))

    return Need(setting, addresses, "the target connects over the network", reaches_beyond)


def _guard(connection, setting: Setting, size: str) -> Need:
    """max_slot_wal_keep_size, in megabytes. What is unlimited is limited; a limit is raised, never lowered."""
    megabytes = int(normal(size, "integer", "MB"))
    query = """
        SELECT slot_name::text, pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))
        FROM pg_replication_slots WHERE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > %s * 1048576::numeric"""
    behind = rows(connection, query, (megabytes,)) if setting.running == "-1" else []
    if behind:
        held = ", ".join(f'"{slot}" holds back {size}' for slot, size in behind)
        raise HandoverError(
            f"With max_slot_wal_keep_size = {size}, replication slots of this server would be lost: {held}.",
            "Give a larger max_slot_wal_keep_size, or drop slots that nobody needs.",
        )
    reason = "a slot that falls behind is lost before the disk is full"
    return Need(setting, str(megabytes), reason, lambda text: text != "-1" and int(text) >= megabytes)


def standbys(connection, role: str) -> list[str]:
    """Standbys of this server, connected or known by their slot; what follows by files alone is not seen."""
    query = """
        SELECT application_name || coalesce(' at ' || host(client_addr), '') FROM pg_stat_replication AS r
        WHERE state <> 'backup' AND application_name NOT IN ('pg_receivewal', 'pg_basebackup')
        AND usename IS DISTINCT FROM %s
        AND NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND slot_type = 'logical')
        UNION SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active
        AND NOT temporary ORDER BY 1"""
    return [name for (name,) in rows(connection, query, (role,))]


def hints(connection) -> list[str]:
    """What is worth knowing about settings that are left as they are."""
    found = read_settings(connection, ["wal_sender_timeout", "idle_replication_slot_timeout", "max_slot_wal_keep_size"])
    texts = []
    if found["wal_sender_timeout"].running == "0":
        texts.append("wal_sender_timeout is 0: if a connection of the target breaks silently, its slot stays taken.")
    if (idle := found.get("idle_replication_slot_timeout")) and idle.running != "0":
        texts.append("idle_replication_slot_timeout is set: if the target stays away for longer, the slot is lost.")
    if found["max_slot_wal_keep_size"].running == "-1":
        texts.append(
            "max_slot_wal_keep_size is -1: while the target is away, the source keeps WAL until the disk is full."
        )
    return texts


def short_sender_timeout(connection) -> bool:
    """Whether large transactions may be cut off and sent again and again; a role can have a timeout of its own."""
    timeout = int(read_settings(connection, ["wal_sender_timeout"])["wal_sender_timeout"].running)
    return 0 < timeout < MOST_WANTED_TIMEOUT


def may_alter_system(connection, names: list[str]) -> bool:
    """Whether this role may change these settings and have them read; before 15 only superusers can."""
    if connection.info.server_version >= 150000:
        query = "SELECT coalesce(bool_and(has_parameter_privilege(name, 'ALTER SYSTEM')), true)"
        allowed = value(connection, f"{query} FROM unnest(%s::text[]) AS name", (list(names),))
    else:
        allowed = value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    return allowed and value(connection, "SELECT has_function_privilege('pg_reload_conf()', 'EXECUTE')")


def allows_alter_system(connection) -> bool:
    """From 17 on a server may refuse it, because its configuration is kept elsewhere."""
    return value(connection, "SELECT coalesce(current_setting('allow_alter_system', true), 'on')") == "on"


def alter_system(name: str, text: str | None) -> sql.Composable:
    """ALTER SYSTEM SET, or RESET for None. It takes effect with a reload or a restart."""
    if text is None:
        return sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
    return sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(text))


def still_needed(connection, name: str, former: str) -> str:
    """Why a setting cannot go back to its former value, with which the server would not start; empty if it can."""
    slots, logical, origins = rows(
        connection,
        "SELECT count(*)::int, (count(*) FILTER (WHERE slot_type = 'logical'))::int,"
        " (SELECT count(*)::int FROM pg_replication_origin) FROM pg_replication_slots",
    )[0]
    if name == "wal_level" and logical and former not in levels_for_logical_slots(connection):
        return f"The server would not start with the {counted(logical, 'logical replication slot')} that it has."
    if name == "max_replication_slots" and int(former) < max(slots, origins):
        has = f"{counted(slots, 'replication slot')} and {counted(origins, 'origin')}"
        return f"The server would not start with the {has} that it has."
    if name == "max_active_replication_origins" and int(former) < origins:
        return f"The server would not start with the {counted(origins, 'replication origin')} that it has."
    return ""
