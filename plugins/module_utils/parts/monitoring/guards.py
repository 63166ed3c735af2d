# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guards: limits past which a migration is a danger to its source, or has gone wrong."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, duration, size, some

# Of max_slot_wal_keep_size, past which the slot is lost: the rest is the time to do something about it.
KEEP_SHARE = 0.8
NO_LIMIT = "There is no limit."
UNDER_WAY = ("copying", "catching_up", "in_step")
DOUBTFUL = (
    "Apply has restarted since the last beacon arrived, and no beacon has arrived since. It is catching up, or "
    "fails again and again; the log of the subscribing server says which."
)
NOT_OVER = (*UNDER_WAY, None)  # None: the phase is unknown


@dataclass(frozen=True)
class Limits:
    """What is too much: bytes and seconds, None for no limit. ``free_space`` is what the disk has, as told."""

    max_retained_wal: int | None
    max_duration: float | None
    max_lag: float | None
    min_free_space: int | None
    free_space: int | None
    stop_on: frozenset


def judge(status: dict, limits: Limits) -> list[dict]:
    """What each guard says of one migration, by its status as pg_migration_info returns it.

    ``{"guard", "level", "seen"}``; level is ``ok``, ``warning``, ``stop``, ``unknown`` (it could not look), or
    ``not_watched`` (there is no limit, or it does not apply in this phase).
    """
    judgements = []
    for name, guard in GUARDS.items():
        level, seen = guard(status, limits)
        if level == "tripped":
            level = "stop" if name in limits.stop_on and _may_be_stopped(status) else "warning"
        judgements.append({"guard": name, "level": level, "seen": seen})
    return judgements


def holds_back(status: dict) -> bool:
    """Whether a slot is seen on the source that holds back its WAL."""
    return any(one["direction"] == "forward" and one["slot"] and one["slot"]["present"] for one in status["streams"])


def _may_be_stopped(status: dict) -> bool:
    """Once the target is the primary, there is nothing to give up any more. A slot on the source says that it is not,
    also where the target cannot be asked, or has no journal any more.
    """
    if status["phase"] == "handed_over":
        return status["direction"] == "back"
    return status["phase"] in UNDER_WAY or holds_back(status)


def _retained_wal(status: dict, limits: Limits) -> tuple[str, str]:
    keep = status["wal"]["max_slot_wal_keep_bytes"]
    ceilings = {"max_retained_wal": limits.max_retained_wal}
    if keep is not None:
        ceilings["80 % of max_slot_wal_keep_size"] = int(keep * KEEP_SHARE)
    known = {name: ceiling for name, ceiling in ceilings.items() if ceiling is not None}
    retained = status["wal"]["retained_bytes"]
    if retained is None:
        return "unknown", "The amount of WAL held back is unknown."
    seen = f"{size(retained)} of WAL are held back"
    if not known:
        return "not_watched", f"{seen}; there is no limit."
    name, ceiling = min(known.items(), key=lambda item: item[1])
    return _tripped(retained > ceiling), f"{seen}; the limit is {size(ceiling)} ({name})."


def _free_space(status: dict, limits: Limits) -> tuple[str, str]:
    if limits.min_free_space is None:
        return "not_watched", NO_LIMIT
    if limits.free_space is None and status["wal"]["server"] == "target":
        return "not_watched", "The target keeps WAL now, for the way back."
    if limits.free_space is None:
        return "unknown", "SQL does not show the free space on the source's disk, and free_space was not given."
    seen = f"{size(limits.free_space)} are free on the source's disk; the limit is {size(limits.min_free_space)}."
    return _tripped(limits.free_space < limits.min_free_space), seen


def _age(status: dict, limits: Limits) -> tuple[str, str]:
    if limits.max_duration is None or status["phase"] not in NOT_OVER:
        return "not_watched", NO_LIMIT if limits.max_duration is None else "It is over."
    if status["age_seconds"] is None:
        return "unknown", "The beginning of the migration is unknown."
    seen = f"The migration is {duration(status['age_seconds'])} old; the limit is {duration(limits.max_duration)}."
    return _tripped(status["age_seconds"] > limits.max_duration), seen


def _errors(kind: str, fine: str):
    """The guard of one kind of errors."""

    def guard(status: dict, _limits: Limits) -> tuple[str, str]:
        if status["errors"] is None:
            return "unknown", "One end could not be checked."
        problems = [error["problem"] for error in status["errors"] if error["kind"] == kind]
        if problems:
            return "tripped", " ".join(problems)
        ends = [stream["slot" if kind == "slot" else "subscription"] for stream in status["streams"]]
        if None in ends or (not ends and status["phase"] is None):
            return "unknown", "One end could not be checked."
        if kind == "apply" and any(one.get("doubtful") for one in ends):
            return "unknown", DOUBTFUL
        return ("ok", fine) if ends else ("not_watched", "No changes are sent yet, or any more.")

    return guard


def _continuity(status: dict, _limits: Limits) -> tuple[str, str]:
    if status["phase"] is not None and not status["streams"]:
        return "not_watched", "No changes are sent yet, or any more."
    if status["continuity"] is None:
        return "unknown", "One end could not be checked."
    if not status["continuity"]:
        return "ok", "Nothing was lost on the way, as far as can be seen."
    return "tripped", " ".join(one["problem"] for one in status["continuity"])


def _drift(status: dict, _limits: Limits) -> tuple[str, str]:
    if status["phase"] not in NOT_OVER:
        return "not_watched", "It is over."
    drift = status["drift"]
    if drift is None:
        return "unknown", "The schema could not be compared with its former state."
    if not drift:
        return "ok", "The schema has not changed."
    changes = [f"{one['table']}: {one['detail']}" for one in drift]
    return "tripped", f"{counted(len(drift), 'change')} of the schema: {some(changes, 5)}."


def _lag(status: dict, limits: Limits) -> tuple[str, str]:
    if limits.max_lag is None or status["phase"] not in ("in_step", "handed_over", None):
        return "not_watched", NO_LIMIT if limits.max_lag is None else "The migration is not in step yet, or it is over."
    if status["phase"] == "handed_over" and not status["streams"]:
        return "not_watched", "There is no way back."
    seconds = status["lag"]["seconds"]
    if seconds is None:
        return "unknown", "The lag is unknown."
    return _tripped(seconds > limits.max_lag), f"{duration(seconds)} behind; the limit is {duration(limits.max_lag)}."


def _tripped(past: bool) -> str:
    return "tripped" if past else "ok"


GUARDS = {
    "retained_wal": _retained_wal,
    "free_space": _free_space,
    "age": _age,
    "slot": _errors("slot", "The slots exist."),
    "apply_errors": _errors("apply", "Changes are applied."),
    "continuity": _continuity,
    "drift": _drift,
    "lag": _lag,
}
