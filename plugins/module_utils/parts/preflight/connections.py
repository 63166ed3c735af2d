# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the way from this machine to both servers: what stands between, and how many sessions there may be."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.pooling import is_pooled
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import MAX_JOBS, jobs_for
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer import PgBouncer
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_console import NoConsoleError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair

TRIES = 4
# Beside the jobs: our own session, the one that holds the snapshot, pg_dump's first.
MORE_SESSIONS = 3
LEAST_SESSIONS = 1 + MORE_SESSIONS


@server_check("pooler", "No connection pooler stands before the servers.")
def pooler(pair: Pair):
    """One in session mode; through one in transaction mode there is no session at all (base/endpoint.py)."""
    for side in pair.sides:
        if is_pooled(side.connection):
            name = side.endpoint.side
            yield Finding(
                "warning",
                f"A connection pooler in session mode stands between this machine and the {name}.",
                "Its connection limits and timeouts also hold for the migration, and few poolers pass on "
                "replication connections.",
                f"Give the server's own host and port as {name}; services list it as the direct connection.",
            )


@server_check("pooler_consoles", "The poolers of the application are PgBouncers, or none was given.")
def pooler_consoles(pair: Pair):
    """A cutover pauses one database at each pooler, loads the new address, and resumes; no other pooler's console can
    do that. The check asks consoles only for their version.
    """
    for options in pair.options.poolers:
        pooler = PgBouncer(options)
        try:
            pooler.open()
        except HandoverError as error:
            known = isinstance(error, NoConsoleError)
            consequence = "The cutover refuses it." if known else "It is unknown whether a cutover can pause it."
            yield Finding("blocker" if known else "unknown", error.problem, consequence, error.remedy, [pooler.name])
        finally:
            pooler.close()


@server_check("load_balancer", "Every new connection reaches the same server.")
def load_balancer(pair: Pair):
    """The check opens several connections and compares who answers: a name may stand for several servers."""
    for side in pair.sides:
        name = side.endpoint.side
        servers = {_who_answers(side) for _i in range(TRIES)} | {_identity(side.connection)}
        if len(servers) > 1:
            seen = "; ".join(
                f"{identifier}, started {started}{', a standby' if standby else ''}"
                for identifier, started, standby in sorted(servers)
            )
            yield Finding(
                "blocker",
                f"Connections to the {name} reach several servers: {seen}.",
                "Parallel sessions would not see the same data.",
                f"Give the address of the primary as {name}.",
            )


def _who_answers(side: Side) -> tuple:
    with contextlib.closing(side.endpoint.connect(side.connection.info.dbname, read_only=True)) as connection:
        return _identity(connection)


def _identity(connection) -> tuple[str, str, bool]:
    query = """
        SELECT system_identifier::text, pg_postmaster_start_time()::text, pg_is_in_recovery()
        FROM pg_control_system()"""
    return rows(connection, query)[0]


@server_check("tls", "The sessions from this machine are encrypted or local.")
def tls(pair: Pair):
    """What TLS protects against is a network, so a socket and loopback need none."""
    for side in pair.sides:
        if not side.connection.info.ssl_in_use and not side.is_local:
            name = side.endpoint.side
            yield Finding(
                "warning",
                f"The session with the {name} is not encrypted.",
                "Others can read the data on the way and, with some authentication methods, the password.",
                f"Set {name}.sslmode to verify-full and {name}.sslrootcert to the file of its authority.",
            )


@server_check("source_connections", "The source has room for the sessions of the migration.")
def source_connections(pair: Pair):
    """max_connections and the limits of the role and of the databases, with their present use."""
    yield from _headroom(pair.source, pair)


@server_check("target_connections", "The target has room for the migration and for the application.", needs_target=True)
def target_connections(pair: Pair):
    """The same, and that the target bears as many sessions as the source has now."""
    yield from _headroom(pair.target, pair)
    now, most = _sessions(pair.source), _usable_connections(pair.target)
    if now > most:
        yield Finding(
            "warning",
            f"The source has {counted(now, 'session')} now, the target allows {most}.",
            "After the cutover, some of the application's sessions are refused.",
            "Raise max_connections of the target, or put a connection pooler before it.",
        )


def _headroom(side: Side, pair: Pair):
    name = side.endpoint.side
    needed = jobs_for(pair.options.jobs, MAX_JOBS) + MORE_SESSIONS
    for limit, most, used, remedy in _limits(side, pair.databases):
        free = most - used
        if free < needed:
            yield Finding(
                "blocker" if free < LEAST_SESSIONS else "warning",
                f"{limit} of the {name} leaves room for {counted(max(free, 0), 'more session')} "
                f"({used} of {most} are in use); {needed} are needed.",
                "Sessions of the migration or of the application are refused.",
                remedy + (f" Or use jobs: {free - MORE_SESSIONS}." if free >= LEAST_SESSIONS else ""),
            )


def _limits(side: Side, databases: list[str]) -> list[tuple[str, int, int, str]]:
    """(which limit, sessions that it allows us, used now, how to raise it)."""
    used = _sessions(side)
    limits = [("max_connections", _usable_connections(side), used, "Raise max_connections (needs a restart).")]
    if side.capabilities.superuser:
        return limits
    role = side.rows("""
        SELECT quote_ident(rolname), rolconnlimit, (SELECT count(*)::int FROM pg_stat_activity WHERE usesysid = r.oid)
        FROM pg_roles AS r WHERE rolname = current_user AND rolconnlimit >= 0""")
    limits += [
        (f"The connection limit of role {quoted}", most, there, f"ALTER ROLE {quoted} CONNECTION LIMIT -1;")
        for quoted, most, there in role
    ]
    tightest = side.rows(
        """
        SELECT quote_ident(datname), datconnlimit, (SELECT count(*)::int FROM pg_stat_activity WHERE datid = d.oid)
        FROM pg_database AS d WHERE datname = ANY (%s) AND datconnlimit >= 0 ORDER BY datconnlimit LIMIT 5""",
        (databases,),
    )
    return limits + [
        (f"The connection limit of database {quoted}", most, there, f"ALTER DATABASE {quoted} CONNECTION LIMIT -1;")
        for quoted, most, there in tightest
    ]


def _sessions(side: Side) -> int:
    """Client sessions now; where the role may not see what others are, all that are in a database count."""
    return side.value("""
        SELECT count(*)::int FROM pg_stat_activity
        WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'""")


def _usable_connections(side: Side) -> int:
    """Those that this role may use (PostgreSQL documentation, 19.3.1)."""
    most = side.number("max_connections")
    if side.capabilities.superuser:
        return most
    return most - side.number("superuser_reserved_connections") - (side.number("reserved_connections") or 0)
