"""Transfers in waves: what a former one has brought stays, and what does not fit together yet is told."""

from __future__ import annotations

import contextlib

import pytest
from dumps import CLIENTS, look
from support import Cluster, assert_same, create_database

TABLES = """
    CREATE TABLE place (id int, kind int, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
    CREATE TABLE place_1 PARTITION OF place FOR VALUES IN (1);
    CREATE TABLE place_2 PARTITION OF place FOR VALUES IN (2);
    CREATE TABLE owner (id int PRIMARY KEY, name text);
    CREATE TABLE visit (id int PRIMARY KEY, owner int REFERENCES owner, place int, kind int,
                        CONSTRAINT where_to FOREIGN KEY (place, kind) REFERENCES place);
    COMMENT ON CONSTRAINT where_to ON visit IS 'to a partitioned table';
    CREATE INDEX ON visit (owner);
    INSERT INTO place SELECT i, 1 + i % 2 FROM generate_series(1, 10) AS i;
    INSERT INTO owner SELECT i, 'owner ' || i FROM generate_series(1, 10) AS i;
    INSERT INTO visit SELECT i, i, i, 1 + i % 2 FROM generate_series(1, 10) AS i;
    CREATE MATERIALIZED VIEW visits AS SELECT count(*) FROM visit"""
PARAMS = {
    "client_directory": CLIENTS,
    "jobs": 2,
    "max_rate": None,
    "exclude_extensions": [],
    "no_owner": False,
    "no_privileges": False,
    "skip_roles": [],
    "create": True,
    "analyze": "auto",
    "refresh_materialized_views": True,
    "split_tables_larger_than": "1MB",
}


FIRING = """
    CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = 'fired'; RETURN NEW; END $$;
    CREATE TRIGGER fires BEFORE INSERT ON owner FOR EACH ROW EXECUTE FUNCTION fire();
    COMMENT ON TRIGGER fires ON owner IS 'of what is there later';
    CREATE VIEW owners AS SELECT id, name FROM owner GROUP BY id; GRANT SELECT ON owners TO PUBLIC"""
SHARED = """
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad', 'none');
    CREATE TABLE moods (mood mood, filler text) PARTITION BY HASH (mood);
    CREATE TABLE moods_0 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE moods_1 PARTITION OF moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO moods SELECT m, repeat('m', 1000) FROM unnest(enum_range(NULL::mood)) AS m, generate_series(1, 3000)"""


def transfer(source: Cluster, target: Cluster, dump_id: str, jobs: int = 2, **scope):
    """One wave into database "waves", and what it reported of states."""
    from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
    from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling
    from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_snapshot import open_snapshot
    from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
    from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
        SnapshotSource,
    )
    from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import export_snapshot

    ends = [Endpoint.from_options(side, end.endpoint()) for side, end in (("source", source), ("target", target))]
    states = []
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(ends[0].connect("waves", read_only=True)))
        connection = stack.enter_context(contextlib.closing(ends[1].connect_for_maintenance()))
        snapshot = export_snapshot(session, serializable_deferrable=False)
        origin = SnapshotSource(ends[0], "waves", snapshot, session, patience=10000)
        chosen = Scope(**{"on_state": states.extend, **scope})
        wave = open_snapshot(origin, ends[1], connection, {**PARAMS, "jobs": jobs}, dump_id, chosen)
        Filling(wave).fill("waves")
    return wave, states


def test_second_wave(servers):
    source, target = servers(15), servers(17, "target")
    create_database(source, "waves")
    create_database(target, "waves")
    source.sql("waves", TABLES)
    first = [("public", name) for name in ("place_1", "place_2", "owner")]
    wave, states = transfer(source, target, "one", tables=first)
    assert {table.key for table in wave.tables} == set(first)
    assert [state for _schema, name, state, *_amounts in states if name == "owner"] == ["copying", "copied", "indexed"]
    assert target.sql("waves", "SELECT count(*) FROM owner") == [(10,)]
    assert target.sql("waves", "SELECT count(*) FROM visit") == [(0,)]

    # As if the first had been interrupted before keys, and with rows of a part of the next table.
    target.sql("waves", "ALTER TABLE visit DROP CONSTRAINT where_to, DROP CONSTRAINT visit_owner_fkey")
    target.sql("waves", "DROP INDEX visit_owner_idx; INSERT INTO visit VALUES (-1); SELECT lo_create(7)")
    target.sql("waves", "ALTER TABLE place DETACH PARTITION place_2")
    source.sql("waves", "INSERT INTO owner VALUES (11); INSERT INTO place VALUES (11, 1)")
    source.sql("waves", "INSERT INTO visit VALUES (11, 11, 11, 1)")
    source.sql("waves", "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)")
    second = [("public", name) for name in ("visit", "later")]
    wave, states = transfer(source, target, "two", tables=second, existing=True, keys_may_wait=True)
    pending = {one["name"]: one for one in wave.pending_constraints}
    assert set(pending) == {"visit_owner_fkey", "where_to"}
    assert target.sql("waves", "SELECT count(*), min(id) FROM visit") == [(11, 1)]

    # What replication would bring.
    target.sql("waves", "INSERT INTO owner VALUES (11); INSERT INTO place VALUES (11, 1)")
    for one in wave.pending_constraints:
        target.sql("waves", one["statement"])
    source.sql("waves", "REFRESH MATERIALIZED VIEW visits")
    target.sql("waves", "REFRESH MATERIALIZED VIEW visits; DROP SCHEMA handover CASCADE")
    assert_same(look(source, "waves"), look(target, "waves"))


