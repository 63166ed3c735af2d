# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the two servers are: versions, identity, whether they can be written, whether data is safe in them."""

from __future__ import annotations

import re
import time
from datetime import date

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair

OLDEST, NEWEST = 13, 19
# The last day of community support (postgresql.org, Versioning Policy).
END_OF_LIFE = {
    13: date(2025, 11, 13),
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
    19: date(2031, 11, 13),
}
# Minors that mended what loses rows (release notes of these versions): {major: first minor without the defect}.
DECODING_MENDED = {13: 21, 14: 18, 15: 13, 16: 9, 17: 5}
CONCURRENT_INDEX_MENDED = {14: 4}
CLOCK_TOLERANCE = 1.0  # seconds


@server_check("source_version", "The source's major is known.")
def source_version(pair: Pair):
    """A major that this release was tried with."""
    yield from _unsupported(pair.source)


@server_check("target_version", "The target's major is known, and not older than the source's.", needs_target=True)
def target_version(pair: Pair):
    """The same; and an older server does not understand the dump of a newer one."""
    yield from _unsupported(pair.target)
    source, target = pair.source.server, pair.target.server
    if target.major < source.major:
        yield Finding(
            "blocker",
            f"The source is PostgreSQL {source.version}, the target {target.version}.",
            "A dump of a newer major cannot be restored into an older one.",
            f"Choose a target of PostgreSQL {source.major} or later.",
        )


def _unsupported(side: Side):
    name, server = side.endpoint.side, side.server
    if server.major < OLDEST:
        seen = f"The {name} is PostgreSQL {server.version}; {OLDEST} to {NEWEST} are supported."
        remedy = f"Upgrade it with pg_upgrade to {OLDEST} or later first."
        yield Finding("blocker", seen, "Catalogs differ from what the collection reads.", remedy)
    elif server.major > NEWEST:
        seen = f"The {name} is PostgreSQL {server.version}; {OLDEST} to {NEWEST} were tried."
        yield Finding("unknown", seen, "Catalogs may differ from what the collection reads.", "Use a newer release.")


@server_check("end_of_life", "The target's major is still maintained.", needs_target=True)
def end_of_life(pair: Pair):
    """A new home should get security fixes."""
    server = pair.target.server
    last = END_OF_LIFE.get(server.major)
    if last and date.today() > last:
        yield Finding(
            "warning",
            f"The target is PostgreSQL {server.version}; the community's support of {server.major} ended on {last}.",
            "It gets no more security fixes, unless its vendor makes them.",
            f"Choose a target of PostgreSQL {max(END_OF_LIFE)}.",
        )


@server_check("minor_version", "The source's minor has no known defect that concerns a migration.")
def minor_version(pair: Pair):
    """Defects of old minors that lose rows, or that a migration brings to light."""
    server = pair.source.server
    remedy = f"Install the newest minor of PostgreSQL {server.major} and restart; no data has to be converted."
    if is_older(server.version, DECODING_MENDED):
        yield Finding(
            "warning",
            f"The source is PostgreSQL {server.version}, which decodes changes with an outdated catalog.",
            "Changes are lost if a table is published or altered while transactions write to it.",
            remedy,
            methods=("continuous",),
        )
    if is_older(server.version, CONCURRENT_INDEX_MENDED):
        yield Finding(
            "warning",
            f"The source is PostgreSQL {server.version}, which builds incomplete indexes with CONCURRENTLY.",
            "A unique index may hide duplicates; the target refuses them when it builds the same index.",
            remedy + " Then: REINDEX DATABASE, or check with pg_amcheck --heapallindexed.",
        )


def is_older(version: str, mended: dict[int, int]) -> bool:
    """Whether a version such as ``15.3`` comes before the minor that mended its major; never for a major not listed."""
    major, minor = re.match(r"(\d+)(?:\.(\d+))?", version).groups(default="0")
    return int(minor) < mended.get(int(major), 0)


@server_check("same_server", "The source and the target are two servers.", needs_target=True)
def same_server(pair: Pair):
    """The system identifier is that of the data directory; the start tells a copy from the same."""
    if pair.source.server.system_identifier != pair.target.server.system_identifier:
        return
    started = {side.value("SELECT pg_postmaster_start_time()") for side in pair.sides}
    if len(started) == 1:
        yield Finding(
            "blocker",
            "The source and the target are the same server.",
            "Its databases exist already, and would replace themselves.",
            "Correct source or target.",
        )
    else:
        yield Finding(
            "warning",
            "The target is a physical copy of the source: both have the same system identifier.",
            "It has the source's databases and roles already, as they were when the copy was made.",
            "Make sure that this is the target; a new server from initdb has an identifier of its own.",
        )


@server_check("source_standby", "The source is not a standby.")
def source_standby(pair: Pair):
    """A standby can be dumped, but it does not take the writes that replication needs on the source."""
    source = pair.source
    if not source.server.in_recovery:
        return
    primary = source.rows("SELECT sender_host, sender_port FROM pg_stat_wal_receiver WHERE sender_host IS NOT NULL")
    where = f" ({primary[0][0]}:{primary[0][1]})" if primary else ""
    yield Finding(
        "blocker",
        "The source is a standby.",
        "Publications, the beacon and the fence have to be written on the primary.",
        f"Give the primary{where} as source.",
        methods=("continuous",),
    )
    delay = source.number("max_standby_streaming_delay")
    patient = delay == -1 or source.settings.get("hot_standby_feedback") == "on"
    yield Finding(
        "info" if patient else "warning",
        f"The source is a standby, with max_standby_streaming_delay = {delay} ms and hot_standby_feedback = "
        f"{source.settings.get('hot_standby_feedback')}.",
        "It has no rows of unlogged tables."
        + ("" if patient else " If a dump runs longer, it may be canceled: conflict with recovery."),
        "" if patient else "ALTER SYSTEM SET max_standby_streaming_delay = -1;\nSELECT pg_reload_conf();",
        methods=("dump",),
    )


