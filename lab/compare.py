# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares two databases for the demo with eyes of its own: nothing here knows the collection.

Everything is read as pairs of a name and a text: what an object is, or how many rows a table has and their digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

# Values and definitions as text must not depend on settings of the server, the database or the role.
SESSION = """
SET search_path = ''; SET row_security = off; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET jit = off;
SET intervalstyle = 'iso_8601'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';
SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET quote_all_identifiers = off;
SET default_transaction_read_only = on; SET max_parallel_workers_per_gather = 0
"""

# Schema handover is the collection's journal on the target.
USERS = """{} NOT IN (SELECT oid FROM pg_namespace
    WHERE nspname ~ '^pg_' OR nspname IN ('information_schema', 'handover'))"""
# 17 brought the privilege MAINTAIN, which is in GRANT ALL from then on.
PRIVILEGES = """(SELECT string_agg(concat_ws(' ', grantee::regrole, privilege_type, is_grantable), ', '
    ORDER BY grantee::regrole::text, privilege_type) FROM aclexplode({}) WHERE privilege_type <> 'MAINTAIN')"""

# class of objects -> query of names and of texts that say what they are
OBJECTS = {
    "roles": """SELECT rolname, concat_ws(' ', rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
            rolreplication, rolbypassrls, rolconnlimit, md5(rolpassword), rolvaliduntil,
            shobj_description(oid, 'pg_authid'))
        FROM pg_authid WHERE oid >= 16384""",
    "role memberships": """SELECT concat_ws(' ', roleid::regrole, member::regrole, grantor::regrole),
            concat_ws(' ', admin_option, inherit_option, set_option) FROM pg_auth_members WHERE member >= 16384""",
    "databases": f"""SELECT datname, concat_ws(' ', datdba::regrole, pg_encoding_to_char(encoding), datcollate,
            datctype, datconnlimit, shobj_description(oid, 'pg_database'), {PRIVILEGES.format("datacl")})
        FROM pg_database WHERE datname = current_database()""",
    "settings": """SELECT concat_ws(' ', nullif(setrole, 0)::regrole, datname),
            (SELECT string_agg(s, ', ' ORDER BY s) FROM unnest(setconfig) AS s) FROM pg_db_role_setting
        LEFT JOIN pg_database AS d ON d.oid = setdatabase WHERE setdatabase = 0 OR datname = current_database()""",
    "schemas": f"""SELECT nspname, concat_ws(' ', nspowner::regrole, {PRIVILEGES.format("nspacl")})
        FROM pg_namespace WHERE {USERS.format("oid")}""",
    **{
        kind: f"""SELECT oid::regclass::text, concat_ws(' ', relowner::regrole, relpersistence, relrowsecurity,
            relforcerowsecurity, relreplident, reloptions, pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid),
            CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END, {PRIVILEGES.format("relacl")})
        FROM pg_class WHERE relkind = ANY ('{relkinds}') AND {USERS.format("relnamespace")}"""
        for kind, relkinds in {"tables": "{r,p}", "views": "{v}", "materialized views": "{m}"}.items()
    },
    "columns": f"""SELECT concat_ws('.', attrelid::regclass, quote_ident(attname)), concat_ws(' ',
            format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attcollation::regcollation,
            pg_get_expr(adbin, adrelid), {PRIVILEGES.format("attacl")})
        FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid
            AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm') AND {USERS.format("relnamespace")}""",
    "sequences": f"""SELECT seqrelid::regclass::text, concat_ws(' ', relowner::regrole, seqtypid::regtype, seqstart,
            seqincrement, seqmin, seqmax, seqcycle, pg_sequence_last_value(seqrelid), {PRIVILEGES.format("relacl")})
        FROM pg_sequence JOIN pg_class AS c ON c.oid = seqrelid""",
    "constraints": f"""SELECT concat_ws(' ', conrelid::regclass, contypid::regtype, quote_ident(conname)),
            concat_ws(' ', pg_get_constraintdef(oid), convalidated)
        FROM pg_constraint WHERE contype <> 'n' AND {USERS.format("connamespace")}""",
    "indexes": f"""SELECT indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid)
        FROM pg_index JOIN pg_class AS c ON c.oid = indrelid WHERE {USERS.format("relnamespace")}""",
    "functions": f"""SELECT oid::regprocedure::text, concat_ws(' ', proowner::regrole, prosrc, prokind, prosecdef,
            provolatile, proconfig, pg_get_function_result(oid), {PRIVILEGES.format("proacl")})
        FROM pg_proc WHERE {USERS.format("pronamespace")}""",
    "triggers": """SELECT concat_ws(' ', tgrelid::regclass, quote_ident(tgname)),
            concat_ws(' ', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal""",
    "policies": """SELECT concat_ws(' ', polrelid::regclass, quote_ident(polname)), concat_ws(' ', polcmd,
            polpermissive, (SELECT string_agg(r::regrole::text, ', ' ORDER BY r::regrole::text)
            FROM unnest(polroles) AS r), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM pg_policy""",
    "types": f"""SELECT t.oid::regtype::text, concat_ws(' ', typowner::regrole, typtype, typnotnull, typdefault,
            nullif(typbasetype, 0)::regtype, (SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum
            WHERE enumtypid = t.oid), {PRIVILEGES.format("typacl")})
        FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = typrelid WHERE typtype IN ('c', 'd', 'e', 'm', 'r')
            AND coalesce(relkind, 'c') = 'c' AND {USERS.format("typnamespace")}""",
    "comments": """SELECT concat_ws(' ', type, identity), description
        FROM pg_description, pg_identify_object(classoid, objoid, objsubid)
        WHERE (objoid >= 16384 OR classoid = 'pg_largeobject'::regclass) AND identity <> 'handover'""",
    "large objects": f"""SELECT m.oid::text, concat_ws(' ', lomowner::regrole, md5(lo_get(m.oid)),
            {PRIVILEGES.format("lomacl")}) FROM pg_largeobject_metadata AS m""",
}

