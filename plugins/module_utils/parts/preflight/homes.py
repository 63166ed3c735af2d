# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what other migrations have to do with a database: where it lives by now."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import home as homes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

CONTINUOUS, DUMP = ("continuous",), ("dump",)


@database_check("home", "The database lives here, and no other migration concerns it.")
def home(database: Database):
    """A database that was handed over stands fenced, and the target database of a running migration is incomplete.
    Neither can be the source of another migration; a dump takes it as it is, without the migration's objects.
    """
    found = fence.read(database.connection)
    elsewhere = homes.elsewhere(database.connection, None)
    incoming = homes.incoming(database.connection)
    if elsewhere:
        yield Finding(
            "blocker",
            f"The database {elsewhere[0]}.",
            "A database has one home: it cannot be handed over to another one from here.",
            elsewhere[1],
            [found.home],
            methods=CONTINUOUS,
        )
    elif incoming:
        seen, remedy = f"The database {incoming[0]}.", incoming[1]
        yield Finding("blocker", seen, "Until then, it cannot be a source.", remedy, methods=CONTINUOUS)
    if elsewhere and found.handed_over:
        yield Finding(
            "warning",
            f"The database stands fenced: it was handed over to {found.home}.",
            "A dump has what it held then, without the fence and other objects of that migration. It lacks "
            "everything that was written at its home since.",
            "Take the dump from its home, unless you want the old contents.",
            [found.home],
            methods=DUMP,
        )
    outgoing = homes.outgoing(database.connection)
    if outgoing and not elsewhere:
        yield Finding(
            "info",
            f"Migrations from it are under way, or not finished: {', '.join(outgoing)}.",
            "It may be replicated to several targets, and handed over to one of them.",
            objects=outgoing,
        )
