# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that tables can still be updated and deleted from once they are published, by the server itself.

Without a fitting replica identity it refuses the application's statements as soon as anything publishes the table
(src/backend/executor/execReplication.c, CheckCmdReplicaIdentity). It asks itself before it executes anything, so that
an EXPLAIN is refused alike: no row is touched, no trigger fires, and no default is computed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import (
    PATIENCE,
    patiently,
)

SHOWN = 20  # tables named in a message

# Each table is published, given its identity and asked in a subtransaction that is taken back with its locks, so that
# we never hold more than those of one table. What is refused without us as well, as a publication of the application's
# own may do, is not our doing. Rules would send the statement elsewhere, so they are left out; who owns a table may
# write to it, but for privileges that were taken away.
TRIAL = """
DO $handover$
DECLARE
    given jsonb := current_setting('handover.trial')::jsonb;
    publication text := given->>'publication';
    found jsonb := '[]';
    one record;
    asked boolean;
    code text;
    said text;
    detail text;
BEGIN
    EXECUTE format('CREATE PUBLICATION %I', publication);
    FOR one IN
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
               t->>2 AS identity, jsonb_build_array(t->>0, t->>1) AS key, ARRAY(
            SELECT format('ALTER TABLE %I.%I DISABLE RULE %I', n.nspname, c.relname, r.rulename)
            FROM pg_rewrite AS r WHERE c.relhasrules AND r.ev_class = c.oid AND r.ev_type IN ('2', '4')
            UNION ALL SELECT format('GRANT SELECT, UPDATE, DELETE ON %I.%I TO CURRENT_USER', n.nspname, c.relname)
            WHERE NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'UPDATE')
                       AND has_table_privilege(c.oid, 'DELETE'))) AS before,
            coalesce((
                SELECT format('EXPLAIN WITH gone AS (DELETE FROM ONLY %1$I.%2$I) UPDATE ONLY %1$I.%2$I SET %3$I = %4$s',
                              n.nspname, c.relname, a.attname,
                              CASE WHEN plain THEN quote_ident(a.attname) ELSE 'DEFAULT' END)
                FROM pg_attribute AS a, LATERAL (SELECT a.attgenerated = '' AND a.attidentity <> 'a') AS one (plain)
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                ORDER BY plain DESC, a.attnum LIMIT 1),
                format('EXPLAIN DELETE FROM ONLY %I.%I', n.nspname, c.relname)) AS statement
        FROM jsonb_array_elements(given->'tables') AS t
        JOIN pg_namespace AS n ON n.nspname = t->>0 JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t->>1
    LOOP
        asked := false;
        BEGIN
            EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', publication, one.name);
            IF one.identity <> '' THEN
                EXECUTE format('ALTER TABLE %s REPLICA IDENTITY %s', one.name, one.identity);
            END IF;
            FOR i IN 1..cardinality(one.before) LOOP
                EXECUTE one.before[i];
            END LOOP;
            asked := true;
            EXECUTE one.statement;
            RAISE EXCEPTION SQLSTATE 'HO000';
        EXCEPTION
            WHEN SQLSTATE 'HO000' THEN
                CONTINUE;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS
                    code = RETURNED_SQLSTATE, said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
        END;
        IF code IN ('55P03', '40P01') THEN
            found := found || jsonb_build_object('table', one.key, 'busy', true);
            CONTINUE;
        ELSIF NOT asked AND code = '42501' THEN
            RAISE EXCEPTION USING ERRCODE = code, MESSAGE = said;
        END IF;
        BEGIN
            IF asked THEN
                EXECUTE coalesce((
                    SELECT string_agg(format('ALTER PUBLICATION %I DROP TABLE ONLY %s', p.pubname, one.name), ';')
                    FROM pg_publication AS p JOIN pg_publication_rel AS r ON r.prpubid = p.oid
                    WHERE r.prrelid = one.oid AND p.pubname ~ '^handover_'
                    AND pg_has_role(p.pubowner, 'USAGE')), 'SELECT');
                FOR i IN 1..cardinality(one.before) LOOP
                    EXECUTE one.before[i];
                END LOOP;
                EXECUTE one.statement;
            END IF;
            RAISE EXCEPTION SQLSTATE 'HO000';
        EXCEPTION
            WHEN SQLSTATE 'HO000' THEN
                found := found || jsonb_build_object(
                    'table', one.key, 'why', concat_ws('. ', said, nullif(rtrim(detail, '.'), '')));
            WHEN lock_not_available OR deadlock_detected THEN
                found := found || jsonb_build_object('table', one.key, 'busy', true);
            WHEN OTHERS THEN
                NULL;
        END;
    END LOOP;
    PERFORM set_config('handover.trial', found::text, true);
END $handover$"""


@dataclass(frozen=True)
class Refused:
    """A table, and the server's words why nobody could update it, or delete from it, once it were published."""

    key: tuple[str, str]
    why: str

    def __str__(self) -> str:
        return f"{self.key[0]}.{self.key[1]} ({self.why})"


def refused(
    connection, name: str, tables: list[tuple[str, str]], identities: dict | None = None, patience: float = PATIENCE
) -> list[Refused]:
    """Those of ``tables``, (schema, name) each, that the server would refuse to change if they were published now, and
    had the replica ``identities`` (what follows REPLICA IDENTITY, by table). Nothing of it stays.

    ``name`` is that of the publication for the trial. Raises HandoverError where locks are not to be had.
    """
    found, left = [], list(tables)

    def work():
        answers = _try(connection, name, left, identities or {})
        found.extend(Refused(tuple(one["table"]), one["why"]) for one in answers if "why" in one)
        left[:] = [tuple(one["table"]) for one in answers if "busy" in one]
        if left:
            raise psycopg2.errors.LockNotAvailable(f"{counted(len(left), 'table')} locked: {_some(left)}")

    if left:
        patiently(connection, work, patience)
    return sorted(found, key=lambda one: one.key)


def refuse(found: list[Refused], remedy: str) -> None:
    """Raise HandoverError for these, all of them at once."""
    if found:
        raise HandoverError(
            "While these tables are published, the application could not UPDATE or DELETE their rows: "
            + "; ".join(map(str, found[:SHOWN]))
            + (f" and {len(found) - SHOWN} more." if len(found) > SHOWN else "."),
            remedy,
            tables=[f"{one.key[0]}.{one.key[1]}" for one in found],
        )


def _try(connection, name: str, tables: list[tuple[str, str]], identities: dict) -> list[dict]:
    given = {"publication": name, "tables": [[*table, identities.get(table, "")] for table in tables]}
    text = "BEGIN; SET LOCAL row_security = on; SELECT set_config('handover.trial', %s, true);"
    text += TRIAL.replace("%", "%%") + "; SELECT current_setting('handover.trial')::jsonb"
    try:
        return rows(connection, text, (json.dumps(given),))[0][0]
    finally:
        if not connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")


def _some(tables: list[tuple[str, str]]) -> str:
    return ", ".join(".".join(table) for table in tables[:5])
