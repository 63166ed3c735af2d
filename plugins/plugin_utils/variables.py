# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables that an inventory may have: those of the roles, which tests/unit compares with this, and of playbooks.

They are spelled out because to read them out of the roles would cost every run a quarter of a second.
"""

from __future__ import annotations

OF_ROLES = [
    "accept_pending", "allow_restart", "analyze", "both_ways", "check_disk", "client_directory", "compress",
    "count_rows", "count_rows_limit", "create", "create_replication_role", "cutover_max_lag", "databases",
    "deadline", "direction", "dump_directory", "dump_extra_args", "exclude_extensions", "exclude_schemas",
    "exclude_table_data", "exclude_tables", "fail_on", "fence_roles", "firewall_tasks", "force", "free_space",
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
    "tables", "target", "target_addresses", "terminate_sessions", "test_network", "throttle", "timeout", "together",
    "transport", "unchecked_foreign_keys", "unlogged_table_data", "update_passwords", "verified_within",
    "verify_exclude", "verify_resume", "verify_tables", "wait_for", "waive", "waves", "without_cutover",
]  # fmt: skip
OF_PLAYBOOKS = ["hosts", "selected_databases", "serial"]

KNOWN = frozenset(f"handover_{name}" for name in [*OF_ROLES, *OF_PLAYBOOKS])
