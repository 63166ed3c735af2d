# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of rows: the same on every major for the same rows, another for any others."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from support import create_database

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    connect_to_snapshot,
    export_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import table_rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    Digest,
    Form,
    Part,
    configure,
    digests,
    form_for,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.reading import Reading
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import read_tables

MAJORS = range(13, 20)

TYPES = (Path(__file__).parent / "every_type.sql").read_text(encoding="utf-8")


@pytest.fixture
def look(servers):
    """``look(major, statements)`` makes a database with this in it and returns a session and its tables."""
    with contextlib.ExitStack() as stack:

        def make(major: int, statements: str, options: str = ""):
            cluster = servers(major)
            dbname = create_database(cluster, options=options)
            cluster.sql(dbname, f"SET client_encoding = 'UTF8'; {statements}")
            endpoint = Endpoint.from_options("source", cluster.endpoint())
            connection = stack.enter_context(contextlib.closing(endpoint.connect(dbname)))
            configure(connection)
            return connection, read_tables(connection)

        yield make


def all_digests(connection, tables: dict, form: Form = Form()) -> dict[tuple[str, str], Digest]:  # noqa: B008
    names = sorted(tables)
    return dict(zip(names, digests(connection, [Part(tables[name]) for name in names], form)))


def test_every_type_has_the_same_digest_on_every_major(look):
    seen = {major: look(major, TYPES) for major in MAJORS}
    for form in (Form(), Form(portable=True), Form(wide=True), Form(portable=True, wide=True)):
        found = {major: all_digests(*seen[major], form) for major in MAJORS}
        assert found[13]["x", "of_all"].rows == found[13]["x", "twice"].rows == 3
        assert len(set(found[13].values())) == len(found[13]) == 4
        for major in MAJORS:
            assert found[major] == found[13], (major, form)


CHANGES = {
    "a value": "UPDATE t SET b = 'Y' WHERE a = 2",
    "a blank at the end": "UPDATE t SET b = b || ' ' WHERE a = 2",
    "NULL and the empty string": "UPDATE t SET b = CASE WHEN b = '' THEN NULL ELSE '' END WHERE a >= 3",
    "values swapped between columns": "UPDATE t SET b = c, c = b WHERE a = 1",
    "values swapped between rows": "UPDATE t SET b = CASE a WHEN 1 THEN 'y' ELSE 'x' END WHERE a < 3",
    "a row more": "INSERT INTO t VALUES (9, '', '', 0)",
    "a row less": "DELETE FROM t WHERE a = 1",
    "a duplicate": "INSERT INTO t SELECT * FROM t WHERE a = 1",
    "a pair of duplicates": "INSERT INTO t SELECT * FROM t WHERE a = 5 UNION ALL SELECT * FROM t WHERE a = 5",
    "as many duplicates of another": "DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE a = 5);"
    " INSERT INTO t SELECT * FROM t WHERE a = 1",
    "zero's sign": "UPDATE t SET f = '-0' WHERE a = 1",
    "the last bit": "UPDATE t SET f = 0.1::float8 + 2.7755575615628914e-17 WHERE a = 2",
    "the border between columns": "UPDATE t SET b = b || ',' || c, c = NULL WHERE a = 1",
}
FEW = """
    CREATE TABLE t (a int, b text, c text, f float8);
    INSERT INTO t VALUES (1, 'x', 'z', 0), (2, 'y', 'z', 0.1), (3, '', NULL, 1), (4, NULL, '', 1),
                         (5, 'd', 'd', 2), (5, 'd', 'd', 2), (5, 'd', 'd', 2)"""


def test_every_change_of_rows_changes_the_digest(look):
    connection, tables = look(13, FEW)
    before = all_digests(connection, tables)
    for what, statement in CHANGES.items():
        with connection.cursor() as cursor:
            cursor.execute(f"BEGIN; SET LOCAL search_path = public; {statement}")
            assert all_digests(connection, tables) != before, what
            cursor.execute("ROLLBACK")
    with connection.cursor() as cursor:  # neither order nor place count
        cursor.execute("CREATE TABLE public.o AS TABLE public.t; TRUNCATE public.t;")
        cursor.execute("INSERT INTO public.t SELECT * FROM public.o ORDER BY a DESC; DROP TABLE public.o")
        cursor.execute("UPDATE public.t SET a = a")
    assert all_digests(connection, tables) == before


def test_databases_of_different_encodings_are_compared_by_characters(look):
    statements = "CREATE TABLE t (a text PRIMARY KEY); INSERT INTO t VALUES ('äöü'), (E'b\\\\s'), ('ß''\"')"
    latin = look(13, statements, "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    unicode = look(18, statements)
    form = form_for(latin[0], unicode[0])
    assert form.portable
    assert all_digests(*latin, form) == all_digests(*unicode, form)
    assert all_digests(*latin) != all_digests(*unicode)


def test_parts_of_a_table_add_up(look):
    connection, tables = look(
        15, "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, repeat('x', 700) FROM generate_series(1, 99) AS i"
    )
    [table] = tables.values()
    assert table.blocks >= 9
    whole, *parts = digests(connection, [Part(table), Part(table, None, 3), Part(table, 3, 7), Part(table, 7)], Form())
    assert sum(parts, Digest()) == whole and all(part.rows for part in parts)


def test_what_was_truncated_after_the_instant_is_unknown(servers):
    """To a snapshot from before it looks empty, whatever it held."""
    cluster = servers(15)
    names = {side: create_database(cluster) for side in ("source", "target")}
    for dbname in names.values():
        cluster.sql(dbname, f"CREATE TABLE t AS SELECT 1 AS a; CREATE TABLE gone AS SELECT '{dbname}'::text AS a")
        cluster.sql(dbname, "CREATE TABLE u AS SELECT 2 AS a; CREATE TABLE full_of AS SELECT 3 AS a")
    endpoint = Endpoint.from_options("source", cluster.endpoint())
    with contextlib.ExitStack() as stack:

        def session(dbname: str, snapshot=None):
            opened = connect_to_snapshot(endpoint, dbname, snapshot) if snapshot else endpoint.connect(dbname)
            configure(opened)
            return stack.enter_context(contextlib.closing(opened))

        snapshots = {side: export_snapshot(session(dbname), False) for side, dbname in names.items()}
        cluster.sql(names["source"], "TRUNCATE t")
        for dbname in names.values():
            cluster.sql(dbname, "TRUNCATE gone")
            cluster.sql(dbname, "VACUUM FULL full_of")
        both = {side: session(names[side], snapshots[side]) for side in names}
        versions = dict.fromkeys(names, 150000)
        reading = Reading(lambda side: session(names[side], snapshots[side]), versions, 1, None, lambda pair: None)
        outcome = Outcome()
        table_rows.compare(both, reading, table_rows.Selection(), outcome, False)
    assert outcome.verdict == "incomplete" and outcome.counts["rows"]["equal"] == 2
    assert sorted(one["object"] for one in outcome.unknown) == ["public.gone", "public.t"]
