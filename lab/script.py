# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL files made of titled steps, some of them for certain majors only.

A step begins with ``--- title``, ``--- title (14+)`` or ``--- title (13-15)``. ``@{name}`` stands for a value of
the caller's; identifiers are given already quoted.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

_HEAD = re.compile(r"^--- (?P<title>.+?)(?: \((?P<first>\d\d)(?:\+|-(?P<last>\d\d))\))?$", re.MULTILINE)
_NAME = re.compile(r"@\{(\w+)\}")


class Step(NamedTuple):
    title: str
    first: int
    last: int
    sql: str

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
        yield Step(head["title"], first, last, text[head.end():end].strip())


def quoted(identifier: str) -> str:
    """The identifier in double quotes (PostgreSQL documentation, 4.1.1)."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as a string constant, for servers with standard_conforming_strings = on."""
    return "'" + text.replace("'", "''") + "'"
