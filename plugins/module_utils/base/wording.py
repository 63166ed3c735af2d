# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How findings say how many, which ones, and what to run."""

from __future__ import annotations


def one_line(error: object) -> str:
    """What a server or a library says, on one line, however it broke it."""
    return " ".join(str(error).split())


def sentence(text: str) -> str:
    """With a full stop: what libpq and servers say has none, and something is said behind it."""
    text = text.rstrip()
    return text if not text or text.endswith((".", "!", "?", ";")) else f"{text}."


def counted(number: int, noun: str) -> str:
    """``1 table``, ``3 tables``, ``2 indexes``, ``2 dictionaries``, ``2 foreign keys``."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith(("x", "s")):
        return f"{number:,} {noun}es"
    consonant_y = noun.endswith("y") and noun[-2] not in "aeiou"
    return f"{number:,} {noun[:-1]}ies" if consonant_y else f"{number:,} {noun}s"


def some(names: list[str], most: int = 3) -> str:
    """``a, b, c and 7 more``."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def script(statements: list[str], most: int = 5) -> str:
    """SQL, a statement a line, that can be run as it stands; what is left out is said in a comment."""
    lines = [*statements[:most]]
    if len(statements) > most:
        lines.append(f"-- and {len(statements) - most} more like these")
    return "\n".join(lines)


def size(number: int) -> str:
    """Bytes for people: ``512 B``, ``1.5 MB``."""
    for unit, factor in (("TB", 2**40), ("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if number >= factor:
            return f"{number / factor:.{0 if number >= 10 * factor else 1}f} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """Seconds for people, in the largest unit of which there are two: ``45 s``, ``12 min``, ``30 h``, ``5 days``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
