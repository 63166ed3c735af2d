# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of migrations for people: as text for a terminal, and as Markdown for a ticket."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.typesetting import (
    escaped,
    grid,
    heading,
    on_one_line,
    wrap,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, duration, size

UNKNOWN = "unknown"
CHANGES = 10  # of the schema that are named
LABEL = 9  # columns
STATES = {
    "waiting": "waiting",
    "copying": "being copied",
    "copied": "copied, without all indexes",
    "indexed": "complete",
    "at_cutover": "left to the cutover",
}
PHASES = {
    None: "phase unknown",
    "copying": "copying",
    "catching_up": "catching up",
    "in_step": "in step",
    "handed_over": "handed over",
    "stopped": "stopped",
}


def as_text(result: dict, title: str, width: int = 100) -> str:
    """What pg_migration_info or pg_migration_watch returned, as plain text of about ``width`` columns."""
    lines = heading(f"Status of {title}", "=")
    for side in ("source", "target"):
        lines += wrap(f"{side}  {on_one_line(_server(result[side]))}", width, " " * 8)
    under_way, others = _parted(result)
    for status, judged in under_way:
        lines += ["", *heading(f"Database {_names(status)}: {_phase(status)}", "-")]
        for label, texts in _facts(status, judged):
            for number, text in enumerate(texts):
                start = (label if not number else "").ljust(LABEL)
                lines += wrap(on_one_line(text), max(width, LABEL + 40), " " * LABEL, start)
    if others:
        lines += ["", *wrap(f"No migration: {on_one_line(', '.join(others))}.", width)]
    return "\n".join(lines) + "\n"


def as_markdown(result: dict, title: str) -> str:
    """The same as Markdown with tables (GitHub's and GitLab's dialect)."""
    lines = [f"# Status of {escaped(title)}", ""]
    lines += grid(["", "server"], [[side, escaped(_server(result[side]))] for side in ("source", "target")])
    under_way, others = _parted(result)
    for status, judged in under_way:
        lines += [f"## Database {escaped(_names(status))}: {_phase(status)}", ""]
        rows = [[label, "<br>".join(escaped(text) for text in texts)] for label, texts in _facts(status, judged)]
        lines += grid(["", ""], rows)
    if others:
        lines += [f"No migration: {escaped(', '.join(others))}.", ""]
    return "\n".join(lines)


def _parted(result: dict) -> tuple[list[tuple[dict, dict]], list[str]]:
    """([(status, what a watch judged of it)] of databases with a migration, names of those without)."""
    both = [(one["status"], one) if "status" in one else (one, {}) for one in result["databases"]]
    there = [(status, judged) for status, judged in both if status["phase"] != "none" or status["errors"]]
    return there, [status["database"] for status, judged in both if (status, judged) not in there]


def _server(end: dict) -> str:
    if end["server"] is None:
        return f"cannot be reached: {end['problem']}"
    return f"PostgreSQL {end['server']['version']}" + (", a standby" if end["server"]["in_recovery"] else "")


def _names(status: dict) -> str:
    database, goal = status["database"], status["target_database"]
    return database if database == goal else f"{database}, on the target {goal}"


def _phase(status: dict) -> str:
    if status["phase"] == "none":
        return "remains of a migration"
    back = ", and back again" if status["phase"] == "handed_over" and status["direction"] == "back" else ""
    return PHASES[status["phase"]] + back


def _facts(status: dict, judged: dict) -> list[tuple[str, list[str]]]:
    """(label, lines) of one database."""
    facts = [
        ("began", [_began(status)]),
        ("tables", [_tables(status)]),
        ("lag", [_lag(status)]),
        ("WAL", [_wal(status["wal"])]),
        ("errors", _errors(status)),
        ("drift", _drift(status["drift"])),
        ("verified", [_verified(status["verified"])]),
        ("running", status["running"] or []),
        ("notes", status["notices"]),
        ("unknown", status["problems"]),
        ("guards", _guards(judged)),
        ("stopped", _stopped(judged)),
        ("next", [status["next"]]),
    ]
    return [(label, texts) for label, texts in facts if any(texts)]


