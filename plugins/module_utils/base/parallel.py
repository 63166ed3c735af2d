# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of several threads at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection

T = TypeVar("T")
Item = TypeVar("Item")


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


def for_each(
    connect: Callable[[], Connection], items: Sequence[Item], work: Callable[[Connection, Item], T], jobs: int
) -> list[T]:
    """``[work(connection, item) for item in items]``, over ``jobs`` sessions made by ``connect()``.

    The results are in the order of the items. The first error stops the others and is raised.
    """
    results: dict[int, T] = {}
    remaining = iter(enumerate(items))
    lock, failed = threading.Lock(), threading.Event()

    def take() -> tuple[int, Item] | None:
        with lock:
            return None if failed.is_set() else next(remaining, None)

    def serve() -> None:
        try:
            with contextlib.closing(connect()) as connection:
                for index, item in iter(take, None):
                    results[index] = work(connection, item)
        except BaseException:
            failed.set()
            raise

    together(*[serve] * min(jobs, len(items)))
    return [results[index] for index in range(len(items))]
