# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publications of a migration: explicit lists of tables, each published as itself."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import witness, writers
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import (
    PATIENCE,
    execute_patiently,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

BATCH = 100  # tables whose locks are taken at once


def exists(connection, name: str) -> bool:
    """Whether the database has a publication of this name. Raises HandoverError for one that is not ours."""
    return trust.refuse_foreign(connection, "pg_publication", "pub", name)


def create(connection, name: str, tables: list[tuple[str, str]]) -> None:
    """Publish the tables, (schema, name) each, unless that is done. Raises HandoverError for locks not to be had."""
    if exists(connection, name):
        add_tables(connection, name, tables)
        return
    for statement in statements(name, tables):
        execute_patiently(connection, statement)
    witness.sign_publication(connection, name)


def statements(name: str, tables: list[tuple[str, str]]) -> list:
    """What ``create`` runs: an empty publication, and the tables in batches."""
    made = [sql.SQL("CREATE PUBLICATION {}").format(sql.Identifier(name))]
    return made + _in_batches("ADD", name, tables)


def tables_of(connection, name: str) -> set[tuple[str, str]]:
    """(schema, name) of what it publishes."""
    query = "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = %s"
    return set(rows(connection, query, (name,)))


def add_tables(connection, name: str, tables: list[tuple[str, str]]) -> None:
    """Publish these too."""
    there = tables_of(connection, name)
    for statement in _in_batches("ADD", name, [table for table in tables if table not in there]):
        execute_patiently(connection, statement)
    witness.sign_publication(connection, name)


def restrict_to(connection, name: str, tables: list[tuple[str, str]], patience: float = PATIENCE) -> None:
    """Publish no other table than these any more. What is in WAL already is sent nevertheless."""
    surplus = sorted(tables_of(connection, name) - set(tables))
    for statement in _in_batches("DROP", name, surplus):
        execute_patiently(connection, statement, patience)
    witness.sign_publication(connection, name)


def drop(connection, name: str) -> bool:
    """Drop it; whether it was there.

    It publishes no table any more first: a server looks up the publications of a table one by one when a statement
    begins to write to it, and fails that statement, an application's, if one of them is gone meanwhile.
    """
    there = exists(connection, name)
    if there:
        with contextlib.suppress(HandoverError, psycopg2.Error):  # a VACUUM may hold a table for hours, or one is gone
            restrict_to(connection, name, [], patience=5)
        writers.outlast(connection)
        execute_patiently(connection, sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))
    return there


def _in_batches(verb: str, name: str, tables: list[tuple[str, str]]) -> list:
    """ALTER PUBLICATION ... ADD or DROP TABLE; ONLY, as children of tables are listed by themselves."""
    alter = sql.SQL("ALTER PUBLICATION {} " + verb + " TABLE {}")
    return [
        alter.format(
            sql.Identifier(name), sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*one)) for one in batch)
        )
        for batch in in_groups(tables, BATCH)
    ]
