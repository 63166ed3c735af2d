# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pair's page says, section by section, from what was kept; what is not there is None, and so has no section."""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, size
from ansible_collections.handover.postgresql.plugins.plugin_utils.page import plots
from ansible_collections.handover.postgresql.plugins.plugin_utils.page.plots import TimeAxis, one_bar, seconds, span
from ansible_collections.handover.postgresql.plugins.plugin_utils.page.store import Page

LEVELS = ("blocker", "warning", "unknown", "info", "waived", "ok")
# What a bar in the timeline is called, and the field of the status with which it begins.
PHASES = {"copying": "Copying", "catching_up": "Catching up", "in_step": "In step", "target": "At the target"}
SIDES = {"forward": "target", "back": "source"}


def sections(shown: Page) -> dict[str, Any]:
    """What the template page.html.j2 takes."""
    statuses = (shown.get("status") or {}).get("databases", [])
    migrations = [one for one in statuses if one.get("started")]
    windows = shown.get("windows", [])
    runs = shown["runs"]
    return {
        "pair": shown["pair"],
        "versions": _versions(shown),
        "updated": shown["at"],
        "headline": _headline(shown, migrations),
        "tiles": _tiles(shown, migrations, windows),
        "timeline": _timeline(migrations, windows),
        "databases": [_database(one, windows) for one in migrations],
        "windows": [_window(one) for one in windows],
        "preflight": _preflight(shown.get("preflight")),
        "rehearsal": _rehearsal(shown.get("rehearsal")),
        "verify": _verification(shown.get("verify")),
        "dump": _dump(shown.get("dump")),
        "runs": runs,
    }


# --- at the top ------------------------------------------------------------------------------------------------------


def _versions(shown: Page) -> dict[str, Any]:
    """Of each end, as far as any report knows it: the version, and the address and the role of the preflight."""
    found: dict[str, Any] = {}
    for side in ("source", "target"):
        told: dict[str, Any] = {}
        for kind in ("dump", "verify", "status", "preflight"):
            end = (shown.get(kind) or {}).get(side) or {}
            end = end.get("server") if isinstance(end.get("server"), dict) else end
            told.update({name: end[name] for name in ("version", "address", "role") if end.get(name)})
        found[side] = {**told, "role": (told.get("role") or {}).get("name")}
    return found


def _headline(shown: Page, migrations: list[Page]) -> dict[str, str]:
    """How the pair is, in a few words, and whether that is good."""
    errors = [one for one in migrations if one.get("errors") and one["phase"] in ("copying", "catching_up", "in_step")]
    dumped = (shown.get("dump") or {}).get("databases", [])
    if errors:
        return {"look": "bad", "text": f"{counted(len(errors), 'database')} cannot go on"}
    if any(not one["complete"] for one in dumped):
        missing = sum(not one["complete"] for one in dumped)
        return {"look": "bad", "text": f"{counted(missing, 'database')} not brought over"}
    if not migrations and not dumped:
        return {"look": "neutral", "text": "Nothing was brought over yet"}
    at = {_state(one) for one in migrations} | ({"brought over by dump"} if dumped else set())
    if len(at) > 1:
        numbers = [(sum(_state(one) == state for one in migrations), state) for state in sorted(at)]
        return {"look": "neutral", "text": "; ".join(f"{number or len(dumped)} {state}" for number, state in numbers)}
    [state] = at
    good = state in ("handed over", "finished", "brought over by dump")
    return {"look": "good" if good else "neutral", "text": state[0].upper() + state[1:]}


def _state(one: Page) -> str:
    """Where a database is."""
    later = (one.get("seen") or {}).get("phase")
    if one["phase"] == "handed_over":
        if one["direction"] == "back":
            return "handed back to the source"
        return "finished" if later else "handed over"
    if later == "abandoned":
        return later
    return one["phase"].replace("_", " ") if one["phase"] else "unknown"


