# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to the database that is filled rather than to an object in it: settings, owner, comment, privileges."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.target_database import attempt
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import

# Settings that decide what sessions may do, where and as whom they make something, or whether they begin at all. They
# come when all is there.
OF_SESSIONS = re.compile(
    r"role|session_.*|.*_preload_libraries|default_transaction_.*|transaction_.*|.*_timeout|default_tablespace"
    r"|temp_tablespaces|default_table_access_method|search_path|row_security|event_triggers|check_function_bodies"
    r"|synchronous_commit|log_.*|array_nulls|xmloption|standard_conforming_strings|backslash_quote",
    re.IGNORECASE,
)


def restore_settings_for_contents(archive: FittedArchive, dbname: str) -> None:
    """Settings of the database that expressions may depend on, before any is evaluated for a row: of an index, a check,
    a generated column. What is refused is listed when all settings are restored.
    """
    data = archive.origin["database_settings"]
    early = [one for one in data["settings"] if one["role"] is None and not OF_SESSIONS.fullmatch(one["name"])]
    plan = role_import.plan_database_settings(
        archive.connection,
        {**data, "settings": early},
        archive.origin["source"]["database"],
        role_import.RoleOptions(),
        dbname,
    )
    role_import.apply(archive.connection, plan)


def restore_settings(archive: FittedArchive, dbname: str) -> None:
    """Settings of the database, and of roles in it; what is refused is listed."""
    data = archive.origin["database_settings"]
    plan = role_import.plan_database_settings(
        archive.connection, data, archive.origin["source"]["database"], role_import.RoleOptions(), dbname
    )
    for one in role_import.apply(archive.connection, plan)["left_out"]:
        setting = f"setting {one['detail']}" + (f" of role {one['role']}" if one["role"] else "")
        archive.fitting.note(setting, "DATABASE PROPERTIES", one["reason"])


def restore_properties(session: Connection, archive: FittedArchive, dbname: str) -> None:
    """Owner, comment and limit of a database of our making, and its privileges; what is refused is listed."""
    statements, skipped = _statements(archive, dbname)
    shown, _skipped = _statements(archive, archive.origin["source"]["database"])
    archive.fitting.skipped += [*([] if archive.params["create"] else _kept(archive, dbname)), *skipped]
    for statement, as_on_source in zip(statements, shown):
        refused = attempt(session, statement)
        if refused:
            archive.fitting.note(as_on_source.as_string(session), "DATABASE PROPERTIES", refused)


def _statements(archive: FittedArchive, name: str) -> tuple[list[sql.Composed], list[dict[str, Any]]]:
    """(statements, skipped) for a database of this name."""
    properties, params = archive.origin["properties"], archive.params
    statements = databases.property_statements(name, properties) if params["create"] else []
    has_owner = params["create"] and not params["no_owner"] and properties["owner"] not in archive.missing_roles
    more, skipped = databases.ownership_statements(
        name, properties, archive.missing_roles, has_owner, not params["no_privileges"]
    )
    return [*statements, *more], skipped


def _kept(archive: FittedArchive, name: str) -> list[dict[str, Any]]:
    """What a database that was there before keeps of its own, as skipped."""
    query = """
        SELECT pg_get_userbyid(datdba)::text, datconnlimit, shobj_description(oid, 'pg_database')
        FROM pg_database WHERE datname = %s"""
    owner, limit, comment = rows(archive.connection, query, (name,))[0]
    wanted = archive.origin["properties"]
    both = {
        "owner": (owner, wanted["owner"]),
        "connection limit": (limit, wanted["connection_limit"]),
        "comment": (comment, wanted["comment"]),
    }
    return [
        {"object": f"{what} of DATABASE {name}", "class": "DATABASE PROPERTIES", "reason": databases.KEPT}
        for what, (here, there) in both.items()
        if here != there
    ]
