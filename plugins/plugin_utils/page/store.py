# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pair's page shows: the last report of each kind, kept as JSON in the page itself.

So each playbook adds what it found, and nothing is lost that cannot be asked for any more, such as the samples of a
migration that was finished.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

POINTS = 400  # of a database's samples
LISTED = 50  # entries of a list, such as what differs
RUNS = 300
BEGIN, END = '<script type="application/json" id="handover">', "</script>"
AMOUNTS = ("retained_bytes", "lag_bytes", "lag_seconds", "copied_bytes")

Page = dict[str, Any]


def read(page: str | None) -> Page:
    """What a page shows; nothing where there is no page, or one of something else."""
    if not page or BEGIN not in page:
        return {}
    with contextlib.suppress(ValueError):
        shown = json.loads(page.partition(BEGIN)[2].partition(END)[0])
        if isinstance(shown, dict) and isinstance(shown.get("runs"), list):
            return shown
    return {}


def written(shown: Page) -> str:
    """As JSON that ends no element of a page, whatever names hold."""
    text = json.dumps(shown, ensure_ascii=False, sort_keys=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def merged(shown: Page, pair: str, kind: str | None, data: Any, run: dict[str, str]) -> Page:
    """The page with a report of a ``kind``, or with the ``run`` alone: ``playbook``, ``by``, ``at``.

    What is written by the way, with no ``playbook``, is no run.
    """
    runs = shown.get("runs", [])
    page = {**shown, "pair": pair, "at": run["at"], "runs": _with_run(runs, run) if run["playbook"] else runs}
    if kind:
        page[_place(kind)] = ADD[kind](shown.get(_place(kind)), data, run["at"])
    return page


def _place(kind: str) -> str:
    return {"cutover": "windows", "rollback": "windows"}.get(kind, kind)


def _with_run(runs: list[dict], run: dict[str, str]) -> list[dict]:
    """The same again, by the same person, is counted."""
    who = {name: run[name] for name in ("playbook", "by")}
    if runs and who.items() <= runs[-1].items():
        last = {**runs[-1], "last": run["at"], "times": runs[-1]["times"] + 1}
        return [*runs[:-1], last]
    return [*runs, {**who, "first": run["at"], "last": run["at"], "times": 1}][-RUNS:]


def _preflight(_former: Page | None, data: Page, at: str) -> Page:
    """What is fine is only counted."""
    findings = [one for one in data["findings"] if one["level"] != "ok"]
    return {**data, "at": at, "findings": findings}


def _by_database(former: Page | None, data: Page, at: str) -> Page:
    """A report of some databases leaves the others."""
    kept = {one["database"]: one for one in (former or {}).get("databases", [])}
    kept.update({one["database"]: {**_short(one), "at": at} for one in data["databases"]})
    return {**data, "at": at, "databases": [kept[name] for name in sorted(kept)]}


def _short(one: Any) -> Any:
    """Long lists, cut."""
    return {name: value[:LISTED] if isinstance(value, list) else value for name, value in one.items()}


def _windows(former: list | None, data: Page, at: str) -> list:
    """Windows are added to those before; a database that was there already had none."""
    opened = [_short(one) for one in data["databases"] if one.get("changed") and one.get("window_ms") is not None]
    return [*(former or []), *({**one, "at": at} for one in opened)]


def _status(former: Page | None, data: Page, at: str) -> Page:
    """A migration that is gone, was given up, or cannot be seen, leaves what was seen of it before."""
    kept = {one["database"]: one for one in (former or {}).get("databases", [])}
    for told in data["databases"]:
        one = {**told.get("status", {}), **told}
        before = kept.get(one["database"])
        if one["phase"] in (None, "none", "abandoned"):
            kept.update({one["database"]: {**before, "seen": {"phase": one["phase"], "at": at}}} if before else {})
        else:
            seen = {name: value for name, value in one.items() if name != "status"}
            kept[one["database"]] = {**_short(seen), "at": at, "samples": _samples(before, one, at)}
    return {**(former or {}), **data, "at": at, "databases": [kept[name] for name in sorted(kept)]}


def _samples(before: Page | None, one: Page, at: str) -> list[dict]:
    """All samples that the journal has, or else one more than before: that of now."""
    if one.get("samples"):
        return one["samples"]
    former = before["samples"] if before and before["id"] == one["id"] else []
    if one["phase"] == "stopped":
        return former
    now = {
        "at": at,
        "retained_bytes": one["wal"]["retained_bytes"],
        "lag_bytes": one["lag"]["bytes"],
        "lag_seconds": one["lag"]["seconds"],
        "copied_bytes": (one["bytes"] or {}).get("copied"),
    }
    return thinned([*former, now])


def thinned(samples: list[dict]) -> list[dict]:
    """At most POINTS samples: of two that become one, the later time and the higher amounts."""
    if len(samples) <= POINTS:
        return samples
    return [_joined(samples[index : index + 2]) for index in range(0, len(samples), 2)]


def _joined(samples: list[dict]) -> dict:
    highest = {name: max((one[name] for one in samples if one[name] is not None), default=None) for name in AMOUNTS}
    return {"at": samples[-1]["at"], **highest}


ADD = {
    "preflight": _preflight,
    "rehearsal": _by_database,
    "dump": _by_database,
    "status": _status,
    "verify": _by_database,
    "cutover": _windows,
    "rollback": _windows,
}
