# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuity: whether everything that was published has arrived, as far as that can be told from outside.

Logical replication does not notice when an end goes back in time (a failover to a standby that was behind, a restored
backup), or when somebody alters what is published, or lets the subscriber skip: it goes on behind what is missing. So
what was seen of both ends is remembered on both (parts/replication/witness.py), and compared at each look.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    known,
    quoted_names,
    records,
    rows,
    value,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.publishing import read_beacons
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import witness

SHOWN = 10  # tables named in a message
SIDES = ("source", "target")

# The position is the one that is on disk: another may be lost in a crash, which is no going back.
END = """
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN jsonb_build_object(
        'timeline', ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint,
        'lsn', pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint,
        'started', extract(epoch FROM pg_postmaster_start_time())::text,
        'counting', (SELECT extract(epoch FROM stats_reset)::text FROM pg_stat_bgwriter),
        'system', (SELECT system_identifier::text FROM pg_control_system())) END"""

# Of each table that a publication names: the oid, and whether rows or columns of it are left out.
PUBLISHED = """
    SELECT p.pubname::text AS name, r.prrelid::bigint AS oid, {narrowed} AS narrowed
    FROM pg_publication_rel AS r JOIN pg_publication AS p ON p.oid = r.prpubid WHERE p.pubname = ANY (%s)"""
PUBLICATIONS = """
    SELECT pubname::text AS name, pubinsert AND pubupdate AND pubdelete AND pubtruncate AS whole
    FROM pg_publication WHERE pubname = ANY (%s)"""

SUBSCRIPTIONS = """
    SELECT s.subname::text, jsonb_build_object(
        'enabled', s.subenabled, 'slot', s.subslotname, 'publications', to_jsonb(s.subpublications),
        'skip', {skip}, 'failover', {failover}, 'sign', {sign}, 'connection', {connection}, 'origin', {origin})
    FROM pg_subscription AS s
    WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.subname = ANY (%s)"""
ORIGIN = """(
    SELECT pg_wal_lsn_diff(o.remote_lsn, '0/0')::bigint FROM pg_replication_origin_status AS o
    WHERE o.external_id = 'pg_' || s.oid)"""
# One byte, by which a password that was changed is seen, and not guessed.
CONNECTION = "hashtext(s.subconninfo) & 255"
SIGNS = f"""
    SELECT name, ({witness.PUBLICATION_SIGN.replace("%s", "name")}) AS sign FROM unnest(%s::text[]) AS n (name)"""
MAY_SEE = f"""
    SELECT json_build_object(
        'settings', has_column_privilege('pg_subscription', 'subpublications', 'SELECT'),
        'all', ({witness.MAY_SEE_SUBSCRIPTIONS}),
        'origins', has_table_privilege('pg_replication_origin_status', 'SELECT')
                   AND has_function_privilege('pg_show_replication_origin_status()', 'EXECUTE'))"""


@dataclass
class Sight:
    """One look at both ends of a migration. ``ends`` by side, None where it cannot be told; ``published`` and
    ``subscribed`` by stream; ``memories`` by side: what they remembered. ``breaks`` say what is broken, ``accepted``
    what looks so and is not; ``unseen`` what could not be looked at, without which no breaks do not mean that all is
    well; ``explained``: signs of subscriptions that somebody altered in a way that loses nothing.

    A break is ``{"kind", "side", "stream", "problem", "tables"}``: ``tables`` are those that may have lost changes,
    quoted, None for all of the stream; ``stream`` is None where all streams are meant.
    """

    publisher: str = "source"
    streams: list = field(default_factory=list)
    ends: dict = field(default_factory=dict)
    published: dict = field(default_factory=dict)
    subscribed: dict = field(default_factory=dict)
    memories: dict = field(default_factory=dict)
    breaks: list = field(default_factory=list)
    accepted: list = field(default_factory=list)
    unseen: list = field(default_factory=list)
    explained: dict = field(default_factory=dict)

    @property
    def subscriber(self) -> str:
        """The side that subscribes."""
        return "target" if self.publisher == "source" else "source"

    def as_memory(self, signs: bool = False) -> dict:
        """What is to be remembered of it; with ``signs``, also that subscriptions and publications are as they are."""
        found = {
            "ends": {side: end for side, end in self.ends.items() if end},
            "beacons": {name: one["beacon"] for name, one in self.subscribed.items() if one["beacon"] is not None},
            "slots": {name: one["slot"] for name, one in self.published.items() if one["slot"]},
            "settings": {name: _settings(one) for name, one in self.subscribed.items()},
        }
        if signs:
            found["altered"] = {name: one["sign"] for name, one in self.subscribed.items() if one.get("sign")}
            found["published"] = {name: one["sign"] for name, one in self.published.items() if one["sign"]}
        return found

    def as_constants(self) -> dict:
        """What must not change while something is compared."""
        ends = {side: end and {**end, "lsn": None, "counting": None} for side, end in self.ends.items()}
        found = self.as_memory(signs=True)
        return {"ends": ends, "breaks": self.breaks, **{name: found[name] for name in ("altered", "published")}}

    def as_evidence(self) -> dict:
        """What a verification is bound to."""
        return self.as_memory(signs=True)


