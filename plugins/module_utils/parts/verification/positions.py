# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where sequences stand, on both ends: the value, and whether it was handed out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import dotted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing

CLASS = "sequences"
TOGETHER = 200  # sequences of one statement
SEQUENCES = f"""
    SELECT n.nspname::text, c.relname::text, c.relpersistence = 'u', s.seqstart,
           (SELECT extname::text FROM pg_extension AS e JOIN pg_depend AS d
                ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    FROM {sequences.SEQUENCES} ORDER BY 1, 2"""
UNLOGGED = "of an unlogged table, and as new on the target: dumps leave such positions out with the rows"


@dataclass(frozen=True)
class Position:
    """``last_value`` and ``is_called`` are None where this role may not ask. ``unlogged`` can be from 15 on only.
    ``extension``: whose it is.
    """

    unlogged: bool
    start: int
    extension: str | None = None
    last_value: int | None = None
    is_called: bool | None = None

    @property
    def known(self) -> bool:
        return self.last_value is not None

    @property
    def as_result(self) -> dict[str, Any]:
        return {"last_value": self.last_value, "is_called": self.is_called}

    @property
    def as_new(self) -> bool:
        """Whether no value was ever taken."""
        return not self.is_called and self.last_value == self.start


def read(connection: Connection) -> dict[tuple[str, str], Position]:
    """Every sequence's, by (schema, name)."""
    there = rows(connection, SEQUENCES)
    found = {(schema, name): Position(*about) for schema, name, *about, _readable in there}
    readable = [(schema, name) for schema, name, *_about, readable in there if readable]
    for first in range(0, len(readable), TOGETHER):
        some = readable[first : first + TOGETHER]
        each = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(sql.Literal(number), sql.Identifier(*name))
            for number, name in enumerate(some)
        ]
        with passing(connection):
            answers = rows(connection, sql.SQL(" UNION ALL ").join(each))
        for number, last_value, is_called in answers:
            found[some[number]] = replace(found[some[number]], last_value=last_value, is_called=is_called)
    return found


def compare(source: Connection, target: Connection, outcome: Outcome, not_carried: str | None) -> None:
    """Add the comparison to the outcome; ``not_carried`` says why values that differ mean nothing now, if so."""
    outcome.look_at(CLASS)
    ours, theirs = read(source), read(target)
    for key in sorted({*ours, *theirs}):
        name, here, there = dotted(*key), ours.get(key), theirs.get(key)
        if outcome.excluded(CLASS, name):
            continue
        if here and here.extension and (reason := outcome.why_lacking("extensions", here.extension)):
            outcome.leave_out(CLASS, name, reason)
            continue
        if there is None:
            outcome.lack(CLASS, name, "only on the source")
        elif here is None:
            outcome.differ(CLASS, name, problem="only on the target")
        elif not (here.known and there.known):
            outcome.miss(CLASS, name, f"{'target' if here.known else 'source'}: SELECT on the sequence is missing")
        elif here.as_result == there.as_result:
            outcome.equal(CLASS)
        elif not_carried:
            outcome.leave_out(CLASS, name, not_carried)
        elif here.unlogged and there.as_new:
            outcome.leave_out(CLASS, name, UNLOGGED)
        else:
            outcome.differ(CLASS, name, source=here.as_result, target=there.as_result)
