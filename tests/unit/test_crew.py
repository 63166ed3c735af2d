# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a worker takes, and sessions that are opened ahead: none is left behind."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.crew import Crew, Task


class Session:
    """What is opened; ``gate`` is awaited by whoever opens it."""

    def __init__(self, opened: list[Session], gate: threading.Event | None = None):
        if gate:
            assert gate.wait(5)
        self.closed = False
        opened.append(self)

    def close(self):
        self.closed = True


def test_most_urgent_is_first_and_equals_are_in_turn():
    crew, taken = Crew(1, lambda: None, lambda: None), []
    for name, urgency in (("last", (1, 0)), ("b", (0, -1)), ("c", (0, -1)), ("a", (0, -2))):
        crew.add(Task(urgency, lambda _worker, name=name: taken.append(name)))
    crew.run()
    assert taken == ["a", "b", "c", "last"]


def test_a_table_that_someone_has_for_himself_is_passed_over():
    crew, taken, free = Crew(2, lambda: None, lambda: None), [], threading.Event()

    def hold(_worker):
        assert free.wait(5), "the other worker takes what it may"
        taken.append("holder")

    crew.add(Task((0,), hold, alone=frozenset({1})))
    crew.add(Task((1,), lambda _worker: taken.append("same table"), shared=frozenset({1})))
    crew.add(Task((2,), lambda _worker: (taken.append("other table"), free.set()), alone=frozenset({2})))
    crew.run()
    assert taken == ["other table", "holder", "same table"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_sessions_opened_ahead_are_those_that_workers_use(count):
    opened, used = [], []
    crew = Crew(2, lambda: Session(opened), lambda: None)
    crew.open_sources(count)
    both = threading.Barrier(2)
    for _i in range(2):
        crew.add(Task((0,), lambda worker: (both.wait(5), used.append(worker.source))))
    crew.run()
    assert len(opened) == 2 and {id(one) for one in used} == {id(one) for one in opened}
    assert all(one.closed for one in opened)


def test_nothing_that_is_being_opened_stays_open():
    opened, gate = [], threading.Event()
    crew = Crew(3, lambda: Session(opened, gate), lambda: None)
    crew.open_sources(3)
    threading.Timer(0.1, gate.set).start()
    crew.stop(RuntimeError("given up"))
    assert len(opened) == 3 and all(one.closed for one in opened)


def test_what_cannot_be_opened_ahead_is_told_to_who_needs_it():
    tried = threading.Semaphore(0)

    def refuse():
        tried.release()
        raise ValueError("too many connections")

    crew = Crew(1, refuse, lambda: None)
    crew.open_sources(1)
    assert tried.acquire(timeout=5)
    crew.add(Task((0,), lambda worker: worker.source))
    with pytest.raises(ValueError, match="too many connections"):
        crew.run()