# --- looking -----------------------------------------------------------------------------------------------------


def look(source, target, migration) -> Sight:
    """Look at both ends of a migration: sessions in its databases, None where one cannot be had."""
    publisher, expected = _expected(migration)
    sight, ends = Sight(publisher, list(expected)), dict(zip(SIDES, (source, target)))
    # In this order: what moves on meanwhile must not look as if it had gone back.
    sight.memories = {side: end and witness.read(end, migration.id) for side, end in ends.items()}
    if ends[sight.subscriber]:
        sight.subscribed = _subscribed(ends[sight.subscriber], migration.id, list(expected))
    if ends[publisher]:
        sight.published = _published(ends[publisher], migration, expected)
    sight.ends = {side: end and value(end, END) for side, end in ends.items()}
    sight.unseen = _unseen(sight, ends)
    _judge(sight, migration)
    return sight


def _unseen(sight: Sight, ends: dict) -> list[str]:
    """What cannot be told of the ends that were asked."""
    found = [f"The {side}'s server is in recovery." for side in SIDES if ends[side] and not sight.ends[side]]
    if ends[sight.subscriber] and not known(ends[sight.subscriber], MAY_SEE)["settings"]:
        found.append(f"The role on the {sight.subscriber} may not read the settings of subscriptions.")
    return found


def _expected(migration) -> tuple[str, dict]:
    """(the side that publishes, (schema, name) of the tables by stream)."""
    coming_back = [one for one in migration.replicated if one not in migration.one_way]
    tables = [(one.schema, one.name) for one in coming_back]
    if (migration.phase, migration.direction) == ("handed_over", "forward"):
        return "target", {naming.back_name(migration.id): tables}
    if migration.phase == "stopped":
        return "source", {}
    waves = {wave.name: wave.number for wave in migration.subscribed}
    by_wave = {name: [one for one in migration.replicated if one.wave == number] for name, number in waves.items()}
    return "source", {name: [(one.schema, one.name) for one in found] for name, found in by_wave.items()}


def _subscribed(connection, identifier: str, names: list[str]) -> dict:
    """Of the streams that are subscribed: the subscription, and the beacon that is shown."""
    version, may_see = connection.info.server_version, known(connection, MAY_SEE)
    if not may_see["settings"]:
        return {}
    query = SUBSCRIPTIONS.format(
        skip="nullif(s.subskiplsn, '0/0')::text" if version >= 150000 else "NULL",
        failover="s.subfailover" if version >= 170000 else "false",
        sign="s.xmin::text" if may_see["all"] else "NULL",
        connection=CONNECTION if may_see["all"] else "NULL",
        origin=ORIGIN if may_see["origins"] else "NULL",
    )
    beacons = read_beacons(connection, identifier)
    return {
        name: {**found, "beacon": beacons.get(name, (None,))[0]} for name, found in rows(connection, query, (names,))
    }


def _published(connection, migration, expected: dict) -> dict:
    """Of each stream: the slot, the beacon that was written, and what its publication leaves out."""
    names, version = list(expected), connection.info.server_version
    narrowed = "r.prattrs IS NOT NULL OR r.prqual IS NOT NULL" if version >= 150000 else "false"
    queries = (PUBLISHED.format(narrowed=narrowed), PUBLICATIONS, SIGNS, _slots(version))
    tables_there, *answers = records(connection, *((query, (names,)) for query in queries))
    whole, signs, slots = ({one.pop("name"): one for one in answer} for answer in answers)
    published = {name: {} for name in names}
    for one in tables_there:
        published[one["name"]][one["oid"]] = one["narrowed"]
    beacons, found = read_beacons(connection, migration.id), {}
    for name in names:
        tables = _by_oid(connection, migration, expected[name])
        found[name] = {
            "beacon": beacons.get(name, (None,))[0],
            "slot": slots.get(name),
            "present": name in whole,
            "whole": whole.get(name, {}).get("whole", True),
            "lacking": _still_there(connection, tables, published[name]),
            "narrowed": sorted(one for oid, one in tables.items() if published[name].get(oid)),
            "sign": signs[name]["sign"],
        }
    return found


