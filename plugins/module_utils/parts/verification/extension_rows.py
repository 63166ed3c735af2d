# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that an extension made itself in tables of which it calls others the user's, as PostGIS does in spatial_ref_sys.

No dump holds them, and nothing replicates them: where the user has changed some, the target has them as they were.
"""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import keys
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    Form,
    Part,
    digests,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.queried_keys import Queries
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import TablePair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import Table

EXTENSIONS = """
    SELECT n.nspname::text, c.relname::text, e.extname::text, e.extversion
    FROM pg_extension AS e, unnest(e.extconfig) AS conf (oid) JOIN pg_class AS c ON c.oid = conf.oid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace"""


def compare(
    connections: dict[str, Connection],
    tables: dict[str, dict[tuple[str, str], Table]],
    form: Form,
    outcome: Outcome,
    kind: str,
    show_values: bool,
) -> None:
    """Compare them and add what is not the same to the outcome; ``tables`` by side, then (schema, name)."""
    extensions = {
        side: {(schema, name): made for schema, name, *made in rows(connection, EXTENSIONS)}
        for side, connection in connections.items()
    }
    for identity in sorted({*tables["source"]} & {*tables["target"]}):
        both = {side: tables[side][identity] for side in connections}
        if not any(one.condition for one in both.values()) or any(one.unreadable for one in both.values()):
            continue
        if [one.name for one in both["source"].columns] != [one.name for one in both["target"].columns]:
            continue  # said where all of its rows are compared
        pair = TablePair({side: _others(one, connections[side]) for side, one in both.items()}, form)
        made = [extensions[side][identity] for side in ("source", "target")]
        _judge(connections, pair, made, outcome, kind, show_values)


def _others(table: Table, connection: Connection) -> Table:
    """The rows of which the extension does not say that they are the user's; all are where it does not tell."""
    users = sql.SQL("SELECT ctid FROM ONLY {} {}").format(sql.Identifier(*table.identity), sql.SQL(table.condition))
    return replace(table, condition=f"WHERE ctid NOT IN ({users.as_string(connection)})")


def _judge(
    connections: dict[str, Connection],
    pair: TablePair,
    made: list[list[str]],
    outcome: Outcome,
    kind: str,
    show_values: bool,
) -> None:
    name, ((extension, here), (_extension, there)) = ".".join(pair.identity), made
    try:
        with passing(connections["source"]), passing(connections["target"]):
            for side, connection in connections.items():
                (pair.digests[side],) = digests(connection, [Part(pair.tables[side])], pair.form)
            if pair.equal:
                return
            searches: dict[str, keys.Search] = {
                side: Queries(connection, pair, side, Rate(None)) for side, connection in connections.items()
            }
            found = keys.narrow(searches, pair, show_values) if here == there else {}
    except psycopg2.Error as error:
        if any(connection.closed for connection in connections.values()):
            raise
        outcome.miss(kind, name, f"rows that {extension} made: {one_line(error)}")
        return
    if here != there:
        outcome.leave_out(kind, name, f"rows that {extension} made: it is {here} on the source, {there} on the target")
        return
    problem = f"rows that {extension} made were changed, and a dump leaves them out; make them on the target, too"
    sides = {side: digest.rows for side, digest in pair.digests.items()}
    outcome.differ(kind, name, **{"problem": problem, "rows": sides, **found})
