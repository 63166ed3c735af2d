# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of all tables of two databases: which tables belong together, what is read, and what that says."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import rewritten_tables
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import (
    copied_rows,
    extension_rows,
    keys,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.copied_keys import Copies
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    BLOCKS,
    Digest,
    form_for,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.queried_keys import Queries
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import Reading, TablePair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import Table, read_tables

Tables = dict[tuple[str, str], Table]  # of one end

CLASS = "rows"
NARROWED = 20  # tables of which keys are looked for; the others are only named
UNLOGGED = "unlogged, and empty on the target: dumps leave such rows out unless asked for, and a cutover copies them"
NO_PLACES = (
    "the rows have no key, and an index or statistics object calls the application's functions, which the comparison "
    "does not do: it reads such tables by COPY, and that does not tell where a row is"
)
REWRITTEN = "it was truncated or rewritten after the instant, so its rows of that instant cannot be read; compare again"
ELSEWHERE = {
    "m": "a materialized view is made of other rows, and may be of another moment; its definition is compared",
    "f": "the rows of a foreign table are on another server; its definition is compared",
}


@dataclass
class Selection:
    """Which tables: ``patterns`` of schema.table as a shell has them, all without one; ``left_out``: reasons by
    (schema, name); ``replicated``: those that changes are carried to, None where nothing is replicated; ``finished``:
    digests by (schema, name) of those that need not be read.
    """

    patterns: list[str] = field(default_factory=list)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)
    replicated: set[tuple[str, str]] | None = None
    finished: dict[tuple[str, str], Digest] = field(default_factory=dict)

    def wants(self, identity: tuple[str, str]) -> bool:
        """Whether the table is among those that the operator wants to see."""
        name = ".".join(identity)
        return not self.patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    def matching_none(self, identities: set[tuple[str, str]]) -> list[str]:
        """Patterns of no table."""
        names = [".".join(identity) for identity in identities]
        return [pattern for pattern in self.patterns if not fnmatch.filter(names, pattern)]


@dataclass
class Amounts:
    """What was compared."""

    tables: int = 0
    rows: int = 0
    bytes: int = 0


def compare(
    connections: dict[str, Connection], reading: Reading, selection: Selection, outcome: Outcome, show_values: bool
) -> Amounts:
    """Compare all rows and add what was found to the outcome; ``connections`` by side, in the snapshots."""
    outcome.look_at(CLASS)
    tables = {side: read_tables(connection) for side, connection in connections.items()}
    for pattern in selection.matching_none({*tables["source"], *tables["target"]}):
        outcome.miss(CLASS, pattern, "no table with rows of its own matches this pattern")
    configuration = {side: _wanted_configuration(found, selection, outcome) for side, found in tables.items()}
    for identity in sorted({*tables["source"], *tables["target"]}):
        _check_presence(tables, identity, selection, outcome)
    pairs = _pairs(connections, tables, selection, outcome)
    reading.read([pair for pair in pairs if pair.identity not in selection.finished])
    for pair in pairs:
        if pair.identity in selection.finished:
            pair.digests = dict.fromkeys(("source", "target"), selection.finished[pair.identity])
    rates = {side: Rate(reading.max_rate) for side in connections}
    _judge(connections, pairs, outcome, lambda pair: _narrowed(connections, pair, rates, show_values))
    form = form_for(connections["source"], connections["target"])
    extension_rows.compare(connections, configuration, form, outcome, CLASS, show_values)
    if not selection.patterns:
        _leave_out_other_relations(connections["source"], outcome)
    whole = [pair for pair in pairs if pair.complete]
    return Amounts(
        len(whole),
        sum(pair.digests["source"].rows for pair in whole),
        sum(pair.tables["source"].bytes for pair in whole),
    )


def _wanted_configuration(tables: Tables, selection: Selection, outcome: Outcome) -> Tables:
    """Tables of extensions that say which rows are the user's."""
    return {
        identity: table
        for identity, table in tables.items()
        if table.condition and selection.wants(identity) and not outcome.covered(CLASS, ".".join(identity))
    }


def _check_presence(
    tables: dict[str, Tables], identity: tuple[str, str], selection: Selection, outcome: Outcome
) -> None:
    """A table that only one end has. Whether the operator wants it left out is asked once, here."""
    if not selection.wants(identity):
        for side in tables.values():
            side.pop(identity, None)
        return
    name = ".".join(identity)
    there = [side for side in tables if identity in tables[side]]
    if outcome.excluded(CLASS, name):
        pass
    elif identity in selection.left_out:
        outcome.leave_out(CLASS, name, selection.left_out[identity])
    elif there == ["source"]:
        outcome.lack(CLASS, name, "the table is only on the source")
    elif there == ["target"]:
        outcome.differ(CLASS, name, problem="the table is only on the target")
    elif selection.replicated is not None and identity not in selection.replicated:
        outcome.miss(CLASS, name, "it is not replicated, so both ends never show the same instant of it")
    else:
        return
    for one in there:
        del tables[one][identity]