def _tiles(shown: Page, migrations: list[Page], windows: list[Page]) -> list[dict[str, str]]:
    """A few numbers that sum it up."""
    dumped = (shown.get("dump") or {}).get("databases", [])
    verified = [one for one in (shown.get("verify") or {}).get("databases", []) if one.get("verdict")]
    tiles = []
    if number := len({one["database"] for one in [*migrations, *dumped]}):
        copied = sum((one["bytes"] or {}).get("total") or 0 for one in migrations)
        note = f"{size(copied)} of tables" if copied else ""
        tiles.append({"label": "databases", "value": str(number), "note": note})
    if windows:
        longest = max(windows, key=lambda one: one["window_ms"])
        tiles.append({
            "label": "longest cutover window", "value": f"{longest['window_ms']:.0f} ms",
            "note": f"{longest['database']}, to the {SIDES[longest['direction']]}",
        })  # fmt: skip
    if verified:
        verdicts = {one["verdict"] for one in verified}
        worst = next((word for word in ("different", "incomplete") if word in verdicts), "equal")
        rows = sum(one.get("rows") or 0 for one in verified)
        tiles.append({"label": "verification", "value": worst, "note": f"{rows:,} rows compared"})
    lags = [one["lag"]["seconds"] for one in migrations if one["phase"] in ("in_step", "handed_over")]
    known = [one for one in lags if one is not None]
    if known:
        tiles.append({"label": "lag when last seen", "value": span(max(known)), "note": "of the slowest database"})
    if preflight := shown.get("preflight"):
        counts = preflight["summary"]
        tiles.append({
            "label": "preflight", "value": counted(counts["blocker"], "blocker"),
            "note": f"{counted(counts['warning'], 'warning')}, {counts['ok']} ok",
        })  # fmt: skip
    return tiles


# --- timeline --------------------------------------------------------------------------------------------------------


def _timeline(migrations: list[Page], windows: list[Page]) -> dict[str, Any] | None:
    """A row for each database, with its phases."""
    if not migrations:
        return None
    rows = [(one, _phases(one, [w for w in windows if w["database"] == one["database"]])) for one in migrations]
    axis = TimeAxis(moment for _one, phases in rows for _look, begin, end in phases for moment in (begin, end))
    shown = []
    for one, phases in rows:
        bars = [
            one_bar(
                axis.place(begin), axis.place(end), look, f"{PHASES[look]}: {plots.clock(begin)}, {span(end - begin)}"
            )
            for look, begin, end in phases
        ]
        shown.append({"label": one["database"], "note": _state(one), "bars": bars})
    looks = [look for look in PHASES if any(look == phase[0] for _one, phases in rows for phase in phases)]
    return {
        "rows": shown,
        "across": axis.ticks(),
        "days": axis.days(),
        "legend": [{"look": look, "label": PHASES[look]} for look in looks],
    }


def _phases(one: Page, windows: list[Page]) -> list[tuple[str, float, float]]:
    """(look, begin, end): each phase lasts until the next, the last one until somebody looked last."""
    begins = [(seconds(one["started"]), "copying")]
    times = (("copied", "catching_up"), ("in_step", "in_step"))
    begins += [(seconds(one[field]), look) for field, look in times if one[field]]
    begins += [(moment, "target" if look == "forward" else "in_step") for moment, look in _handovers(one, windows)]
    begins.sort(key=lambda pair: pair[0])
    last = seconds(one["stopped"]) if one.get("stopped") else max(seconds(one["at"]), begins[-1][0])
    ends = [moment for moment, _look in begins[1:]] + [last]
    return [(look, begin, max(begin, end)) for (begin, look), end in zip(begins, ends)]


def _handovers(one: Page, windows: list[Page]) -> list[tuple[float, str]]:
    """When it was handed over, and in which direction: the last times as the journal has them, else as the windows."""
    since = seconds(one["started"])
    found = [(seconds(window["at"]), window["direction"]) for window in windows if seconds(window["at"]) > since]
    for field, direction in (("cut_over", "forward"), ("rolled_back", "back")):
        if one.get(field):
            exact = seconds(one[field])
            near = [pair for pair in found if pair[1] == direction and abs(pair[0] - exact) < plots.MINUTE]
            found = [pair for pair in found if pair not in near] + [(exact, direction)]
    return sorted(found)


# --- a database ------------------------------------------------------------------------------------------------------


def _database(one: Page, windows: list[Page]) -> dict[str, Any]:
    samples = [{**sample, "at": seconds(sample["at"])} for sample in one.get("samples", [])]
    return {
        "name": one["database"],
        "target": one["target_database"],
        "state": _state(one),
        "facts": _facts(one),
        "errors": one.get("errors") or [],
        "notices": one.get("notices") or [],
        "arrival": _arrival(one, samples),
        "sampled": len(samples),
        "behind": _behind(one, samples, windows),
        "steps": _steps(one),
    }