def _by_oid(connection, migration, keys: list) -> dict[int, str]:
    """Quoted names of tables by the oid that they had when they joined: others of that name are drift."""
    known = migration.fingerprint or {}
    return {known[name]["oid"]: name for name in quoted_names(connection, keys) if known.get(name, {}).get("oid")}


def _still_there(connection, tables: dict[int, str], published: dict) -> list[str]:
    """Those that are not published, and were not dropped."""
    query = "SELECT oid::bigint FROM pg_class WHERE oid = ANY (%s::bigint[]::oid[])"
    lacking = [oid for oid in tables if oid not in published]
    return sorted(tables[oid] for (oid,) in rows(connection, query, (lacking,))) if lacking else []


def _slots(version: int) -> str:
    """The query of slots' ``name``, ``transactions``, ``reset`` and ``guarded``. A slot that is made anew counts its
    transactions anew. One is ``guarded`` where the server sends nothing that the standbys to fail over to have not got.
    """
    guarded = "s.failover AND current_setting('synchronized_standby_slots') <> ''" if version >= 170000 else "false"
    counted = "LEFT JOIN pg_stat_replication_slots AS t USING (slot_name)" if version >= 140000 else ""
    transactions, reset = ("t.total_txns", "t.stats_reset::text") if version >= 140000 else ("NULL", "NULL")
    return f"""
        SELECT s.slot_name::text AS name, {guarded} AS guarded, {transactions} AS transactions, {reset} AS reset
        FROM pg_replication_slots AS s {counted} WHERE s.slot_name = ANY (%s)"""


# --- judging -----------------------------------------------------------------------------------------------------


def _judge(sight: Sight, migration) -> None:
    memories = [memory for memory in sight.memories.values() if memory]
    found = [one for memory in memories for one in memory.get("breaks", [])]
    for memory in memories:
        for side in SIDES:
            found += _of_end(sight, side, memory)
    for name in sight.streams:
        remembered = max((memory.get("beacons", {}).get(name) or 0 for memory in memories), default=0)
        found += _of_beacons(sight, name, remembered)
        found += _of_subscription(sight, name, memories)
        found += _of_publication(sight, name)
        for memory in memories:
            found += _of_slot(sight, name, memory)
    begun = {wave.name for wave in migration.waves} - set(sight.streams) if sight.publisher == "source" else set()
    for name in sorted(begun & {name for memory in memories for name in memory.get("beacons", {})}):
        found.append(_break("beacon", "target", name, FORGOTTEN.format(name=name)))
    known = {}
    for one in found:
        known.setdefault((one["kind"], one["side"], one["stream"]), one)
    sight.breaks = list(known.values())


def _break(kind: str, side: str, stream: str | None, problem: str, tables: list | None = None) -> dict:
    return {"kind": kind, "side": side, "stream": stream, "problem": problem, "tables": tables}


def _of_end(sight: Sight, side: str, memory: dict) -> list[dict]:
    """Whether a server is the one that it was, and not behind that."""
    now, before = sight.ends.get(side), memory.get("ends", {}).get(side)
    if not now or not before:
        return []
    if now["system"] != before.get("system", now["system"]):
        return [_break("end", side, None, STRANGER.format(side=side))]
    is_other, is_behind = now["timeline"] != before["timeline"], now["lsn"] < before["lsn"]
    if is_other and side == sight.publisher and _is_guarded(sight, memory):
        sight.accepted.append(GUARDED.format(side=side, before=before["timeline"], now=now["timeline"]))
        return []
    if is_behind:
        return [_break("end", side, None, BEHIND.format(side=side, now=_lsn(now["lsn"]), before=_lsn(before["lsn"])))]
    if is_other:
        return [_break("end", side, None, OTHER.format(side=side, before=before["timeline"], now=now["timeline"]))]
    return []


def _is_guarded(sight: Sight, memory: dict) -> bool:
    """Whether the publisher sent nothing before the standby had it that took its place, and the slots went along."""
    before = memory.get("slots", {})
    return bool(sight.streams) and all(
        before.get(name, {}).get("guarded") and sight.published.get(name, {}).get("slot") for name in sight.streams
    )


