# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that an inventory may have: those of the roles, which tests/unit compares with this, and of playbooks.

They are spelled out because to read them out of the roles would cost every run a quarter of a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import sentence

OF_ROLES = [
    "abandon_databases", "accept_pending", "allow_restart", "analyze", "both_ways", "check_disk", "client_directory",
    "compress",
    "count_rows", "count_rows_limit", "create", "create_replication_role", "cutover_max_lag", "databases",
    "deadline", "direction", "dump_directory", "dump_extra_args", "exclude_extensions", "exclude_schemas",
    "exclude_table_data", "exclude_tables", "fail_on", "fence_roles", "firewall_tasks", "follow_schema",
    "force", "free_space",
    "hba_method", "ignore_databases", "jobs", "large_objects", "leave_out", "lift_fence", "listen_addresses",
    "locale_map", "lock_patience", "lock_timeout", "lock_wait_timeout", "max_duration", "max_lag", "max_rate",
    "max_retained_wal", "max_slot_wal_keep_size", "measure", "metrics_directory", "method",
    "min_free_space", "no_identity", "no_owner",
    "no_privileges", "no_tablespaces", "pair", "poolers", "progress", "quote_all_identifiers", "refresh",
    "refresh_materialized_views", "rehearsal_rows", "rehearse", "rename", "replace", "replace_databases",
    "replication", "replication_password", "replication_password_file", "replication_role", "replication_select",
    "replication_tls", "report_directory", "require_verification", "restart_command", "restart_service",
    "restart_timeout", "restore_extra_args", "reverse", "reverse_replication", "role_passwords", "roles", "samples",
    "schemas", "sequence_margin", "serializable_deferrable", "settings_method", "show_values", "skip_roles",
    "slot_patience", "source", "source_host", "source_is_gone", "source_is_quiet", "source_is_ready",
    "split_tables_larger_than", "standbys_ready", "stop_on", "switch_command", "switch_tasks", "switch_timeout",
    "tables", "target", "target_addresses", "terminate_sessions", "test_network", "throttle", "timeout",
    "toast_compression", "together", "transport", "unchecked_foreign_keys", "unlogged_table_data", "update_passwords",
    "verified_within",
    "verify_exclude", "verify_resume", "verify_tables", "wait_for", "waive", "waves", "without_cutover",
]  # fmt: skip
OF_PLAYBOOKS = ["hosts", "results", "selected_databases", "serial"]

KNOWN = frozenset(f"handover_{name}" for name in [*OF_ROLES, *OF_PLAYBOOKS])

ENDS = ("handover_source", "handover_target")
MISSING = "missing required arguments: "
UNLIKE = re.compile(r"argument '(\w+)' is of type (\w+) and we were unable to convert to (\w+)")


def unknown(names: Iterable[str]) -> list[str]:
    """A sentence for each name that no role or playbook takes."""
    return [_not_there(name) for name in sorted(set(names) - KNOWN)]


def _not_there(name: str) -> str:
    import difflib  # only where something is wrong

    close = difflib.get_close_matches(name, sorted(KNOWN), n=1)
    return f"There is no variable {name}" + (f"; the closest is {close[0]}." if close else ".")


def refusals(errors: list[str], given: dict[str, Any], role: str, is_pair: bool) -> list[str]:
    """What Ansible's check of a role's argument spec found, in sentences that name the variable and the remedy.

    ``is_pair`` says whether the host is in the group of pairs. An URI that has a = in it would be taken for a dict.
    """
    strings = [name for name in ENDS if isinstance(given.get(name), str)]
    said = [f"{name} is a string. Write it as {name}: {{uri: postgresql://...}}." for name in strings]
    for error in errors:
        if error.startswith(MISSING):
            said += [_missing(name, is_pair) for name in error[len(MISSING) :].split(", ")]
        elif not any(f"'{name}'" in error for name in strings):
            converted = UNLIKE.match(error)
            said.append(
                f"{converted[1]} is a {converted[2]}, and has to be a {converted[3]}."
                if converted
                else sentence(error[:1].upper() + error[1:])
            )
    see = f"ansible-doc -t role {role} describes the variables."
    return [*said, see] if said else []


def _missing(name: str, is_pair: bool) -> str:
    if name not in ENDS:
        return f"{name} is missing. Set it in the inventory."
    remedy = f"Set it in the inventory, as {name}: {{host: ..., user: ..., password: ...}}."
    if is_pair:
        return f"{name} is missing. {remedy}"
    return f"{name} is missing. {remedy} If this host is no pair, put the hosts that are into the group handover_pairs."
