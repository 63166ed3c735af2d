# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of several threads at once: results in order, and errors that are not lost."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import beside, for_each, together


class Session:
    """What ``connect()`` yields."""

    def __init__(self):
        self.closed = False

    def close(self):
        self.closed = True


def test_results_are_in_the_order_of_the_works():
    barrier = threading.Barrier(2)  # which only works that run at once come over
    assert together(lambda: (barrier.wait(5), 1)[1], lambda: (barrier.wait(5), 2)[1]) == [1, 2]


def test_each_work_comes_to_its_end_before_an_error_is_raised():
    ended = threading.Event()

    def fail():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        together(fail, lambda: threading.Event().wait(0.05) or ended.set())
    assert ended.is_set()


class Busy:
    """A session that waits until it is told not to."""

    def __init__(self):
        self.waits = threading.Event()

    def cancel(self):
        self.waits.set()


def test_what_is_done_beside_is_done_meanwhile():
    barrier = threading.Barrier(2)
    assert beside(Busy(), lambda: (barrier.wait(5), 1)[1], lambda: (barrier.wait(5), 2)[1]) == (1, 2)


def test_the_session_beside_says_what_went_wrong_first():
    def fail(error):
        raise error

    with pytest.raises(KeyError):
        beside(Busy(), lambda: fail(KeyError()), lambda: fail(ValueError()))


def test_a_signal_does_not_wait_for_the_session_beside():
    def leave():
        raise SystemExit(143)

    session = Busy()

    def ask():
        session.waits.wait(5)
        raise KeyError("cancelled")

    with pytest.raises(SystemExit):
        beside(session, ask, leave)
    assert session.waits.is_set()


def test_a_signal_ends_what_the_session_beside_still_does():
    """What comes after, such as dropping what it was making, comes after its end."""
    session, ended = Busy(), threading.Event()

    def make():
        session.waits.wait(5)
        ended.set()

    def interrupted(_signal, _frame):
        raise SystemExit(143)

    former = signal.signal(signal.SIGUSR1, interrupted)
    threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]).start()
    try:
        with pytest.raises(SystemExit):
            beside(session, make, lambda: None)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert session.waits.is_set() and ended.is_set()


def test_items_share_sessions():
    sessions = []

    def connect():
        sessions.append(Session())
        return sessions[-1]

    assert for_each(connect, list(range(9)), lambda session, item: item * item, 3) == [n * n for n in range(9)]
    assert len(sessions) == 3 and all(session.closed for session in sessions)


def test_an_error_stops_the_others():
    seen = []

    def work(_session, item):
        seen.append(item)
        if item == 0:
            raise ValueError(item)
        time.sleep(0.01)

    with pytest.raises(ValueError, match="0"):
        for_each(Session, list(range(100)), work, 2)
    assert len(seen) < 100
