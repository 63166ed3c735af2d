# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGTERM and SIGINT end a module in order, also while a server works on a statement of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection

PATIENCE = 0.5  # seconds that Python has to run a handler, before we see to it

_sessions: weakref.WeakSet[Connection] = weakref.WeakSet()
_heard = threading.Event()


def watch_over(session: Connection) -> None:
    """Remember a psycopg2 connection as one whose statement must not hold up our end."""
    _sessions.add(session)


def end_in_order() -> None:
    """From now on these signals raise SystemExit in the main thread, so that everything is cleaned up.

    Python calls a handler between two of its own instructions only, and libpq goes on waiting for the server after
    a signal. So another thread, which C wakes up, cancels what the sessions run when the handler is not called.
    """
    ears, mouth = os.pipe()
    os.set_blocking(mouth, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_cancel_statements_after_a_signal, args=[ears], daemon=True).start()


def _leave(number: int, _frame: object) -> None:
    _heard.set()
    raise SystemExit(128 + number)


def _cancel_statements_after_a_signal(ears: int) -> None:
    os.read(ears, 1)
    if not _heard.wait(PATIENCE):
        for session in list(_sessions):
            with contextlib.suppress(Exception):  # it may be closed, or its server gone
                session.cancel()
