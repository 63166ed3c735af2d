"""What counts writes to a source: a clean restart leaves it as it is, a crash does not, and it may be switched off."""

from __future__ import annotations

import contextlib

import pytest
from dumps import small
from faults import await_that
from support import Cluster


def count(cluster: Cluster) -> int | None:
    from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
    from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.source_writes import count_writes

    with contextlib.closing(Endpoint.from_options("source", cluster.endpoint()).connect("small")) as session:
        return count_writes(session)


@pytest.mark.parametrize("major", [13, 15, 18])  # a collector counted before 15
def test_counters(new_cluster, major):
    source = new_cluster(major)
    small(source)
    source.sql("small", "CREATE TABLE empty (); SELECT lo_create(1)")
    counted = "SELECT 1 FROM pg_stat_all_tables WHERE relname = %s AND n_tup_ins = %s"
    await_that(lambda: source.sql("small", counted, ["t", 10]), "rows to be counted")
    await_that(lambda: source.sql("small", counted, ["pg_largeobject_metadata", 1]), "a large object to be counted")
    quiet = count(source)
    source.sql("small", "VACUUM ANALYZE")
    source.restart()
    assert count(source) == quiet

    source.sql("small", "SELECT lo_put(1, 0, 'written')")
    await_that(lambda: count(source) != quiet, "what was written to a large object to be counted")
    source.stop("immediate")
    source.start()
    crashed = count(source)
    source.stop("immediate")
    source.start()
    assert count(source) != crashed, "however little there was to count before"

    for off, on in (
        ("ALTER DATABASE small SET track_counts = of", "ALTER DATABASE small RESET ALL"),
        ("CREATE ROLE app; ALTER ROLE app SET track_counts TO off", "DROP ROLE app"),
    ):
        source.sql("postgres", off)
        assert count(source) is None
        source.sql("postgres", on)
    source.configure(track_counts="off")
    source.reload()
    assert count(source) is None
