# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The login role for the target's connection: made, kept as it has to be, or, where it is the operator's, looked at."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source.state import Preparation
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source import migration_role, source_settings


def ensure_role(run: Preparation) -> bool:
    """Whether the role is there afterwards, or would be."""
    if not migration_role.exists(run.connection, run.role):
        return _create_role(run)
    for statement in (
        *migration_role.missing_attributes(run.connection, run.role),
        *migration_role.missing_settings(run.connection, run.role),
    ):
        run.changes.run(statement)
    databases = sorted({*run.record["databases"], *run.databases})
    if databases != sorted(run.record["databases"]):
        run.record["databases"] = databases
        run.changes.run(migration_role.write_record(run.role, run.record))
    _ensure_password(run)
    return True


def _ensure_password(run: Preparation) -> None:
    password = run.params["replication_password"]
    if not password or migration_role.has_password(run.connection, run.role, password) is not False:
        return
    used_by = migration_role.in_use(run.connection, run.role, run.record["databases"])
    if used_by:
        raise HandoverError(
            f'The role "{run.role}" has another password than replication_password, '
            f"and is in use by {', '.join(used_by)}.",
            "Give the password that it has, or finish that migration first.",
        )
    run.changes.show(migration_role.shown_password(run.role))
    if not run.changes.check_mode:
        migration_role.set_password(run.connection, run.role, password)


def _create_role(run: Preparation) -> bool:
    """The role with its record, all or nothing; by the ways that servers and services have for it."""
    run.record["databases"] = run.databases
    password = run.params["replication_password"]
    ways = [("LOGIN REPLICATION", [])]
    if migration_role.exists(run.connection, migration_role.RDS_REPLICATION):
        names = (sql.Identifier(migration_role.RDS_REPLICATION), sql.Identifier(run.role))
        ways.append(("LOGIN", [sql.SQL("GRANT {} TO {}").format(*names)]))
    for attributes, more in ways:
        statements = [*migration_role.creation(run.connection, run.role, run.record, attributes), *more]
        try:
            if not run.changes.check_mode:
                migration_role.create(run.connection, run.role, password, statements)
        except psycopg2.errors.InsufficientPrivilege:
            continue
        run.changes.show(*statements, *([migration_role.shown_password(run.role)] if password else []))
        return True
    run.instruct(
        f'Make a role "{run.role}" that may log in and replicate, in the way of this service; '
        "then set create_replication_role: false."
    )
    return False


def look_at_role(run: Preparation) -> None:
    """A role of the operator's is not touched."""
    missing = migration_role.missing_attributes(run.connection, run.role)
    missing += migration_role.missing_grants(run.connection, run.role, run.databases, run.params["replication_select"])
    for statement in missing:
        run.instruct(f"Run: {statement.as_string(run.connection)};")


def ensure_grants(run: Preparation) -> None:
    """What the role may do, and a timeout of its own where the server's is short."""
    select = run.params["replication_select"]
    for statement in migration_role.missing_grants(run.connection, run.role, run.databases, select):
        run.changes.run(statement)
    if source_settings.short_sender_timeout(run.connection):
        for statement in migration_role.sender_timeout(run.connection, run.role, source_settings.MOST_WANTED_TIMEOUT):
            run.changes.run(statement)
    if select and run.connection.info.server_version < 140000:
        for dbname in run.databases:
            with contextlib.closing(run.source.connect(dbname)) as session:
                for statement in migration_role.missing_select(session, run.role):
                    run.changes.run(statement, session, dbname)
