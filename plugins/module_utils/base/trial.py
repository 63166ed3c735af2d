# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial: statements that the server tries and takes back, so that what a role may do is asked, never guessed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Cursor, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

# SQLSTATE classes by which a server says that this statement is not for this role or this server
# (PostgreSQL documentation, appendix A). P0 and F0 come from providers' hooks.
REFUSALS = ("0A", "0L", "0P", "22", "28", "42", "F0", "P0")
CANNOT_CHANGE_NOW = "55P02"
SYNTAX_ERROR = "42601"
INTERNAL_ERROR = "XX000"

# What would write a statement, and with it a password hash, to the server's log or its statistics.
STATEMENT_LOGGING = {
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_min_error_statement": "panic",
    "log_transaction_sample_rate": "0",
    "pgaudit.log": "none",
    "pg_stat_statements.track_utility": "off",
}


@dataclass(frozen=True)
class Statement:
    """A statement as it is sent, and as people may see it."""

    text: str
    shown: str


class Trial:
    """Collects the statements that the server accepted."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.accepted: list[Statement] = []

    def attempt(self, statement: sql.Composable, shown: sql.Composable | None = None, hooked: bool = False) -> str:
        """Empty if the server accepted the statement, else its reason.

        ``hooked``: a provider's hook looks at this statement, and hooks often fail with "internal error".
        Raises HandoverError for an error that says nothing about this statement: a lost connection, a full disk.
        """
        tried = Statement(statement.as_string(self.cursor), (shown or statement).as_string(self.cursor))
        self.cursor.execute("SAVEPOINT handover_trial")
        try:
            self.cursor.execute(tried.text)
        except psycopg2.Error as error:
            if not _is_refusal(error, hooked):
                raise _failure(tried, error) from None
            self.cursor.execute("ROLLBACK TO SAVEPOINT handover_trial")
            return reason(error)
        self.cursor.execute("RELEASE SAVEPOINT handover_trial")
        self.accepted.append(tried)
        return ""


def execute_all(conn: Connection, statements: list[Statement]) -> None:
    """All of them, or none. Raises HandoverError."""
    if not statements:
        return
    with transaction(conn) as cursor:
        for statement in statements:
            try:
                cursor.execute(statement.text)
            except psycopg2.Error as error:
                raise _failure(statement, error) from None


@contextlib.contextmanager
def transaction(conn: Connection, end: str = "COMMIT") -> Iterator[Cursor]:
    """A cursor in a transaction that keeps its statements out of the server's log as far as the role may do that."""
    with conn.cursor() as cursor:
        try:
            _begin_out_of_log(cursor, conn.info.server_version)
            yield cursor
        except BaseException:
            if not conn.closed:
                with conn.cursor() as other:  # an error's cursor still knows the statement that failed
                    other.execute("ROLLBACK")
            raise
        cursor.execute(end)


def reason(error: psycopg2.Error) -> str:
    """The server's own words, without the statement, which may hold a secret."""
    words = [error.diag.message_primary, error.diag.message_detail]
    return ". ".join(word for word in words if word) or f"SQLSTATE {error.pgcode}"


def _is_refusal(error: psycopg2.Error, hooked: bool) -> bool:
    code = error.pgcode or ""
    if code == SYNTAX_ERROR:
        return False
    return code[:2] in REFUSALS or code == CANNOT_CHANGE_NOW or (hooked and code == INTERNAL_ERROR)


def _failure(statement: Statement, error: psycopg2.Error) -> HandoverError:
    return HandoverError(
        f"The server failed at: {statement.shown}: {reason(error)}.",
        "Nothing of this step was kept. Fix the cause, then run it again.",
        sqlstate=error.pgcode,
    )


def _begin_out_of_log(cursor: Cursor, version: int) -> None:
    allowed = (
        "pg_catalog.has_parameter_privilege(s.name, 'SET')"
        if version >= 150000
        else "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
    )
    cursor.execute(
        "BEGIN; SELECT pg_catalog.set_config(s.name, wanted.value, true)"
        " FROM ROWS FROM (pg_catalog.unnest(%s), pg_catalog.unnest(%s)) AS wanted (name, value)"
        " JOIN pg_catalog.pg_settings AS s USING (name)"
        f" WHERE s.context IN ('superuser', 'user') AND {allowed}",
        (list(STATEMENT_LOGGING), list(STATEMENT_LOGGING.values())),
    )
