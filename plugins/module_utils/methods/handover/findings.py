# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one database when its window begins, and what the window took."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ansible_collections.handover.postgresql.plugins.module_utils.base.exact import Exact


@dataclass(frozen=True)
class GateAnswer:
    """What a gate answered: it is open where there is no ``problem``."""

    gate: str
    problem: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem

    def as_result(self) -> dict:
        """For the module's result."""
        return {"gate": self.gate, "ok": self.ok, "problem": self.problem, "remedy": self.remedy}


@dataclass(frozen=True)
class CargoSize:
    """What the window has to bring, beside what replication does: rows that are copied whole, and large objects."""

    copied_bytes: int
    large_objects: int
    large_object_bytes: int


@dataclass(frozen=True)
class Findings:
    """All that was found before a window. ``unfenced`` are tables that cannot be fenced; ``fenced_roles`` will lose
    LOGIN; ``obstacles_to_way_back`` say why there can be none. ``lag_seconds`` is None where it was not asked.
    """

    answers: list[GateAnswer]
    lag_seconds: float | None
    cargo: CargoSize
    unfenced: list[str]
    fenced_roles: list[str]
    obstacles_to_way_back: list[str]

    @property
    def closed(self) -> list[GateAnswer]:
        """Gates that are."""
        return [answer for answer in self.answers if not answer.ok]

    def as_result(self) -> dict:
        """For the module's result."""
        found = {
            "gates": [answer.as_result() for answer in self.answers],
            "lag_seconds": self.lag_seconds,
            "copied_bytes": self.cargo.copied_bytes,
            "large_objects": self.cargo.large_objects,
            "unfenced": self.unfenced,
            "fenced_roles": self.fenced_roles,
            "obstacles_to_way_back": self.obstacles_to_way_back,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass
class Measures(Exact):
    """What was done, and how much of it; None is what was not, or is not known. The names are those of the result."""

    sequences: int | None = None
    copied_bytes: int | None = None
    copied_rows: int | None = None
    large_objects: int | None = None
    large_objects_in_window: int | None = None
    window_ms: float | None = None
    fence_lsn: str | None = None
    terminated: int | None = None
    way_back_seconds: float | None = None
    not_on_way_back: list[str] | None = None
    poolers: list[dict] | None = None
    strays: list[str] | None = None

    def as_result(self) -> dict:
        """For the module's result: what is known."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value is not None}
