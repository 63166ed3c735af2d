# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that are run, or in check mode only listed, and what has to be left to somebody else."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

PATIENCE = 60  # seconds that another run on the same server may take


class Changes:
    """``statements`` as they are shown, and ``instructions`` for people."""

    def __init__(self, connection, check_mode: bool):
        self.connection = connection
        self.check_mode = check_mode
        self.statements: list[str] = []
        self.instructions: list[str] = []

    def show(self, *statements) -> None:
        """Only list: for what is run otherwise, or holds a secret and is given as it may be shown."""
        self.statements += [one.as_string(self.connection) for one in statements]

    def run(self, statement, connection=None, dbname: str | None = None) -> None:
        """Run a statement, in another session if one is given. What this role may not do becomes an instruction."""
        if not self.check_mode:
            try:
                with (connection or self.connection).cursor() as cursor:
                    cursor.execute(statement)
            except psycopg2.errors.InsufficientPrivilege:
                place = f' in the database "{dbname}"' if dbname else ""
                text = statement.as_string(self.connection)
                self.instructions.append(f"As a role that may do it{place}, run: {text};")
                return
        self.show(statement)


def wait_for_other_runs(connection) -> None:
    """Let other runs on this server end first. The session's end gives the way free. Raises HandoverError."""
    rows(connection, "SELECT set_config('lock_timeout', %s, false)", (f"{PATIENCE}s",))
    try:
        rows(connection, "SELECT pg_advisory_lock(hashtext('handover.postgresql'))")
    except psycopg2.errors.LockNotAvailable:
        raise HandoverError(
            f"Another run is working on the source, and did not end within {PATIENCE} s.",
            "Run this again when it has ended.",
        ) from None
    rows(connection, "SELECT set_config('lock_timeout', '0', false)")