def _facts(one: Page) -> list[tuple[str, str]]:
    tables, amounts, wal = one["tables"] or {}, one["bytes"] or {}, one["wal"]
    facts = [("began", plots.clock(seconds(one["started"])) + " UTC")]
    if one["copied"]:
        facts.append(("copy", span(seconds(one["copied"]) - seconds(one["started"]))))
    if tables:
        left = tables.get("at_cutover")
        facts.append(("tables", f"{sum(tables.values())}" + (f", {left} left to the cutover" if left else "")))
    if amounts.get("total") is not None:
        facts.append(("copied", f"{size(amounts['copied'])} of {size(amounts['total'])}"))
    if one["lag"]["seconds"] is not None:
        facts.append(("lag", span(one["lag"]["seconds"])))
    if wal["retained_bytes"] is not None:
        facts.append(("WAL held back", f"{size(wal['retained_bytes'])} on the {wal['server']}"))
    if one.get("drift"):
        facts.append(("drift", counted(len(one["drift"]), "changed definition")))
    facts.append(("last seen", plots.clock(seconds(one["at"])) + " UTC"))
    return facts


def _arrival(one: Page, samples: list[Page]) -> list[dict[str, Any]]:
    """Bytes and rate, from the beginning of the first wave to the end of the last."""
    total, done = ((one["bytes"] or {}).get(name) for name in ("total", "copied"))
    waves = one.get("waves") or []
    if total is None or not waves:
        return []
    begin = seconds(waves[0]["started"])
    end = max((seconds(wave["copied"]) for wave in waves if wave["copied"]), default=None)
    if end is None or any(not wave["copied"] for wave in waves):
        end = seconds(one["at"])
    points = [(sample["at"], sample["copied_bytes"]) for sample in samples if begin < sample["at"] < end]
    points = [(begin, 0), *((at, amount) for at, amount in points if amount is not None), (end, done)]
    axis = TimeAxis([begin, end])
    amounts = {"label": "copied", "look": "one", "filled": True, "points": points}
    rates = {"label": "rate", "look": "two", "points": _rates(points)}
    plotted = [plots.curves("Copied", "B", [amounts], axis, total), plots.curves("Rate", "B/s", [rates], axis)]
    return [one for one in plotted if one]


def _rates(points: list[tuple[float, int]]) -> list[tuple[float, float]]:
    """Steps: between two points, how much more there was a second."""
    found: list[tuple[float, float]] = []
    for (begin, before), (end, after) in zip(points, points[1:]):
        if end > begin:
            rate = max(after - before, 0) / (end - begin)
            found += [(begin, rate), (end, rate)]
    return found


def _behind(one: Page, samples: list[Page], windows: list[Page]) -> list[dict[str, Any]]:
    """Lag and WAL."""
    if not samples:
        return []
    axis = TimeAxis(sample["at"] for sample in samples)

    def line(label: str, name: str, look: str, filled: bool = False) -> dict[str, Any]:
        points = [(sample["at"], sample[name]) for sample in samples]
        return {"label": label, "look": look, "filled": filled, "points": points}

    wal = [line("held back", "retained_bytes", "three", filled=True), line("not confirmed", "lag_bytes", "two")]
    plotted = [
        plots.curves("Lag", "s", [line("lag", "lag_seconds", "one", filled=True)], axis),
        plots.curves("WAL held back", "B", wal, axis),
    ]
    ours = [w for w in windows if w["database"] == one["database"]]
    marks = [
        {"place": axis.place(moment), "label": f"handed over to the {SIDES[direction]}, {plots.clock(moment)}"}
        for moment, direction in _handovers(one, ours)
        if axis.begin <= moment <= axis.end
    ]
    return [{**plot, "marks": marks} for plot in plotted if plot]


def _steps(one: Page) -> dict[str, Any] | None:
    """Waves, and the tables that took longest, as bars over time."""
    waves = [wave for wave in one.get("waves") or [] if wave["copied"]]
    tables = one.get("slowest_tables") or []
    rows = [_wave_row(wave) for wave in waves if len(waves) > 1] + [_table_row(table) for table in tables]
    if not rows:
        return None
    axis = TimeAxis(moment for row in rows for _look, begin, end in row["spans"] for moment in (begin, end))
    for row in rows:
        row["bars"] = [
            one_bar(
                axis.place(begin), axis.place(end), look, f"{STEPS[look]}: {plots.clock(begin)}, {span(end - begin)}"
            )
            for look, begin, end in row["spans"]
        ]
    looks = [look for look in STEPS if any(look == step[0] for row in rows for step in row["spans"])]
    legend = [{"look": look, "label": STEPS[look]} for look in looks]
    return {"rows": rows, "across": axis.ticks(), "days": axis.days(), "legend": legend}


