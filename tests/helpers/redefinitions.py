# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that changes its schema all the time, by chance, and writes rows under every definition."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import psycopg2
from psycopg2 import sql
from support import Cluster

COLUMNS = """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
    WHERE a.attrelid = %s::regclass AND a.attnum > 1 AND NOT a.attisdropped AND a.attgenerated = ''
    AND a.attidentity = '' ORDER BY a.attnum"""
VALUES: dict[str, Callable[[random.Random], object]] = {
    "integer": lambda chance: chance.randrange(1000),
    "bigint": lambda chance: chance.randrange(1 << 40),
    "boolean": lambda chance: chance.random() < 0.5,
    "numeric(9,2)": lambda chance: round(chance.random() * 1000, 2),
    "jsonb": lambda chance: '{"a": [1, "b"]}',
    "mood": lambda chance: "good",
    "timestamp with time zone": lambda chance: f"2026-03-0{chance.randrange(1, 9)} 12:00+00",
    "uuid": lambda chance: f"00000000-0000-0000-0000-{chance.randrange(1 << 40):012x}",
}
# Columns as releases add them: those of the last two kinds make the server rewrite the table.
ADDED = (
    "integer", "text DEFAULT 'it''s'", "varchar(20)", "timestamptz NOT NULL DEFAULT now()", "jsonb DEFAULT '{}'",
    "boolean NOT NULL DEFAULT false", "mood DEFAULT 'good'", "numeric(9,2)",
    "integer GENERATED ALWAYS AS (id * 3) STORED",
    "uuid DEFAULT md5(random()::text)::uuid", "bigserial",
)  # fmt: skip


