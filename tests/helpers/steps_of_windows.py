# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the steps of a window began, by the clock that proxies count by."""

from __future__ import annotations

from pathlib import Path

from support import COLLECTIONS, HERE

# A Python that writes down each step of a window before it takes it.
WATCH = """
import sys, time

def watch(event, arguments):
    if event == "handover.step":
        with open({place!r} + "/steps", "a") as file:
            file.write(f"{{time.monotonic()}} {{arguments[0]}}\\n")

sys.addaudithook(watch)
exec(open({before!r}).read())
"""


def watching_steps(place: Path) -> dict[str, str]:
    """The environment of a Python that writes them into ``place``."""
    place.mkdir()
    before = str(HERE / "site" / "sitecustomize.py")
    (place / "sitecustomize.py").write_text(WATCH.format(place=str(place), before=before))
    return {"PYTHONPATH": f"{place}:{COLLECTIONS}"}


def moments(place: Path) -> list[float]:
    """When they began since the last time of asking; the first is the beginning of the window."""
    file = place / "steps"
    found = [float(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []
    file.unlink(missing_ok=True)
    return found