STEPS = {"one": "rows", "two": "until its indexes and keys were there", "three": "wave: until it was subscribed"}


def _wave_row(wave: Page) -> dict[str, Any]:
    begin, copied = seconds(wave["started"]), seconds(wave["copied"])
    spans = [("one", begin, copied)]
    if wave["subscribed"]:
        spans.append(("three", copied, seconds(wave["subscribed"])))
    amount = f", {size(wave['bytes'])}" if wave["bytes"] is not None else ""
    return {"label": f"wave {wave['number']}", "note": f"{counted(wave['tables'], 'table')}{amount}", "spans": spans}


def _table_row(table: Page) -> dict[str, Any]:
    begin = seconds(table["started"])
    copied = seconds(table["copied"] or table["indexed"])
    spans = [("one", begin, copied)]
    if table["indexed"] and table["copied"]:
        spans.append(("two", copied, seconds(table["indexed"])))
    amount = f"{size(table['bytes'])}, " if table["bytes"] is not None else ""
    return {"label": table["table"], "note": amount + span(spans[-1][2] - begin), "spans": spans}


# --- the window ------------------------------------------------------------------------------------------------------


def _bar_of(step: dict[str, Any], axis: plots.Amounts) -> dict[str, Any]:
    begin, end = axis.place(max(step["at_ms"], 0)), axis.place(max(step["at_ms"] + step["ms"], 0))
    return one_bar(begin, end, "one", f"begins at {step['at_ms']:g} ms, takes {step['ms']:g} ms")


def _window(one: Page) -> dict[str, Any]:
    """Steps in milliseconds; what was done before the first pooler paused, or after all go on, is not in the window."""
    steps = one["timeline"]
    last = max([one["window_ms"], *(step["at_ms"] + step["ms"] for step in steps)])
    axis = plots.Amounts(last, "ms")
    rows = [{"label": _said_of(step), "note": f"{step['ms']:g} ms", "bars": [_bar_of(step, axis)]} for step in steps]
    names = {"copied_rows": "rows copied", "large_objects": "large objects", "terminated": "sessions ended"}
    facts = [(names.get(name, name), one.get(name)) for name in ("tables", "sequences", *names)]
    return {
        "database": one["database"],
        "side": SIDES[one["direction"]],
        "home": one["home"],
        "at": one["at"],
        "ms": one["window_ms"],
        "way_back": one["way_back"],
        "facts": [(label, f"{number:,}") for label, number in facts if number],
        "notices": one.get("notices", []),
        "plot": {"rows": rows, "across": axis.ticks(), "legend": [], "days": "since clients began to wait"},
    }


STEPS_OF_A_WINDOW = {
    "pause": "clients wait at the poolers",
    "lock": "writers wait at locks",
    "beacon": "a last row is written",
    "apply": "the new home has everything",
    "drift": "no table was redefined",
    "proof": "rows can be written at the new home",
    "copy": "tables that are not replicated",
    "large_objects": "large objects that changed",
    "sequences": "sequences are set",
    "fence": "the old home is to refuse writes",
    "slot": "for the way back",
    "commit": "from now on it refuses them",
    "overtake": "sequences that moved meanwhile",
    "open": "the new home takes writes",
    "switch": "the switch command runs",
    "reload": "the poolers learn the new home",
    "resume": "clients go on",
}


def _said_of(step: Page) -> str:
    """The step as docs/cutover.md calls it, in words, and the database where it is one of several."""
    name = step["step"].replace("_", " ") + (f" {step['database']}" if step.get("database") else "")
    words = STEPS_OF_A_WINDOW.get(step["step"])
    return f"{name}: {words}" if words else name


# --- what was found --------------------------------------------------------------------------------------------------


def _counts(summary: dict[str, int]) -> list[dict[str, Any]]:
    counts = {level: summary[level] for level in LEVELS if summary.get(level)}
    nouns = ("blocker", "warning")
    return [
        {"level": level, "text": counted(number, level) if level in nouns else f"{number} {level}"}
        for level, number in counts.items()
    ]


