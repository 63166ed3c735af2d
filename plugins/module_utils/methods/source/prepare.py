# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a source ready for a continuous migration."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, configuration, hba_rules
from ansible_collections.handover.postgresql.plugins.module_utils.facts.management import manager_of
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source import role as source_role
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source.state import (
    Preparation,
    as_lines,
    refuse_broken_files,
    refuse_standby,
    settings_in_files,
    state_of_server,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source import (
    hba,
    migration_role,
    source_settings,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source.changes import (
    Changes,
    wait_for_other_runs,
)


def prepare(source: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_source_prepare documents for ``state: present``. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance()) as connection:
        refuse_standby(connection)
        refuse_broken_files(connection)
        _refuse_without_tls(connection, params)
        wait_for_other_runs(connection)
        record = _record(connection, params)
        databases = _databases(connection, params, record)
        changes = Changes(connection, check_mode)
        run = Preparation(source, connection, params, changes, databases, record, manager_of(connection))
        return _make_ready(run)


def _make_ready(run: Preparation) -> dict:
    params = run.params
    lines = hba.lines(
        run.databases, run.role, params["target_addresses"], params["replication_tls"], params["hba_method"]
    )
    wanted = source_settings.Wanted(
        run.role,
        run.databases,
        params["both_ways"],
        any(not hba.is_loopback(address) for address in params["target_addresses"]),
        params["listen_addresses"],
        params["max_slot_wal_keep_size"],
    )
    needs = source_settings.needs(run.connection, wanted)
    method = _settings_method(run, [need.name for need in needs if need.must_be_changed])
    if not params["create_replication_role"]:
        source_role.look_at_role(run)
    elif source_role.ensure_role(run):
        source_role.ensure_grants(run)
    else:
        method = "instructions"  # there is nowhere to keep former values
    how = _configure(run, needs, method)
    return _result(run, needs, method, how, lines)


def _refuse_without_tls(connection, params: dict) -> None:
    if params["replication_tls"] and catalog.value(connection, "SELECT current_setting('ssl')") != "on":
        raise HandoverError(
            "TLS is off at the source (ssl = off), but the target has to use it.",
            "Turn it on (PostgreSQL documentation, 18.9), or set replication_tls: false if you trust the network.",
        )
    if params["hba_method"] == "cert" and not params["replication_tls"]:
        raise HandoverError("The method cert needs TLS.", "Remove replication_tls: false.")


def _record(connection, params: dict) -> dict | None:
    """The role's record, a new one for a role that is to be made, None for a role of the operator's."""
    if not params["create_replication_role"]:
        if not migration_role.exists(connection, params["replication_role"]):
            raise HandoverError(
                f'The source has no role "{params["replication_role"]}".',
                "Make it, or remove create_replication_role.",
            )
        return None
    record = migration_role.record_of(connection, params["replication_role"])
    if record is None and not params["replication_password"] and params["hba_method"] == "scram-sha-256":
        raise HandoverError(
            f'The source has no role "{params["replication_role"]}" yet.',
            "Set replication_password, so that the role can be made.",
        )
    return record or {"databases": [], "settings": {}}


def _databases(connection, params: dict, record: dict | None) -> list[str]:
    """Those that are asked for, and those of earlier runs whose replication goes on."""
    asked = catalog.select_databases(connection, params["databases"], params["ignore_databases"])
    if not asked:
        raise HandoverError("The source has no database to migrate.", "Name them in databases.")
    query = """
        SELECT DISTINCT database::text FROM pg_replication_slots
        WHERE starts_with(slot_name, 'handover_') AND database = ANY (%s) ORDER BY 1"""
    going_on = catalog.rows(connection, query, (record["databases"],)) if record else []
    return [*asked, *(name for (name,) in going_on if name not in asked)]


# --- the settings ----------------------------------------------------------------------------------------------------


def _settings_method(run: Preparation, names: list[str]) -> str:
    """How these settings are changed: as asked, or, where somebody else keeps them, by that somebody."""
    method = run.params["settings_method"]
    may = source_settings.may_alter_system(run.connection, names)
    allowed = source_settings.allows_alter_system(run.connection)
    if method == "auto":
        if run.manager or not run.params["create_replication_role"] or not may:
            return "instructions"
        return "alter_system" if allowed else "conf_file"
    if method != "instructions" and names and not run.params["create_replication_role"]:
        raise HandoverError(
            "The role keeps the former values of settings, but create_replication_role is false.",
            "Remove create_replication_role, or use settings_method: instructions.",
        )
    if method == "alter_system" and names and not may:
        raise HandoverError(
            f"The connecting role may not change {', '.join(names)}.",
            "Use settings_method: instructions, or conf_file if the server's host can be reached over SSH.",
        )
    if method == "alter_system" and names and not allowed:
        raise HandoverError(
            "allow_alter_system is off: change the settings in the server's files.", "Use settings_method: conf_file."
        )
    return method


def _configure(run: Preparation, needs: list, method: str) -> dict[str, str]:
    """How each setting that says too little is changed: ``alter_system``, ``conf_file`` or ``instructions``."""
    behind = source_settings.standbys(run.connection, run.role)
    how = {}
    for need in needs:
        if need.must_be_changed:
            obstacle = _obstacle(run, need, method, behind)
            how[need.name] = "instructions" if obstacle else method
            if obstacle:
                run.instruct(f"{need.name} = {need.value} is needed: {need.reason}. {obstacle}")
            else:
                _keep_former(run, need, method)
                if method == "alter_system":
                    run.changes.run(source_settings.alter_system(need.name, need.value))
    waits = any(not need.is_in_force and not need.setting.restart and not need.must_be_changed for need in needs)
    if not run.changes.check_mode and ("alter_system" in how.values() or (waits and method == "alter_system")):
        configuration.reload(run.connection)
    return how


def _obstacle(run: Preparation, need, method: str, behind: list[str]) -> str:
    """Why it is for somebody else to change this setting, and what they have to do."""
    if need.setting.overridden:
        return "The server's command line sets it, and no file can override that: change it there."
    if need.name in source_settings.NOT_LESS_ON_STANDBYS and behind and not run.params["standbys_ready"]:
        return (
            f"A standby with less than its primary stops: set it on {', '.join(behind)} first, restart them, and "
            "set standbys_ready: true."
        )
    if method == "conf_file" and need.setting.in_auto_conf is not None:
        return f"ALTER SYSTEM has set it, which files cannot change: ALTER SYSTEM RESET {need.name};"
    if method == "instructions":
        return (
            f"This looks like {run.manager.name}: {run.manager.advice}"
            if run.manager
            else "Ask whoever runs this server."
        )
    return ""


def _keep_former(run: Preparation, need, method: str) -> None:
    """Record the former value before it is changed; what somebody set since the last run is a former value, too."""
    setting, entry = need.setting, run.record["settings"].get(need.name)
    current = setting.in_auto_conf if method == "alter_system" else setting.configured
    if entry and entry["method"] == method and current in (entry["former"], entry["set"]):
        current = entry["former"]
    run.record["settings"][need.name] = {"former": current, "set": need.value, "method": method}
    if not run.changes.check_mode:
        with run.connection.cursor() as cursor:
            cursor.execute(migration_role.write_record(run.role, run.record))


# --- what is returned ------------------------------------------------------------------------------------------------


def _result(run: Preparation, needs: list, method: str, how: dict[str, str], lines: list[str]) -> dict:
    changed = [{**need.as_result(), "method": how[need.name]} for need in needs if need.name in how]
    restart = [
        {
            "name": need.name,
            "running": need.setting.running,
            "reason": need.reason,
            "configured": need.value if need.name in how else need.setting.configured,
        }
        for need in needs
        if need.setting.restart and not need.is_in_force and how.get(need.name) != "instructions"
    ]
    others = {role: record for role, record in migration_role.read_records(run.connection).items() if role != run.role}
    in_files = settings_in_files([*others.values(), *([run.record] if run.record else [])])
    return {
        "changed": bool(run.changes.statements),
        "statements": run.changes.statements,
        "settings": changed,
        "settings_method": method,
        "record": run.record["settings"] if run.record else {},
        "conf_file": in_files,
        "conf_lines": as_lines(in_files),
        "restart_required": restart,
        "manager": run.manager.name if run.manager else None,
        "instructions": run.changes.instructions,
        "hints": [*source_settings.hints(run.connection), *_hints_about_addresses(run.params)],
        "hba_lines": lines,
        "hba_refused": _refused(run),
        "role": run.role,
        "databases": run.databases,
        "diff": _diff(changed, run.changes.statements),
        **state_of_server(run.connection, restart),
    }


def _refused(run: Preparation) -> list[dict] | None:
    """Where pg_hba.conf, as it is now, does not let the target in; None where it cannot be seen.

    Each has the database, the address, and the place of the line that decides, None if there is no such line.
    """
    rules = hba_rules.read_rules(run.connection)
    if rules is None:
        return None
    groups = hba_rules.groups_of(run.connection, run.role)
    will_do = {run.params["hba_method"], "trust"}
    if run.params["hba_method"] == "scram-sha-256":
        will_do |= hba_rules.PASSWORD_METHODS
    found = []
    for dbname in run.databases:
        for address in map(hba.network, run.params["target_addresses"]):
            client = hba_rules.HbaClient(run.role, groups, dbname, address, run.params["replication_tls"])
            rule, certain = hba_rules.deciding(rules, client)
            if not certain or rule is None or rule.method not in will_do:
                found.append({"database": dbname, "address": address, "place": rule.place if rule else None})
    return found


def _hints_about_addresses(params: dict) -> list[str]:
    everybody = [address for address in params["target_addresses"] if hba.is_everybody(address)]
    texts = [f"target_addresses has {address}: pg_hba.conf lets everybody try to log in." for address in everybody]
    if params["hba_method"] == "trust":
        texts.append("hba_method is trust: connections from the target's addresses need no password.")
    return texts


def _diff(changed: list[dict], statements: list[str]) -> dict:
    def lines(key: str) -> str:
        return "".join(f"{one['name']} = {one[key]}\n" for one in changed)

    return {"before": lines("former"), "after": lines("value") + "".join(f"{statement};\n" for statement in statements)}
