# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream is one slot, the subscription that reads from it, and their beacon: a wave, or the way back."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.publishing import Publishing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.subscribing import Subscribing


def streams(
    expected: dict[str, bool],
    direction: str,
    publishing: Publishing | None,
    subscribing: Subscribing | None,
    beacons: tuple[dict | None, dict | None],
) -> list[dict]:
    """One dictionary for each stream that is expected, or found at either end, in the order of their names.

    ``expected``: by name, whether its subscription is made; for those that are not expected, it is.
    ``publishing`` and ``subscribing`` are None, and so is the matching one of ``beacons`` (publisher's, subscriber's),
    where that end cannot be looked at. ``slot`` and ``subscription`` of a stream are then None; where the end was
    looked at, each has ``present``.
    """
    slots = publishing.slots if publishing else {}
    subscriptions = subscribing.subscriptions if subscribing else {}
    return [
        _stream(
            name, direction, expected.get(name, True), publishing, subscribing, [at and at.get(name) for at in beacons]
        )
        for name in sorted({*expected, *slots, *subscriptions}, key=lambda name: (len(name), name))
    ]


def _stream(name, direction, subscribed, publishing, subscribing, beacons) -> dict:
    slot = _found(publishing and publishing.slots, name)
    subscription = _found(subscribing and subscribing.subscriptions, name)
    if subscription and subscription["present"]:
        subscription["doubtful"] = is_doubtful(slot, subscription, *beacons)
    return {
        "name": name,
        "direction": direction,
        "slot": slot,
        "subscription": subscription,
        "lag_bytes": slot.get("lag_bytes") if slot else None,
        "lag_seconds": lag_seconds(slot, publishing.now, *beacons) if subscribed and _is_alive(slot) else None,
    }


def _is_alive(slot: dict | None) -> bool:
    return bool(slot) and slot["present"] and slot["wal_status"] != "lost"


def _found(there: dict | None, name: str) -> dict | None:
    if there is None:
        return None
    return {"present": name in there, **there.get(name, {})}


def lag_seconds(slot: dict, now, published: tuple | None, applied: tuple | None) -> float | None:
    """How far the subscriber is behind, or None where that cannot be told.

    ``published`` and ``applied`` are the beacon, (n, at), at either end; ``at`` is the publisher's clock at both. While
    a beacon is under way the lag is at most the age of the last that was applied, or if only one is, that one's age.
    Without beacons under way and without pg_stat_replication, it is at most the age of the last.
    """
    sender = slot["sender"]
    if published and applied and None not in (*published, *applied) and published[0] > applied[0]:
        behind = (now - (published[1] if published[0] == applied[0] + 1 else applied[1])).total_seconds()
        return max(behind, (sender and sender["replay_lag"]) or 0.0, 0.0)
    if sender:
        return float(sender["replay_lag"] or 0.0) if sender["caught_up"] else sender["replay_lag"]
    if slot["lag_bytes"] == 0:
        return 0.0
    return max((now - applied[1]).total_seconds(), 0.0) if applied and applied[1] else None


def is_doubtful(slot: dict | None, subscription: dict, published: tuple | None, applied: tuple | None) -> bool:
    """Whether apply, which failed before, or worked, has begun anew since the last beacon arrived, and another one is
    under way: it may fail again and again, however long each attempt takes. All times are the publisher's.
    """
    sender = slot and slot.get("sender")
    if not (sender and published and applied) or None in (*published, *applied) or published[0] <= applied[0]:
        return False
    errors = subscription["apply_errors"]
    begun = applied[0] > 0 if errors is None else errors > 0
    return begun and sender["started"] > applied[1].timestamp()


def stream_errors(stream: dict, subscribed: bool, failing: set) -> list[dict]:
    """What keeps a stream from going on: ``{"kind", "stream", "problem", "remedy"}``; kind is ``slot`` or ``apply``.

    ``subscribed``: there has to be a subscription already. ``failing``: subscriptions whose worker does not stay.
    """
    name, slot, subscription = stream["name"], stream["slot"], stream["subscription"]
    publisher, subscriber = ("source", "target") if stream["direction"] == "forward" else ("target", "source")
    errors = []
    if slot and not slot["present"]:
        errors.append(("slot", f"The slot {name} is gone from the {publisher}.", BEGIN_ANEW))
    elif slot and (slot["wal_status"] == "lost" or slot["invalidation"]):
        reason = f" ({slot['invalidation']})" if slot["invalidation"] else ""
        problem = f"The slot {name} is lost{reason}: the {publisher} has removed WAL that the migration needs."
        errors.append(("slot", problem, BEGIN_ANEW))
    if not subscription or not subscribed:
        pass
    elif not subscription["present"]:
        errors.append(("apply", f"The subscription {name} is gone from the {subscriber}.", BEGIN_ANEW))
    elif subscription["enabled"] is False:
        problem = f"The subscription {name} is disabled: an error or somebody stopped it."
        errors.append(("apply", problem, f"{SEE_LOG.format(subscriber)} {ENABLE.format(name)}"))
    elif name in failing:
        errors.append(("apply", UNSTEADY.format(name, publisher), SEE_LOG.format(subscriber)))
    return [{"kind": kind, "stream": name, "problem": what, "remedy": remedy} for kind, what, remedy in errors]


BEGIN_ANEW = "Changes since then cannot be brought over any more: stop this migration, and begin anew."
UNSTEADY = "The worker of the subscription {} keeps ending: it cannot reach the {}, or cannot apply a change."
SEE_LOG = "The log of the {} says why, often an existing row or a missing column. Fix that."
ENABLE = 'Then, there: ALTER SUBSCRIPTION "{}" ENABLE;'
