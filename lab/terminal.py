# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo says on the terminal: plain text, with a little colour where somebody looks."""

from __future__ import annotations

import os
import re
import sys
import textwrap

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
WIDTH, INDENT = 100, 14
NO_BREAK_SPACE = "\xa0"


def heading(text: str) -> None:
    """The beginning of a part."""
    print("\n" + _painted("1", f"== {text}"))


def line(label: str, text: str) -> None:
    """A label and a text beside it, folded at spaces, but not between a number and what it counts."""
    bound = re.sub(r"(?<=\d) ", NO_BREAK_SPACE, text)
    folded = textwrap.wrap(bound, WIDTH - INDENT, break_long_words=False, break_on_hyphens=False)
    for number, part in enumerate(folded):
        print(_painted("36", (label if number == 0 else "").ljust(INDENT)) + part.replace(NO_BREAK_SPACE, " "))


def command(text: str, label: str = "") -> None:
    """A command in one piece, to be copied."""
    print(_painted("36", label.ljust(INDENT) if label else "$ ") + text)


def bars(parts: list[tuple[str, str, float]]) -> None:
    """A line for each part, ``(label, name, seconds)``, with bars of which the longest has 40 characters."""
    longest = max((seconds for _label, _name, seconds in parts), default=1)
    former = ""
    for label, name, seconds in parts:
        shown = "" if label == former else label
        drawn = "=" * max(1, round(40 * seconds / longest))
        print(f"{_painted('36', shown.ljust(INDENT))}{name:<20}{seconds:5.1f}  {drawn}")
        former = label


def good(text: str) -> str:
    """The text as good news."""
    return _painted("32", text)


def _painted(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR and text.strip() else text


def amount(number: int, noun: str) -> str:
    """``1,234 rows`` or ``1 index``."""
    singular = {"indexes": "index", "policies": "policy"}.get(noun, noun[:-1])
    return f"{number:,} {singular if number == 1 else noun}"


def megabytes(size: int) -> str:
    """A number of bytes in millions of them."""
    return f"{size / 1e6:,.0f} MB"