class Application:
    """``rewrites``: whether tables may be rewritten, which a way back cannot follow; rows count from ``number``."""

    def __init__(
        self, cluster: Cluster, dbname: str, seed: int, rewrites: bool = True, role: str = "", number: int = 0
    ) -> None:
        self.role = role or "postgres"
        self.cluster, self.dbname, self.rewrites = cluster, dbname, rewrites
        self.chance = random.Random(seed)
        self.number = number
        self.done: list[str] = []

    def change(self) -> None:
        """One change that the server takes."""
        kinds = [
            self._add_column, self._add_column, self._drop_column, self._rename_column, self._require, self._relax,
            self._default, self._widen, self._rename_table, self._create_table, self._drop_table, self._index,
            self._check, self._view, self._function, self._partition, self._detach,
        ]  # fmt: skip
        while True:
            statement = self.chance.choice(kinds)()
            if statement and self._run(statement):
                self.done.append(statement)
                return

    def write(self, rows: int = 3) -> None:
        """Some rows into every table, and some changes of others."""
        for table in self._tables("r") + self._tables("p"):
            for _row in range(rows):
                self._insert(table)
            self._run(f"DELETE FROM {table} WHERE id = (SELECT min(id) FROM {table})")
            columns = [name for name, kind in self._columns(table) if kind == "text"]
            if columns:
                self._run(f"UPDATE {table} SET {self.chance.choice(columns)} = 'w{self.number}' WHERE id % 3 = 0")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Rows are written all the time that the block runs."""
        over = threading.Event()

        def write_on() -> None:
            while not over.is_set():
                self.write(1)

        writer = threading.Thread(target=write_on)
        writer.start()
        try:
            yield
        finally:
            over.set()
            writer.join()

    # Releases

    def _add_column(self) -> str:
        kinds = ADDED if self.rewrites else ADDED[:-2]
        return f"ALTER TABLE {self._table()} ADD {self._new('c')} {self.chance.choice(kinds)}"

    def _drop_column(self) -> str:
        return self._of_column("DROP {}")

    def _rename_column(self) -> str:
        return self._of_column(f"RENAME {{}} TO {self._new('c')}")

    def _require(self) -> str:
        table, column = self._column("text")
        filled = f"UPDATE {table} SET {column} = 'filled' WHERE {column} IS NULL"
        return column and f"{filled}; ALTER TABLE {table} ALTER {column} SET NOT NULL"

    def _relax(self) -> str:
        return self._of_column("ALTER {} DROP NOT NULL")

    def _default(self) -> str:
        return self._of_column(self.chance.choice(["ALTER {} DROP DEFAULT", "ALTER {} SET DEFAULT 'other'"]), "text")

    def _widen(self) -> str:
        if self.rewrites and self.chance.random() < 0.3:
            return self._of_column("ALTER {} TYPE bigint", "integer")
        return self._of_column("ALTER {} TYPE text", "character varying(20)")

    def _rename_table(self) -> str:
        return f"ALTER TABLE {self._table()} RENAME TO {self._new('t')}"

    def _create_table(self) -> str:
        if not self.rewrites:
            return ""  # the way back cannot copy
        return f"CREATE TABLE {self._new('t')} (id int PRIMARY KEY, a text, b integer)"

    def _drop_table(self) -> str:
        tables = self._tables("r")
        return f"DROP TABLE {self.chance.choice(tables)}" if self.rewrites and len(tables) > 6 else ""

    def _index(self) -> str:
        table, column = self._column()
        if self.chance.random() < 0.3:
            found = self._ask(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisunique AND indrelid >= 16384"
            )
            return found and f"DROP INDEX {self.chance.choice(found)}"
        return column and f"CREATE INDEX CONCURRENTLY {self._new('i')} ON {table} ({column})"

    def _check(self) -> str:
        if self.chance.random() < 0.3:
            query = "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint"
            found = self._ask(query + " WHERE contype = 'c' AND conrelid >= 16384 AND coninhcount = 0")
            return found and self.chance.choice(found)
        return f"ALTER TABLE {self._table()} ADD CONSTRAINT {self._new('k')} CHECK (id > 0)"

    def _view(self) -> str:
        found = self._ask("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'v' AND oid >= 16384")
        if found and self.chance.random() < 0.6:
            view = self.chance.choice(found)
            return self.chance.choice(
                [f"DROP VIEW {view}", f"CREATE OR REPLACE VIEW {view} AS SELECT id FROM {self._table()}"]
            )
        return f"CREATE VIEW {self._new('v')} AS SELECT id FROM {self._table()}"

    def _function(self) -> str:
        name = self.chance.choice(["f1", "f2"])
        return f"CREATE OR REPLACE FUNCTION {name}() RETURNS int LANGUAGE sql AS 'SELECT {self.chance.randrange(99)}'"

    def _partition(self) -> str:
        parents = self._tables("p")
        low = 10000 * (1 + len(self._ask("SELECT inhrelid::regclass::text FROM pg_inherits")) + self.number)
        bounds = f"FROM ({low}) TO ({low + 10000})"
        name = self._new("t")
        return (
            f"CREATE TABLE {name} PARTITION OF {self.chance.choice(parents)} FOR VALUES {bounds}"
            if self.rewrites
            else ""
        )

    def _detach(self) -> str:
        query = """
            SELECT format('ALTER TABLE %s DETACH PARTITION %s', inhparent::regclass, inhrelid::regclass)
            FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE c.relkind = 'r'"""
        found = self._ask(query)
        return self.chance.choice(found) if len(found) > 2 else ""

    # What there is

    def _run(self, statement: str) -> bool:
        with contextlib.suppress(psycopg2.Error):
            with contextlib.closing(self.cluster.connect(self.dbname)) as session, session.cursor() as cursor:
                cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
                cursor.execute(statement)
            return True
        return False

    def _ask(self, query: str) -> list[str]:
        return sorted(name for (name,) in self.cluster.sql(self.dbname, query))

    def _tables(self, kind: str) -> list[str]:
        return self._ask(
            f"""SELECT oid::regclass::text FROM pg_class WHERE relkind = '{kind}' AND oid >= 16384
            AND relnamespace = 'public'::regnamespace AND NOT relispartition"""
        )

    def _table(self) -> str:
        return self.chance.choice(self._tables("r") + self._tables("p"))

    def _columns(self, table: str) -> list[tuple[str, str]]:
        return self.cluster.sql(self.dbname, COLUMNS, (table,))

    def _column(self, kind: str = "") -> tuple[str, str]:
        """(table, column), the latter empty where there is none of that type."""
        table = self._table()
        found = [one for one, its in self._columns(table) if kind in ("", its)]
        return table, self.chance.choice(found) if found else ""

    def _of_column(self, what: str, kind: str = "") -> str:
        table, column = self._column(kind)
        return column and f"ALTER TABLE {table} {what.format(column)}"

    def _new(self, letter: str) -> str:
        self.number += 1
        return f"{letter}{self.number}"

    def _insert(self, table: str) -> None:
        self.number += 1
        given: dict[str, object] = {"id": self.number}
        for name, kind in self._columns(table):
            if self.chance.random() < 0.8:
                given[name] = VALUES.get(kind, lambda chance: f"v{self.number}")(self.chance)
        names = sql.SQL(", ").join(map(sql.Identifier, given))
        marks = sql.SQL(", ").join(sql.Placeholder() * len(given))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.SQL(table), names, marks)
        with contextlib.suppress(psycopg2.Error):
            self.cluster.sql(self.dbname, sql.SQL("{} RETURNING 1").format(statement), list(given.values()))
