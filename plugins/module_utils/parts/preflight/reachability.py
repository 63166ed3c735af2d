# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of whether the migrator reaches what it has to look at. Without the source there is no report at all."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    GIVE_TARGET,
    METHODS,
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair


@server_check("target_connection", "The target was reached.")
def target_connection(pair: Pair):
    """Address, firewall, TLS, role and password of the target are right, and no pooler stands before it."""
    if pair.unreached:
        yield Finding("blocker", pair.unreached.problem, "Nothing can be written there.", pair.unreached.remedy)
    elif pair.target is None:
        yield Finding("unknown", "No target was given.", remedy=GIVE_TARGET)


@database_check("database_connection", "The role can connect to the database.")
def database_connection(_database: Database):
    """The role must have CONNECT, and pg_hba.conf must let it in. Whoever looks into a database has connected to it."""
    return ()


def refused(name: str, error: HandoverError) -> Finding:
    """What is said of a database to which one cannot connect."""
    consequence = "Nothing in this database can be read, and nothing else was checked in it."
    return Finding("blocker", error.problem, consequence, error.remedy, [], METHODS, database_connection.__name__, name)


def describe_unread(name: str) -> dict:
    """What the report says of such a database: its name."""
    nothing = dict.fromkeys(("bytes", "table_bytes", "large_object_bytes", "tables", "rows_estimated"))
    return {"database": name, **nothing, "tables_never_analyzed": None, "largest_tables": []}
