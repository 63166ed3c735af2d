# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One statement about the subscriber's tables, and when it is run."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key

# What may be taken back as long as no row of the new definition has come.
EARLY, TURNING, LATE = "early", "turning", "late"


@dataclass(frozen=True)
class Amendment:
    """A statement about the subscriber's table of this oid, in which ``{table}`` stands for its name at that time; or,
    without an oid, about something else.

    ``when`` it is run; ``age`` puts those that are TURNING in the order in which they were done on the publisher.
    ``undo`` takes it back. ``key`` is what the table is called afterwards, if this gives it a name; ``renames`` are the
    two names of a column, if this is about one; ``parts``: it parts the table from its parent. ``tried``:
    what is tried beforehand, if that is not the same, as no rows are looked at twice.
    """

    when: str
    oid: int
    owner: str
    template: sql.Composable
    age: int = 0
    undo: sql.Composable | None = None
    key: Key | None = None
    renames: tuple[str, ...] = ()
    parts: bool = False
    tried: tuple[sql.Composable, ...] | None = None


TABLE = sql.SQL("{table}") if sql else None


def shown(session: Connection, step: Amendment, names: dict[int, Key]) -> str:
    """The statement by the name that the table has, which is taken note of."""
    text = _named(step.template, names.get(step.oid)).as_string(session)
    if step.key:
        names[step.oid] = step.key
    return text


def shown_trials(session: Connection, step: Amendment, names: dict[int, Key]) -> list[str]:
    """What is tried of it beforehand; the same by the same names."""
    if step.tried is None:
        return [shown(session, step, names)]
    return [_named(one, names.get(step.oid)).as_string(session) for one in step.tried]


def _named(template: sql.Composable, key: Key | None) -> sql.Composable:
    """A template of an Amendment with the name of its table, if it is about one."""
    name = sql.Identifier(*key) if key else None
    parts = template.seq if isinstance(template, sql.Composed) else [template]
    return sql.Composed([name if one is TABLE else one for one in parts])
