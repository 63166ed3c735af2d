# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where sequences stand, on both ends: the value, and whether it was handed out."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing

CLASS = "sequences"
TOGETHER = 200  # sequences of one statement
SEQUENCES = f"""
    SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname),
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    FROM {sequences.SEQUENCES} ORDER BY 1, 2"""


def read(connection) -> dict[str, dict | None]:
    """``{"last_value", "is_called"}`` by quoted name; None where this role may not ask."""
    there = rows(connection, SEQUENCES)
    found = {quoted: None for _schema, _name, quoted, _readable in there}
    readable = [(schema, name, quoted) for schema, name, quoted, readable in there if readable]
    for start in range(0, len(readable), TOGETHER):
        each = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
                sql.Literal(quoted), sql.Identifier(schema, name)
            )
            for schema, name, quoted in readable[start : start + TOGETHER]
        ]
        with passing(connection):
            some = rows(connection, sql.SQL(" UNION ALL ").join(each))
        for quoted, last_value, is_called in some:
            found[quoted] = {"last_value": last_value, "is_called": is_called}
    return found


def compare(source, target, outcome: Outcome, not_carried: str | None) -> None:
    """Add the comparison to the outcome; ``not_carried`` says why values that differ mean nothing now, if so."""
    outcome.look_at(CLASS)
    ours, theirs = read(source), read(target)
    for name in sorted({*ours, *theirs}):
        if outcome.excluded(CLASS, name):
            continue
        if name not in theirs or name not in ours:
            outcome.differ(CLASS, name, problem=f"only on the {'source' if name in ours else 'target'}")
        elif ours[name] is None or theirs[name] is None:
            side = "source" if ours[name] is None else "target"
            outcome.miss(CLASS, name, f"{side}: SELECT on the sequence is missing")
        elif ours[name] == theirs[name]:
            outcome.equal(CLASS)
        elif not_carried:
            outcome.leave_out(CLASS, name, not_carried)
        else:
            outcome.differ(CLASS, name, source=ours[name], target=theirs[name])
