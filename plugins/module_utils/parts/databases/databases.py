# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database as an object of its server: encoding, locale, owner, privileges, settings; read here, made there."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OUR_ROLES, value

PROVIDERS = {"b": "builtin", "c": "libc", "i": "icu"}
# Why a database that was there before is not given everything of the source's.
KEPT = "create is false, so the database keeps what it has"
PRIVILEGES = ("CREATE", "CONNECT", "TEMPORARY")


def read_properties(connection, dbname: str) -> dict:
    """Everything that belongs to the database itself rather than to an object in it, as JSON types.

    ``acl`` is None where privileges were never changed. Connect to the database itself: its public schema is read too.
    """
    since_15 = connection.info.server_version >= 150000
    since_16 = connection.info.server_version >= 160000
    since_17 = connection.info.server_version >= 170000
    locale = "d.datlocale" if since_17 else "d.daticulocale" if since_15 else "NULL"
    query = f"""
        SELECT jsonb_build_object(
            'owner', pg_get_userbyid(d.datdba),
            'encoding', pg_encoding_to_char(d.encoding),
            'locale_provider', {"d.datlocprovider" if since_15 else "'c'"},
            'collate', d.datcollate,
            'ctype', d.datctype,
            'locale', {locale},
            'icu_rules', {"d.daticurules" if since_16 else "NULL"},
            'collation_version', {"d.datcollversion" if since_15 else "NULL"},
            'connection_limit', d.datconnlimit,
            'comment', shobj_description(d.oid, 'pg_database'),
            'acl', {_acl("d.datacl")},
            'public_schema_acl', (SELECT {_acl("n.nspacl")} FROM pg_namespace AS n WHERE n.nspname = 'public'))
        FROM pg_database AS d WHERE d.datname = %s"""
    properties = value(connection, query, (dbname,))
    properties["locale_provider"] = PROVIDERS[properties["locale_provider"]]
    return properties


def _acl(column: str) -> str:
    """SQL for an ACL as data; grantee None is PUBLIC. A role that was made for a migration does not come along."""
    return f"""(CASE WHEN {column} IS NOT NULL THEN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type, 'grantable', a.is_grantable) ORDER BY a.grantee, a.privilege_type), '[]')
        FROM aclexplode({column}) AS a WHERE a.grantee NOT IN ({OUR_ROLES})) END)"""


def create(connection, name: str, properties: dict, locale_map: dict) -> None:
    """Create a database from template0 with the source's encoding and locale, mapped where the operator says so.

    Raises HandoverError for a locale, or a provider of locales, that the target does not have.
    """
    statement = _create_statement(name, properties, locale_map, connection.info.server_version)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.Error as error:
        if "locale" not in str(error):
            raise
        raise HandoverError(
            f"The target cannot make a database like the source's: {one_line(error)}.",
            "Name a locale that the target has in locale_map, for example locale_map: "
            f"{{{properties['locale'] or properties['collate']}: C.UTF-8}}.",
        ) from None


def _create_statement(name: str, properties: dict, locale_map: dict, server_version: int):
    options = [sql.SQL("TEMPLATE template0"), _option("ENCODING", properties["encoding"])]
    provider = properties["locale_provider"]

    def mapped(locale):
        return locale_map.get(locale, locale)

    if server_version >= 150000:
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.SQL(provider)))
    elif provider != "libc":
        raise HandoverError(
            f"The database uses the locale provider {provider}, which a target before PostgreSQL 15 does not have.",
            "Choose a newer target, or create the database there and use create: false.",
        )
    options += [_option("LC_COLLATE", mapped(properties["collate"])), _option("LC_CTYPE", mapped(properties["ctype"]))]
    if provider == "icu":
        options.append(_option("ICU_LOCALE", mapped(properties["locale"])))
        if properties["icu_rules"] and server_version >= 160000:
            options.append(_option("ICU_RULES", properties["icu_rules"]))
    elif provider == "builtin":
        options.append(_option("BUILTIN_LOCALE", mapped(properties["locale"])))
    return sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def _option(keyword: str, text: str):
    return sql.SQL(keyword + " {}").format(sql.Literal(text))


def property_statements(name: str, properties: dict) -> list:
    """Statements that give a database the comment and the connection limit it had."""
    database = sql.Identifier(name)
    statements = []
    if properties["comment"] is not None:
        statements.append(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(properties["comment"])))
    if properties["connection_limit"] not in (-1, -2):
        limit = sql.Literal(properties["connection_limit"])
        statements.append(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, limit))
    return statements


def ownership_statements(
    name: str, properties: dict, missing_roles: set, has_owner: bool, privileges: bool = True
) -> tuple[list, list[dict]]:
    """(statements, skipped) that give a database its owner, if it is to have that, and the privileges that it had."""
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(properties["owner"]))
    more, skipped = privilege_statements(name, properties, missing_roles, has_owner) if privileges else ([], [])
    return [*([owner] if has_owner else []), *more], skipped


def privilege_statements(name: str, properties: dict, missing_roles: set, has_owner: bool) -> tuple[list, list[dict]]:
    """(statements, skipped) that give a database the privileges it had, once its owner is who it was (``has_owner``);
    if it is not, the former owner keeps what owners may. What concerns roles that do not exist here is skipped.
    """
    database, owner, acl = sql.Identifier(name), properties["owner"], properties["acl"]
    statements, skipped = [], []
    if acl is not None:
        statements.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    if acl is not None and has_owner:
        statements.append(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, sql.Identifier(owner)))
    if acl is None and not has_owner:
        acl = [{"grantee": owner, "privilege": privilege, "grantable": False} for privilege in PRIVILEGES]
    for grant in acl or ():
        grantee = grant["grantee"]
        if grantee in missing_roles:
            text = f"GRANT {grant['privilege']} to role {grantee}"
            reason = "the target does not have this role"
            skipped.append({"object": text, "class": "DATABASE PROPERTIES", "reason": reason})
            continue
        role = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        option = sql.SQL(" WITH GRANT OPTION" if grant["grantable"] else "")
        statement = sql.SQL("GRANT {} ON DATABASE {} TO {}{}")
        statements.append(statement.format(sql.SQL(grant["privilege"]), database, role, option))
    return statements, skipped
