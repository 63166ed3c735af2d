# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects of both ends: their bytes. Owners, privileges and comments are among the descriptions."""

from __future__ import annotations

import hashlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, unreadable_objects
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate

CLASS = "large_objects"
TOGETHER = 500  # objects of one statement
CHUNK = 1 << 20  # bytes of an object that are read at once

# SHA-256, which servers have whose md5() is switched off. Holes read as zeros, so pages need not be the same.
FIRST_CHUNKS = f"""
    SELECT oid::bigint, octet_length(data), encode(sha256(data), 'hex')
    FROM (SELECT oid, lo_get(oid, 0, {CHUNK}) AS data FROM pg_largeobject_metadata
          WHERE oid > %s AND NOT oid = ANY (%s::oid[]) ORDER BY oid LIMIT {TOGETHER} OFFSET 0) AS first"""
NEXT_CHUNK = f"""
    SELECT octet_length(data), encode(sha256(data), 'hex')
    FROM (SELECT lo_get(%s, %s, {CHUNK}) AS data OFFSET 0) AS next"""


def read(connection: Connection, max_rate: int | None) -> dict[int, str | None]:
    """A digest of the bytes of each, by oid; None where this role may not read it."""
    rate = Rate(max_rate)
    found: dict[int, str | None] = {}
    hidden = [int(one.name) for one in unreadable_objects(connection) if one.kind == "large object"]
    last = 0
    while True:
        some = rows(connection, FIRST_CHUNKS, (last, hidden))
        if not some:
            return {**found, **dict.fromkeys(hidden)}
        for oid, length, digest in some:
            found[oid] = digest if length < CHUNK else _long(connection, oid, digest, rate)
            rate.spend(length)
        last = max(oid for oid, _length, _digest in some)


def _long(connection: Connection, oid: int, first: str, rate: Rate) -> str:
    """The digest of all chunks' digests."""
    whole, position, length = hashlib.sha256(first.encode()), CHUNK, CHUNK
    while length == CHUNK:
        length, digest = rows(connection, NEXT_CHUNK, (oid, position))[0]
        whole.update(digest.encode())
        position += CHUNK
        rate.spend(length)
    return whole.hexdigest()


def compare(
    connections: dict[str, Connection], outcome: Outcome, max_rate: int | None, not_carried: str | None
) -> None:
    """Add the comparison to the outcome; ``not_carried`` says why they need not be the same now, if so."""
    if not_carried:
        count = rows(connections["source"], "SELECT count(*)::int FROM pg_largeobject_metadata")[0][0]
        if count:
            outcome.leave_out(CLASS, counted(count, "large object"), not_carried)
        return
    outcome.look_at(CLASS)
    found = {side: read(connection, max_rate) for side, connection in connections.items()}
    ours, theirs = found["source"], found["target"]
    for oid in sorted({*ours, *theirs}):
        name = str(oid)
        if outcome.excluded(CLASS, name):
            continue
        if oid not in theirs or oid not in ours:
            outcome.differ(CLASS, name, problem=f"only on the {'source' if oid in ours else 'target'}")
        elif ours[oid] is None or theirs[oid] is None:
            outcome.miss(CLASS, name, f"{'source' if ours[oid] is None else 'target'}: SELECT on it is missing")
        elif ours[oid] == theirs[oid]:
            outcome.equal(CLASS)
        else:
            outcome.differ(CLASS, name, problem="its bytes are not the same")
