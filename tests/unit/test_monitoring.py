# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from what was seen of a migration: lag, rates, guards, and the text for people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring import estimates, status_rendering
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.guards import Limits, judge
from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.streams import (
    is_doubtful,
    lag_seconds,
    stream_errors,
)

NOW = datetime(2026, 11, 20, 20, 0, tzinfo=timezone.utc)


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def slot(**more):
    return {
        "present": True,
        "active": True,
        "wal_status": "reserved",
        "invalidation": None,
        "lag_bytes": 100,
        "retained_bytes": 100,
        "safe_bytes": None,
        "sender": None,
        **more,
    }


def sender(caught_up, replay_lag):
    return {"state": "streaming", "caught_up": caught_up, "replay_lag": replay_lag}


def subscription(**more):
    return {"present": True, "enabled": True, "worker_pid": 1, "apply_errors": 0, **more}


def status(**more):
    stream = {"name": "handover_1_w1", "direction": "forward", "slot": slot(), "subscription": subscription()}
    return {
        "database": "shop", "target_database": "shop", "phase": "in_step", "direction": "forward", "streams": [stream],
        "errors": [], "continuity": [], "drift": [], "age_seconds": 100.0, "lag": {"bytes": 0, "seconds": 1.0},
        "started": None,
        "wal": {"server": "source", "retained_bytes": 1000, "max_slot_wal_keep_bytes": None, "safe_bytes": None,
                "status": "reserved"},
        "tables": None, "bytes": None, "running": [], "notices": [], "problems": [], "verified": None, "next": "Wait.",
        **more,
    }  # fmt: skip


def limits(**more):
    none = dict.fromkeys(("max_retained_wal", "max_duration", "max_lag", "min_free_space", "free_space"))
    return Limits(**{**none, "stop_on": frozenset(), **more})


def levels(status_, **more):
    return {one["guard"]: one["level"] for one in judge(status_, limits(**more))}


@pytest.mark.parametrize(
    ("found", "published", "applied", "seconds"),
    [
        (slot(sender=sender(True, None)), None, None, 0.0),
        (slot(sender=sender(True, 0.5)), (7, ago(3)), (7, ago(3)), 0.5),
        (slot(sender=sender(False, 4.0)), None, None, 4.0),
        (slot(sender=sender(False, None)), None, None, None),
        (slot(sender=sender(True, 0.1)), (8, ago(3)), (7, ago(60)), 3.0),
        (slot(sender=sender(False, 9.0)), (8, ago(3)), (7, ago(60)), 9.0),
        (slot(), (9, ago(3)), (7, ago(60)), 60.0),
        (slot(lag_bytes=0), None, None, 0.0),
        (slot(), (7, ago(60)), (7, ago(60)), 60.0),
        (slot(), (7, ago(60)), (None, None), None),
        (slot(), None, None, None),
    ],
)
def test_lag(found, published, applied, seconds):
    """By the server's own account, or by the beacon: at most what it says, and unknown without both."""
    assert lag_seconds(found, NOW, published, applied) == seconds


@pytest.mark.parametrize(
    ("found", "subscribed", "failing", "kinds"),
    [
        ((slot(), subscription()), True, (), []),
        ((slot(present=False), subscription()), True, (), ["slot"]),
        ((slot(wal_status="lost"), subscription()), True, (), ["slot"]),
        ((slot(invalidation="idle_timeout"), subscription()), True, (), ["slot"]),
        ((slot(), {"present": False}), True, (), ["apply"]),
        ((slot(), {"present": False}), False, (), []),
        ((slot(), subscription(enabled=False)), True, (), ["apply"]),
        ((slot(), subscription()), True, ("s",), ["apply"]),
        ((None, None), True, (), []),
        ((slot(wal_status="lost"), None), True, (), ["slot"]),
    ],
)
def test_errors(found, subscribed, failing, kinds):
    stream = {"name": "s", "direction": "forward", "slot": found[0], "subscription": found[1]}
    assert [error["kind"] for error in stream_errors(stream, subscribed, set(failing))] == kinds


@pytest.mark.parametrize(
    ("since", "errors", "published", "applied", "doubtful"),
    [
        (30, 2, (8, ago(3)), (7, ago(60)), True),
        (30, None, (8, ago(3)), (7, ago(60)), True),
        (30, 0, (8, ago(3)), (7, ago(60)), False),
        (90, 2, (8, ago(3)), (7, ago(60)), False),
        (30, 2, (7, ago(60)), (7, ago(60)), False),
        (30, None, (1, ago(3)), (0, ago(60)), False),
        (30, 2, None, (7, ago(60)), False),
    ],
    ids=["failed", "not counted", "lost connection", "goes on", "idle", "just begun", "hidden"],
)
def test_apply_that_may_fail_slowly(since, errors, published, applied, doubtful):
    found = slot(sender={**sender(False, None), "started": ago(since).timestamp()})
    assert is_doubtful(found, subscription(apply_errors=errors), published, applied) == doubtful
    seen = status(streams=[{**status()["streams"][0], "subscription": subscription(doubtful=doubtful)}])
    assert levels(seen)["apply_errors"] == ("unknown" if doubtful else "ok")


def test_a_rate_is_that_of_late():
    samples = [
        {"at": ago(seconds).isoformat(), "copied_bytes": copied}
        for seconds, copied in ((5000, 0), (100, None), (60, 3000), (1, 8000))
    ]
    assert estimates.rate(samples, "copied_bytes", NOW, 9000) == pytest.approx(100)
    assert estimates.rate(samples[:2], "copied_bytes", NOW, 9000) is None
    assert estimates.rate(samples, "copied_bytes", NOW, None) is None
    assert estimates.remaining_seconds(500, 100) == 5
    assert estimates.remaining_seconds(500, -1) is None
    assert estimates.remaining_seconds(0, None) == 0


