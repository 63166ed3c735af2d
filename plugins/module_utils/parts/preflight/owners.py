# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of owners, privileges, comments and tablespaces: what of them arrives on a target with other roles."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_import import RESERVED

# Members of extensions belong to these.
OWN = """o.oid >= 16384 AND NOT EXISTS (
    SELECT FROM pg_depend AS d WHERE d.classid = '{0}'::regclass AND d.objid = o.oid AND d.deptype = 'e')"""


@database_check("object_owners", "Every object keeps its owner.", needs_target=True)
def object_owners(database: Database):
    """If an owner stays behind, or the target's role cannot act for it, its objects belong to the target's role."""
    owned = " UNION ALL ".join(
        f"SELECT {owner} AS owner FROM {catalog} AS o WHERE {OWN.format(catalog)} {more}"
        for catalog, owner, more in (
            ("pg_class", "o.relowner", "AND o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND o.relpersistence <> 't'"),
            ("pg_namespace", "o.nspowner", "AND o.nspname !~ '^pg_'"),
            ("pg_proc", "o.proowner", ""),
            ("pg_default_acl", "o.defaclrole", ""),
        )
    )
    owners = database.rows(f"""
        SELECT r.rolname::text, r.oid = 10, count(*)::int
        FROM ({owned}) AS objects JOIN pg_roles AS r ON r.oid = objects.owner GROUP BY r.oid, 1, 2 ORDER BY 1""")
    target = database.target.capabilities
    for name, bootstrap, count in owners:
        reason = _lost_owner(database.target, name, bootstrap)
        if reason:
            yield Finding(
                "info",
                f"{counted(count, 'object')} of role {name}: {reason}.",
                f"They will belong to {target.role}, and default privileges of {name} are left out.",
                "",
                [name],
            )


def _lost_owner(target: Side, name: str, bootstrap: bool) -> str:
    """Why the target's role cannot give objects to this owner; empty if it can, or if roles come before."""
    role = target.capabilities
    if name not in role.roles:
        return "this role is not carried over" if bootstrap or RESERVED.fullmatch(name) else ""
    if role.superuser or name == role.role:
        return ""
    query = """
        SELECT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') OR pg_has_role(oid, %s) OR (%s AND NOT rolsuper)
        FROM pg_roles WHERE rolname = %s"""
    recent = target.server.major >= 16
    may = target.value(query, ("SET" if recent else "MEMBER", role.createrole and not recent, name))
    return "" if may else f"the target already has this role, and {role.role} cannot act for it there"


@database_check("public_schema", "Schema public is as on the target.", needs_target=True)
def public_schema(database: Database):
    """From 15 on only the database's owner may create in it; before, everybody may."""
    query = """
        SELECT EXISTS (SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS a
                       WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
        FROM pg_namespace WHERE nspname = 'public'"""
    found = database.rows(query)
    target = database.target
    if not found:
        seen = "The database has no schema public."
        yield Finding("info", seen, "A new database has one.", "DROP SCHEMA public; -- on the target", ["public"])
    elif found[0][0] and target.server.major >= 15:
        yield Finding(
            "info",
            "Everybody may create objects in schema public; from 15 on, new databases do not allow that.",
            "The import allows it there, too, so that the application goes on working.",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; -- where nobody needs it",
            ["public"],
        )
    elif not found[0][0] and target.server.major < 15 and not target.capabilities.superuser:
        yield Finding(
            "warning",
            "Not everybody may create objects in schema public here.",
            "On the target, that schema belongs to a superuser, so everybody may.",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; -- on the target, by the service",
            ["public"],
        )


@database_check("system_privileges", "No privileges on objects of the system or of extensions were changed.")
def system_privileges(database: Database):
    """A dump has them as differences from pg_init_privs. Only the owner of such an object, a superuser, grants them."""
    of_system = "o.{}namespace = 'pg_catalog'::regnamespace"
    changed = " UNION ALL ".join(
        f"""SELECT '{catalog}'::regclass::oid AS classid, o.oid, {acl}::text AS acl FROM {catalog} AS o
            WHERE {acl} IS NOT NULL AND ({system} OR EXISTS (
                SELECT FROM pg_depend AS d
                WHERE d.classid = '{catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e'))"""
        for catalog, acl, system in (
            ("pg_class", "o.relacl", of_system.format("rel")),
            ("pg_proc", "o.proacl", of_system.format("pro")),
            ("pg_type", "o.typacl", of_system.format("typ")),
            ("pg_language", "o.lanacl", "o.oid < 16384"),
            ("pg_foreign_data_wrapper", "o.fdwacl", "false"),
            ("pg_namespace", "o.nspacl", "o.nspname = 'pg_catalog'"),
        )
    )
    query = f"""
        SELECT k.type || ' ' || k.identity FROM ({changed}) AS o
        LEFT JOIN pg_init_privs AS i ON i.classoid = o.classid AND i.objoid = o.oid AND i.objsubid = 0,
        pg_identify_object(o.classid, o.oid, 0) AS k
        WHERE i.initprivs::text IS DISTINCT FROM o.acl ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names:
        superuser = database.target is not None and database.target.capabilities.superuser
        yield Finding(
            "info" if superuser else "warning",
            f"Changed privileges on {counted(len(names), 'object')} of the system or of extensions: {some(names)}.",
            "They are carried over."
            if superuser
            else (
                "If the target's role is no superuser, the target keeps its own privileges: grants are missing, and "
                "revoked ones are back."
            ),
            "" if superuser else "GRANT or REVOKE them by other means of the service, such as predefined roles.",
            names,
        )


@database_check("extension_comments", "Extensions have their original comments.")
def extension_comments(database: Database):
    """Only the owner of an extension may comment on it, so an import by another leaves all these comments out."""
    query = """
        SELECT quote_ident(e.extname) FROM pg_extension AS e JOIN pg_available_extensions AS a ON a.name = e.extname
        WHERE obj_description(e.oid, 'pg_extension') IS DISTINCT FROM a.comment ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names and not (database.target and database.target.capabilities.superuser):
        seen = f"{counted(len(names), 'extension')} with a changed comment: {some(names)}."
        yield Finding(
            "info",
            seen,
            "If the target's role is no superuser, the target keeps the extensions' own comments.",
            "",
            names,
        )


@database_check("object_tablespaces", "Everything is in the database's tablespace.")
def object_tablespaces(database: Database):
    """A managed service has no others; the import puts all into the default unless no_tablespaces is false."""
    query = """
        SELECT quote_ident(s.spcname), count(*)::int
        FROM pg_class AS c JOIN pg_tablespace AS s ON s.oid = c.reltablespace
        WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'i', 'I', 'm') GROUP BY 1 ORDER BY 1"""
    found = database.rows(query)
    if found:
        shown = some([f"{name} ({counted(count, 'relation')})" for name, count in found])
        consequence = "Everything goes into the target's default tablespace; the option no_tablespaces decides this."
        yield Finding(
            "info", f"Other tablespaces are in use: {shown}.", consequence, "", [name for name, _count in found]
        )
