# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role as which changes are applied, from 16 on, to tables that their own owners may not write.

Those are tables with FORCE ROW LEVEL SECURITY, and such whose owner revoked a privilege from himself. Their
subscription belongs to this role instead of to a superuser, so that expressions and triggers of these tables run with
the rights of their owners, and past row level security, and no further. A worker needs LOGIN of it; nobody else can
connect as it.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust

TABLES = """
    unnest(%s::text[], %s::text[]) AS t (schema, name) JOIN pg_namespace AS n ON n.nspname = t.schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name"""
OWNERS = f"""
    SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM {TABLES} WHERE n.nspname <> 'handover'
    AND NOT EXISTS (SELECT FROM pg_roles AS o WHERE o.oid = c.relowner AND o.rolsuper) ORDER BY 1"""

# What the role lacks although it is a member of the owners.
LACKING = f"""
    SELECT format('GRANT %%s ON %%I.%%I TO %%I', string_agg(p.name, ', '), n.nspname, c.relname, r.rolname)
    FROM pg_roles AS r, {TABLES}, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p (name)
    WHERE r.rolname = %s AND NOT has_table_privilege(r.oid, c.oid, p.name) GROUP BY n.nspname, c.relname, r.rolname
    UNION ALL SELECT DISTINCT format('GRANT USAGE ON SCHEMA %%I TO %%I', n.nspname, r.rolname)
    FROM pg_roles AS r, {TABLES} WHERE r.rolname = %s AND NOT has_schema_privilege(r.oid, n.oid, 'USAGE')
    UNION ALL SELECT format('GRANT CONNECT ON DATABASE %%I TO %%I', current_database(), rolname) FROM pg_roles
    WHERE rolname = %s AND NOT has_database_privilege(oid, current_database(), 'CONNECT')"""


def make(connection, role: str, tables: list[tuple[str, str]], beacon: tuple[str, str]) -> None:
    """Make the role, or let it write more tables, (schema, name) each: for a superuser's session. Raises HandoverError
    for a role of this name that others may use.
    """
    trust.refuse_shared_role(connection, role)
    name = sql.Identifier(role)
    with transaction(connection) as cursor:
        if not rows(connection, "SELECT FROM pg_roles WHERE rolname = %s", (role,)):
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 0 BYPASSRLS").format(name))
        for (owner,) in rows(connection, OWNERS, columns_of(tables)):
            grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE")
            cursor.execute(grant.format(sql.Identifier(owner), name))
        keys = columns_of([beacon, *tables])
        for (statement,) in rows(connection, LACKING, (*keys, role, *keys, role, role)):
            cursor.execute(statement)
