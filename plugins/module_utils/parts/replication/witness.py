# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each end remembers of both: an end that goes back in time forgets it, and the other does not.

It is the column ``witness`` of ``handover.migration``: of the source's record, and of the target's journal.
``ends``, ``beacons`` and ``slots`` are what was seen last (migration/continuity.py); ``breaks`` what was found broken,
kept until it is settled; ``altered`` and ``published`` are signs of the end's own subscriptions and publications, that
tell our own changes of them from others'.
"""

from __future__ import annotations

import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import known, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal

COLUMN = """
    SELECT count(*) FROM pg_attribute
    WHERE attrelid = to_regclass('handover.migration') AND attname = 'witness' AND NOT attisdropped"""

# ``xmin`` tells whether the row was changed, also by who has put everything back. Column privileges do not cover it.
MAY_SEE_SUBSCRIPTIONS = "SELECT has_table_privilege('pg_subscription', 'SELECT')"
SUBSCRIPTION_SIGN = """
    SELECT xmin::text FROM pg_subscription
    WHERE subname = %s AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
# A table that is taken out and put back has another, higher oid in the list; one that is dropped leaves no other sign.
PUBLICATION_SIGN = """
    SELECT xmin::text || ' ' || coalesce((
        SELECT max(r.oid)::text FROM pg_publication_rel AS r WHERE r.prpubid = p.oid), '0')
    FROM pg_publication AS p WHERE pubname = %s"""


def read(connection, identifier: str) -> dict | None:
    """What this end remembers of a migration; None where it has no record of it. Raises HandoverError for a schema
    that is not ours.
    """
    query = "SELECT witness FROM handover.migration WHERE id = %s"
    found = import_journal.rows_of(connection, "migration", "witness", query, (identifier,))
    return (found[0][0] or {}) if found else None


def remember(connection, identifier: str, seen: dict) -> None:
    """Remember what was seen, unless something is broken: that has to be settled first. What was ``read`` is there."""
    query = """
        UPDATE handover.migration SET witness = coalesce(witness, '{}') || %s::jsonb
        WHERE id = %s AND coalesce(witness->'breaks', '[]') = '[]'"""
    _write(connection, query, (json.dumps(seen), identifier), has_witness=True)


def settle(connection, identifier: str, seen: dict) -> None:
    """What was broken counts no more: the ends are as they were ``seen``, and their contents are the same."""
    query = """
        UPDATE handover.migration
        SET witness = coalesce(witness, '{}') || %s::jsonb || '{"breaks": []}' WHERE id = %s"""
    _write(connection, query, (json.dumps(seen), identifier))


def keep_breaks(connection, identifier: str, breaks: list[dict]) -> None:
    """Keep what was found broken, until it is settled."""
    query = "UPDATE handover.migration SET witness = coalesce(witness, '{}') || %s::jsonb WHERE id = %s"
    _write(connection, query, (json.dumps({"breaks": breaks}), identifier))


def sign_subscription(connection, name: str) -> None:
    """A subscription was made, or altered, by us: call it in the same transaction."""
    _sign(connection, "altered", name, SUBSCRIPTION_SIGN, MAY_SEE_SUBSCRIPTIONS)


def sign_publication(connection, name: str) -> None:
    """A publication was made, or altered, by us."""
    _sign(connection, "published", name, PUBLICATION_SIGN)


def forget(connection, identifier: str) -> None:
    """Of an earlier migration of the same database into the same one."""
    if value(connection, COLUMN):
        with connection.cursor() as cursor:
            cursor.execute("UPDATE handover.migration SET witness = NULL WHERE id = %s", (identifier,))


def _sign(connection, kind: str, name: str, sign: str, may_see: str | None = None) -> None:
    there = import_journal.look(connection) or ()
    if "migration.id" in there and (may_see is None or known(connection, may_see)):
        statement = sql.SQL("""
            UPDATE handover.migration SET witness = jsonb_set(
                jsonb_build_object({kind}, '{{}}'::jsonb) || coalesce(witness, '{{}}'), {path}, to_jsonb(s.sign))
            FROM ({sign}) AS s (sign) WHERE id = %s""").format(
            kind=sql.Literal(kind), path=sql.Literal([kind, name]), sign=sql.SQL(sign)
        )
        _write(connection, statement, (name, naming.identifier_of(name)), "migration.witness" in there)


def _write(connection, statement, parameters, has_witness: bool | None = None) -> None:
    with connection.cursor() as cursor:
        if not (value(connection, COLUMN) if has_witness is None else has_witness):  # of an earlier release
            cursor.execute("ALTER TABLE handover.migration ADD COLUMN witness jsonb")
        cursor.execute(statement, parameters)