def _of_beacons(sight: Sight, name: str, remembered: int) -> list[dict]:
    """Whether the subscriber shows what it has shown, and nothing that the publisher has not written."""
    shown, written = (found.get(name, {}).get("beacon") for found in (sight.subscribed, sight.published))
    applied, end = sight.subscribed.get(name, {}).get("origin"), sight.ends.get(sight.publisher)
    if shown is not None and shown < remembered:
        return [_break("beacon", sight.subscriber, name, LOST.format(side=sight.subscriber, name=name))]
    if (written is not None and written < max(shown or 0, remembered)) or (applied and end and applied > end["lsn"]):
        text = AHEAD.format(publisher=sight.publisher, subscriber=sight.subscriber, name=name)
        return [_break("beacon", sight.publisher, name, text)]
    return []


def _of_subscription(sight: Sight, name: str, memories: list) -> list[dict]:
    """Whether it reads what it is to read, and nobody has told it to skip anything."""
    now = sight.subscribed.get(name)
    if now is None:
        return []
    if now["skip"]:
        text = f"will skip the transaction that ends at {now['skip']}"
    elif now["publications"] != [name]:
        text = f"now reads other publications: {', '.join(now['publications']) or 'none'}"
    elif now["slot"] != name:
        text = f"now reads from another slot: {now['slot'] or 'none'}"
    elif _was_altered(sight, name, now, memories):
        text = "was altered by somebody, who may have let it skip changes (ALTER SUBSCRIPTION ... SKIP)"
    else:
        return []
    return [
        _break("subscription", sight.subscriber, name, f"The subscription {name} on the {sight.subscriber} {text}.")
    ]


def _was_altered(sight: Sight, name: str, now: dict, memories: list) -> bool:
    """By somebody else than us, and it cannot be seen what for."""
    sign = ((sight.memories.get(sight.subscriber) or {}).get("altered") or {}).get(name)
    if None in (sign, now["sign"]) or sign == now["sign"]:
        return False
    if any(memory.get("settings", {}).get(name) not in (None, _settings(now)) for memory in memories):
        sight.explained[name] = now["sign"]
        return False
    return True


def _settings(subscription: dict) -> list:
    return [subscription["enabled"], subscription["failover"], subscription["connection"]]


def _was_republished(before: str | None, now: str | None) -> bool:
    """By their signs (parts/replication/witness.py): tables that are dropped leave without one."""
    if None in (before, now):
        return False
    (row, last), (row_now, last_now) = before.split(), now.split()
    return row != row_now or int(last_now) > int(last)


def _of_publication(sight: Sight, name: str) -> list[dict]:
    """Whether it publishes all changes of all tables, and did all the time."""
    now, side = sight.published.get(name), sight.publisher
    if now is None or (not now["present"] and now["slot"] is None):
        return []
    sign = ((sight.memories.get(side) or {}).get("published") or {}).get(name)
    tables = None
    if not now["present"]:
        text = "is gone"
    elif not now["whole"]:
        text = "no longer publishes all of INSERT, UPDATE, DELETE and TRUNCATE"
    elif now["lacking"] or now["narrowed"]:
        tables = sorted({*now["lacking"], *now["narrowed"]})
        text = f"no longer publishes all rows and columns of {some(tables, SHOWN)}"
    elif _was_republished(sign, now["sign"]):
        text = "was altered by somebody, and altered back"
    else:
        return []
    return [_break("publication", side, name, f"The publication {name} on the {side} {text}.", tables)]


def _of_slot(sight: Sight, name: str, memory: dict) -> list[dict]:
    """Whether it is the one that it was; only a server that has counted on all the time tells. After a crash of any of
    its processes it counts anew, though it was not started anew.
    """
    now, before = sight.published.get(name, {}).get("slot"), memory.get("slots", {}).get(name)
    ends = sight.ends.get(sight.publisher), memory.get("ends", {}).get(sight.publisher)
    if not (now and before and all(ends)):
        return []
    if any(ends[0].get(since) != ends[1].get(since) for since in ("started", "counting")):
        return []
    if None in (now["transactions"], before["transactions"]) or now["reset"] != before["reset"]:
        return []
    if now["transactions"] >= before["transactions"]:
        return []
    return [_break("slot", sight.publisher, name, ANEW.format(name=name, side=sight.publisher))]