# A sum of digests does not depend on the order of rows and counts equal rows; numeric, as it outgrows bigint.
ROWS = """SELECT count(*), coalesce(sum(('x' || left(md5((r.*)::text), 16))::bit(64)::bigint::numeric), 0)
    FROM ONLY {} AS r"""
TABLES = f"""SELECT oid::regclass::text, relpersistence FROM pg_class
    WHERE relkind IN ('r', 'm') AND relispopulated AND {USERS.format("relnamespace")}"""


@dataclass(frozen=True)
class Contents:
    """A database as it is: texts by class and name of object, rows and digest by name of table, its size in bytes.

    ``unlogged`` are the tables whose rows were not looked at: dumps leave out what a crash of the server may take.
    """

    objects: dict[str, dict[str, str]]
    tables: dict[str, tuple[int, int]]
    unlogged: list[str]
    bytes: int


def read(connection) -> Contents:
    """What the database of this superuser's connection holds, without the collection's journal."""
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        objects = {kind: dict(_spelled(kind, *one) for one in _asked(cursor, query)) for kind, query in OBJECTS.items()}
        kinds = dict(_asked(cursor, TABLES))
        logged = sorted(name for name, persistence in kinds.items() if persistence != "u")
        tables = {_unquoted(name): _asked(cursor, ROWS.format(name))[0] for name in logged}
        [(size,)] = _asked(cursor, "SELECT pg_database_size(current_database())")
    return Contents(objects, tables, sorted(map(_unquoted, kinds.keys() - set(logged))), size)


# What people wrote stands in the texts of these.
WRITTEN = {"roles", "databases", "settings", "functions", "comments", "large objects"}
QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?P<name>[a-z_][a-z0-9_]*)"(?!")|"(?:[^"]|"")*"|\bpg_catalog\.(?=json\b)""")


def _spelled(kind: str, name: str, text: str) -> tuple[str, str]:
    """An object without the quotes of keywords, of which later majors have more."""
    return _unquoted(name), text if kind in WRITTEN else _unquoted(text)


def _unquoted(text: str) -> str:
    def shorter(found: re.Match) -> str:
        return "" if found[0] == "pg_catalog." else found[0] if found[0] == '"char"' else found["name"] or found[0]

    return QUOTED.sub(shorter, text)


def read_both(source: Callable, target: Callable, dbname: str) -> tuple[Contents, Contents]:
    """The database of this name on both servers; each of the two makes a connection to a database."""

    def one(connect: Callable) -> Contents:
        with closing(connect(dbname)) as connection:
            return read(connection)

    with ThreadPoolExecutor(2) as pool:
        source_contents, target_contents = pool.map(one, (source, target))
    return source_contents, target_contents


def differences(source: Contents, target: Contents) -> list[str]:
    """A line for each object that differs or that only one side has; none if both hold the same."""
    lines = []
    for kind in OBJECTS:
        lines += _apart(kind, source.objects[kind], target.objects[kind])
    return lines + _apart("rows of", source.tables, target.tables)


def _apart(kind: str, source: dict, target: dict) -> list[str]:
    return [
        f"{kind} {name}: {source.get(name, 'absent')} on the source, {target.get(name, 'absent')} on the target"
        for name in sorted({*source, *target})
        if source.get(name) != target.get(name)
    ]


def _asked(cursor, query: str) -> list[tuple]:
    cursor.execute(query)
    return cursor.fetchall()
