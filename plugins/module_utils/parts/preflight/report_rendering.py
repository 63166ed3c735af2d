# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A preflight report for people: as text for a terminal, and as Markdown for a ticket."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.typesetting import (
    code,
    escaped,
    grid,
    heading,
    on_one_line,
    printable,
    wrap,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, size, some
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import GIVE_TARGET, LEVELS

OBJECTS = 5  # of one finding; the report itself has them all
LARGEST = 3  # tables of a database that are named
GLUE = "\0"  # stands for a space at which no line is broken; names cannot have it


# --- what is said, in either form ------------------------------------------------------------------------------------


def _server(described: dict | None) -> list[str]:
    """One line, in columns: address, version, role."""
    if described is None:
        return ["not looked at", "", ""]
    role = described["role"]
    may = "superuser" if "superuser" in role["attributes"] else ", ".join(role["attributes"]) or "no attributes"
    member = f"; member of {some(role['member_of'], OBJECTS)}" if role["member_of"] else ""
    standby = ", a standby" if described["in_recovery"] else ""
    return [described["address"], f"PostgreSQL {described['version']}{standby}", f"role {role['name']}: {may}{member}"]


def _hints(described: dict | None) -> list[str]:
    hints = described["provider_hints"] if described else []
    return [f"looks like {hint['provider']} ({some(hint['signs'])})" for hint in hints]


def _counts(findings: list[dict]) -> str:
    """``1 blocker, 2 warnings, 40 ok, 1 waived``."""
    counts = {level: sum(one["level"] == level and not one["waived"] for one in findings) for level in LEVELS}
    counts["waived"] = sum(bool(one["waived"]) for one in findings)
    nouns = {"blocker": counted, "warning": counted}
    words = [nouns.get(name, "{} {}".format)(number, name) for name, number in counts.items() if number]
    return ", ".join(words)


def _contents(database: dict) -> str:
    if database["tables"] is None:
        return "Not looked at"
    rows = f"about {counted(database['rows_estimated'], 'row')}"
    if database["tables_never_analyzed"]:
        rows += f", besides {counted(database['tables_never_analyzed'], 'table')} never analyzed"
    bytes_ = "Size not visible to this role" if database["bytes"] is None else size(database["bytes"])
    return f"{bytes_}, {counted(database['tables'], 'table')}, {rows}"


def _facts(database: dict) -> list[str]:
    """Paragraphs about one database: what is in it, the method and why, the estimate."""
    best = database["recommended_method"]
    verdict = f"Recommended method: {best}." if best else "No method is feasible."
    lines = [f"{_contents(database)}.", " ".join([verdict, *database["reasons"]])]
    largest = [f"{table['table']} {size(table['bytes'])}" for table in database["largest_tables"] if table["bytes"]]
    if largest:
        lines.insert(1, f"Largest tables: {some(largest, LARGEST)}.")
    return lines + _estimate(database["estimate"])


def _estimate(estimate: dict) -> list[str]:
    """What was measured, and what follows; nothing where nothing was measured."""
    said = []
    if estimate["read_bytes_per_second"] is not None:
        said.append(
            f"One session reads {size(estimate['read_bytes_per_second'])}/s, measured on {estimate['sampled_table']}: "
            f"about {_duration(estimate['export_seconds'])} for the export, {size(estimate['dump_bytes'])} of files."
        )
    if estimate["write_bytes_per_second"] is not None:
        said.append(f"One session writes {size(estimate['write_bytes_per_second'])}/s on the target.")
    if estimate["import_seconds"] is not None:
        said.append(
            f"So the import takes about {_duration(estimate['import_seconds'])}, a direct copy "
            f"{_duration(estimate['copy_seconds'])}, besides the time for indexes."
        )
    return [" ".join(["Estimate:", *said])] if said else []


def _duration(seconds: float) -> str:
    """``12 s``, ``3 min``, ``5 h 20 min``."""
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _sections(report: dict) -> list[tuple[dict | None, list[dict]]]:
    """(database, or None for the servers; its findings), the servers first."""
    named = {database["database"]: database for database in report["databases"]}
    found: dict[str | None, list[dict]] = {place: [] for place in (None, *named)}
    for finding in report["findings"]:
        found.setdefault(finding["database"], []).append(finding)
    return [(named.get(place), findings) for place, findings in found.items()]


def _entries(findings: list[dict]) -> list[dict]:
    """Rows for what is not ok, worst first and what is waived last; one for all that a target was missing for."""
    entries = [_entry(one) for one in findings if one["level"] != "ok" and one["remedy"] != GIVE_TARGET]
    entries.sort(key=lambda entry: entry["level"] == "waived")
    without = [one["id"] for one in findings if one["remedy"] == GIVE_TARGET]
    if without:
        what = f"Not checked without a target: {', '.join(without)}."
        entries.append(_entry({"level": "unknown", "id": counted(len(without), "check"), "seen": what}))
    return entries


def _passed(findings: list[dict]) -> str:
    passed = sum(one["level"] == "ok" for one in findings)
    return f"ok: {counted(passed, 'check')}" if passed else ""


def _entry(finding: dict) -> dict:
    """One row. Objects are left out where the sentence names them, as far as it does."""
    waived = finding.get("waived")
    what = " ".join(filter(None, (finding.get("seen"), finding.get("consequence"))))
    objects = finding.get("objects", [])
    if objects and objects[0] in what:
        objects = []
    concerns = f" ({' and '.join(finding['methods'])} only)" if len(finding.get("methods", [])) == 1 else ""
    return {
        "level": "waived" if waived else finding["level"],
        "check": finding["id"],
        "what": f"{finding['level']}: {what}" if waived else what,
        "objects": some([on_one_line(name) for name in objects], OBJECTS) if objects else "",
        "remedy": "" if waived else finding.get("remedy", ""),
        "concerns": concerns,
        "waived": f"Waived: {waived}" if waived else "",
    }


