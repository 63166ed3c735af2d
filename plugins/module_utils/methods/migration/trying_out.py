# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to the subscriber's tables is tried first, in a transaction that is rolled back: where it would
refuse a later statement, nothing is done at all.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Cursor, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason, transaction
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.amendment import (
    Amendment,
    shown_trials,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.shapes import Key
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import patiently

# SQLSTATEs of what rows that are on their way may still change, and of labels that this very transaction has added.
UNTOLD = ("22", "23")
NEW_LABEL = "55P04"


def try_out(
    session: Connection,
    side: str,
    steps: list[Amendment],
    names: dict[int, Key],
    before: Callable[[Cursor], object],
    after: Callable[[Cursor], object] | None,
) -> None:
    """The steps in their order, between what is done ``before`` and ``after``; nothing of it stays. ``names`` are the
    tables' by oid.

    What cannot be told before all rows are through ends it. Raises HandoverError for what the server refuses.
    """

    def work() -> None:
        left = dict(names)
        with transaction(session, end="ROLLBACK") as cursor:
            before(cursor)
            for step in steps:
                if not all(_is_taken(cursor, side, one) for one in shown_trials(session, step, left)):
                    return
            if after:
                after(cursor)

    patiently(session, work)


def _is_taken(cursor: Cursor, side: str, text: str) -> bool:
    """Whether it is; no where that is not known yet."""
    try:
        cursor.execute(text)
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
        raise
    except psycopg2.Error as error:
        code = error.pgcode or ""
        if code.startswith(UNTOLD) or code == NEW_LABEL:
            return False
        raise refused(side, text, error, []) from None
    return True


def refused(side: str, text: str, error: psycopg2.Error, done: list[str]) -> HandoverError:
    """What the other end says to a statement, when those before were ``done``."""
    return HandoverError(
        f"The {side} refused to follow a change of the schema: {reason(error)}. The statement: {text}",
        f"Make the change on the {side} by hand, with what it needs, then run this again: it goes on if both ends are "
        "alike.",
        statement=text,
        followed=done,
        sqlstate=error.pgcode,
    )
