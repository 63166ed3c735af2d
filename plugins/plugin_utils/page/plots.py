# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as numbers: where templates draw what.

Places are percentages, so that text has the same size however wide the page is. Curves have no percentages: theirs are
paths in a box of WIDTH by HEIGHT, which is stretched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import size
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.estimates import parse

WIDTH, HEIGHT = 1000, 100
MINUTE, HOUR, DAY = 60, 3600, 86400
TIME_STEPS = (
    *(1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY),
)
UNITS_OF_TIME = (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1))
LEAST_WIDTH = 0.4  # percent of a bar that can still be seen

Point = tuple[float, "float | None"]


def seconds(time: str) -> float:
    """A time as servers write it, in JSON or not, in seconds since 1970."""
    return parse(re.sub(r"([+-]\d\d)$", r"\1:00", time)).timestamp()


def clock(moment: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment for people; all times of a page are UTC."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime(form)


class TimeAxis:
    """From the first moment to the last, with round ticks between."""

    def __init__(self, moments: Iterable[float]) -> None:
        found = list(moments)
        self.begin, end = min(found), max(found)
        self.end = max(end, self.begin + 1)

    def place(self, moment: float) -> float:
        """Percent of the way."""
        return _rounded((min(max(moment, self.begin), self.end) - self.begin) / (self.end - self.begin) * 100)

    def ticks(self, most: int = 6) -> list[dict[str, Any]]:
        """Where a round time is, and what it is called; names with seconds need more room."""
        span = self.end - self.begin
        fitting = (step for step in TIME_STEPS if span / step <= (most if step >= MINUTE else most - 1))
        step = next(fitting, TIME_STEPS[-1])
        form = "%H:%M" if step >= MINUTE else "%H:%M:%S"
        first = -(-self.begin // step) * step
        moments = [first + index * step for index in range(int(span // step) + 2)]
        return [
            _tick(self.place(one), clock(one, form if one % DAY else "%d %b")) for one in moments if one <= self.end
        ]

    def days(self) -> str:
        """Which day, or days, it shows."""
        first, last = (clock(moment, "%Y-%m-%d") for moment in (self.begin, self.end))
        return f"{first}, UTC" if first == last else f"{first} to {last}, UTC"


class Amounts:
    """From zero to a round number that is not below the highest."""

    def __init__(self, highest: float, unit: str) -> None:
        self.unit = unit
        self.step = _step(highest, unit)
        self.top = self.step * max(-(-highest // self.step), 1)

    def place(self, amount: float) -> float:
        """Percent of the way."""
        return _rounded(min(amount / self.top, 1) * 100)

    def ticks(self) -> list[dict[str, Any]]:
        """Where a round number is, and how it is said."""
        numbers = [index * self.step for index in range(round(self.top / self.step) + 1)]
        return [_tick(self.place(number), said(number, self.unit)) for number in numbers]


def said(number: float, unit: str) -> str:
    """An amount for people."""
    if unit == "B" or unit == "B/s":
        return f"{size(round(number))}{unit[1:]}" if number else "0"
    if not number:
        return "0"
    if unit == "s":
        name, length = next((one for one in UNITS_OF_TIME if number >= one[1]), ("ms", 0.001))
        return f"{number / length:.{2 if number < 0.01 else 3}g} {name}"
    return f"{number:.4g} {unit}"


def _step(highest: float, unit: str) -> float:
    """A round number of which a few make the highest."""
    factors = (1, 2, 5, 10, 20, 50, 100, 200, 500)
    if unit == "s":
        round_numbers = [*(0.001 * factor for factor in factors), *TIME_STEPS]
    elif unit in ("B", "B/s"):
        round_numbers = [1024**power * factor for power in range(5) for factor in (*factors[:7], 256, 512)]
    else:
        round_numbers = [power * factor for power in (1, 1000) for factor in factors]
    return next((step for step in round_numbers if highest <= 4 * step), round_numbers[-1])


def _tick(place: float, label: str) -> dict[str, Any]:
    anchor = "start" if place < 4 else "end" if place > 96 else "middle"
    return {"place": place, "label": label, "anchor": anchor}


def _rounded(number: float) -> float:
    return round(number, 3)


def curves(title: str, unit: str, series: list[dict[str, Any]], axis: TimeAxis, limit: float | None = None) -> Any:
    """A plot over time; of each of the ``series``, ``label``, ``points`` and a ``look``. None where there is nothing.

    A gap in a line is where an amount is not known.
    """
    shown = [one for one in series if any(amount is not None for _moment, amount in one["points"])]
    if not shown:
        return None
    highest = max(amount for one in shown for _moment, amount in one["points"] if amount is not None)
    amounts = Amounts(max(highest, limit or 0), unit)
    lines = [{**one, "path": _path(one["points"], axis, amounts)} for one in shown]
    return {
        "title": title,
        "unit": unit,
        "lines": [{**one, "area": _area(one) if one.get("filled") else ""} for one in lines],
        "highest": said(highest, unit),
        "limit": None if limit is None else {"place": amounts.place(limit), "label": said(limit, unit)},
        "down": amounts.ticks(),
        "across": axis.ticks(4),
        "days": axis.days(),
    }


def _path(points: list[Point], axis: TimeAxis, amounts: Amounts) -> list[list[tuple[float, float]]]:
    """Pieces of a line, in the box."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for moment, amount in points:
        if amount is None:
            pieces.append([])
        else:
            across, up = axis.place(moment) * WIDTH / 100, HEIGHT - amounts.place(amount) * HEIGHT / 100
            pieces[-1].append((_rounded(across), _rounded(up)))
    return [_seen(piece) for piece in pieces if piece]


def _seen(piece: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A single point is a short line."""
    return piece if len(piece) > 1 else [*piece, (min(piece[0][0] + 4, WIDTH), piece[0][1])]


def _area(one: dict[str, Any]) -> str:
    """What is below a line."""
    return " ".join(
        f"M{piece[0][0]},{HEIGHT} {_through(piece, 'L')} L{piece[-1][0]},{HEIGHT} Z" for piece in one["path"]
    )


def _through(piece: list[tuple[float, float]], first: str = "M") -> str:
    return " ".join(f"{'L' if index else first}{across},{up}" for index, (across, up) in enumerate(piece))


def drawn(one: dict[str, Any]) -> str:
    """The path of a line, as SVG has it."""
    return " ".join(_through(piece) for piece in one["path"])


def one_bar(begin: float, end: float, look: str, title: str) -> dict[str, Any]:
    """A bar from one percentage to another, wide enough to be seen."""
    width = max(end - begin, LEAST_WIDTH)
    return {"at": _rounded(min(begin, 100 - width)), "width": _rounded(width), "look": look, "title": title}


def span(length: float) -> str:
    """How long something took: ``80 ms``, ``1.5 s``, ``12 min 30 s``, ``3 h 5 min``, ``2 d 4 h``."""
    for (large, whole), (small, part) in zip(UNITS_OF_TIME, UNITS_OF_TIME[1:]):
        if length >= whole:
            amount, rest = divmod(round(length / part) * part, whole)
            return f"{amount:.0f} {large}" + (f" {rest / part:.0f} {small}" if rest else "")
    return said(length, "s") if length else "0 s"
