# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that go from socket to socket: they are what client libraries would have handed over, and so are errors."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from copies import copy
from dumps import JOURNAL, look, one
from support import assert_same, create_database

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import wire
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow, Manner, relay
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import read_tables

# Values that look like what servers say when all rows were sent, or when none come any more, at every place of a part.
TABLES = """
    CREATE TABLE a_wide AS SELECT i, repeat(md5(i::text), 20) AS t FROM generate_series(1, 40000) AS i;
    CREATE TABLE b_long (b bytea); INSERT INTO b_long SELECT decode(repeat('5a0000000545', 300000), 'hex') FROM
        generate_series(1, 3);
    CREATE TABLE c_words AS SELECT repeat('x', i % 300) || 'COPY 5' AS t, decode('63000000044300000009434f5059203500'
        || '5a0000000545' || '450000001253455252' || '5a0000000545', 'hex') AS b FROM generate_series(1, 9000) AS i;
    CREATE TABLE d_bare (); INSERT INTO d_bare DEFAULT VALUES; INSERT INTO d_bare DEFAULT VALUES;
    CREATE TABLE e_empty (i int)"""
SMALL = "CREATE TABLE s_{0} AS SELECT {0} AS i, 'one of ' || {0} AS t"


class Ends:
    """A session with each server; ``tables`` are the source's, by name."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.tables = {table.name: table for table in read_tables(source)}

    def bring(self, by, names, binary=True):
        """(name, rows, bytes) of each table."""
        pieces = [Piece(self.tables[name]) for name in names]
        found = by(self.source, self.target, pieces, lambda table: Manner(binary and bool(table.columns)), Flow())
        return [(piece.table.name, rows, size) for piece, rows, size in found]


@pytest.fixture
def ends(servers):
    source, target = servers(15), servers(18, "target")
    for server in (source, target):
        create_database(server, "wires")
        server.sql("wires", f"{TABLES}; {'; '.join(SMALL.format(n) for n in range(30))}")
    with contextlib.closing(source.connect("wires")) as here, contextlib.closing(target.connect("wires")) as there:
        yield Ends(here, there)


def ask(session, statement):
    with session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description is not None else None


def hold(session, names):
    return [ask(session, f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {n} t") for n in names]


@pytest.mark.parametrize("binary", [True, False])
def test_rows_are_those_that_libraries_hand_over(ends, binary):
    names = sorted(ends.tables)
    assert wire.is_open(ends.source) and wire.is_open(ends.target)
    found = []
    for by in (relay, wire.carry):
        ask(ends.target, f"TRUNCATE {', '.join(names)}")
        ask(ends.source, "BEGIN")
        found.append((ends.bring(by, names, binary), hold(ends.target, names)))
        assert ask(ends.source, "SELECT 1; COMMIT; SELECT 2") == [(2,)], "libpq has missed nothing"
    assert found[0] == found[1]
    assert found[1][1] == hold(ends.source, names)


SWALLOW = """
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER f BEFORE INSERT ON s_1 FOR EACH ROW EXECUTE FUNCTION f()"""


@pytest.mark.parametrize(
    ("names", "side", "spoil", "said"),
    [
        (["s_1", "a_wide"], "source", "1 / (i - 19000) IS NOT NULL", ["a_wide", "source says: division by zero"]),
        (["a_wide", *["s_1"] * 63], "source", "1 / (i - 19000) IS NOT NULL", ["a_wide", "source says: division by"]),
        (["s_1", "s_2", "s_3"], "target", "ALTER TABLE s_2 ADD CHECK (i < 0) NOT VALID", ["public.s_2", "s_2_i_check"]),
        (["a_wide"], "target", "ALTER TABLE a_wide ADD CHECK (i < 3) NOT VALID", ["line 3", "a_wide_i_check"]),
        (["s_1", "s_2"], "target", "DROP TABLE s_2", ["s_2", 'target says: relation "public.s_2" does not exist']),
        (["s_1"], "target", SWALLOW, ["source sent 1 row,", "target took 0."]),
    ],
)
def test_errors_are_those_of_the_table(ends, names, side, spoil, said):
    if side == "target":
        ask(ends.target, spoil)
    else:
        ends.tables["a_wide"] = dataclasses.replace(ends.tables["a_wide"], condition=f"WHERE {spoil}")
    ask(ends.source, "BEGIN")
    ask(ends.target, "BEGIN")
    with pytest.raises(HandoverError) as raised:
        ends.bring(wire.carry, names)
    for word in said:
        assert word in raised.value.problem, raised.value.problem


def test_what_a_pooler_stands_before_is_not_passed_through(servers, pooler):
    """It may give each statement to another process, and answers in its own name."""
    source = servers(15)
    front = Endpoint.from_options("source", pooler(source, mode="session").endpoint())
    for endpoint, is_own in ((front, False), (Endpoint.from_options("source", source.endpoint()), True)):
        with contextlib.closing(endpoint.connect("postgres", pinned=False)) as session:
            assert not session.info.ssl_in_use and wire.is_open(session) is is_own


def test_encrypted_rows_go_through_libraries(new_cluster, servers, authority):
    """Also what comes with them: they are frozen, and a large table comes in ranges."""
    source = new_cluster(17, tls=authority.server(), hba=["hostssl all all 127.0.0.1/32 scram-sha-256"])
    target = servers(18, "target")
    create_database(source, "wires")
    source.sql("wires", f"{TABLES}; {'; '.join(SMALL.format(n) for n in range(30))}")
    with contextlib.closing(source.connect("wires")) as session:
        assert session.info.ssl_in_use and not wire.is_open(session)
    copied = one(copy(source, target, jobs=2, split_tables_larger_than="10MB"))
    assert copied["rows"] == 40000 + 3 + 9000 + 2 + 30
    assert_same(look(source, "wires"), look(target, "wires"), ignore=JOURNAL)
    target.sql("wires", "CREATE EXTENSION pg_visibility")
    [(frozen,)] = target.sql("wires", "SELECT all_frozen > 0 FROM pg_visibility_map_summary('c_words')")
    assert frozen


@pytest.mark.parametrize("side", ["source", "target"])
def test_server_that_ends_is_named(ends, servers, side):
    """In the midst of rows."""
    server = servers(15) if side == "source" else servers(18, "target")
    flow = _Ending(server, getattr(ends, side).info.backend_pid)
    with pytest.raises(HandoverError) as raised:
        list(wire.carry(ends.source, ends.target, [Piece(ends.tables["a_wide"])], lambda _table: Manner(True), flow))
    assert f"The session with the {side} ended" in raised.value.problem, raised.value.problem
    if side == "target":  # a server that is about to send rows cannot say so
        assert "terminating connection due to administrator command" in raised.value.problem


class _Ending(Flow):
    """Ends a server's process as soon as the first rows are there: many more are to come."""

    def __init__(self, server, process):
        super().__init__()
        self.server, self.process = server, process

    def pass_on(self, count):
        if not self.total:
            self.server.sql("postgres", f"SELECT pg_terminate_backend({self.process}, 5000)")
        super().pass_on(count)
