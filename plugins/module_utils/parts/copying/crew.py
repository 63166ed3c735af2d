# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers, each with a session of its own on both ends, and the tasks that they take, the most urgent first."""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import Opening, started

LOOK_AFTER_WORKERS = 0.5  # seconds


@dataclass(order=True)
class Task:
    """One thing to do: ``work(worker)``, then ``done()``, which may add others.

    The lowest ``urgency`` (a tuple) comes first. Tables that it has for itself are ``alone``, others may be worked on
    by several tasks at once (``shared``): so no task waits for a lock of another, or deadlocks with it. What is
    ``light`` keeps no processor busy for long.
    """

    urgency: tuple
    work: Callable[[Worker], object] = field(compare=False)
    done: Callable[[], object] = field(compare=False, default=lambda: None)
    alone: frozenset = field(compare=False, default=frozenset())
    shared: frozenset = field(compare=False, default=frozenset())
    light: bool = field(compare=False, default=False)


class Worker:
    """Sessions of one thread, opened when they are first needed."""

    def __init__(self, connect_source, connect_target):
        self._connect = {"source": connect_source, "target": connect_target}
        self._sessions = {}
        self._opening: Opening | None = None
        self._found: dict[str, bool] = {}

    def may(self, ask: Callable[[object], bool]) -> bool:
        """Whether ``ask(session)`` is true of both; asked once of each."""
        for side in self._connect:
            if side not in self._found:
                self._found[side] = ask(self._session(side))
        return all(self._found.values())

    @property
    def source(self):
        return self._session("source")

    @property
    def target(self):
        return self._session("target")

    def _session(self, side: str):
        if side not in self._sessions:
            self._sessions[side] = self._connect[side]()
        return self._sessions[side]

    def open_source(self) -> None:
        """Ahead of the first need, before the thread is at work."""
        self._opening = Opening(self._connect["source"])
        self._connect["source"] = self._opening.take

    def cancel(self) -> None:
        """End what the sessions run; called from another thread."""
        for session in list(self._sessions.values()):
            with contextlib.suppress(Exception):  # it may be closed, or its server gone
                session.cancel()

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        if self._opening:
            self._opening.close()


class Crew:
    """``jobs`` workers. Add tasks, then run; a task's ``done`` is called by one worker at a time."""

    def __init__(self, jobs: int, connect_source, connect_target):
        self._workers = [Worker(connect_source, connect_target) for _i in range(jobs)]
        self._connect_target = connect_target
        self._change = threading.Condition(threading.RLock())
        self._waiting = []
        self._running = []
        self._order = 0
        self._errors = []
        self._ends: list[Callable[[float | None], bool]] = []  # of the threads
        self._more_to_come = False

    @contextlib.contextmanager
    def target(self) -> Iterator[Any]:
        """A session on the target for whoever asks: a worker's, which keeps it, or one more when they are at work."""
        if not self._ends:
            yield self._workers[0].target
        else:
            with contextlib.closing(self._connect_target()) as session:
                yield session

    @property
    def stopped(self) -> bool:
        """Whether a task failed, so that the others are to end."""
        return bool(self._errors)

    @property
    def idle(self) -> int:
        """Workers that have nothing of any weight to do now, and will not have with what waits."""
        with self._change:
            heavy = sum(not task.light for task in [*self._running, *(entry[2] for entry in self._waiting)])
            return max(0, len(self._workers) - heavy)

    def add(self, task: Task) -> None:
        with self._change:
            self._order += 1
            heapq.heappush(self._waiting, (task.urgency, self._order, task))
            self._change.notify_all()

    def standing_still(self) -> AbstractContextManager:
        """As long as it lasts, nobody takes a task, and none is done."""
        return self._change

    def open_sources(self, count: int) -> None:
        """So many workers open their sessions with the source meanwhile. Whoever opens runs or stops it."""
        if not self._ends:
            for worker in self._workers[:count]:
                worker.open_source()

    def start(self) -> None:
        """Work on what there is, and on what comes. Whoever starts runs or stops it."""
        self._more_to_come = True
        self._ends = [started(partial(self._serve, worker)) for worker in self._workers]

    def run(self) -> None:
        """Work until nothing is left. The first error stops the others and is raised."""
        if not self._ends:
            self.start()
        with self._change:
            self._more_to_come = False
            self._change.notify_all()
        try:
            self._await()
        except BaseException as error:  # a signal: nothing of ours goes on
            self.stop(error)
            raise
        if self._errors:
            raise self._errors[0]

    def stop(self, error: BaseException) -> None:
        """Nothing goes on, for this reason; no more than that if nothing did."""
        self._fail(error)
        self._await()
        for worker in self._workers:
            worker.close()

    def _await(self) -> None:
        for ended in self._ends:
            while not ended(LOOK_AFTER_WORKERS):
                if self._errors:
                    self._cancel()  # again: one may have been between two statements

    def _cancel(self) -> None:
        for worker in self._workers:
            worker.cancel()

    def _serve(self, worker: Worker) -> None:
        try:
            for task in iter(self._take, None):
                task.work(worker)
                self._finish(task)
        except Exception as error:  # pylint: disable=broad-except
            self._fail(error)  # raised in the thread of the caller
        finally:
            worker.close()

    def _take(self) -> Task | None:
        """The most urgent task that is in nobody's way; None when all is done, or lost."""
        with self._change:
            while not self._errors and (self._more_to_come or self._waiting or self._running):
                task = self._next()
                if task:
                    self._running.append(task)
                    return task
                self._change.wait()
            return None

    def _next(self) -> Task | None:
        alone = frozenset().union(*(task.alone for task in self._running))
        taken = alone.union(*(task.shared for task in self._running))
        passed, found = [], None
        while self._waiting and not found:
            entry = heapq.heappop(self._waiting)
            if entry[2].alone & taken or entry[2].shared & alone:
                passed.append(entry)
            else:
                found = entry[2]
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        return found

    def _finish(self, task: Task) -> None:
        with self._change:
            task.done()
            self._running.remove(task)
            self._change.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._change:
            self._errors.append(error)
            self._change.notify_all()
        if len(self._errors) == 1:
            self._cancel()
