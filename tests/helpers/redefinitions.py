# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that changes its schema all the time, by chance, and writes rows under every definition."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import psycopg2
from psycopg2 import sql
from support import Cluster

COLUMNS = """
    SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
    WHERE a.attrelid = %s::regclass AND a.attnum > 1 AND NOT a.attisdropped AND a.attgenerated = ''
    AND a.attidentity = '' ORDER BY a.attnum"""
FIRST_MONTH, FIRST_HOUR = date(2026, 1, 1), datetime(2026, 3, 1, tzinfo=timezone.utc)
AHEAD = 4  # partitions of hours to come, and as many of the past stay
# A table with partitions by the hour, and one for all else.
HOURS = f"""
    CREATE TABLE log (id int, at timestamptz NOT NULL, a text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE log_else PARTITION OF log DEFAULT;
    DO $$ BEGIN FOR i IN 0..{AHEAD - 1} LOOP
        EXECUTE format('CREATE TABLE hour_%s PARTITION OF log FOR VALUES FROM (%L) TO (%L)', i,
                       timestamptz '{FIRST_HOUR}' + i * interval '1 hour',
                       timestamptz '{FIRST_HOUR}' + (i + 1) * interval '1 hour');
    END LOOP; END $$"""
# Tables that have partitions by a column of this type, and those that are partitions of one, in their order.
PARENTS = """
    SELECT p.partrelid::regclass::text FROM pg_partitioned_table AS p JOIN pg_attribute AS a ON a.attrelid = p.partrelid
    WHERE a.attnum = ANY (p.partattrs::int2[]) AND a.atttypid = '{}'::regtype"""
PARTITIONS = """
    SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
    WHERE inhparent = '{}'::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
    ORDER BY pg_get_expr(c.relpartbound, c.oid)"""
OF_KEY = """
    SELECT FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
    WHERE i.indisprimary AND i.indrelid = %s::regclass AND a.attname = %s"""
VALUES: dict[str, Callable[[random.Random], object]] = {
    "integer": lambda chance: chance.randrange(1000),
    "bigint": lambda chance: chance.randrange(1 << 40),
    "boolean": lambda chance: chance.random() < 0.5,
    "numeric(9,2)": lambda chance: round(chance.random() * 1000, 2),
    "jsonb": lambda chance: '{"a": [1, "b"]}',
    "date": lambda chance: str(FIRST_MONTH + timedelta(days=chance.randrange(90))),
    "mood": lambda chance: "good",
    "uuid": lambda chance: f"00000000-0000-0000-0000-{chance.randrange(1 << 40):012x}",
}
# Columns as releases add them: those of the last two kinds make the server rewrite the table.
ADDED = (
    "integer", "text DEFAULT 'it''s'", "varchar(20)", "timestamptz NOT NULL DEFAULT now()", "jsonb DEFAULT '{}'",
    "boolean NOT NULL DEFAULT false", "mood DEFAULT 'good'", "numeric(9,2)",
    "integer GENERATED ALWAYS AS (id * 3) STORED",
    "uuid DEFAULT md5(random()::text)::uuid", "bigserial",
)  # fmt: skip
OF_COLUMNS = (
    "add_column", "add_column", "drop_column", "rename_column", "require", "relax", "default", "widen", "rename_table",
)  # fmt: skip
KINDS = (
    *OF_COLUMNS, "create_table", "drop_table", "index", "check", "view", "function", "month", "detach", "hour", "hour",
)  # fmt: skip