def test_wave_of_other_tables_changes_nothing_else(servers):
    source, target = servers(15), servers(18, "target")
    create_database(source, "waves")
    create_database(target, "waves")
    source.sql("waves", TABLES)
    source.sql("waves", FIRING)
    waves = [{("public", name) for name in names} for names in (("visit", "place_2"), ("owner", "place_1"))]
    for wave in waves:  # what a table refers to comes later, and what fires is not there when its rows come
        later = frozenset(waves[1] - wave)
        wave, _states = transfer(
            source, target, "one", tables=sorted(wave), later=later, existing=True, keys_may_wait=True
        )
        assert wave.pending_constraints == []
    assert target.sql("waves", "SELECT name FROM owner WHERE id = 1") == [("owner 1",)]
    assert target.sql("waves", "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated") == [(0,)]
    before = look(target, "waves")
    target_oid = target.sql("waves", "SELECT 'visit'::regclass::oid, pg_relation_filenode('visit')")
    wave, states = transfer(source, target, "two", tables=[], existing=True, keys_may_wait=True)
    assert (states, wave.pending_constraints) == ([], [])
    assert target.sql("waves", "SELECT 'visit'::regclass::oid, pg_relation_filenode('visit')") == target_oid
    assert_same(before, look(target, "waves"), ignore=["rows/handover.*"])


def test_a_sample_of_rows(servers):
    """Everything is made as ever; keys that rows outside of the sample would satisfy wait."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "waves")
    create_database(target, "waves")
    source.sql("waves", TABLES)
    source.sql("waves", "ALTER TABLE visit DROP CONSTRAINT where_to; UPDATE visit SET owner = 11 - owner")
    wave, _states = transfer(source, target, "one", sample=3, keys_may_wait=True)
    counts = {one.table.name: one.rows for one in wave.counts}
    assert counts == {"place_1": 3, "place_2": 3, "owner": 3, "visit": 3}
    assert target.sql("waves", "SELECT count(*) FROM owner") == [(3,)]
    assert [one["name"] for one in wave.pending_constraints] == ["visit_owner_fkey"]
    target.sql("waves", "DROP SCHEMA handover CASCADE")
    assert look(source, "waves")["objects"].keys() == look(target, "waves")["objects"].keys()


def test_partitions_whose_rows_may_change_places_are_complete_together(servers):
    """Else a run that goes on would empty one of them, and what another one's rows have brought there."""
    source, target = servers(15), servers(18, "target")
    create_database(source, "waves")
    create_database(target, "waves")
    source.sql("waves", SHARED)
    _wave, states = transfer(source, target, "one", jobs=1)
    assert [state for _schema, _name, state, *_amounts in states][:4] == ["copying", "copying", "copied", "copied"]
    assert sum(rows for _schema, _name, state, rows, _bytes in states if state == "indexed") == 12000


def test_table_that_is_rewritten_amid_its_ranges_is_refused(servers):
    """Rows of the ranges that are still to be read are in others then."""
    from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

    source, target = servers(15), servers(18, "target")
    create_database(source, "waves")
    create_database(target, "waves")
    source.sql("waves", "CREATE TABLE long AS SELECT i, repeat('l', 1000) FROM generate_series(1, 3000) AS i")

    def rewrite(_changes) -> None:
        source.sql("waves", "VACUUM FULL long")

    with pytest.raises(HandoverError, match="long was rewritten"):
        transfer(source, target, "one", on_state=rewrite)
