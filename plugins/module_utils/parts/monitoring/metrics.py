# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of migrations as metrics: OpenMetrics 1.0 as far as node_exporter's textfile collector reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.estimates import parse

PHASES = ("copying", "catching_up", "in_step", "handed_over", "stopped")
LEVELS = {"ok": 0, "warning": 1, "stop": 2, "unknown": 3}  # a guard that does not watch has none
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True)
class Metric:
    """A gauge. ``values(status, judged)`` gives ({label: text}, number); what is unknown is left out."""

    name: str
    unit: str
    help: str
    values: Any


def as_openmetrics(result: dict[str, Any], pair: str, now: float | None = None) -> str:
    """Text in which every sample has the labels ``pair`` and, of a database, ``database``. ``result`` is that of
    pg_migration_info or pg_migration_watch; databases without a migration have no samples. ``now`` is in seconds since
    1970.
    """
    both = [(one["status"], one) if "status" in one else (one, {}) for one in result["databases"]]
    both = [(status, judged) for status, judged in both if status["phase"] != "none"]
    lines = []
    for metric in METRICS:
        lines += _head(metric)
        for status, judged in both:
            labels = {"pair": pair, "database": status["database"]}
            lines += [_sample(metric, {**labels, **more}, value) for more, value in metric.values(status, judged)]
    lines += [*_head(LOOKED), _sample(LOOKED, {"pair": pair}, time.time() if now is None else now)]
    return "\n".join([*lines, "# EOF", ""])


def _head(metric: Metric) -> list[str]:
    unit = [f"# UNIT {metric.name} {metric.unit}"] if metric.unit else []
    return [f"# TYPE {metric.name} gauge", *unit, f"# HELP {metric.name} {metric.help}"]


def _sample(metric: Metric, labels: dict[str, str], value: float) -> str:
    shown = ",".join(f'{name}="{str(text).translate(ESCAPES)}"' for name, text in labels.items())
    return f"{metric.name}{{{shown}}} {value:g}" if value < 1e6 else f"{metric.name}{{{shown}}} {value:.0f}"


def _one(*path: str):
    """The number at that place of the status."""

    def values(status: dict, _judged: dict) -> Iterator[tuple[dict[str, str], float]]:
        found: Any = status
        for name in path:
            found = found and found[name]
        if found is not None:
            yield {}, found

    return values


def _phase(status: dict, _judged: dict) -> Iterator[tuple[dict[str, str], float]]:
    if status["phase"] is not None:
        for phase in PHASES:
            yield {"phase": phase}, float(phase == status["phase"])


def _tables(status: dict, _judged: dict) -> Iterator[tuple[dict[str, str], float]]:
    for state, number in (status["tables"] or {}).items():
        yield {"state": state}, number


def _problems(status: dict, _judged: dict) -> Iterator[tuple[dict[str, str], float]]:
    for kind in ("errors", "drift", "problems"):
        if status[kind] is not None:
            yield {"kind": kind}, len(status[kind])


def _guards(_status: dict, judged: dict) -> Iterator[tuple[dict[str, str], float]]:
    for guard in judged.get("guards", ()):
        if guard["level"] in LEVELS:
            yield {"guard": guard["guard"]}, LEVELS[guard["level"]]


def _verified(status: dict, _judged: dict) -> Iterator[tuple[dict[str, str], float]]:
    verified = status["verified"]
    if verified and verified.get("verdict") == "equal" and not verified.get("outdated"):
        yield {}, parse(verified["at"]).timestamp()


METRICS = (
    Metric("handover_phase", "", "1 for the phase that the migration is in, 0 for the others.", _phase),
    Metric("handover_tables", "", "Tables by how far their copy is.", _tables),
    Metric("handover_copied_bytes", "bytes", "Bytes of the source's tables that are copied.", _one("bytes", "copied")),
    Metric("handover_total_bytes", "bytes", "Bytes of the source's tables.", _one("bytes", "total")),
    Metric("handover_eta_seconds", "seconds", "Time until all is copied, or applied.", _one("eta_seconds")),
    Metric("handover_age_seconds", "seconds", "Time since the migration was begun.", _one("age_seconds")),
    Metric("handover_lag_seconds", "seconds", "How far the subscriber is behind, in time.", _one("lag", "seconds")),
    Metric("handover_lag_bytes", "bytes", "WAL that is not confirmed yet.", _one("lag", "bytes")),
    Metric(
        "handover_retained_wal_bytes",
        "bytes",
        "WAL that the slots keep the publisher from removing.",
        _one("wal", "retained_bytes"),
    ),
    Metric("handover_findings", "", "Errors, changes of definitions, and what could not be looked at.", _problems),
    Metric("handover_guard_level", "", "0 ok, 1 warning, 2 stopped or to be stopped, 3 unknown.", _guards),
    Metric(
        "handover_verified_timestamp_seconds",
        "seconds",
        "The instant for which both ends were found equal.",
        _verified,
    ),
)
LOOKED = Metric("handover_looked_timestamp_seconds", "seconds", "When this was seen.", None)