def _lsn(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


STRANGER = "The {side} is another server now: its system identifier has changed."
BEHIND = (
    "The {side}'s server has gone back in time: its WAL ends at {now}, but had already reached {before}. It was "
    "restored to an older state, or a standby that was behind has taken over."
)
OTHER = (
    "The {side}'s server is on timeline {now}, and was on {before}: a standby has taken over, or the server was "
    "restored to a point in time. Its last commits may be gone."
)
GUARDED = (
    "The {side}'s server is on timeline {now}, and was on {before}: a standby has taken over. Because of "
    "synchronized_standby_slots, it has everything that was sent, and the slots."
)
LOST = (
    "The {side} shows an older state of {name} than before: it was restored to an older state, or a standby that "
    "was behind has taken over. The slot has gone on, so changes are missing."
)
AHEAD = (
    "The {subscriber} shows more of {name} than the {publisher} has written: the {publisher} was restored to an "
    "older state, or a standby that was behind has taken over."
)
FORGOTTEN = (
    "The target has forgotten its subscription to {name}: it was restored to an older state. The slot has gone on, "
    "so changes are missing."
)
ANEW = "Somebody made the slot {name} on the {side} anew, and changes are missing."


# --- what follows ------------------------------------------------------------------------------------------------


def remember(sight: Sight, identifier: str, source, target) -> None:
    """Let both ends remember what was seen, or what was found broken; sessions that may write, None without one.

    An end to which one cannot write does not keep the other from it.
    """
    for side, session in zip(SIDES, (source, target)):
        if session is None or sight.memories.get(side) is None:
            continue
        try:
            if sight.breaks:
                if sight.breaks != sight.memories[side].get("breaks"):
                    witness.keep_breaks(session, identifier, sight.breaks)
            else:
                seen = sight.as_memory()
                if sight.explained and side == sight.subscriber:
                    seen["altered"] = {**(sight.memories[side].get("altered") or {}), **sight.explained}
                witness.remember(session, identifier, seen)
        except psycopg2.Error:
            if session.closed:
                raise


def outdated(verified: dict | None, sight: Sight) -> list[str]:
    """Why a verification does not count any more: what has happened since to what it was about."""
    evidence = (verified or {}).get("seen")
    if not evidence:
        return ["it does not say which state of the servers it compared"] if verified else []
    found = ["changes may have been lost since"] if sight.breaks else []
    for side in SIDES:
        before, now = evidence["ends"].get(side), sight.ends.get(side)
        if not now or not before:
            found.append(f"whether the {side} is still the same server is unknown")
        elif any(now[name] != before.get(name) for name in ("system", "timeline")) or now["lsn"] < before["lsn"]:
            found.append(f"the {side}'s server was replaced since, or went back in time")
        elif now["started"] != before["started"]:
            found.append(f"the {side}'s server was restarted since, and may have been restored")
    for name, sign in evidence["altered"].items():
        if sight.subscribed.get(name, {}).get("sign") not in (None, sign):
            found.append(f"the subscription {name} was altered since")
    for name, sign in evidence["published"].items():
        if _was_republished(sign, sight.published.get(name, {}).get("sign")):
            found.append(f"the publication {name} was altered since")
    return found


def remedy(sight: Sight) -> str:
    """What to do about what is broken."""
    if sight.publisher == "target":
        return REMEDY_BACK
    tables = sorted({name for one in sight.breaks for name in one["tables"] or ()})
    every = any(one["tables"] is None for one in sight.breaks)
    return REMEDY.format(what="all its tables" if every else some(tables, SHOWN))


REMEDY = (
    "Put back what was altered. Then run handover.postgresql.verify. If it finds everything equal, nothing was "
    "lost, and the matter is settled. Otherwise run handover.postgresql.replicate with handover_refresh: true "
    "(option refresh); it copies again: {what}."
)
REMEDY_BACK = (
    "Put back what was altered. Then run handover.postgresql.verify. If it finds everything equal, nothing was "
    "lost, and the matter is settled. Otherwise there is no way back without loss: handover.postgresql.finish "
    "removes it."
)


LET_SEE = "Connect to a server that is not in recovery, as a role that may read pg_subscription (except subconninfo)."


def settle(sight: Sight, identifier: str, source, target) -> None:
    """Both ends were found equal after that look: what was broken before it has lost nothing, or counts no more."""
    for session in (source, target):
        witness.settle(session, identifier, sight.as_memory(signs=True))


def refuse(sight: Sight) -> None:
    """Raise HandoverError for what is broken."""
    if sight.breaks:
        raise HandoverError(" ".join(one["problem"] for one in sight.breaks), remedy(sight), continuity=sight.breaks)
