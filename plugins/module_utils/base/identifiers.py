# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in SQL as every server spells them. Servers quote what is a keyword to them (``json`` is one to 16, not to 15),
so what two of them have quoted is compared, and looked up, only in this form.
"""

from __future__ import annotations

import re

# A literal; the schema that is not written before json since 17; a name that needs no quotes; any other name.
# "char" without quotes would be another type.
TOKEN = re.compile(
    r"""'(?:[^']|'')*'|(?P<catalog>(?<![\w.$"])(?:pg_catalog|"pg_catalog")\.(?="json"|json\b))"""
    r'''|"(?P<plain>(?!char")[a-z_][a-z0-9_$]*)"(?!")|"(?:[^"]|"")*"'''
)


def unquoted(text: str) -> str:
    """Names or SQL, of any server, with quotes only around names that are not made of small letters, digits and _."""
    return TOKEN.sub(lambda found: "" if found["catalog"] else found["plain"] or found[0], text)


def dotted(*names: str) -> str:
    """The same of names as they are, such as a schema's and a table's."""
    return ".".join(unquoted('"{}"'.format(name.replace('"', '""'))) for name in names)