def _began(status: dict) -> str:
    if status["started"] is None:
        return UNKNOWN
    return f"{status['started'][:16].replace('T', ' ')} UTC, {duration(status['age_seconds'])} ago"


def _tables(status: dict) -> str:
    if status["tables"] is None:
        return UNKNOWN
    said = [f"{status['tables'][name]} {text}" for name, text in STATES.items() if status["tables"][name]]
    amounts = status["bytes"]
    if amounts["total"] is not None:
        said.append(f"{size(amounts['copied'])} of {size(amounts['total'])}")
    if status["bytes_per_second"]:
        said.append(f"{size(round(status['bytes_per_second']))}/s")
    if status["eta_seconds"] is not None:
        said.append(f"about {duration(status['eta_seconds'])} to go")
    return "; ".join(said)


def _lag(status: dict) -> str:
    subscriptions = [stream["subscription"] for stream in status["streams"]]
    if status["phase"] and not any(one is None or one["present"] for one in subscriptions):
        return ""
    seconds, bytes_ = status["lag"]["seconds"], status["lag"]["bytes"]
    said = [UNKNOWN if seconds is None else f"{seconds:.1f} s" if seconds < 10 else duration(seconds)]
    said.append("bytes unknown" if bytes_ is None else f"{size(bytes_)} of WAL not confirmed")
    return ", ".join(said)


def _wal(wal: dict) -> str:
    if wal["retained_bytes"] is None:
        return UNKNOWN
    keep = wal["max_slot_wal_keep_bytes"]
    limit = "no limit" if keep is None else f"the limit is {size(keep)}"
    safe = "" if wal["safe_bytes"] is None else f", {size(max(wal['safe_bytes'], 0))} more until a slot is lost"
    status = "" if wal["status"] in (None, "reserved", "extended") else f"; {wal['status'].upper()}"
    return f"{size(wal['retained_bytes'])} held back on the {wal['server']}; {limit}{safe}{status}"


def _errors(status: dict) -> list[str]:
    if status["errors"] is None:
        return [UNKNOWN]
    return [f"{error['problem']} {error['remedy']}" for error in status["errors"]]


def _drift(drift: list[dict] | None) -> list[str]:
    if drift is None:
        return [UNKNOWN]
    lines = [f"{one['table']}: {one['detail']}" for one in drift[:CHANGES]]
    return [*lines, f"and {len(drift) - CHANGES} more"] if len(drift) > CHANGES else lines


def _verified(verified: dict | None) -> str:
    if not verified:
        return ""
    outdated = verified.get("outdated")
    void = f"; it does not count any more: {'; '.join(outdated)}" if outdated else ""
    return f"{verified['verdict']}, as of {verified['at']}{void}"


def _guards(judged: dict) -> list[str]:
    guards = judged.get("guards", [])
    quiet = [guard["guard"] for guard in guards if guard["level"] == "ok"]
    lines = [
        f"{one['level']}: {one['guard']}: {one['seen']}" for one in guards if one["level"] not in ("ok", "not_watched")
    ]
    return [*lines, f"ok: {', '.join(quiet)}"] if quiet else lines


def _stopped(judged: dict) -> list[str]:
    stopped = judged.get("stopped")
    if judged.get("error"):
        return [judged["error"]]
    return left(stopped) if stopped else []


def left(ended: dict) -> list[str]:
    """What a migration's end has left to somebody else, as pg_logical_migrate returned it: SQL that can be run."""
    lines = [f"{counted(sum(map(len, ended['statements'].values())), 'statement')} ran."] if ended["changed"] else []
    for side, statements in ended["left"].items():
        if statements is None:
            lines.append(f"What is left on the {side} is unknown.")
        elif statements:
            database = ended["database"] if side == "source" else ended["target_database"]
            lines.append(
                f"Left on the {side}, in database {database}: run this again, or, there: {'; '.join(statements)};"
            )
    return lines
