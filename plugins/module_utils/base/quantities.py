# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and times as options give them: numbers with PostgreSQL's units (PostgreSQL documentation, 20.1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

BYTES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
SECONDS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


def bytes_of(option: str, text: str | int | None) -> int | None:
    """Bytes in ``50MB`` or ``52428800``; None stays None. Raises HandoverError, naming the option."""
    number = _parse(option, text, BYTES, "B")
    return None if number is None else int(number)


def seconds_of(option: str, text: str | int | None) -> float | None:
    """Seconds in ``14d``, ``90 min`` or ``30``; None stays None. Raises HandoverError, naming the option."""
    return _parse(option, text, SECONDS, "s")


def _parse(option: str, text: str | int | None, units: Mapping[str, float], default: str) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    known = {unit.lower(): factor for unit, factor in units.items()}
    unit = (found[2] or default).lower() if found else ""
    if not found or unit not in known:
        raise HandoverError(f"{option} is {text!r}.", f"Write it as a number with one of the units {', '.join(units)}.")
    return float(found[1]) * known[unit]
