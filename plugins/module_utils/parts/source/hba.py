# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of pg_hba.conf for the target, as narrow as they can be (PostgreSQL documentation, 20.1)."""

from __future__ import annotations

import ipaddress

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

KEYWORDS = {"all", "sameuser", "samerole", "samegroup", "replication"}


def lines(databases: list[str], role: str, addresses: list[str], tls: bool, method: str) -> list[str]:
    """One line for each database and address. Raises HandoverError for an address that is none, or if there is none."""
    if not addresses:
        raise HandoverError("target_addresses is empty.", "Give the addresses that the target connects from.")
    kind = "hostssl" if tls else "host"
    networks = [network(address) for address in addresses]
    return [f"{kind} {quoted(name)} {quoted(role)} {one} {method}" for name in databases for one in networks]


def network(address: str) -> str:
    """An address or network in CIDR notation."""
    try:
        return str(ipaddress.ip_network(address))
    except ValueError:
        raise HandoverError(
            f"target_addresses has {address}, which is neither an address nor a network.",
            "Give the address that the target connects from, such as 203.0.113.7, or a network, such as "
            "203.0.113.0/28.",
        ) from None


def is_loopback(address: str) -> bool:
    """Whether the address is one of this very host."""
    return ipaddress.ip_network(network(address)).is_loopback


def is_everybody(address: str) -> bool:
    """Whether the network has all addresses."""
    return ipaddress.ip_network(network(address)).prefixlen == 0


def quoted(name: str) -> str:
    """A name as pg_hba.conf takes it literally: quotes take their meaning from keywords and signs, not from a slash."""
    if "\n" in name or "\r" in name or name.startswith("/"):
        raise HandoverError(f"pg_hba.conf cannot name {name!r} literally.", "Rename it, or write the line by hand.")
    plain = name.replace("_", "").replace("-", "").isalnum() and name.isascii()
    return name if plain and name not in KEYWORDS else '"' + name.replace('"', '""') + '"'
