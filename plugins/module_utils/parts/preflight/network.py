# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the way from the target to the source, which a continuous migration needs: the target fetches changes."""

from __future__ import annotations

import ipaddress
import socket

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import is_loopback
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts import configuration, hba_rules
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import MARK
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.network_trial import (
    connection_string,
    try_dblink,
    try_subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.source import hba

CONTINUOUS = ("continuous",)
FIREWALL = "Open the way from the target to {place} in firewalls, and in the service's list of trusted sources."
GUESSED = " (as its name resolves here; set target_addresses if it connects from elsewhere)"
SHOWN = 5  # lines of pg_hba.conf


@server_check("listen_addresses", "The source listens where the target can reach it.", CONTINUOUS, needs_target=True)
def listen_addresses(pair: Pair):
    """Loopback is enough if both servers are on one machine."""
    listening = (pair.source.settings.get("listen_addresses") or "").replace(" ", "")
    if pair.target.is_local or any(not is_loopback(address) for address in listening.split(",")):
        return
    yield Finding(
        "blocker",
        f"listen_addresses is '{listening}' on the source; the server listens on loopback at most.",
        "The target cannot reach it.",
        "ALTER SYSTEM SET listen_addresses = '*';\n-- then restart the source",
    )


@server_check("configuration_files", "The source's configuration files have no errors, pg_hba.conf included.")
def configuration_files(pair: Pair):
    """A reload that meets an error keeps what it has of that file, and a restart fails."""
    errors = configuration.errors_in_files(pair.source.connection)
    if errors is None:
        remedy = "As a superuser on the source: SELECT * FROM pg_file_settings; SELECT * FROM pg_hba_file_rules;"
        yield Finding("unknown", "The configuration files of the source are not visible to this role.", remedy=remedy)
    elif errors:
        yield Finding(
            "warning",
            f"{counted(len(errors), 'error')} in the source's configuration files: {some(errors)}.",
            "New lines for the target do not take effect, and the source cannot restart.",
            "Correct them, then look again:\n"
            "SELECT * FROM pg_file_settings WHERE error IS NOT NULL;\n"
            "SELECT * FROM pg_hba_file_rules WHERE error IS NOT NULL;",
            [error.partition(": ")[0] for error in errors],
        )


@server_check("pending_restart", "No setting of the source waits for a restart.")
def pending_restart(pair: Pair):
    """What somebody has configured already, perhaps for this migration."""
    waiting = configuration.pending_restart(pair.source.connection)
    if waiting:
        changes = [f"{one['name']} ({one['running']}, then {one['configured'] or 'unknown'})" for one in waiting]
        yield Finding(
            "info",
            f"Waiting for a restart of the source: {some(changes)}.",
            "Until the restart the old values hold, afterwards the new ones.",
            "Restart the source.",
            [one["name"] for one in waiting],
        )


def _hidden() -> Finding:
    remedy = "As a superuser on the source: SELECT * FROM pg_hba_file_rules; or check what the service lets in."
    return Finding("unknown", "pg_hba.conf of the source is not visible to this role.", remedy=remedy)


@server_check("pg_hba", "The source's pg_hba.conf lets the target in.", CONTINUOUS, needs_target=True)
def pg_hba(pair: Pair):
    """Into each database, from every address in target_addresses, else from one that the target's name has here."""
    rules = hba_rules.read_rules(pair.source.connection)
    if rules is None:
        yield _hidden()
        return
    for address in pair.options.target_addresses:
        yield from _admission(pair, rules, address, "blocker", "")
    if pair.options.target_addresses:
        return
    found = [(one, list(_admission(pair, rules, one, "warning", GUESSED))) for one in _addresses_of_target(pair)]
    admitted = [address for address, findings in found if not findings]
    if not admitted:
        yield from (finding for _address, findings in found for finding in findings)
    elif not pair.target.is_local:
        seen = f"pg_hba.conf of the source lets the target in from {some(admitted)}{GUESSED}."
        yield Finding("info", seen, "From another address, the source may refuse it.", "Set target_addresses.")


def _admission(pair: Pair, rules: list, address: str, level: str, guessed: str):
    """What is wrong for a target at this address: nothing if it may connect to all databases."""
    source, network, roles = pair.source, hba.network(address), _roles(pair)
    tls = source.settings.get("ssl") == "on"
    groups = source.once(_groups)
    refused, doubtful = [], False
    for database in pair.databases:
        clients = [hba_rules.HbaClient(role, groups[role], database, network, tls) for role in roles]
        answers = [hba_rules.admits(rules, client) for client in clients]
        if None in answers and True not in answers:
            doubtful = True
        elif True not in answers:
            refused.append(database)
    if refused:
        yield Finding(
            level,
            f"No line of the source's pg_hba.conf lets {roles[0]} from {network}{guessed} into {some(refused)}.",
            "The source refuses the target's connection.",
            _lines(refused, roles[0], network, tls),
            refused,
        )
    elif doubtful:
        yield Finding(
            "unknown",
            f"pg_hba.conf of the source names hosts whose addresses only it can look up; {network} may be one.",
            remedy="Use test_network, or see SELECT * FROM pg_hba_file_rules;",
        )


def _roles(pair: Pair) -> list[str]:
    """The role that connects now, and before it those that pg_source_prepare made for the target."""
    return [*pair.source.once(_made_for_targets), pair.source.capabilities.role]


def _made_for_targets(source: Side) -> list[str]:
    query = "SELECT rolname::text FROM pg_roles WHERE starts_with(shobj_description(oid, 'pg_authid'), %s)"
    return [name for (name,) in source.rows(query, (MARK,))]


def _groups(source: Side) -> dict[str, frozenset]:
    roles = [*source.once(_made_for_targets), source.capabilities.role]
    return {role: hba_rules.groups_of(source.connection, role) for role in roles}


def _addresses_of_target(pair: Pair) -> list[str]:
    """Where this machine finds the target. It may leave its network by another address."""
    host = pair.target.connection.info.host or ""
    if pair.target.is_local:
        return ["127.0.0.1" if not host or host.startswith("/") or host == "localhost" else host]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise HandoverError(f"The target's name has no address here: {error}", "Set target_addresses.") from None
    return sorted({str(ipaddress.ip_address(str(one[4][0]).partition("%")[0])) for one in found})


def _lines(databases: list[str], role: str, address: str, tls: bool) -> str:
    lines = hba.lines(databases, role, [address], tls, "scram-sha-256")
    shown = [*lines[:SHOWN], *([f"# and {len(lines) - SHOWN} more like these"] if len(lines) > SHOWN else [])]
    return "In pg_hba.conf of the source, before lines that reject it:\n" + "\n".join(
        [*shown, "Then: SELECT pg_reload_conf();"]
    )


@server_check(
    "publisher_tls",
    "The target's connection to the source is encrypted or local.",
    CONTINUOUS,
    needs_target=True,
)
def publisher_tls(pair: Pair):
    """The changes of all rows travel over it while the migration lasts."""
    if pair.source.settings.get("ssl") != "on" and not (pair.source.is_local and pair.target.is_local):
        yield Finding(
            "warning",
            "TLS is off at the source.",
            "All changes travel unencrypted from the source to the target, or not at all if the target insists on TLS.",
            "On the source, with server.crt and server.key in its data directory:\n"
            "ALTER SYSTEM SET ssl = on;\nSELECT pg_reload_conf();",
        )


@server_check("network", "The target reaches the source.", CONTINUOUS, needs_target=True)
def network_to_source(pair: Pair):
    """Only tried if test_network allows it: the target connects to the source, which may log a failed login."""
    database, info = pair.databases[0], pair.source.connection.info
    place = f"{info.host}:{info.port}"
    tries = {"dblink": try_dblink, "subscription": try_subscription}
    if pair.options.test_network not in tries:
        yield _untried(pair, f"Not tried, because test_network is {pair.options.test_network}.")
        return
    if pair.source.is_local and not pair.target.is_local:
        yield _untried(pair, f"This machine reaches the source at {place}, which is another machine for the target.")
        return
    answer = tries[pair.options.test_network](pair, database)
    if answer.meaning == "not_tried":
        yield _untried(pair, f"Not tried: {answer.words}.")
    elif answer.meaning == "unreachable":
        remedy = FIREWALL.format(place=place)
        yield Finding("blocker", f"The target does not reach the source at {place}: {answer.words}", "", remedy)
    elif answer.meaning == "not_asked":
        yield Finding(
            "blocker",
            f"The source lets the target in without asking for a password: {answer.words}",
            "If the owner of a subscription is no superuser, the subscription works only if the source asks for a "
            "password.",
            "Replace trust by scram-sha-256 in the line of pg_hba.conf for the target, then: SELECT pg_reload_conf();",
        )
    elif answer.meaning == "turned_away":
        tls = pair.source.settings.get("ssl") == "on"
        addresses = [answer.address] if answer.address else []
        yield Finding(
            "blocker",
            f"The source refuses the target's connection: {answer.words}",
            "No changes reach the target.",
            _lines(pair.databases, _roles(pair)[0], answer.address, tls) if answer.address else "Let it in.",
            addresses,
        )
    elif answer.meaning == "no_tls":
        remedy = "Turn TLS on at the source, or set source.sslmode: disable if you trust the network."
        yield Finding("blocker", f"The target reaches a source without TLS: {answer.words}", "", remedy)


def _untried(pair: Pair, reason: str) -> Finding:
    target = constant(connection_string(pair, pair.databases[0]))
    return Finding(
        "unknown",
        f"It is unknown whether the target reaches the source. {reason}",
        "A continuous migration needs that connection.",
        "Use test_network: subscription. Or on the target, as an extension that you drop afterwards:\nCREATE "
        f"EXTENSION dblink; SELECT dblink_connect({target});\nAn error about the password or pg_hba.conf means that "
        "the target reaches the source.",
    )
