# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verification has found so far, in the journal on the target, so that a run that was killed is continued.

Without a journal there (nothing was migrated by us, or it is finished), or for a role to which it is closed, nothing is
recorded, and a rerun starts over.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import Parameters, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import Digest

TABLES = """
    CREATE TABLE IF NOT EXISTS handover.verification (
        pair text PRIMARY KEY, started timestamptz NOT NULL DEFAULT clock_timestamp(), finished timestamptz,
        evidence jsonb NOT NULL, verdict text);
    CREATE TABLE IF NOT EXISTS handover.verified_table (
        pair text NOT NULL, schema text NOT NULL, name text NOT NULL, rows bigint NOT NULL, first numeric NOT NULL,
        second numeric NOT NULL, at text NOT NULL, PRIMARY KEY (pair, schema, name))"""


def may_use_journal(connection: Connection, privilege: str = "USAGE") -> bool:
    """Whether the connecting role may look at our schema, or (CREATE) write to it; yes where there is none."""
    query = "SELECT bool_and(has_schema_privilege(oid, %s)) FROM pg_namespace WHERE nspname = 'handover'"
    return rows(connection, query, (privilege,))[0][0] is not False


class Record:
    """Of the verification of one pair of databases, ``pair`` being the migration's id. One session, many threads."""

    def __init__(self, connection: Connection, pair: str) -> None:
        self._connection = connection
        self._pair = pair
        self._lock = threading.Lock()
        self._present = may_use_journal(connection, "CREATE") and import_journal.has_schema(connection)

    @property
    def present(self) -> bool:
        """Whether anything is recorded at all."""
        return self._present

    def begin(self, evidence: dict[str, Any], resume: bool) -> dict[tuple[str, str], tuple[Digest, str]]:
        """Begin, or continue what was not finished and has the same ``evidence`` (JSON types that must not have changed
        for what was found then to hold). Returns the tables found equal then: digest and instant by (schema, name).
        """
        if not self._present:
            return {}
        self._execute(TABLES + trust.CLOSED)
        if resume and rows(
            self._connection,
            "SELECT 1 FROM handover.verification WHERE pair = %s AND finished IS NULL AND evidence = %s::jsonb",
            (self._pair, json.dumps(evidence)),
        ):
            query = "SELECT schema, name, rows, first, second, at FROM handover.verified_table WHERE pair = %s"
            return {
                (schema, name): (Digest(count, int(first), int(second)), at)
                for schema, name, count, first, second, at in rows(self._connection, query, (self._pair,))
            }
        self._execute(
            """
            WITH former AS (DELETE FROM handover.verified_table WHERE pair = %s)
            INSERT INTO handover.verification (pair, evidence) VALUES (%s, %s)
            ON CONFLICT (pair) DO UPDATE SET started = clock_timestamp(), finished = NULL, verdict = NULL,
                evidence = excluded.evidence""",
            (self._pair, self._pair, json.dumps(evidence)),
        )
        return {}

    def add(self, found: list[tuple[tuple[str, str], Digest]], at: str) -> None:
        """Tables that were found equal at an instant: ((schema, name), digest) each."""
        if self._present and found:
            values = [(self._pair, *identity, one.rows, one.first, one.second, at) for identity, one in found]
            statement = "INSERT INTO handover.verified_table VALUES %s ON CONFLICT DO NOTHING"
            with self._lock, self._connection.cursor() as cursor:
                psycopg2.extras.execute_values(cursor, statement, values, page_size=1000)

    def finish(self, verdict: str) -> None:
        """Everything was looked at."""
        if self._present:
            query = "UPDATE handover.verification SET finished = clock_timestamp(), verdict = %s WHERE pair = %s"
            self._execute(query, (verdict, self._pair))

    def _execute(self, statement: str, parameters: Parameters = None) -> None:
        with self._lock, self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
