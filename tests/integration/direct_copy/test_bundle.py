# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of little tables in one answer of the source, for sessions whose bytes cannot go from socket to socket."""

from __future__ import annotations

import contextlib

import pytest
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import bundle
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.pieces import Piece
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import Flow, Manner, relay
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import read_tables

# Whoever plans a query of t calls this, and is told of by a notification.
TABLES = """
    CREATE FUNCTION told(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        IF current_user = 'reader' THEN PERFORM pg_notify('told', ''); END IF; RETURN $1; END $$;
    CREATE TABLE t (id int); CREATE INDEX ON t ((id + told(1)));
    CREATE TABLE u (id int PRIMARY KEY, name text, made timestamptz DEFAULT now(), nothing int);
    CREATE TABLE v (id bigint, list text[], "a ""b" "char"); CREATE TABLE w (id int)"""
ROWS = """
    INSERT INTO t VALUES (1), (2); INSERT INTO v VALUES (1, '{a,NULL}', 'x'), (NULL, NULL, NULL);
    INSERT INTO u (id, name) SELECT i, repeat('ü', i) FROM generate_series(1, 90) AS i"""


@pytest.mark.parametrize("may", [True, False])
def test_little_tables_are_read_together_or_each_by_itself(servers, may, monkeypatch):
    source, target = servers(15), servers(18, "target")
    for server in (source, target):
        create_database(server, "little")
        server.sql("little", TABLES)
    source.sql("little", f"{ROWS}; CREATE ROLE reader; GRANT SELECT ON t, u, v, w TO reader")
    if not may:
        source.sql("little", "REVOKE EXECUTE ON FUNCTION record_send FROM PUBLIC")
    read = []
    monkeypatch.setattr(
        bundle, "read", lambda session, pieces, of=bundle.read: read.append(of(session, pieces)) or read[-1]
    )
    with (
        contextlib.closing(source.connect("little")) as ear,
        contextlib.closing(source.connect("little")) as here,
        contextlib.closing(target.connect("little")) as there,
    ):
        ear.cursor().execute("LISTEN told")
        here.cursor().execute("SET ROLE reader; BEGIN")
        pieces = [Piece(table) for table in sorted(read_tables(here), key=str)]
        found = [
            (str(one.table), rows) for one, rows, _size in relay(here, there, pieces, lambda _t: Manner(True), Flow())
        ]
        here.cursor().execute("COMMIT")
        ear.cursor().execute("SELECT")
    assert found == [("public.t", 2), ("public.u", 90), ("public.v", 2), ("public.w", 0)]
    assert [len(one) for one in read] == ([3] if may else []), "t is planned by nobody, so it is read by COPY"
    assert not ear.notifies
    for table in "tuv":
        query = f"SELECT * FROM {table} ORDER BY id"
        assert source.sql("little", query) == target.sql("little", query)


def test_nothing_is_read_outside_of_the_snapshot(servers):
    source, target = servers(15), servers(18, "target")
    for server in (source, target):
        create_database(server, "little")
        server.sql("little", "CREATE TABLE a (i int); CREATE TABLE b (i int)")
    with contextlib.closing(source.connect("little")) as here, contextlib.closing(target.connect("little")) as there:
        pieces = [Piece(table) for table in read_tables(here)]
        with pytest.raises(HandoverError, match=r"public\.a could not be copied; the source says"):
            list(relay(here, there, pieces, lambda _table: Manner(True), Flow()))
