# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHECK constraints of tables and domains: what rows need not meet any more goes early, what they have to, late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import EARLY, LATE
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import CheckShape


@dataclass(frozen=True)
class CheckChange:
    """What follows ALTER and the name: a template with its parts; ``tried`` are such that do not look at rows."""

    when: str
    template: str
    parts: tuple[sql.Composable, ...]
    tried: tuple[tuple[Any, ...], ...] | None = None


def check_changes(
    was: dict[int, CheckShape],
    now: dict[int, CheckShape],
    there: dict[int, CheckShape],
    has_left: bool = False,
    is_apart: bool = False,
) -> Iterator[CheckChange]:
    """What gives the subscriber's the constraints that the publisher's has now, but what it has of a parent, unless it
    ``has_left`` that, or is still ``is_apart`` from it there.
    """
    names = {one.name for one in there.values()}
    for oid, before in was.items():
        after = now.get(oid)
        if before.name not in names or (before.inherited and not has_left):
            continue
        name = sql.Identifier(before.name)
        if after is None:
            yield CheckChange(EARLY, "DROP CONSTRAINT {}", (name,))
        elif after.name != before.name:
            yield CheckChange(EARLY, "RENAME CONSTRAINT {} TO {}", (name, sql.Identifier(after.name)))
        if after and after.checked and not before.checked:
            yield CheckChange(LATE, "VALIDATE CONSTRAINT {}", (sql.Identifier(after.name),), ())
    gone = {one.name for oid, one in was.items() if oid not in now}
    for oid, after in now.items():
        is_own = is_apart or not after.inherited
        if oid not in was and is_own and (after.name in gone or after.name not in names):
            yield _added(after)


def _added(after: CheckShape) -> CheckChange:
    template, parts = "ADD CONSTRAINT {} {}", (sql.Identifier(after.name), sql.SQL(after.sql))
    return CheckChange(LATE, template, parts, ((f"{template} NOT VALID", *parts),) if after.checked else None)
