# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at many objects in one snapshot without keeping locks on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, keep, psycopg2

BACK = "ROLLBACK TO SAVEPOINT handover; RELEASE SAVEPOINT handover"


@contextlib.contextmanager
def passing(connection: Connection, unsure: bool = False) -> Iterator[None]:
    """What is read inside leaves no lock, as soon as something else is said or the session ends; and an error leaves
    the transaction, with its snapshot, as it was.

    Locks are held to the end of a transaction, and 10,000 tables would take more than the server has room for; going
    back to a savepoint lets go of those taken since.

    ``unsure``: the server may not even understand what is read, and then would not understand what is sent with it.
    """
    keep(connection, "SAVEPOINT handover")
    if unsure:
        with connection.cursor() as cursor:
            cursor.execute("SELECT")
    try:
        yield
    except psycopg2.Error:
        if not connection.closed:
            with connection.cursor() as cursor:
                cursor.execute(BACK)
        raise
    keep(connection, BACK)