def _pairs(
    connections: dict[str, Connection], tables: dict[str, Tables], selection: Selection, outcome: Outcome
) -> list[TablePair]:
    """The tables that can be compared; what cannot be goes to the outcome."""
    form = form_for(connections["source"], connections["target"])
    found = []
    for identity, source in tables["source"].items():
        target, name = tables["target"][identity], ".".join(identity)
        unreadable = [f"{side}: {one.unreadable}" for side, one in zip(tables, (source, target)) if one.unreadable]
        if unreadable:
            outcome.miss(CLASS, name, "; ".join(unreadable))
        elif [one.name for one in source.columns] != [one.name for one in target.columns]:
            outcome.differ(CLASS, name, problem=f"the columns are not the same: {_columns_apart(source, target)}")
        else:
            copied = any(one.evaluates and not one.condition for one in (source, target))
            found.append(TablePair({"source": source, "target": target}, replace(form, copied=copied)))
    return found


def _columns_apart(source: Table, target: Table) -> str:
    ours, theirs = ({column.name for column in table.columns} for table in (source, target))
    parts = [(sorted(ours - theirs), "only on the source"), (sorted(theirs - ours), "only on the target")]
    return "; ".join(f"{', '.join(names)} {where}" for names, where in parts if names)


def _judge(
    connections: dict[str, Connection],
    pairs: list[TablePair],
    outcome: Outcome,
    narrow: Callable[[TablePair], dict[str, Any]],
) -> None:
    """Equal, different, or unknown."""
    scattered = _equal_as_a_whole(pairs)
    rewritten = {side: rewritten_tables(connection) for side, connection in connections.items()}
    narrowed = 0
    for pair in pairs:
        name = ".".join(pair.identity)
        if pair.problem is not None:
            outcome.miss(CLASS, name, pair.problem)
        elif any(pair.identity in found and _may_lack_rows(pair, side) for side, found in rewritten.items()):
            outcome.miss(CLASS, name, REWRITTEN)
        elif pair.unread and (pair.equal or pair.tables["source"].whole in scattered):
            outcome.miss(CLASS, name, pair.unread)
        elif pair.equal or pair.tables["source"].whole in scattered:
            outcome.equal(CLASS)
        elif any(pair.identity in found for found in rewritten.values()):
            outcome.miss(CLASS, name, REWRITTEN)
        elif pair.tables["source"].persistence == "u" and not pair.digests["target"].rows:
            outcome.leave_out(CLASS, name, UNLOGGED)
        else:
            narrowed += 1
            found = narrow(pair) if narrowed <= NARROWED else {}
            sides = {side: pair.digests[side].rows for side in ("source", "target")}
            outcome.differ(CLASS, name, **{"problem": "the rows are not the same", "rows": sides, **found})


def _may_lack_rows(pair: TablePair, side: str) -> bool:
    """Of a rewritten table: whether it only seems empty, or parts of it may have been read after that."""
    table = pair.tables[side]
    return not (pair.digests[side].rows or table.empty) or table.blocks > BLOCKS


def _equal_as_a_whole(pairs: list[TablePair]) -> set[tuple[str, str]]:
    """Roots of partitions whose rows are the same, though perhaps in other partitions, as hashes of enums may be."""
    parts: dict[tuple[str, str], list[TablePair]] = {}
    for pair in pairs:
        if pair.tables["source"].whole and pair.tables["target"].whole:
            parts.setdefault(pair.tables["source"].whole, []).append(pair)
    return {
        root
        for root, members in parts.items()
        if all(pair.complete for pair in members) and _sum(members, "source") == _sum(members, "target")
    }


def _sum(pairs: list[TablePair], side: str) -> Digest:
    return sum((pair.seen(side) for pair in pairs), Digest())


def _narrowed(
    connections: dict[str, Connection], pair: TablePair, rates: dict[str, Rate], show_values: bool
) -> dict[str, Any]:
    """Keys; if they cannot be found, why."""
    try:
        with passing(connections["source"]), passing(connections["target"]):
            searches = _searches(connections, pair, rates)
            found = keys.narrow(searches, pair, show_values)
            return found if searches["source"].names_rows else {**found, "not_narrowed": NO_PLACES}
    except psycopg2.Error as error:
        for connection in connections.values():
            if connection.closed:
                raise
        return {"not_narrowed": one_line(error)}


def _searches(connections: dict[str, Connection], pair: TablePair, rates: dict[str, Rate]) -> dict[str, keys.Search]:
    """How a table's rows are looked at, within a savepoint. Queries read generated columns, as they have before."""
    if pair.form.copied and len(pair.computed) < 2:
        return {side: Copies(connection, pair, side, rates[side]) for side, connection in connections.items()}
    if pair.form.copied:
        for side, connection in connections.items():
            copied_rows.become_owner(connection, pair.tables[side])
    return {side: Queries(connection, pair, side, rates[side]) for side, connection in connections.items()}


def _leave_out_other_relations(source: Connection, outcome: Outcome) -> None:
    """What has rows, but none of its own."""
    query = f"""
        SELECT concat_ws('.', n.nspname, c.relname), c.relkind::text FROM {OWN_RELATIONS} AND c.relkind IN ('m', 'f')
        ORDER BY 1"""
    for name, kind in rows(source, query):
        outcome.leave_out(CLASS, name, ELSEWHERE[kind])