def _findings(findings: list[Page]) -> list[dict[str, Any]]:
    """Worst first, what is waived last."""
    shown = [{**one, "level": "waived" if one.get("waived") else one["level"]} for one in findings]
    return sorted((one for one in shown if one["level"] != "ok"), key=lambda one: LEVELS.index(one["level"]))


def _preflight(report: Page | None) -> dict[str, Any] | None:
    if not report:
        return None
    databases = [
        {"name": one["database"], "bytes": one["bytes"], "tables": one["tables"], "method": one["recommended_method"]}
        for one in report["databases"]
    ]
    findings = _findings(report["findings"])
    return {"at": report["at"], "counts": _counts(report["summary"]), "findings": findings, "databases": databases}


def _rehearsal(report: Page | None) -> dict[str, Any] | None:
    if not report:
        return None
    findings = _findings([finding for one in report["databases"] for finding in one["findings"]])
    return {"at": report["at"], "findings": findings, "databases": report["databases"]}


def _verification(report: Page | None) -> list[dict[str, Any]]:
    return [{**one, **_classes(one.get("classes", {}))} for one in (report or {}).get("databases", [])]


OUTCOMES = ("equal", "different", "unknown", "left_out")


def _classes(classes: dict[str, dict[str, int]]) -> dict[str, Any]:
    """All together, and a line each for those of which not all are equal; of the others, how many there are."""
    whole = {outcome: sum(counts.get(outcome, 0) for counts in classes.values()) for outcome in OUTCOMES}
    equal = {name for name, counts in classes.items() if sum(counts.values()) == counts["equal"]}
    lines = [_class(name.replace("_", " "), counts) for name, counts in classes.items() if name not in equal]
    return {
        "classes": [*lines, *([_class("all classes", whole)] if any(whole.values()) else [])],
        "equal": [
            f"{name.replace('_', ' ')} {counts['equal']:,}"
            for name, counts in classes.items()
            if name in equal and counts["equal"]
        ],
    }


def _class(name: str, counts: dict[str, int]) -> dict[str, Any]:
    """One line, with a bar of shares."""
    whole, begin, bars = sum(counts.values()), 0.0, []
    for outcome in OUTCOMES:
        share = counts.get(outcome, 0) / whole * 100
        if share:
            bars.append({"at": round(begin, 2), "width": round(share, 2), "look": outcome})
        begin += share
    return {"name": name, "counts": [counts.get(outcome, 0) for outcome in OUTCOMES], "bars": bars}


# --- a dump ----------------------------------------------------------------------------------------------------------


def _dump(report: Page | None) -> list[dict[str, Any]]:
    return [_dumped(one) for one in (report or {}).get("databases", [])]


def _dumped(one: Page) -> dict[str, Any]:
    """The stages of both halves, one after the other."""
    halves = {name: one.get(name) or {} for name in ("export", "import")}
    steps = [(half, stage) for half, told in halves.items() for stage in told.get("stages", [])]
    axis = plots.Amounts(sum(stage["seconds"] for _half, stage in steps) or 1, "s")
    rows, begin = [], 0.0
    for half, stage in steps:
        end = begin + stage["seconds"]
        look = {"export": "two", "import": "one"}[half]
        title = f"{half}, {stage['stage']}: {span(stage['seconds'])}"
        rows.append({
            "label": f"{half}: {stage['stage']}", "note": span(stage["seconds"]),
            "bars": [one_bar(axis.place(begin), axis.place(end), look, title)],
        })  # fmt: skip
        begin = end
    taken = {half: span(sum(stage["seconds"] for stage in told.get("stages", []))) for half, told in halves.items()}
    snapshot = halves["export"].get("snapshot") or halves["import"].get("snapshot") or {}
    return {
        "name": one["database"],
        "complete": one["complete"],
        "error": one.get("error"),
        "as_of": snapshot.get("time"),
        "bytes": halves["export"].get("bytes", halves["import"].get("bytes")),
        "rows": halves["import"].get("rows_compared"),
        "tables": halves["import"].get("tables_compared"),
        "taken": taken,
        "plot": {
            "rows": rows, "across": axis.ticks(), "days": "seconds of work, stage after stage",
            "legend": [{"look": "two", "label": "export"}, {"look": "one", "label": "import"}],
        } if rows else None,
    }  # fmt: skip