def test_times_of_json():
    for text in ("2026-11-20T20:00:00+00:00", "2026-11-20T20:00:00.0+00:00", "2026-11-20T20:00:00.000000+00:00"):
        assert estimates.parse(text) == NOW
    assert estimates.parse("2026-11-20T20:00:00.5+00:00") == NOW + timedelta(seconds=0.5)


def test_guards_that_have_no_limit_do_not_say_ok():
    assert levels(status()) == {
        "retained_wal": "not_watched",
        "free_space": "not_watched",
        "age": "not_watched",
        "slot": "ok",
        "apply_errors": "ok",
        "continuity": "ok",
        "drift": "ok",
        "lag": "not_watched",
    }


def test_what_cannot_be_seen_is_never_ok():
    blind = status(
        phase=None,
        errors=None,
        continuity=None,
        drift=None,
        age_seconds=None,
        lag={"bytes": None, "seconds": None},
        streams=[],
        wal={"server": None, "retained_bytes": None, "max_slot_wal_keep_bytes": None},
    )
    every = {"max_retained_wal": 1, "max_duration": 1.0, "max_lag": 1.0, "min_free_space": 1}
    found = levels(blind, **every, stop_on=frozenset(levels(blind)))
    assert set(found.values()) == {"unknown"}, "and nothing is stopped for it"
    source_alone = levels({**blind, "errors": []})
    assert source_alone["slot"] == source_alone["apply_errors"] == "unknown", "nobody knows how many there should be"
    not_begun = levels(status(phase="copying", streams=[]))
    assert not_begun["slot"] == not_begun["apply_errors"] == "not_watched", "there is nothing to look at yet"
    one_end = status(streams=[{**status()["streams"][0], "slot": None}])
    assert levels(one_end)["slot"] == "unknown" and levels(one_end)["apply_errors"] == "ok"


def test_the_disk_of_the_source_is_watched_as_long_as_it_keeps_wal():
    assert levels(status(), min_free_space=1)["free_space"] == "unknown"
    back = status(phase="handed_over", wal={**status()["wal"], "server": "target"})
    assert levels(back, min_free_space=1)["free_space"] == "not_watched"
    assert levels(back, min_free_space=2, free_space=1)["free_space"] == "warning"


def test_the_servers_own_limit_counts_before_the_slot_is_lost():
    wal = {**status()["wal"], "max_slot_wal_keep_bytes": 1000, "retained_bytes": 790}
    assert levels(status(wal=wal))["retained_wal"] == "ok"
    assert levels(status(wal={**wal, "retained_bytes": 810}))["retained_wal"] == "warning"
    assert levels(status(wal=wal), max_retained_wal=500)["retained_wal"] == "warning"


@pytest.mark.parametrize(
    ("phase", "direction", "level"),
    [
        ("copying", "forward", "stop"),
        ("in_step", "forward", "stop"),
        ("handed_over", "forward", "warning"),
        ("handed_over", "back", "stop"),
        (None, None, "stop"),
        ("none", None, "stop"),
        ("stopped", "forward", "stop"),
    ],
)
def test_only_what_can_be_given_up_is_stopped(phase, direction, level):
    """A slot on the source says so, too, where the target cannot be asked."""
    judged = levels(status(phase=phase, direction=direction), max_retained_wal=1, stop_on=frozenset(["retained_wal"]))
    assert judged["retained_wal"] == level


def test_text_and_markdown():
    evil = status(database="a|b\n\x1b[31m", target_database="a|b\n\x1b[31m", drift=[{"table": "t", "detail": "x"}] * 12)
    end = {"server": None, "problem": "no route"}
    result = {"databases": [evil, status(database="other", phase="none")], "source": end, "target": end}
    text = status_rendering.as_text(result, "pair")
    assert "source  cannot be reached: no route" in text
    assert "\nDatabase a|b\\n\\x1b[31m: in step\n" in text and "\x1b" not in text
    assert "\ndrift    t: x\n" in text and "and 2 more" in text
    assert "\nbegan    unknown\ntables   unknown\n" in text
    assert text.endswith("\nNo migration: other.\n")
    markdown = status_rendering.as_markdown(result, "pair")
    assert "## Database a\\|b\\\\n\\\\x1b\\[31m: in step" in markdown


def test_what_a_watch_did_is_shown():
    guards = [{"guard": "age", "level": "stop", "seen": "Old."}, {"guard": "lag", "level": "ok", "seen": "0 s"}]
    stopped = {
        "database": "shop",
        "target_database": "shop",
        "changed": True,
        "statements": {"source": ["X"], "target": []},
        "left": {"source": [], "target": ["DROP SUBSCRIPTION s"]},
    }
    judged = {"database": "shop", "status": status(), "guards": guards, "stopped": stopped, "error": None}
    end = {"server": {"version": "15.20", "in_recovery": True}, "problem": None}
    text = status_rendering.as_text({"databases": [judged], "source": end, "target": end}, "pair", 200)
    assert "source  PostgreSQL 15.20, a standby\n" in text
    assert "\nguards   stop: age: Old.\n         ok: lag\n" in text
    assert "Left on the target, in database shop: run this again, or, there: DROP SUBSCRIPTION s;" in text
