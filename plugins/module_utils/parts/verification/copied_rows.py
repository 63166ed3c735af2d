# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of tables of which no query is planned without the application's functions (facts/planning.py).

Their rows come here as COPY writes them, and are hashed here. Generated columns cannot be copied: they are read by a
query as the table's owner, with the path that the application has, whatever it calls.
"""

from __future__ import annotations

import hashlib
import re
import struct

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts import planning
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.digests import (
    Digest,
    Form,
    Part,
    digests,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.rate import Rate
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.tables import Column, Table

HASHES = struct.Struct(">QQ")
ZEROS = re.compile(rb"/0+(?=[0-9A-F])")

# Who owns a table, and the path that sessions of that role have in this database.
AS_OWNER = """
    SELECT set_config('search_path', coalesce((
               SELECT substr(s, length('search_path=') + 1) FROM pg_db_role_setting, unnest(setconfig) AS s
               WHERE starts_with(s, 'search_path=') AND setrole IN (0, c.relowner) AND setdatabase IN (0, (
                   SELECT oid FROM pg_database WHERE datname = current_database()))
               ORDER BY setrole = 0, setdatabase = 0 LIMIT 1),
               (SELECT reset_val FROM pg_settings WHERE name = 'search_path')), true),
           set_config('role', pg_get_userbyid(c.relowner), true)
    FROM pg_class AS c WHERE oid = format('%%I.%%I', %s::text, %s::text)::regclass"""


def digest(connection: Connection, table: Table, columns: list[Column], rate: Rate) -> Digest:
    """Of these columns of all rows."""
    count, first, second = 0, 0, 0
    otherwise = written_otherwise(columns)

    def add(row: bytes) -> None:
        nonlocal count, first, second
        rate.spend(len(row))
        one, another = HASHES.unpack_from(hashlib.sha256(as_newest(row[:-1], otherwise)).digest())
        count += 1
        first += one
        second += another

    planning.copy_rows(connection, table.identity, [one.name for one in columns], add)
    return Digest(count, first, second)


def become_owner(connection: Connection, table: Table) -> None:
    """Until the transaction goes back to the savepoint around this. Raises psycopg2.Error where this role may not."""
    rows(connection, AS_OWNER, table.identity)


def digest_of_generated(connection: Connection, table: Table, columns: list[Column], form: Form) -> Digest:
    """Of these columns, as the owner; within a savepoint."""
    become_owner(connection, table)
    [found] = digests(connection, [Part(table)], Form(form.portable), tuple(columns))
    return found


def written_otherwise(columns: list[Column]) -> list[tuple[int, str]]:
    """Numbers and kinds of those that older majors write in another way."""
    return [(number, one.kind) for number, one in enumerate(columns) if one.kind in ("char", "lsn")]


def as_newest(row: bytes, otherwise: list[tuple[int, str]]) -> bytes:
    """A row, without the end of its line, as newer majors write it."""
    if not otherwise:
        return row
    values = row.split(b"\t")
    for number, kind in otherwise:
        if kind == "lsn":
            values[number] = ZEROS.sub(b"/", values[number])
        elif len(values[number]) == 1 and values[number][0] > 127:
            values[number] = b"\\\\%03o" % values[number][0]
    return b"\t".join(values)
