# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of several threads at once."""

from __future__ import annotations

import contextlib
import threading


def together(*works) -> list:
    """``[work() for work in works]``, all at once, each to its end. Then the first error is raised."""
    results, errors = [None] * len(works), []

    def serve(index, work):
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
    return results


def for_each(connect, items: list, work, jobs: int) -> list:
    """``[work(connection, item) for item in items]``, over ``jobs`` sessions made by ``connect()``.

    The results are in the order of the items. The first error stops the others and is raised.
    """
    results = [None] * len(items)
    remaining = iter(enumerate(items))
    lock, failed = threading.Lock(), threading.Event()

    def take():
        with lock:
            return None if failed.is_set() else next(remaining, None)

    def serve():
        try:
            with contextlib.closing(connect()) as connection:
                for index, item in iter(take, None):
                    results[index] = work(connection, item)
        except BaseException:
            failed.set()
            raise

    together(*[serve] * min(jobs, len(items)))
    return results