# --- text ------------------------------------------------------------------------------------------------------------


def as_text(report: dict, title: str, width: int = 100) -> str:
    """The report as plain text of lines that are about ``width`` columns wide; SQL can be copied out of it."""
    lines = [*heading(f"Preflight of {title}", "="), *_servers(report, width), "", _counts(report["findings"])]
    for database, findings in _sections(report):
        if database:
            lines += ["", *heading(f"Database {database['database']}", "-")]
            lines += [line for fact in _facts(database) for line in wrap(on_one_line(fact), width)]
        elif findings:
            place = findings[0]["database"]
            name = "The servers" if place is None else f"Database {place}, which was not looked at"
            lines += ["", *heading(name, "-")]
        lines += [*_table(_entries(findings), width), "", _passed(findings)]
    return "\n".join(lines) + "\n"


def _servers(report: dict, width: int) -> list[str]:
    """Both servers, in columns."""
    sides = [[side, *map(on_one_line, _server(report[side]))] for side in ("source", "target")]
    widths = [max(len(row[column]) for row in sides) for column in range(3)]
    lines = []
    for row in sides:
        start = "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths)) + "  "
        lines += wrap(start + row[3], width, " " * len(start)) if row[3] else [start.rstrip()]
        lines += [" " * (widths[0] + 2) + on_one_line(hint) for hint in _hints(report[row[0]])]
    return lines


def _table(entries: list[dict], width: int) -> list[str]:
    """A row an entry: level, check, and beside them what was found, objects and remedy below each other."""
    if not entries:
        return []
    check = max(len(entry["check"]) for entry in entries)
    left = f"{{:<7}}  {{:<{check}}}  "
    room = max(width - len(left.format("", "")), 40)
    lines = ["", left.format("level", "check") + "what was found, and the remedy"]
    lines.append(f"{'-' * 7}  {'-' * check}  {'-' * room}")
    for entry in entries:
        cell = _cell(entry, room)
        lines.append(left.format(entry["level"], entry["check"]) + cell[0])
        lines += [left.format("", "") + line for line in cell[1:]]
    return lines


def _cell(entry: dict, width: int) -> list[str]:
    lines = wrap(on_one_line(entry["what"]) + entry["concerns"], width)
    lines += wrap(entry["objects"], width)
    lines += _remedy(printable(entry["remedy"]), width)
    return lines + wrap(on_one_line(entry["waived"]), width)


def _remedy(text: str, width: int) -> list[str]:
    """SQL that still runs when it is copied: not broken within quotes, and comments are comments on every line."""
    if not text:
        return []
    first, *rest = text.split("\n")
    if (rest and not first.endswith(":")) or "; -- " in first:
        first, rest = "", [first, *rest]
    lines = wrap(f"Remedy: {_kept_together(first)}", width, "  ")
    for line in rest:
        command, end, comment = line.rpartition("; -- ")
        if line.startswith("-- "):
            comment = line[3:]
        elif not end:
            command, comment = line, ""
        lines += wrap(_kept_together(command + end[:1]), width, "  ", "  ")
        lines += wrap(comment, width, "  -- ", "  -- ")
    return [line.replace(GLUE, " ") for line in lines]


def _kept_together(text: str) -> str:
    """The spaces within quotes are no places to break at; an apostrophe is no quote."""
    return re.sub(r"\"[^\"]*\"|(?<!\w)'[^']*'", lambda quoted: quoted[0].replace(" ", GLUE), text)


# --- Markdown --------------------------------------------------------------------------------------------------------


def as_markdown(report: dict, title: str) -> str:
    """The report as Markdown with tables (GitHub's and GitLab's dialect)."""
    lines = [f"# Preflight of {escaped(title)}", "", f"{_counts(report['findings'])}.", ""]
    lines += grid(
        ["", "address", "version", "role"],
        [[side, *map(escaped, _server(report[side]))] for side in ("source", "target")],
    )
    for side in ("source", "target"):
        lines += [f"The {side} {escaped(hint)}.\n" for hint in _hints(report[side])]
    for database, findings in _sections(report):
        if database:
            lines += [f"## Database {escaped(database['database'])}", ""]
            lines += [f"{escaped(fact)}\n" for fact in _facts(database)]
        elif findings:
            place = findings[0]["database"]
            lines += ["## The servers" if place is None else f"## Database {escaped(place)}", ""]
        lines += grid(["level", "check", "what was found", "remedy"], [_row(entry) for entry in _entries(findings)])
        lines += [_passed(findings), ""]
    return "\n".join(lines + _details(report))


def _row(entry: dict) -> list[str]:
    what = [escaped(entry["what"] + entry["concerns"]), escaped(entry["objects"]), escaped(entry["waived"])]
    remedy = [code(line) for line in printable(entry["remedy"]).split("\n") if line.strip()]
    return [entry["level"], code(entry["check"]), "<br>".join(filter(None, what)), "<br>".join(remedy)]


def _details(report: dict) -> list[str]:
    """Settings and permissions of both servers, side by side."""
    sides = [report[side] for side in ("source", "target") if report[side]]
    settings = sorted({name for side in sides for name in side["settings"]})
    may = list(sides[0]["role"]["may"])
    head = ["", *(side for side in ("source", "target") if report[side])]
    permissions = [
        [name.replace("_", " "), *("yes" if side["role"]["may"][name] else "no" for side in sides)] for name in may
    ]
    values = [[code(name), *(escaped(side["settings"].get(name, "")) for side in sides)] for name in settings]
    return ["## What the roles may do", "", *grid(head, permissions), "## Settings", "", *grid(head, values)]
