# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement that holds a secret, run so that no log, no statistics and no list of sessions of the server shows it.

Servers log statements that fail, and whoever is no superuser cannot turn that off, nor the logging of others. So the
statement travels as data of COPY, becomes the body of a temporary function, and what the server sees is the call. It is
a function in SQL, as an error or a warning has the text of what a function in PL/pgSQL runs in its context, and a call
in PL/pgSQL, which catches an error before its context is written. Extensions that log or count what is run inside of
functions see it nevertheless (pgaudit; pg_stat_statements with track = all, and auto_explain never does).
"""

from __future__ import annotations

import io

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import keep

TABLE = "CREATE TEMPORARY TABLE handover_unseen (statement text) ON COMMIT DROP"
FILL = "COPY pg_temp.handover_unseen FROM STDIN"
GUARDED = """
    DO $unseen$ DECLARE details text; BEGIN {}
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        GET STACKED DIAGNOSTICS details = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM, DETAIL = details;
    END $unseen$"""
MAKE = GUARDED.format(
    "EXECUTE (SELECT format('CREATE FUNCTION pg_temp.handover_unseen() RETURNS void LANGUAGE sql AS %L', statement)"
    " FROM pg_temp.handover_unseen);"
)
CALL = GUARDED.format("PERFORM pg_temp.handover_unseen();")
REMOVE = "DROP FUNCTION pg_temp.handover_unseen(); DROP TABLE pg_temp.handover_unseen"


def execute(cursor, statement: str) -> None:
    """Run it, in the transaction that the cursor is in. Raises psycopg2.Error, with the server's words alone."""
    keep(cursor.connection, TABLE)
    cursor.copy_expert(FILL, io.StringIO(_as_copied(statement)))
    cursor.execute("; ".join((MAKE, CALL, REMOVE)))


def _as_copied(text: str) -> str:
    """One value in COPY's text format."""
    for character, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(character, escaped)
    return text + "\n"