class Application:
    """``rewrites``: whether tables may be rewritten, which a way back cannot follow; ``kinds`` of changes; rows
    count from ``number``. It is to be closed.
    """

    def __init__(
        self,
        cluster: Cluster,
        dbname: str,
        seed: int,
        rewrites: bool = True,
        role: str = "postgres",
        number: int = 0,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.cluster, self.dbname, self.role, self.rewrites = cluster, dbname, role, rewrites
        self.chance = random.Random(seed)
        self.number = number
        self.hours, self.months = AHEAD, 2  # that were made
        self._kinds = [getattr(self, f"_{name}") for name in kinds]
        self._kept: Any = None

    def close(self) -> None:
        """End its session."""
        if self._kept is not None:
            self._kept.close()

    def change(self) -> None:
        """One change that the server takes; printed, for whoever looks for the reason of a failure."""
        while True:
            statement = self.chance.choice(self._kinds)()
            if statement and self._run(statement):
                print(statement, flush=True)
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
        """None of a key: the application could not change its rows any more while they are published."""
        table, column = self._column()
        is_free = column and not self._rows(OF_KEY, (table, column))
        return f"ALTER TABLE {table} DROP {column}" if is_free else ""

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
        return f"CREATE TABLE {self._new('t')} (id int PRIMARY KEY, a text, b integer)"

    def _drop_table(self) -> str:
        tables = self._tables("r")
        return f"DROP TABLE {self.chance.choice(tables)}" if len(tables) > 6 else ""

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

    def _month(self) -> str:
        self.months += 1
        first, last = (
            (FIRST_MONTH + timedelta(days=31 * one)).replace(day=1) for one in (self.months - 1, self.months)
        )
        made = f"CREATE TABLE {self._new('t')} PARTITION OF {{}} FOR VALUES FROM ('{first}') TO ('{last}')"
        return self._of_parent("date", made)

    def _hour(self) -> str:
        """As pg_partman does it: one more ahead, made like its parent and attached; the oldest goes."""
        begin, end = (FIRST_HOUR + timedelta(hours=one) for one in (self.hours, self.hours + 1))
        name = f"hour_{self.hours}"
        made = f"CREATE TABLE {name} (LIKE {{0}} INCLUDING ALL); ALTER TABLE {{0}} ATTACH PARTITION {name} "
        statement = self._of_parent("timestamptz", f"{made} FOR VALUES FROM ('{begin}') TO ('{end}')")
        for parent in self._ask(PARENTS.format("timestamptz")) if statement else ():
            there = [name for (name,) in self._rows(PARTITIONS.format(parent))]
            if len(there) > 2 * AHEAD:
                statement += f"; ALTER TABLE {parent} DETACH PARTITION {there[0]}; DROP TABLE {there[0]}"
        self.hours += bool(statement)
        return statement

    def _of_parent(self, kind: str, what: str) -> str:
        found = self._ask(PARENTS.format(kind))
        return what.format(found[0]) if found else ""

    def _detach(self) -> str:
        query = """
            SELECT format('ALTER TABLE %s DETACH PARTITION %s', inhparent::regclass, inhrelid::regclass)
            FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE c.relkind = 'r'"""
        found = self._ask(query)
        return self.chance.choice(found) if len(found) > 2 else ""

    # What there is

    def _session(self) -> Any:
        if self._kept is None or self._kept.closed:
            self._kept = self.cluster.connect(self.dbname)
            with self._kept.cursor() as cursor:
                cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))
        return self._kept

    def _run(self, statement: str | sql.Composable, given: Sequence[object] | None = None) -> bool:
        with contextlib.suppress(psycopg2.Error):
            with self._session().cursor() as cursor:
                cursor.execute(statement, given)
            return True
        return False

    def _rows(self, query: str, given: Sequence[object] | None = None) -> list[tuple]:
        with self._session().cursor() as cursor:
            cursor.execute(query, given)
            return cursor.fetchall()

    def _ask(self, query: str) -> list[str]:
        return sorted(name for (name,) in self._rows(query))

    def _tables(self, kind: str) -> list[str]:
        return self._ask(
            f"""SELECT oid::regclass::text FROM pg_class WHERE relkind = '{kind}' AND oid >= 16384
            AND relnamespace = 'public'::regnamespace AND NOT relispartition"""
        )

    def _table(self) -> str:
        return self.chance.choice(self._tables("r") + self._tables("p"))

    def _columns(self, table: str) -> list[tuple[str, str]]:
        return self._rows(COLUMNS, (table,))

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
            if self.chance.random() < 0.8 or name == "at":
                given[name] = self._value(kind)
        names = sql.SQL(", ").join(map(sql.Identifier, given))
        marks = sql.SQL(", ").join(sql.Placeholder() * len(given))
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.SQL(table), names, marks)
        self._run(statement, list(given.values()))

    def _value(self, kind: str) -> object:
        if kind == "timestamp with time zone":  # never in an hour that is still to be made
            return FIRST_HOUR + timedelta(minutes=self.chance.randrange(60 * self.hours))
        return VALUES.get(kind, lambda chance: f"v{self.number}")(self.chance)
