# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where majors know of things that others do not, and which definitions say the same in the same words.

Of other spellings there is no list: definitions that are not the same in these words are compared on one server
(parts/verification/scratch.py).

- 14 knows compression of columns and bodies of SQL functions as trees, 15 locales of databases and collations beyond
  libc's, row filters and column lists of publications, 16 rules of collations, 17 other names for locales, 18 generated
  columns of publications: what a major does not know reads as what it does without it.
- 17 has the privilege MAINTAIN, and GRANT ALL includes it: it counts only where both ends know it.
- 17 has NULL where earlier ones have -1 as the statistics target of a column.
- 18 has not-null constraints as objects: they count where both ends do; that a column is not null counts anyway.
- Minors of 2026-11-12 keep an internal option, pg_attver, with every column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Majors:
    """Of this side, and of both. ``with_reads``: whether the queries are to ask what definitions name, which takes
    longer than everything else.
    """

    this: int
    lower: int
    higher: int
    with_reads: bool = False

    def since(self, major: int, expression: str, before: str) -> str:
        """SQL that this side understands: ``before`` stands for what it does not know."""
        return expression if self.this >= major else before

    def both(self, major: int) -> bool:
        """Whether both ends are of this major or later."""
        return self.lower >= major

    def reads(self, catalog: str, oid: str, itself: str = "0") -> str:
        """SQL: what a definition names, by pg_depend; but for ``itself`` as a whole, which views do before 16. It tells
        apart what two definitions mean of which one has no qualifier, or another operator of the same name.
        """
        return _reads(catalog, oid, itself) if self.with_reads else "NULL::text[]"


NAME = r'(?:"(?:[^"]|"")+"|[^\W\d][\w$]*)'
WORD = re.compile(rf"""(?P<of>(?:{NAME}\.)*)(?P<word>'(?:[^']|'')*'|{NAME}|\d[\w.]*|\S)""")


def same_words(one: str | None, other: str | None) -> bool:
    """Whether two definitions are the same but for white space, the word AS, and qualifiers that only one has."""
    if one is None or other is None:
        return one is other
    ours, theirs = _words(one), _words(other)
    return len(ours) == len(theirs) and all(
        word == another and (qualifier == second or not qualifier or not second)
        for (qualifier, word), (second, another) in zip(ours, theirs)
    )


def _words(text: str) -> list[tuple[str, str]]:
    """(qualifiers, word) of each."""
    return [(found["of"], found["word"]) for found in WORD.finditer(text) if found["word"] != "AS"]


def _reads(catalog: str, oid: str, itself: str) -> str:
    return f"""
        (SELECT array_agg(DISTINCT i.identity COLLATE "C")
         FROM pg_depend AS d, pg_identify_object(refclassid, refobjid, refobjsubid) AS i
         WHERE d.classid = '{catalog}'::regclass AND d.objid = {oid} AND d.deptype = 'n'
         AND (refobjid <> {itself} OR refobjsubid <> 0))"""


# SQL: options of a column without the internal one, in an order.
COLUMN_OPTIONS = "(SELECT array_agg(o ORDER BY o) FROM unnest(attoptions) AS o WHERE o !~ '^pg_attver=')"
