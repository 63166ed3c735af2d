# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is named like ours is ours only if nobody could have made it, or written to it, who could not act as we do.

We run statements that we find recorded in schema handover, write to its tables, and let a function in it be called by
every writer. So its owner, the owners of what is in it, and everybody who may write there must be the connecting role,
a superuser, or a role that is a member of the connecting role: those may do all that we may do anyway.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

# Who has something of ours in the hand: (what it is, the role's oid, how it comes to it), of schema handover.
HOLDERS = """
    SELECT 'schema handover' AS thing, n.nspowner AS role, 'owns' AS how FROM pg_namespace AS n WHERE n.oid = {schema}
    UNION ALL SELECT 'schema handover', a.grantee, 'has ' || a.privilege_type || ' on'
    FROM pg_namespace AS n, aclexplode(n.nspacl) AS a WHERE n.oid = {schema} AND a.privilege_type <> 'USAGE'
    UNION ALL SELECT format('handover.%I', c.relname), c.relowner, 'owns' FROM pg_class AS c
    WHERE c.relnamespace = {schema} AND c.relkind NOT IN ('i', 'I')
    UNION ALL SELECT format('handover.%I', c.relname), a.grantee, 'has ' || a.privilege_type || ' on'
    FROM pg_class AS c LEFT JOIN pg_attribute AS t ON t.attrelid = c.oid AND t.attacl IS NOT NULL,
        LATERAL (SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT * FROM aclexplode(t.attacl)) AS a
    WHERE c.relnamespace = {schema} AND a.privilege_type <> 'SELECT'
    AND NOT (starts_with(c.relname, 'beacon_') AND EXISTS ( -- see replication/applier.py
        SELECT FROM pg_roles AS r WHERE r.oid = a.grantee AND r.rolname ~ '^handover_[0-9a-f]{{10}}_apply$'
        AND (NOT r.rolcanlogin OR r.rolconnlimit = 0)))
    UNION ALL SELECT format('handover.%I()', p.proname), p.proowner, 'owns' FROM pg_proc AS p
    WHERE p.pronamespace = {schema}
    UNION ALL SELECT format('handover.%I', c.relname), p.proowner, 'has a trigger on'
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE c.relnamespace = {schema} AND NOT t.tgisinternal"""
SCHEMA = "(SELECT oid FROM pg_namespace WHERE nspname = 'handover')"

# Takes from everybody but the owner what default privileges gave; it goes behind the statement that makes a table.
CLOSED = """;
    DO $closed$ DECLARE statement text; BEGIN
        FOR statement IN SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', c.oid::regclass,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
            FROM pg_class AS c, aclexplode(c.relacl) AS a
            WHERE c.relnamespace = 'handover'::regnamespace AND c.relowner = (
                SELECT oid FROM pg_roles WHERE rolname = current_user)
            AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'
            AND pg_get_userbyid(a.grantee) !~ '^handover_[0-9a-f]{10}_apply$'
        LOOP EXECUTE statement; END LOOP;
    END $closed$"""


def trusted(role: str, version: int) -> str:
    """SQL: whether a role, by an expression that yields its oid (0 is PUBLIC), may do all that the current one may."""
    ways = "USAGE, SET, MEMBER WITH ADMIN OPTION" if version >= 160000 else "MEMBER"
    ours = "(SELECT oid FROM pg_roles WHERE rolname = current_user)"
    there = f"EXISTS (SELECT FROM pg_roles WHERE oid = {role})"
    return f"CASE WHEN {there} THEN pg_has_role({role}, {ours}, '{ways}') ELSE false END"


def strangers(connection) -> list[str]:
    """Who else may have written into schema handover here: ``app owns schema handover``; empty if nobody."""
    return rows(connection, f"SELECT {query(connection)}")[0][0]


def query(connection) -> str:
    """The same as an expression of SQL, an array."""
    return f"""ARRAY(SELECT s.who FROM (
        SELECT DISTINCT thing <> 'schema handover', format('%s %s %s', CASE role WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(role)) END, how, thing) FROM ({HOLDERS.format(schema=SCHEMA)}) AS held
        WHERE NOT {trusted("role", connection.info.server_version)} ORDER BY 1, 2) AS s (further, who))"""


def refuse(connection, found: list[str]) -> None:
    """Raise HandoverError for strangers that were found: unless all of schema handover is ours alone."""
    if found:
        database, role = rows(connection, "SELECT current_database()::text, quote_ident(current_user)")[0]
        raise HandoverError(
            f'Database "{database}" has a schema handover that others than {role} may have written to: '
            f"{', '.join(found[:5])}.",
            REMEDY.format(role=role),
        )


REMEDY = (
    "If another administrator began that migration, go on as that role. If not, look at what is in the schema, then "
    "drop or rename it. To trust a role with all that {role} may do: GRANT {role} TO that role."
)


def refuse_shared_role(connection, name: str) -> None:
    """Raise HandoverError if there is a role of this name as which others may act, or that may log in."""
    query = f"""
        SELECT FROM pg_roles AS r WHERE rolname = %s AND (rolcanlogin AND rolconnlimit <> 0 OR EXISTS (
            SELECT FROM pg_auth_members AS m WHERE m.roleid = r.oid
            AND NOT {trusted("m.member", connection.info.server_version)}))"""
    if rows(connection, query, (name,)):
        raise HandoverError(
            f"The role {name} exists, others may use it, and this migration did not make it.", "Drop or rename it."
        )


def refuse_foreign(connection, catalog: str, prefix: str, name: str) -> bool:
    """Whether there is an object of this name, in a catalog with columns like ``pubname``. Raises HandoverError for one
    that is not ours.
    """
    query = f"""
        SELECT quote_ident(pg_get_userbyid({prefix}owner)),
               {trusted(prefix + "owner", connection.info.server_version)}
        FROM {catalog} WHERE {prefix}name = %s"""
    found = rows(connection, query, (name,))
    for owner in (owner for owner, is_ours in found if not is_ours):
        kind = catalog.removeprefix("pg_")
        raise HandoverError(
            f"The {kind} {name} exists, belongs to {owner}, and this migration did not make it.", "Drop or rename it."
        )
    return bool(found)
