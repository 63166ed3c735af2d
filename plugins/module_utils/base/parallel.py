# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of several threads at once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection

T = TypeVar("T")
Item = TypeVar("Item")


class Closable(Protocol):
    """A session, or what has some."""

    def close(self) -> None: ...


Used = TypeVar("Used", bound=Closable)
LEAST, MOST = 3, 4


def together(*works: Callable[[], T]) -> list[T]:
    """``[work() for work in works]``, all at once, each to its end. Then the first error is raised."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def serve(index: int, work: Callable[[], T]) -> None:
        try:
            results[index] = work()
        except BaseException as error:  # pylint: disable=broad-except
            errors.append(error)  # raised below, in the thread of the caller

    threads = [threading.Thread(target=serve, args=one, daemon=True) for one in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(works))]


def started(work: Callable[[], object]) -> Callable[[float | None], bool]:
    """Begin ``work()`` in a thread; returned is what waits for its end, for so many seconds at most, and says whether
    it has come. Thread.join() takes a thread for ended that a signal has kept it from awaiting (until Python 3.13).
    """
    ended = threading.Event()

    def serve() -> None:
        try:
            work()
        finally:
            ended.set()

    threading.Thread(target=serve, daemon=True).start()
    return ended.wait


class Opening(Generic[Used]):
    """A session that is needed soon, opened by ``connect()`` in a thread of its own: as far as the server is away, that
    takes several round trips.
    """

    def __init__(self, connect: Callable[[], Used]):
        self._connect = connect
        self._session: Used | None = None
        self._error: Exception | None = None
        self._ended = started(self._open)

    def _open(self) -> None:
        try:
            self._session = self._connect()
        except Exception as error:  # pylint: disable=broad-except
            self._error = error  # raised for whoever takes it

    def take(self) -> Used:
        """The session, the taker's from then on. Raises what kept it from being opened."""
        self._ended(None)
        session, self._session = self._session, None
        if session is None:
            raise self._error or ValueError("somebody has taken it")
        return session

    def close(self) -> None:
        """Close it, unless somebody has taken it."""
        self._ended(None)
        if self._session is not None:
            self._session.close()


def side_by_side(work: Callable[[Item], T], items: Sequence[Item]) -> list[T]:
    """``[work(item) for item in items]``, some at once, by the number of cores. The first error stops the others and is
    raised.
    """
    return _shared_out(items, at_once(), lambda taken: [(index, work(item)) for index, item in taken])


def at_once() -> int:
    """How many databases are worked on side by side: more than there are cores if these are two, as servers are
    awaited, longest where others keep them busy, and few, as each takes several sessions.
    """
    return min(MOST, max(LEAST, os.cpu_count() or 1))


def beside(session: Connection, work: Callable[[], T], here: Callable[[], Item]) -> tuple[T, Item]:
    """``work()``, which asks over the session, in a thread of its own, and meanwhile ``here()`` in this one, where
    child programs have to be run. Each goes on to its end, but for a signal; then the first error is raised.
    """
    found: list[T] = []
    mine: list[Item] = []
    errors: list[Exception] = []

    def serve() -> None:
        try:
            found.append(work())
        except Exception as error:  # pylint: disable=broad-except
            errors.insert(0, error)  # raised below, in the thread of the caller

    ended = started(serve)
    try:
        try:
            mine.append(here())
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
        ended(None)
    except BaseException:  # a signal
        session.cancel()
        ended(None)
        raise
    if errors:
        raise errors[0]
    return found[0], mine[0]


def for_each(connect: Callable[[], Used], items: Sequence[Item], work: Callable[[Used, Item], T], jobs: int) -> list[T]:
    """``[work(connection, item) for item in items]``, over ``jobs`` sessions made by ``connect()``.

    The results are in the order of the items. The first error stops the others and is raised.
    """

    def serve(taken: Iterator[tuple[int, Item]]) -> list[tuple[int, T]]:
        with contextlib.closing(connect()) as connection:
            return [(index, work(connection, item)) for index, item in taken]

    return _shared_out(items, jobs, serve)


def _shared_out(
    items: Sequence[Item], jobs: int, serve: Callable[[Iterator[tuple[int, Item]]], list[tuple[int, T]]]
) -> list[T]:
    """What ``jobs`` threads make of the items that they take one by one, in the order of the items."""
    remaining, lock, failed = iter(enumerate(items)), threading.Lock(), threading.Event()

    def take() -> tuple[int, Item] | None:
        with lock:
            return None if failed.is_set() else next(remaining, None)

    def serve_until_failure() -> list[tuple[int, T]]:
        try:
            return serve(iter(take, None))
        except BaseException:
            failed.set()
            raise

    found = dict(pair for pairs in together(*[serve_until_failure] * min(jobs, len(items))) for pair in pairs)
    return [found[index] for index in range(len(items))]