@server_check("target_read_only", "The target can be written.", needs_target=True)
def target_read_only(pair: Pair):
    """A standby, or a server that somebody or a full disk made read-only."""
    target = pair.target
    if target.server.in_recovery:
        remedy = "Give its primary as target, or: SELECT pg_promote();"
        yield Finding("blocker", "The target is a standby.", "It cannot be written.", remedy)
    elif target.defaults.get("default_transaction_read_only") == "on":
        yield Finding(
            "blocker",
            "New transactions on the target are read-only (default_transaction_read_only is on).",
            "Services set this when a disk is nearly full. Restores and the application fail.",
            _where_read_only(target) + "If the disk is full, enlarge it; then turn the setting off.",
        )


@server_check("source_read_only", "The source can be written.")
def source_read_only(pair: Pair):
    """The same on the source: nothing for a dump, but a sign of trouble."""
    source = pair.source
    if not source.server.in_recovery and source.defaults.get("default_transaction_read_only") == "on":
        yield Finding(
            "warning",
            "New transactions on the source are read-only (default_transaction_read_only is on).",
            "Services set this when a disk is nearly full, and a replication slot keeps WAL on that disk.",
            _where_read_only(source) + "Look at the free disk space before a continuous migration.",
            methods=("continuous",),
        )


def _where_read_only(side: Side) -> str:
    query = """
        SELECT coalesce('role ' || quote_ident(r.rolname), '') ||
               coalesce(' database ' || quote_ident(d.datname), '')
        FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole
        LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
        WHERE 'default_transaction_read_only=on' = ANY (s.setconfig)"""
    places = [place.strip() or "all roles" for (place,) in side.rows(query)]
    return f"It is set for: {some(places)}. " if places else ""


@server_check("durability", "The target cannot lose what it has committed.", needs_target=True)
def durability(pair: Pair):
    """Settings under which a crash loses or damages data."""
    off = [name for name in ("fsync", "full_page_writes") if pair.target.settings.get(name) == "off"]
    if off:
        yield Finding(
            "warning",
            f"{' and '.join(off)} {'are' if len(off) > 1 else 'is'} off on the target.",
            "A crash of its machine may damage its databases beyond repair.",
            "".join(f"ALTER SYSTEM SET {name} = on;\n" for name in off) + "SELECT pg_reload_conf();",
            off,
        )


@server_check("damaged_pages", "The source reports damaged pages, and has found none.")
def damaged_pages(pair: Pair):
    """Checksum failures so far (pg_stat_database), and settings that hide damage (PostgreSQL documentation, 19.17)."""
    source = pair.source
    hiding = [name for name in ("ignore_checksum_failure", "zero_damaged_pages") if source.settings.get(name) == "on"]
    if hiding:
        yield Finding(
            "warning",
            f"{' and '.join(hiding)} {'are' if len(hiding) > 1 else 'is'} on at the source.",
            "Rows of a damaged page vanish or change without an error.",
            "".join(f"ALTER SYSTEM RESET {name};\n" for name in hiding) + "SELECT pg_reload_conf();",
            hiding,
        )
    failures = source.rows("""
        SELECT coalesce(quote_ident(datname), 'shared catalogs'), checksum_failures
        FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 1""")
    if failures:
        yield Finding(
            "warning",
            f"{sum(count for _name, count in failures)} checksum failures were counted on the source since its "
            "statistics were reset.",
            "Reading a damaged page fails, and so does the dump or copy.",
            "Find them with pg_amcheck --all, and restore what they held. SELECT pg_stat_reset() in that database "
            "starts the count anew.",
            [name for name, _count in failures],
        )


@server_check("clock", "The clocks of both servers and of this machine agree within a second.", needs_target=True)
def clock(pair: Pair):
    """Measured over a round trip, whose time is the uncertainty."""
    (source, source_doubt), (target, target_doubt) = map(_offset, pair.sides)
    apart, doubt = target - source, source_doubt + target_doubt
    if abs(apart) - doubt > CLOCK_TOLERANCE:
        yield Finding(
            "warning",
            f"The target's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} the source's.",
            "now() jumps by as much at the cutover, and a lag in seconds is wrong by as much.",
            "Set the clocks with NTP: timedatectl timesync-status shows whether that works.",
        )
    for name, offset, uncertain in (("source", source, source_doubt), ("target", target, target_doubt)):
        if abs(offset) - uncertain > CLOCK_TOLERANCE:
            yield Finding(
                "info",
                f"The {name}'s clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's.",
                "Times in reports and in that server's log differ by as much.",
                "Set the clocks with NTP: timedatectl timesync-status shows whether that works.",
            )


def _offset(side: Side) -> tuple[float, float]:
    """(seconds that a server is ahead of this machine, uncertainty in seconds): the best of three measurements."""
    found = []
    for _i in range(3):
        before = time.time()
        theirs = side.value("SELECT extract(epoch FROM clock_timestamp())::float8")
        after = time.time()
        found.append((theirs - (before + after) / 2, (after - before) / 2))
    return min(found, key=lambda one: one[1])
