# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a window says to a server at once. A server may be far, so that every question costs the time of the way there
and back; what one statement has to wait for is awaited on the server's side, by advisory locks of the window's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import STAMP, Passage
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import beacon, firing_triggers, slot

AHEAD = 1000  # beacons that others may write between the last look and the window
LOCKED, SLOT = "locks of window", "slot of window"  # which advisory lock
FRESH = "BEGIN ISOLATION LEVEL READ COMMITTED"  # each statement sees what was committed before it, whatever the default


def key(passage: Passage, which: str) -> sql.Composable:
    """The number of an advisory lock of this migration; such locks are a database's own."""
    name = f"handover.postgresql {which} {passage.route.migration.id}"
    return sql.SQL("hashtextextended({}, 0)").format(sql.Literal(name))


def held_back(passage: Passage, work: sql.Composable) -> sql.Composable:
    """A transaction on old that begins its ``work`` as soon as the window's locks are there."""
    text = FRESH + "; SELECT pg_advisory_xact_lock_shared({}); {}; COMMIT"
    return sql.SQL(text).format(key(passage, LOCKED), work)


def take_hold(passage: Passage) -> dict:
    """Before the window: hold back what waits for its locks. Returns what is to be as it was when these are there."""
    text = sql.SQL("SELECT pg_advisory_lock({}); SELECT {}")
    return value(passage.lock, text.format(key(passage, LOCKED), _sight(passage)))


def _sight(passage: Passage) -> sql.Composable:
    firing = firing_triggers.query(passage.route.tables if passage.way_back else [])
    return sql.SQL(
        "json_build_object('stamp', ("
        + STAMP
        + "), 'fence', ("
        + fence.SIGHT
        + "), 'firing', (SELECT count(*) FROM ({}) AS f))"
    ).format(firing)


def under_locks(passage: Passage, closed: fence.Fence, roles: Sequence[str]) -> sql.Composable:
    """On old, in the transaction of the locks: let go on what waits for them, look, and close the fence. The answer is
    what was seen before that, and whether it was this that let go on: not so where the locks were taken twice.
    """
    return sql.SQL("; ").join(
        [
            sql.SQL("SELECT set_config('handover.released', pg_advisory_unlock({})::text, true)").format(
                key(passage, LOCKED)
            ),
            sql.SQL("SELECT set_config('handover.sight', ({})::text, true)").format(_sight(passage)),
            fence.define(closed, passage.route.old.dbname),
            *(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)) for role in roles),
            sql.SQL("SELECT current_setting('handover.sight')::json, current_setting('handover.released')::bool"),
        ]
    )


def beacon_and_positions(passage: Passage, number: int) -> sql.Composable:
    """On old, when the locks are there: the beacon, on disk and without waiting for standbys; then where the sequences
    are. The answer is how many beacons were written, and the rows of sequences.POSITIONS.
    """
    work = sql.SQL("SET LOCAL synchronous_commit = local; {}").format(beacon.writing(passage.route.flows, number))
    read = (
        "; SELECT current_setting('handover.written')::int, (SELECT coalesce(json_agg(json_build_array("
        "schema, name, increment, least, most, last) ORDER BY schema, name), '[]') FROM ("
        + sequences.POSITIONS
        + ") AS p (schema, name, increment, least, most, last))"
    )
    return held_back(passage, work) + sql.SQL(read)


def arrival(passage: Passage, number: int, seconds: float, is_last: bool) -> str:
    """On new: wait for the beacon. If that is the last thing to be done there, make the slot of the way back, or see to
    it that all is on disk: apply does not wait for that, and a slot flushes its WAL. The answer is the slot's position.

    No transaction of ours may be open there while the slot is made, which would wait for the WAL writer to wake up
    (wal_writer_delay): see ``apart_from_slot``.
    """
    awaiting = beacon.awaiting(passage.new, passage.route.flows, number, seconds)
    if not is_last:
        return f"{FRESH}; {awaiting}; COMMIT; SELECT NULL"
    making = slot.maker(passage.route.returning) if passage.way_back else ""
    return f"{making}{FRESH}; {awaiting}; COMMIT; {sealing(passage)}"


def sealing(passage: Passage) -> str:
    """The end of that, by itself."""
    if not passage.way_back:
        return "SELECT pg_logical_emit_message(true, 'handover', ''); SELECT NULL"
    make = sql.SQL(
        "SELECT pg_advisory_lock({key}); SELECT set_config('handover.slot', lsn::text, false)"
        " FROM pg_create_logical_replication_slot({name}, 'pgoutput');"
        " SELECT current_setting('handover.slot') FROM pg_advisory_unlock({key})"
    )
    return make.format(key=key(passage, SLOT), name=sql.Literal(passage.route.returning)).as_string(passage.new)


def apart_from_slot(passage: Passage, work: sql.Composable) -> sql.Composable:
    """A transaction on new, while that slot is not being made."""
    text = "SELECT pg_advisory_lock({0}); BEGIN; {1}; COMMIT; SELECT pg_advisory_unlock({0})"
    return sql.SQL(text).format(key(passage, SLOT), work)


@contextlib.contextmanager
def keeping_slot_away(passage: Passage):
    """The same of what ``writer`` does in the block; afterwards it is on disk."""
    held = [
        sql.SQL(text).format(key(passage, SLOT))
        for text in ("SELECT pg_advisory_lock({})", "SELECT pg_advisory_unlock({})")
    ]
    rows(passage.writer, held[0])
    yield
    flush = sql.SQL("SET synchronous_commit = local; SELECT pg_logical_emit_message(true, 'handover', '')")
    rows(passage.writer, sql.SQL("; ").join([flush, held[1]]))


def positions_and_stamp(passage: Passage, moved: list[sequences.Sequence]) -> sql.Composable:
    """On new: set what has ``moved``, up to TOGETHER of them. The answer is how many are there, and new's definitions,
    if there is a way back, which has to be possible with them.
    """
    parts = []
    if moved:
        query = sequences.going_on(moved, passage.sequence_margin)
        count = sql.SQL("SELECT set_config('handover.set', count(*)::text, false) FROM ({}) AS moved").format(query)
        parts.append(apart_from_slot(passage, count))
    stamp = f"({STAMP})" if passage.way_back else "NULL"
    there = "current_setting('handover.set')::int" if moved else "0"
    return sql.SQL("; ").join([*parts, sql.SQL(f"SELECT {there}, {stamp}")])


def commit(passage: Passage) -> sql.Composable:
    """On old: the commit, and what its sequences gave last since, past everything. Nothing could keep nextval() from a
    session that goes past the poolers: see cargo.overtake_sequences. What is fetched later, it can write nowhere here.
    """
    last = sequences.last_values(passage.sequences)
    answer = "SELECT coalesce(json_agg(json_build_array(schema, name, last)), '[]') FROM ({}) AS s (schema, name, last)"
    return sql.SQL("COMMIT; " + answer).format(last)
