# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a whole database can be read: what the role lacks a privilege for, and what somebody keeps locked."""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.facts.locks import exclusive_locks


def locked_out(source: Endpoint, dbname: str, patience: int) -> HandoverError:
    """What to say where a table stayed locked for this many milliseconds."""
    with contextlib.closing(source.connect(dbname, read_only=True)) as connection:
        locks = exclusive_locks(connection)
    return HandoverError(
        f'In database "{dbname}" a table stayed locked for {patience} ms. '
        f"Locked now: {', '.join(locks[:10]) or 'none'}.",
        "End the session that holds the lock, or raise lock_wait_timeout.",
        locks=locks,
    )


def refuse_unreadable(connection, dbname: str) -> None:
    """Raise HandoverError naming what a dump would fail on for want of a privilege."""
    objects = [str(one) for one in catalog.unreadable_objects(connection)]
    if objects:
        more = f" and {len(objects) - 10} more" if len(objects) > 10 else ""
        raise HandoverError(
            f'In database "{dbname}" the role lacks privileges that a dump needs: {", ".join(objects[:10])}{more}.',
            "Grant them (on 14 and later: GRANT pg_read_all_data), or use another role.",
            unreadable_objects=objects,
        )
