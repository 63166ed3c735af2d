# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publications go while an application writes to their tables; none of its statements may fail.

That it would fail without the mend depends on microseconds, so these tests look at the order: emptied, waited, dropped.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import publication, writers

NAME = "handover_aaaaaaaaaa_w1"


@pytest.fixture(params=[13, 18])
def published(request, servers):
    """A session of the migration, which has published a table, and one of somebody else."""
    cluster = servers(request.param)
    dbname = create_database(cluster)
    cluster.sql(dbname, "CREATE TABLE t (id int)")
    with contextlib.closing(cluster.connect(dbname)) as ours, contextlib.closing(cluster.connect(dbname)) as other:
        publication.create(ours, NAME, [("public", "t")])
        yield ours, other.cursor()


def seconds_to_drop(session) -> float:
    began = time.monotonic()
    assert publication.drop(session, NAME)
    assert not publication.exists(session, NAME)
    return time.monotonic() - began


def test_who_writes_is_waited_for(published):
    """It is empty meanwhile."""
    session, other = published
    other.execute("BEGIN; INSERT INTO t VALUES (1)")
    seen = []

    def end() -> None:
        other.execute("SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_publication_rel)")
        seen.extend(other.fetchall())
        other.execute("COMMIT")

    ending = threading.Timer(0.3, end)
    ending.start()
    assert 0.2 < seconds_to_drop(session) < writers.PATIENCE
    ending.join()
    assert seen == [(1, 0)]


@pytest.mark.parametrize("lock", ["ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE"])
def test_nobody_is_waited_for_long(published, lock):
    """Neither somebody who has written, nor a VACUUM, which holds what emptying takes."""
    session, other = published
    other.execute(f"BEGIN; LOCK TABLE t IN {lock} MODE")
    assert writers.PATIENCE <= seconds_to_drop(session) < 20
    other.execute("COMMIT")
