# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connecting role may do on this server: asked, never guessed from a provider's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows


@dataclass(frozen=True)
class Capabilities:
    """The connecting role, and what the server offers it."""

    role: str
    superuser: bool
    createdb: bool
    createrole: bool
    server_version: int
    roles: frozenset[str]
    bootstrap_role: str
    extensions: frozenset[str]

    @property
    def major(self) -> int:
        return self.server_version // 10000


def read_capabilities(connection: Connection) -> Capabilities:
    """Attributes of the current role, all roles, and the extensions whose files are installed."""
    query = "SELECT rolname::text, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    ((role, superuser, createdb, createrole),) = rows(connection, query)
    roles = rows(connection, "SELECT rolname::text, oid = 10 FROM pg_roles")
    extensions = rows(connection, "SELECT name::text FROM pg_available_extensions")
    return Capabilities(
        role,
        superuser,
        createdb,
        createrole,
        server_version=connection.info.server_version,
        roles=frozenset(name for name, _bootstrap in roles),
        bootstrap_role=next(name for name, bootstrap in roles if bootstrap),
        extensions=frozenset(name for (name,) in extensions),
    )


def read_role(connection: Connection) -> dict[str, Any]:
    """The connecting role as ``\\du`` shows it, and what it may do here, each asked of the server.

    ``{"name", "attributes": [...], "member_of": [...], "may": {...}}``, where ``may`` has a bool for each of PROBES.
    """
    name, attributes, member_of = rows(
        connection,
        """
        SELECT rolname::text,
            array_remove(ARRAY[
                CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolcreatedb THEN 'createdb' END,
                CASE WHEN rolcreaterole THEN 'createrole' END, CASE WHEN rolreplication THEN 'replication' END,
                CASE WHEN rolbypassrls THEN 'bypassrls' END], NULL),
            ARRAY(SELECT DISTINCT g.rolname::text FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
                  WHERE m.member = r.oid ORDER BY 1)
        FROM pg_roles AS r WHERE rolname = current_user""",
    )[0]
    probes = {name: probe for name, (probe, since) in PROBES.items() if connection.info.server_version >= since}
    answers = rows(connection, f"SELECT {', '.join(probes.values())}")[0]
    may = {**dict.fromkeys(PROBES, "superuser" in attributes), **dict(zip(probes, answers))}
    return {"name": name, "attributes": attributes, "member_of": member_of, "may": may}


def _has_role(name: str) -> str:
    """SQL: whether the role has the privileges of another, which this server may lack."""
    return f"EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}' AND pg_has_role(oid, 'USAGE'))"


# What a role may do: a question of SQL, and the version since which it can be asked. Before, only superusers may.
PROBES = {
    "create_databases": ("(SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user)", 0),
    "create_roles": ("(SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user)", 0),
    "read_password_hashes": ("has_table_privilege('pg_authid', 'SELECT')", 0),
    "read_all_data": (_has_role("pg_read_all_data"), 140000),
    "read_all_settings": (_has_role("pg_read_all_settings"), 0),
    "read_all_statistics": (_has_role("pg_read_all_stats"), 0),
    "end_sessions_of_others": (_has_role("pg_signal_backend"), 0),
    "set_session_replication_role": ("has_parameter_privilege('session_replication_role', 'SET')", 150000),
    "create_subscriptions": (_has_role("pg_create_subscription"), 160000),
    "read_subscription_connections": ("has_column_privilege('pg_subscription', 'subconninfo', 'SELECT')", 0),
}
