# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects with their owners, privileges and comments, in constant memory.

pg_dump --schema-only of no major has anything of them, so what describes them is carried here too.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

TOGETHER = 32  # objects of which one statement reads or writes the beginnings
FIRST_BYTES = 1 << 17
CHUNK = 1 << 20
ALL = {"SELECT", "UPDATE"}
UNLINKED_TOGETHER = 500  # each takes a lock until the end of its transaction

DESCRIPTIONS = """
    SELECT m.oid::bigint, pg_get_userbyid(m.lomowner)::text, obj_description(m.oid, 'pg_largeobject'),
        CASE WHEN m.lomacl IS NOT NULL THEN (
            SELECT coalesce(json_agg(json_build_array(
                CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable)), '[]')
            FROM aclexplode(m.lomacl) AS a) END
    FROM pg_largeobject_metadata AS m WHERE m.oid > %s ORDER BY m.oid LIMIT %s"""


def count(connection) -> int:
    """How many there are."""
    return rows(connection, "SELECT count(*)::int FROM pg_largeobject_metadata")[0][0]


def owners(connection) -> set[str]:
    """Roles to which they belong."""
    query = "SELECT DISTINCT pg_get_userbyid(lomowner)::text FROM pg_largeobject_metadata"
    return {name for (name,) in rows(connection, query)}


def copy(source, target, given_to: set | None = None, grantees: set | None = None, flow=None) -> tuple[int, int]:
    """Replace all large objects of the target by the source's; (objects, bytes).

    The source's session is in the transaction whose snapshot counts, the target's in autocommit mode or in one of its
    own. Owners and grantees are carried over as far as they are in ``given_to`` and ``grantees``, all if that is None.
    ``flow`` accounts for the bytes.
    """
    _remove_all(target)
    objects = size = last = 0
    while True:
        described = rows(source, DESCRIPTIONS, (last, TOGETHER))
        if not described:
            return objects, size
        size += _copy_contents(source, target, [oid for oid, *_rest in described], flow)
        statements = [one for row in described for one in _statements(row, given_to, grantees)]
        if statements:
            _execute(target, sql.SQL("; ").join(statements))
        objects += len(described)
        last = described[-1][0]


def _remove_all(target) -> None:
    query = """
        SELECT count(lo_unlink(oid)) FROM (SELECT oid FROM pg_largeobject_metadata ORDER BY oid LIMIT %s) AS o"""
    while rows(target, query, (UNLINKED_TOGETHER,))[0][0]:
        pass


def _copy_contents(source, target, oids: list[int], flow) -> int:
    """The beginnings of all at once, then what is left of each."""
    query = "SELECT oid::bigint, lo_get(oid, 0, %s) FROM unnest(%s::oid[]) AS oid"
    found = [(oid, bytes(data)) for oid, data in rows(source, query, (FIRST_BYTES, oids))]
    size = sum(len(data) for _oid, data in found)
    if flow:
        flow.pass_on(size)
    blobs = [psycopg2.Binary(data) for _oid, data in found]
    rows(
        target,
        "SELECT lo_from_bytea(oid, data) FROM unnest(%s::oid[], %s::bytea[]) AS o (oid, data)",
        ([oid for oid, _data in found], blobs),
    )
    for oid, data in found:
        if len(data) == FIRST_BYTES:
            size += _copy_rest(source, target, oid, flow)
    return size


def _copy_rest(source, target, oid: int, flow) -> int:
    position = FIRST_BYTES
    while True:
        data = bytes(rows(source, "SELECT lo_get(%s, %s, %s)", (oid, position, CHUNK))[0][0])
        if data:
            if flow:
                flow.pass_on(len(data))
            _execute(target, "SELECT lo_put(%s, %s, %s)", (oid, position, psycopg2.Binary(data)))
        position += len(data)
        if len(data) < CHUNK:
            return position - FIRST_BYTES


def _statements(row: tuple, given_to: set | None, grantees: set | None) -> list:
    """What gives an object its comment, privileges and owner, in an order in which one who is not superuser may."""
    oid, owner, comment, acl = row
    thing = sql.SQL("LARGE OBJECT {}").format(sql.Literal(oid))
    statements = []
    if comment is not None:
        statements.append(sql.SQL("COMMENT ON {} IS {}").format(thing, sql.Literal(comment)))
    if given_to is None or owner in given_to:
        statements.append(sql.SQL("ALTER {} OWNER TO {}").format(thing, sql.Identifier(owner)))
        own = {privilege for grantee, privilege, _grantable in acl or () if grantee == owner}
        if acl is not None and own != ALL:
            statements.append(sql.SQL("REVOKE ALL ON {} FROM {}").format(thing, sql.Identifier(owner)))
    for grantee, privilege, grantable in acl or ():
        if grantee is not None and grantees is not None and grantee not in grantees:
            continue
        role = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
        statements.append(sql.SQL("GRANT {} ON {} TO {}{}").format(sql.SQL(privilege), thing, role, option))
    return statements


def _execute(connection, statement, parameters=None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
