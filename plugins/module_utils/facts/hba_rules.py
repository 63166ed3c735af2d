# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_hba.conf as the server shows it, and whom it lets in (PostgreSQL documentation, 20.1 and 53.9)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

# Methods with which a connection string and a password are enough.
PASSWORD_METHODS = {"trust", "password", "md5", "scram-sha-256", "ldap", "radius", "pam", "bsd"}


@dataclass(frozen=True)
class Rule:
    """One line. ``error`` with an empty ``type`` is a line that the server does not understand."""

    place: str
    type: str | None
    databases: list[str]
    roles: list[str]
    address: str | None
    netmask: str | None
    method: str | None
    error: str | None


@dataclass(frozen=True)
class HbaClient:
    """Who wants in: ``groups`` are the roles of which ``role`` is a member, directly or not."""

    role: str
    groups: frozenset[str]
    database: str
    address: str
    tls: bool


def read_rules(connection: Connection) -> list[Rule] | None:
    """All lines of the file as it is now, loaded or not; None where this role may not see them."""
    if not value(connection, "SELECT has_table_privilege('pg_hba_file_rules', 'SELECT')"):
        return None
    since_16 = connection.info.server_version >= 160000
    query = f"""
        SELECT {"file_name" if since_16 else "'pg_hba.conf'"} || ':' || line_number, type, coalesce(database, '{{}}'),
               coalesce(user_name, '{{}}'), address, netmask, auth_method, error
        FROM pg_hba_file_rules ORDER BY {"rule_number" if since_16 else "line_number"}"""
    return [Rule(*row) for row in rows(connection, query)]


def groups_of(connection: Connection, role: str) -> frozenset[str]:
    """Roles of which this one is a member. That superusers are members of all does not count here."""
    query = """
        WITH RECURSIVE member (oid) AS (
            SELECT oid FROM pg_roles WHERE rolname = %s
            UNION SELECT m.roleid FROM pg_auth_members AS m JOIN member ON member.oid = m.member)
        SELECT rolname::text FROM member JOIN pg_roles USING (oid)"""
    return frozenset(name for (name,) in rows(connection, query, (role,)))


def admits(rules: list[Rule], client: HbaClient) -> bool | None:
    """Whether the first line that matches lets the client in with a password; None where that cannot be told."""
    rule, certain = deciding(rules, client)
    return (rule is not None and rule.method in PASSWORD_METHODS) if certain else None


def deciding(rules: list[Rule], client: HbaClient) -> tuple[Rule | None, bool]:
    """The first line that matches, or None, and whether that is certain.

    It is not where a line has a host name, which only the server can look up.
    """
    for rule in rules:
        matches = _matches(rule, client)
        if matches is not False:
            return rule, matches is not None
    return None, True


def _matches(rule: Rule, client: HbaClient) -> bool | None:
    if rule.type not in ("host", "hostssl" if client.tls else "hostnossl"):
        return False
    if not any(_names_database(word, client) for word in rule.databases):
        return False
    if not any(_names_role(word, client) for word in rule.roles):
        return False
    return _covers(rule, ipaddress.ip_network(client.address))


def _names_database(word: str, client: HbaClient) -> bool:
    if word == "sameuser":
        return client.database == client.role
    if word in ("samerole", "samegroup"):
        return client.database in client.groups
    return word == "all" or _is(word, client.database)


def _names_role(word: str, client: HbaClient) -> bool:
    if word.startswith("+"):
        return word[1:] in client.groups
    return word == "all" or _is(word, client.role)


def _is(word: str, name: str) -> bool:
    """A name, or since 16 a regular expression after a slash."""
    if not word.startswith("/"):
        return word == name
    try:
        return re.search(word[1:], name) is not None
    except re.error:
        return False


def _covers(rule: Rule, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool | None:
    if rule.address == "all":
        return True
    if rule.address == "samehost" and network.is_loopback:
        return True
    try:
        allowed = ipaddress.ip_network(f"{rule.address}/{_prefix(rule.netmask or '')}", strict=False)
    except ValueError:
        return None  # a host name, samehost, samenet
    if isinstance(allowed, ipaddress.IPv4Network) and isinstance(network, ipaddress.IPv4Network):
        return network.subnet_of(allowed)
    if isinstance(allowed, ipaddress.IPv6Network) and isinstance(network, ipaddress.IPv6Network):
        return network.subnet_of(allowed)
    return False


def _prefix(netmask: str) -> int:
    """The length of a netmask; Python knows those of IPv6 by their length only."""
    return bin(int(ipaddress.ip_address(netmask))).count("1")
