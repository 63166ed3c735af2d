# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large objects with their owners, privileges and comments: all of them, in constant memory, or what changed.

pg_dump --schema-only of no major has anything of them, so what describes them is carried here too.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import large_object_digests

TOGETHER = 32  # objects of which one statement reads or writes the beginnings
FIRST_BYTES = 1 << 17
CHUNK = 1 << 20
ALL = {"SELECT", "UPDATE"}
UNLINKED_TOGETHER = 500  # each takes a lock until the end of its transaction

DESCRIPTION = """
    SELECT m.oid::bigint, pg_get_userbyid(m.lomowner)::text, obj_description(m.oid, 'pg_largeobject'),
        CASE WHEN m.lomacl IS NOT NULL THEN (
            SELECT coalesce(json_agg(json_build_array(
                CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable)), '[]')
            FROM aclexplode(m.lomacl) AS a) END
    FROM pg_largeobject_metadata AS m """
DESCRIPTIONS = DESCRIPTION + "WHERE m.oid > %s ORDER BY m.oid LIMIT %s"

# What tells versions of objects apart: who changes something leaves another xmin, which no VACUUM takes away.
VERSIONS = """
    SELECT m.oid::bigint, concat_ws(' ', m.xmin, d.xmin, {pages}) FROM pg_largeobject_metadata AS m
    LEFT JOIN pg_description AS d ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid {join}"""
PAGES = """
    LEFT JOIN (
        SELECT loid, count(*) AS amount, sum(hashint8extended(pageno::bigint << 32 | xmin::text::bigint, 0)) AS sum
        FROM pg_largeobject GROUP BY loid) AS p ON p.loid = m.oid"""


def count(connection, after=None) -> int:
    """How many there are, ``after`` the server has done what is sent together with the question."""
    query = sql.SQL("SELECT count(*)::int FROM pg_largeobject_metadata")
    return rows(connection, sql.SQL("; ").join([after, query]) if after else query)[0][0]


def owners(connection) -> set[str]:
    """Roles to which they belong."""
    query = "SELECT DISTINCT pg_get_userbyid(lomowner)::text FROM pg_largeobject_metadata"
    return {name for (name,) in rows(connection, query)}


def lockable(connection) -> list[tuple[str, str]]:
    """(schema, name) of the catalogs whose locks keep writers of large objects out, and readers of their bytes, who
    lock as writers do (src/backend/storage/large_object/inv_api.c); none where this role may not lock them.
    """
    names = ("pg_largeobject", "pg_largeobject_metadata")
    query = "SELECT bool_and(has_table_privilege('pg_catalog.' || name, 'UPDATE')) FROM unnest(%s) AS name"
    return [("pg_catalog", name) for name in names] if rows(connection, query, (list(names),))[0][0] else []


def shows_versions(connection) -> bool:
    """Whether this role may read the catalog, and so tell by row versions what has changed, at a gigabyte a second."""
    return rows(connection, "SELECT has_table_privilege('pg_catalog.pg_largeobject', 'SELECT')")[0][0]


def versions(connection, catalog: bool, contents: bool = True) -> dict[int, str]:
    """What each is now, by oid: something else after every change of bytes, owner, privileges or comment.

    ``catalog`` is what ``shows_versions`` says. Else digests of the bytes stand for their versions; with
    ``contents=False`` they are left out then. Digests are as of one snapshot where the transaction has one.
    """
    query = VERSIONS.format(pages="p.amount, p.sum" if catalog else "NULL", join=PAGES if catalog else "")
    found = dict(rows(connection, query))
    if catalog or not contents or not found:
        return found
    return {oid: f"{found.get(oid)} {digest}" for oid, digest in large_object_digests.read(connection, None).items()}


def differing(source, target) -> set[int]:
    """Those that are not the same on both ends, by bytes and descriptions; also those whose bytes cannot be read."""
    here, there = _contents(source), _contents(target)
    return {oid for oid in {*here, *there} if here.get(oid) != there.get(oid) or here[oid][-1] is None}


def _contents(connection) -> dict[int, tuple]:
    read = large_object_digests.read(connection, None)
    return {
        oid: (owner, comment, None if acl is None else sorted(map(repr, acl)), read.get(oid))
        for oid, owner, comment, acl in rows(connection, DESCRIPTION)
    }


def bring(source, target, oids, given_to: set | None = None, grantees: set | None = None) -> int:
    """Make these on the target what they are on the source, gone included; bytes. The rest is as ``copy`` says."""
    wanted, size = sorted(oids), 0
    for group in in_groups(wanted, TOGETHER):
        query = "SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata WHERE oid = ANY (%s::oid[])"
        rows(target, query, (group,))
        described = rows(source, DESCRIPTION + "WHERE m.oid = ANY (%s::oid[])", (group,))
        size += _make(source, target, described, given_to, grantees, None) if described else 0
    return size


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
        size += _make(source, target, described, given_to, grantees, flow)
        objects += len(described)
        last = described[-1][0]


def _make(source, target, described: list[tuple], given_to: set | None, grantees: set | None, flow) -> int:
    """Objects that the target does not have; bytes."""
    size = _copy_contents(source, target, [oid for oid, *_rest in described], flow)
    statements = [one for row in described for one in _statements(row, given_to, grantees)]
    if statements:
        _execute(target, sql.SQL("; ").join(statements))
    return size


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
