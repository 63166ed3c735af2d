# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries for who owns what, who may do what, and what was said about it: the same for all kinds of objects."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OUR_ROLES
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.definitions import (
    NOT_BY_ITSELF,
    OTHER_SCHEMAS,
    not_of_extension,
    ordered,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import Majors


@dataclass(frozen=True)
class Catalog:
    """A catalog of objects: its columns for the owner and the privileges, and what acldefault() calls their kind;
    ``schema``: the column of the schema; ``only``: which of its rows are objects of their own.
    """

    name: str
    owner: str | None = None
    acl: str | None = None
    kind: str | None = None
    schema: str | None = None
    only: str = "true"

    @property
    def classid(self) -> str:
        """Large objects are known under the catalog of their data."""
        return f"'{self.name.replace('_metadata', '')}'::regclass"

    def select(self, columns: str, more: str = "", on: str = "") -> str:
        """The user's objects as ``o``, with their names; ``more`` are further tables, joined ``on`` a condition."""
        all_of_them = self.name == "pg_largeobject_metadata"
        conditions = [
            "true" if all_of_them else "(o.oid >= 16384 OR o.oid = 2200)",
            self.only,
            f"o.{self.schema} NOT IN {OTHER_SCHEMAS}" if self.schema else "true",
            not_of_extension(self.name, "o.oid"),
            "true" if self.name == "pg_class" else NOT_BY_ITSELF.format(self.name),
            on or "true",
        ]
        return f"""
            SELECT {IDENTITY}, {columns} FROM {self.name} AS o, pg_identify_object({self.classid}, o.oid, 0) AS i {more}
            WHERE {" AND ".join(conditions)}"""


# Identities of transforms are written in two ways.
IDENTITY = "i.type || ' ' || regexp_replace(i.identity, '^(for .*) on (language .*)$', '\\1 \\2')"

OWN_TABLE = f"(SELECT relnamespace FROM pg_class WHERE oid = o.%s) NOT IN {OTHER_SCHEMAS}"
CATALOGS = (
    Catalog("pg_am"),
    Catalog("pg_cast"),
    Catalog(
        "pg_class",
        "relowner",
        "relacl",
        "CASE relkind WHEN 'S' THEN 's' ELSE 'r' END",
        "relnamespace",
        "relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')",
    ),
    Catalog("pg_collation", "collowner", schema="collnamespace"),
    Catalog("pg_conversion", "conowner", schema="connamespace"),
    Catalog("pg_event_trigger", "evtowner", only="evtname !~ '^handover_'"),
    Catalog("pg_foreign_data_wrapper", "fdwowner", "fdwacl", "'F'"),
    Catalog("pg_foreign_server", "srvowner", "srvacl", "'S'"),
    Catalog("pg_language", "lanowner", "lanacl", "'l'"),
    Catalog("pg_largeobject_metadata", "lomowner", "lomacl", "'L'"),
    Catalog("pg_namespace", "nspowner", "nspacl", "'n'", only=f"o.oid NOT IN {OTHER_SCHEMAS}"),
    Catalog("pg_opclass", "opcowner", schema="opcnamespace"),
    Catalog("pg_operator", "oprowner", schema="oprnamespace", only="oprcode <> 0"),
    Catalog("pg_opfamily", "opfowner", schema="opfnamespace"),
    Catalog("pg_policy", only=OWN_TABLE % "polrelid"),
    Catalog("pg_proc", "proowner", "proacl", "'f'", "pronamespace"),
    Catalog("pg_publication", "pubowner", only="pubname !~ '^handover_[0-9a-f]{10}_'"),
    Catalog("pg_rewrite", only=f"rulename <> '_RETURN' AND {OWN_TABLE % 'ev_class'}"),
    Catalog("pg_statistic_ext", "stxowner", schema="stxnamespace"),
    Catalog("pg_transform"),
    Catalog("pg_trigger", only=f"NOT tgisinternal AND tgname !~ '^handover_' AND {OWN_TABLE % 'tgrelid'}"),
    Catalog("pg_ts_config", "cfgowner", schema="cfgnamespace"),
    Catalog("pg_ts_dict", "dictowner", schema="dictnamespace"),
    Catalog("pg_ts_parser", schema="prsnamespace"),
    Catalog("pg_ts_template", schema="tmplnamespace"),
    Catalog("pg_type", "typowner", "typacl", "'T'", "typnamespace"),
)


def privileges(acl: str, owner: str, majors: Majors) -> str:
    """SQL: sorted ``grantee=PRIVILEGE``, with a star where it may be granted on; whoever granted it. The owner is
    called so, as owners are compared by themselves.
    """
    known = "true" if majors.both(17) else "a.privilege_type <> 'MAINTAIN'"
    return f"""(SELECT array_agg(DISTINCT g ORDER BY g) FROM (
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN {owner} THEN '(owner)' ELSE pg_get_userbyid(a.grantee) END
               || '=' || a.privilege_type || CASE WHEN a.is_grantable AND a.grantee <> {owner} THEN '*' ELSE '' END AS g
        FROM aclexplode({acl}) AS a WHERE {known} AND a.grantee NOT IN ({OUR_ROLES})) AS expanded)"""


def queries(majors: Majors) -> dict[str, str]:
    """Class -> query."""
    in_database = "FROM pg_database WHERE datname = current_database()"
    of_database = privileges("coalesce(datacl, acldefault('d', datdba))", "datdba", majors)
    of_column = privileges("attacl", "c.relowner", majors)
    columns = f"""
        SELECT 'column ' || c.oid::regclass || '.' || quote_ident(attname), {of_column}
        FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped
        AND c.relnamespace NOT IN {OTHER_SCHEMAS} AND {not_of_extension("pg_class", "c.oid")}"""
    owners = [one.select(f"pg_get_userbyid(o.{one.owner})::text AS owner") for one in CATALOGS if one.owner]
    granted = [one.select(f"{_granted(one, majors)} AS privileges") for one in CATALOGS if one.acl]
    return {
        "owners": " UNION ALL ".join([*owners, f"SELECT 'database', pg_get_userbyid(datdba)::text {in_database}"]),
        "privileges": " UNION ALL ".join([*granted, f"SELECT 'database', {of_database} {in_database}", columns]),
        **_said(),
        **_settings(majors),
    }


def _granted(one: Catalog, majors: Majors) -> str:
    """SQL: the privileges on an object of this catalog, those that it has by default where none were given."""
    initial = f'acldefault(({one.kind})::"char", o.{one.owner})'
    return privileges(f"coalesce(o.{one.acl}, {initial})", f"o.{one.owner}", majors)


def _said() -> dict[str, str]:
    comments = [
        one.select(
            "d.description AS comment",
            ", pg_description AS d",
            f"d.objsubid = 0 AND d.objoid = o.oid AND d.classoid = {one.classid}",
        )
        for one in CATALOGS
    ]
    of_columns = f"""
        SELECT 'column ' || c.oid::regclass || '.' || quote_ident(attname), d.description
        FROM pg_description AS d JOIN pg_attribute AS a ON attrelid = objoid AND attnum = objsubid
        JOIN pg_class AS c ON c.oid = attrelid WHERE classoid = 'pg_class'::regclass AND objsubid > 0
        AND c.relnamespace NOT IN {OTHER_SCHEMAS} AND {not_of_extension("pg_class", "c.oid")}"""
    others = f"""
        SELECT i.type || ' ' || i.identity, d.description
        FROM pg_description AS d, pg_identify_object(d.classoid, d.objoid, d.objsubid) AS i
        WHERE d.objoid >= 16384 AND (d.classoid = 'pg_constraint'::regclass OR d.classoid = 'pg_class'::regclass
            AND d.objsubid = 0 AND EXISTS (SELECT FROM pg_class WHERE oid = d.objoid AND relkind IN ('i', 'I')
                                           AND relnamespace NOT IN {OTHER_SCHEMAS}))"""
    labels = f"""
        SELECT i.type || ' ' || i.identity || ' ' || s.provider, s.label
        FROM pg_seclabel AS s, pg_identify_object(s.classoid, s.objoid, s.objsubid) AS i
        WHERE {not_of_extension("pg_class", "s.objoid")}"""
    return {"comments": " UNION ALL ".join([*comments, of_columns, others]), "security_labels": labels}


# What comes with a database and can be granted: everything in the server's schemas, they themselves, and languages.
SYSTEM_OBJECTS = """
    SELECT 'pg_class'::regclass AS class, c.oid, 0 AS sub, relacl AS acl, relowner AS owner,
           CASE WHEN relacl IS NOT NULL AND relnamespace = 'information_schema'::regnamespace
                THEN acldefault('r', relowner) || makeaclitem(0, relowner, 'SELECT', false)
                ELSE acldefault('r', relowner) END AS initial
    FROM pg_class AS c WHERE relkind IN ('r', 'v')
    UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, attacl, relowner, acldefault('c', relowner)
    FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proacl, proowner, acldefault('f', proowner) FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, 0, typacl, typowner, acldefault('T', typowner) FROM pg_type
    UNION ALL SELECT 'pg_language'::regclass, oid, 0, lanacl, lanowner, acldefault('l', lanowner) FROM pg_language
    UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspacl, nspowner, acldefault('n', nspowner)
    FROM pg_namespace WHERE nspname <> 'public'"""


def _settings(majors: Majors) -> dict[str, str]:
    default_acl = privileges("defaclacl", "defaclrole", majors)
    return {
        "default_privileges": f"""
        SELECT pg_get_userbyid(defaclrole) || ' in ' || coalesce(quote_ident(nspname), '*') || ' on '
               || defaclobjtype::text, {default_acl} AS privileges
        FROM pg_default_acl LEFT JOIN pg_namespace AS n ON n.oid = defaclnamespace""",
        "database": f"""
        SELECT 'database', pg_encoding_to_char(encoding)::text AS encoding, datcollate::text AS collate,
               datctype::text AS ctype, datconnlimit::text AS connection_limit,
               {majors.since(15, "datlocprovider::text", "'c'")} AS provider,
               {majors.since(17, "datlocale", majors.since(15, "daticulocale", "NULL"))} AS locale,
               {majors.since(16, "daticurules", "NULL")} AS rules, shobj_description(d.oid, 'pg_database') AS comment
        FROM pg_database AS d WHERE datname = current_database()""",
        "settings": f"""
        SELECT 'role ' || coalesce(quote_ident(rolname), '*') || ' in the database', {ordered("setconfig")} AS settings
        FROM pg_db_role_setting LEFT JOIN pg_roles AS r ON r.oid = setrole
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND coalesce(rolname !~ '^handover_', true)
        UNION ALL
        SELECT 'role ' || quote_ident(rolname) || ' everywhere', {ordered("setconfig")}
        FROM pg_db_role_setting JOIN pg_roles AS r ON r.oid = setrole
        WHERE setdatabase = 0 AND r.oid >= 16384 AND rolname !~ '^(pg|handover)_' AND EXISTS (
            SELECT FROM pg_shdepend AS s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
            AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))""",
        "privileges_on_system_objects": f"""
        SELECT i.type || ' ' || i.identity, {privileges("o.acl", "o.owner", majors)} AS privileges
        FROM ({SYSTEM_OBJECTS}) AS o
        LEFT JOIN pg_init_privs AS p ON p.classoid = o.class AND p.objoid = o.oid AND p.objsubid = o.sub,
             pg_identify_object(o.class, o.oid, o.sub) AS i
        WHERE o.oid < 16384 AND coalesce(o.acl, o.initial) IS DISTINCT FROM coalesce(p.initprivs, o.initial)""",
    }
