# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a copy is, how fast it goes, and how long it will take: from the journal and its samples."""

from __future__ import annotations

from datetime import datetime

from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals.migration_journal import Migration

WINDOW = 900.0  # seconds of samples that say how fast it goes now
LEAST = 5.0  # seconds that two samples must be apart
DONE = ("copied", "indexed")
SLOWEST = 12  # tables that are named


def table_states(migration: Migration) -> dict:
    """``{"waiting": 3, "copying": 1, "copied": 0, "indexed": 17, "at_cutover": 2}``."""
    states = dict.fromkeys(("waiting", "copying", "copied", "indexed"), 0)
    for table in migration.replicated:
        states[table.state if table.state in states else "waiting"] += 1
    return {**states, "at_cutover": len(migration.at_cutover)}


def copied_bytes(migration: Migration) -> dict:
    """``{"total", "copied"}``, both of the tables' sizes on the source; None where one of these is not known."""
    tables = migration.replicated
    if any(table.bytes is None for table in tables):
        return {"total": None, "copied": None}
    done = [table.bytes if table.state in DONE else min(table.done, table.bytes) for table in tables]
    return {"total": sum(table.bytes for table in tables), "copied": sum(done)}


def waves(migration: Migration) -> list[dict]:
    """Each wave with its times, and how much it brings."""
    found = []
    for wave in migration.waves:
        sizes = [table.bytes for table in migration.replicated if table.wave == wave.number]
        amounts = {"tables": len(sizes), "bytes": None if None in sizes else sum(sizes)}
        times = {name: getattr(wave, name) for name in ("started", "copied", "subscribed")}
        found.append({"number": wave.number, **amounts, **times})
    return found


def slowest(migration: Migration) -> list[dict]:
    """The tables whose copy, with its indexes, took longest, longest first."""
    ended = [(table, table.indexed or table.copied) for table in migration.tables if table.started]
    taken = [(parse(end) - parse(table.started), table) for table, end in ended if end and end >= table.started]
    taken.sort(key=lambda pair: pair[0], reverse=True)
    names = ("bytes", "rows", "started", "copied", "indexed")
    return [
        {"table": f"{table.schema}.{table.name}", **{name: getattr(table, name) for name in names}}
        for _time, table in taken[:SLOWEST]
    ]


def seconds_since(time: str | None, now: datetime) -> float | None:
    """Seconds since an ISO time of the journal."""
    return None if time is None else max((now - parse(time)).total_seconds(), 0.0)


def parse(time: str) -> datetime:
    """A time as JSON of PostgreSQL has it: with an offset, and fractions of a second in any number of digits."""
    head, point, rest = time.partition(".")
    if not point:
        return datetime.fromisoformat(time)
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(f"{head}.{digits.ljust(6, '0')}{rest[len(digits) :]}")


def rate(samples: list[dict], amount: str, now: datetime, value: float | None) -> float | None:
    """How fast an amount of the samples grows, in units a second, up to its ``value`` now; None if that is unknown."""
    if value is None:
        return None
    for sample in samples:  # oldest first
        age = seconds_since(sample["at"], now)
        if sample[amount] is not None and LEAST <= age <= WINDOW:
            return (value - sample[amount]) / age
    return None


def copy_rate(migration: Migration, samples: list[dict], now: datetime, copied: int | None) -> float | None:
    """Bytes a second: of late, else since the first table was begun."""
    of_late = rate(samples, "copied_bytes", now, copied)
    if of_late is not None or copied is None:
        return of_late
    ages = [seconds_since(table.started, now) for table in migration.replicated if table.started]
    return copied / max(ages) if ages and max(ages) >= LEAST else None


def remaining_seconds(amount: float | None, rate_: float | None) -> float | None:
    """How long it takes to work an amount off, or None where it is not known, or does not get less."""
    if amount is None or rate_ is None or rate_ <= 0:
        return 0.0 if amount == 0 else None
    return amount / rate_
