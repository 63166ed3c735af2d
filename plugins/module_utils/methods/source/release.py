# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a source back as it was before a continuous migration."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import configuration, hba_rules
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source.state import (
    as_lines,
    refuse_broken_files,
    refuse_standby,
    settings_in_files,
    state_of_server,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.memberships import temporary_memberships
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source import migration_role, source_settings
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source.changes import (
    Changes,
    wait_for_other_runs,
)


@dataclass
class Release:
    """One run. ``lines_before`` are what files on the host hold until now; ``left`` are settings that stay, with the
    reason; ``restart`` those that take one to go back.
    """

    source: Endpoint
    connection: Connection
    role: str
    changes: Changes
    record: dict
    others: dict[str, dict]
    lines_before: list[str]
    left: list[dict] = field(default_factory=list)
    restart: list[dict] = field(default_factory=list)


def release(source: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_source_prepare documents for ``state: absent``. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance()) as connection:
        refuse_standby(connection)
        refuse_broken_files(connection)
        wait_for_other_runs(connection)
        record = (
            migration_role.record_of(connection, params["replication_role"])
            if params["create_replication_role"]
            else None
        )
        others = {
            role: one
            for role, one in migration_role.read_records(connection).items()
            if role != params["replication_role"]
        }
        changes = Changes(connection, check_mode)
        record = record or {"databases": [], "settings": {}}
        before = as_lines(settings_in_files([*others.values(), record]))
        run = Release(source, connection, params["replication_role"], changes, record, others, before)
        if migration_role.exists(connection, params["replication_role"]) and params["create_replication_role"]:
            _refuse_role_in_use(run)
            _put_settings_back(run)
            _drop_role(run)
        places = _places(run) if params["create_replication_role"] else []
        return {**_result(run), "hba_places": places}


def _refuse_role_in_use(run: Release) -> None:
    used_by = migration_role.in_use(run.connection, run.role, run.record["databases"])
    if used_by:
        raise HandoverError(
            f'The role "{run.role}" is still in use by {", ".join(used_by)}.',
            "Finish the migration first, so that the target's subscription ends.",
            used_by=used_by,
        )
    owned = migration_role.owned_in(run.connection, run.role)
    if owned:
        raise HandoverError(
            f'The role "{run.role}" owns objects in {", ".join(owned)}.',
            "Somebody made them as this role: give them to another owner (REASSIGN OWNED), or drop them.",
        )


def _put_settings_back(run: Release) -> None:
    """To their former values, unless somebody else needs or changed them."""
    found = configuration.read_settings(run.connection, list(run.record["settings"]))
    for name, entry in run.record["settings"].items():
        reason = _reason_to_leave(run, found[name], entry)
        if reason:
            run.left.append({"name": name, "value": found[name].configured, "reason": reason})
        else:
            _put_back(run, found[name], entry)
    if run.others and run.record["settings"]:
        _hand_over(run)
    if run.changes.statements and not run.changes.check_mode:
        configuration.reload(run.connection)


def _reason_to_leave(run: Release, setting, entry: dict) -> str:
    if run.others:
        return f'Another migration needs it; its role "{next(iter(run.others))}" keeps the former value.'
    if entry["method"] == "alter_system" and setting.in_auto_conf not in (entry["set"], entry["former"]):
        return "Somebody changed it since."
    return source_settings.still_needed(run.connection, setting.name, _former(setting, entry))


def _former(setting, entry: dict) -> str:
    """The former value, in the setting's base unit."""
    if entry["method"] == "alter_system" and entry["former"] is None:
        return setting.beneath
    return setting.normal(entry["former"])


def _put_back(run: Release, setting, entry: dict) -> None:
    """Files on the host are edited by others; a setting that has been put back may still wait for a restart."""
    if entry["method"] == "alter_system" and setting.in_auto_conf != entry["former"]:
        run.changes.run(source_settings.alter_system(setting.name, entry["former"]))
    former = _former(setting, entry)
    if setting.restart and setting.running != former:
        reason = "the value that it had before the migration"
        run.restart.append({"name": setting.name, "running": setting.running, "configured": former, "reason": reason})


def _hand_over(run: Release) -> None:
    """Another migration on this server puts these back when it ends."""
    heir, record = next(iter(run.others.items()))
    for name, entry in run.record["settings"].items():
        theirs = record["settings"].setdefault(name, entry)
        if theirs["former"] == entry["set"]:
            theirs["former"] = entry["former"]
    run.changes.run(migration_role.write_record(heir, record))


def _drop_role(run: Release) -> None:
    granted = migration_role.granted_in(run.connection, run.role)
    needed = granted and not run.changes.check_mode
    with temporary_memberships(run.connection, [run.role]) if needed else contextlib.nullcontext():
        for dbname in granted:
            with contextlib.closing(run.source.connect(dbname)) as session:
                run.changes.run(migration_role.drop_grants(run.role), session, dbname)
    run.changes.run(migration_role.drop(run.role))


def _result(run: Release) -> dict:
    statements = run.changes.statements
    stay = {one["name"] for one in run.left if not run.others}
    remaining = {name: entry for name, entry in run.record["settings"].items() if name in stay}
    in_files = settings_in_files([*run.others.values(), {"settings": remaining}])
    return {
        "changed": bool(statements),
        "statements": statements,
        "record": {},
        "conf_file": in_files,
        "conf_lines": as_lines(in_files),
        "conf_lines_before": run.lines_before,
        "left": run.left,
        "restart_required": run.restart,
        "instructions": run.changes.instructions,
        "role": run.role,
        "diff": {"before": "", "after": "".join(f"{statement};\n" for statement in statements)},
        **state_of_server(run.connection, run.restart),
    }


def _places(run: Release) -> list[str] | None:
    """Lines of pg_hba.conf that name the role; None where they cannot be seen."""
    rules = hba_rules.read_rules(run.connection)
    return None if rules is None else [rule.place for rule in rules if run.role in rule.roles]
