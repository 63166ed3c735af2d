# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL files made of titled steps, some of them for certain majors only.

A step begins with ``--- title``, ``--- title (14+)`` or ``--- title (13-15)``. ``@{name}`` stands for a value of
the caller's; identifiers are given already quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple

_HEAD = re.compile(r"^--- (?P<title>.+?)(?: \((?P<first>\d\d)(?:\+|-(?P<last>\d\d))\))?$", re.MULTILINE)
_NAME = re.compile(r"@\{(\w+)\}")


class Step(NamedTuple):
    """SQL for servers of the majors from ``first`` to ``last``."""

    title: str
    first: int
    last: int
    sql: str

    @classmethod
    def of(cls, title: str, sql: str) -> Step:
        """A step for every major."""
        return cls(title, 0, 99, sql)

    def unfit(self, major: int) -> str:
        """Why a server of this major is not given the step; empty if it is."""
        if major < self.first:
            return f"needs PostgreSQL {self.first}"
        return f"gone after PostgreSQL {self.last}" if major > self.last else ""


def steps(path: Path, names: Mapping[str, object]) -> Iterator[Step]:
    """The steps of one file, in order. KeyError: the file uses a name that was not given."""
    text = _NAME.sub(lambda match: str(names[match.group(1)]), path.read_text(encoding="utf-8"))
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends):
        first, last = int(head["first"] or 0), int(head["last"] or 99)
        yield Step(head["title"], first, last, text[head.end() : end].strip())


def quoted(identifier: str) -> str:
    """The identifier in double quotes (PostgreSQL documentation, 4.1.1)."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as a string constant, for servers with standard_conforming_strings = on."""
    return "'" + text.replace("'", "''") + "'"


_SETTINGS = (
    "search_path = pg_catalog",
    "timezone = 'UTC'",
    "datestyle = 'ISO, MDY'",
    "standard_conforming_strings = on",
    "synchronous_commit = off",
    "work_mem = '64MB'",
    "maintenance_work_mem = '128MB'",
    "jit = off",
    "max_parallel_maintenance_workers = 0",
    "client_min_messages = warning",
)


@contextmanager
def session(connect: Callable, dbname: str) -> Iterator:
    """A psycopg2 cursor with the settings that the SQL files count on; its connection is closed afterwards.

    ``connect(dbname)`` returns an autocommit connection of a superuser.
    """
    connection = connect(dbname)
    try:
        connection.set_client_encoding("UTF8")
        cursor = connection.cursor()
        cursor.execute("; ".join(f"SET {setting}" for setting in _SETTINGS))
        yield cursor
    finally:
        connection.close()


def major(cursor) -> int:
    """The major of the server that the cursor talks to."""
    return cursor.connection.server_version // 10000


def run(cursor, paths: Iterable[Path], names: Mapping[str, object]) -> None:
    """Every step that fits the server's major; the first error ends it."""
    for path in paths:
        for step in steps(path, names):
            if not step.unfit(major(cursor)):
                cursor.execute(step.sql)
