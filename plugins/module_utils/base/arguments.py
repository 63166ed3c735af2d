# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that several modules share. Those in capitals are documented by the fragment of the same name."""

from __future__ import annotations

NAMES = {"type": "list", "elements": "str", "default": []}
YES = {"type": "bool", "default": True}
NO = {"type": "bool", "default": False}
SSLMODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

# libpq's names (PostgreSQL documentation, 34.1.2)
CONNECTION = {
    "uri": {"type": "str", "no_log": True},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "user": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "dbname": {"type": "str"},
    "sslmode": {"type": "str", "choices": SSLMODES},
    "sslrootcert": {"type": "str"},
    "sslcert": {"type": "str"},
    "sslkey": {"type": "str", "no_log": False},
    "sslpassword": {"type": "str", "no_log": True},
    "service": {"type": "str"},
    "passfile": {"type": "str", "no_log": False},
    "connect_timeout": {"type": "int"},
}
FROM_SERVER_TO_SERVER = ("host", "port", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")

# doc_fragments/endpoints.py
SOURCE = {"source": {"type": "dict", "required": True, "options": CONNECTION}}
TARGET = {"target": {"type": "dict", "required": True, "options": CONNECTION}}
BOTH = {**SOURCE, **TARGET}
REPLICATION = {"replication": {"type": "dict", "options": {name: CONNECTION[name] for name in FROM_SERVER_TO_SERVER}}}
REVERSE_REPLICATION = {"reverse_replication": REPLICATION["replication"]}
POOLERS = {
    "poolers": {"type": "list", "elements": "dict", "default": [], "options": {**CONNECTION, "databases": NAMES}},
}
PROGRESS = {"progress": {"type": "str", "default": "15s"}}
CLIENTS = {"client_directory": {"type": "list", "elements": "path"}, "jobs": {"type": "int"}}

# doc_fragments/databases.py
SELECTION = {"databases": NAMES, "ignore_databases": NAMES}
RENAME = {"rename": {"type": "dict", "default": {}}}
PAIRS = {**SELECTION, **RENAME}
BY_ITSELF = {"each_by_itself": NO}
READING = {
    "source_is_quiet": {"type": "bool"},
    "exclude_schemas": NAMES,
    "exclude_tables": NAMES,
    "unlogged_table_data": NO,
    "lock_wait_timeout": {"type": "int", "default": 480000},
}
FILLING = {
    "create": YES,
    "replace": NO,
    "replace_databases": NAMES,
    "locale_map": {"type": "dict", "default": {}},
    "skip_roles": NAMES,
    "no_owner": NO,
    "no_privileges": NO,
    "no_tablespaces": YES,
    "exclude_extensions": NAMES,
    "analyze": {"type": "str", "choices": ["auto", "full", "in_stages", "none"], "default": "auto"},
    "refresh_materialized_views": YES,
    "leave_out": NAMES,
    "toast_compression": {"type": "str", "choices": ["auto", "keep"], "default": "auto"},
}
UNCHECKED = {"unchecked_foreign_keys": NO}

# of the preflight and of rehearsals
WAIVE = {
    "waive": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "id": {"type": "str", "required": True},
            "database": {"type": "str"},
            "objects": NAMES,
            "reason": {"type": "str", "required": True},
        },
    },
}
