# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles as data: what a cluster has, and the statements that make the same elsewhere.

The shape, JSON types throughout::

    {"version": 160010,                   # server_version_num of the cluster that was read
     "roles": [{"name", "bootstrap",      # the superuser that initdb made
                "superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls",
                "connection_limit",       # -1: none
                "valid_until", "comment", # text or None
                "password": {"state": "hash" | "none" | "unreadable", "kind": "scram-sha-256" | "md5" | None}}],
     "memberships": [{"role", "member", "grantor", "admin", "inherit", "set"}],  # inherit, set: None before 16
     "settings": [{"role", "database", "name", "value"}]}                        # None: all roles, all databases

Password hashes are never part of it: ``read_password_hashes`` gives them apart, ``{role: hash}``.
Settings may hold secrets too (``app.jwt_secret``): keep what is written from here in files of mode 0600.
"""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OUR_ROLES, known, records
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.passwords import hash_kind

ATTRIBUTES = ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")

# Parameters whose stored value is a list of quoted elements; a single literal would become one element.
# PostgreSQL source, variable_is_guc_list_quote in src/bin/pg_dump/dumputils.c.
LIST_PARAMETERS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
SECRET_PARAMETER = re.compile(r"pass|secret|token|key|jwt|credential", re.IGNORECASE)
MASK = sql.Literal("********") if sql else None

_ROLES = f"""
SELECT r.rolname AS name, r.oid = 10 AS bootstrap, r.rolsuper AS superuser, r.rolinherit AS inherit,
       r.rolcreaterole AS createrole, r.rolcreatedb AS createdb, r.rolcanlogin AS login,
       r.rolreplication AS replication, r.rolbypassrls AS bypassrls, r.rolconnlimit AS connection_limit,
       r.rolvaliduntil::pg_catalog.text AS valid_until,
       pg_catalog.shobj_description(r.oid, 'pg_authid') AS comment
FROM pg_catalog.pg_roles AS r WHERE r.rolname !~ '^pg_' AND r.oid NOT IN ({OUR_ROLES}) ORDER BY r.rolname COLLATE "C"
"""

_MEMBERSHIPS = """
SELECT role.rolname AS role, member.rolname AS member, grantor.rolname AS grantor,
       a.admin_option AS admin, {inherit} AS inherit, {set} AS set
FROM pg_catalog.pg_auth_members AS a
JOIN pg_catalog.pg_roles AS role ON role.oid = a.roleid
JOIN pg_catalog.pg_roles AS member ON member.oid = a.member
LEFT JOIN pg_catalog.pg_roles AS grantor ON grantor.oid = a.grantor
WHERE NOT (role.rolname ~ '^pg_' AND member.rolname ~ '^pg_') AND member.oid NOT IN ({ours})
    AND role.oid NOT IN ({ours})
ORDER BY role.rolname COLLATE "C", member.rolname COLLATE "C", grantor.rolname COLLATE "C"
"""

_SETTINGS = f"""
SELECT r.rolname AS role, d.datname AS database,
       pg_catalog.split_part(entry, '=', 1) AS name,
       pg_catalog.substr(entry, pg_catalog.strpos(entry, '=') + 1) AS value
FROM pg_catalog.pg_db_role_setting AS s
LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase,
LATERAL pg_catalog.unnest(s.setconfig) AS entry
WHERE (s.setrole = 0 OR r.oid IS NOT NULL) AND (s.setdatabase = 0 OR d.oid IS NOT NULL)
    AND s.setrole NOT IN ({OUR_ROLES})
ORDER BY r.rolname COLLATE "C" NULLS FIRST, d.datname COLLATE "C" NULLS FIRST, name
"""


def read_roles(conn) -> dict:
    """The roles of a cluster but for the predefined ones (``pg_...``) and those of migrations, in the shape above.

    The session's DateStyle and TimeZone are those that Endpoint.connect pins.
    """
    return read_roles_and_hashes(conn)[0]


def read_roles_and_hashes(conn) -> tuple[dict, dict[str, str | None] | None]:
    """The same, and what ``read_password_hashes`` gives."""
    version = conn.info.server_version
    options = ("a.inherit_option", "a.set_option") if version >= 160000 else ("NULL::pg_catalog.bool",) * 2
    queries = (_ROLES, _MEMBERSHIPS.format(inherit=options[0], set=options[1], ours=OUR_ROLES), _SETTINGS)
    roles, memberships, settings = records(conn, *((query, None) for query in queries))
    hashes = read_password_hashes(conn)
    data = {
        "version": version,
        "roles": [{**role, "password": _password(role["name"], hashes)} for role in roles],
        "memberships": memberships,
        "settings": settings,
    }
    return data, hashes


NO_ROLES: dict = {"roles": [], "memberships": []}


def read_settings(conn) -> dict:
    """Of that, the settings, and the version."""
    return {"version": conn.info.server_version, "settings": records(conn, (_SETTINGS, None))[0]}


def read_password_hashes(conn) -> dict[str, str | None] | None:
    """Hashes of all roles, None for a role without a password; None if this role may not read them at all."""
    if not known(conn, "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')"):
        return None
    rows = _rows(
        conn,
        f"""
        SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname !~ '^pg_' AND oid NOT IN ({OUR_ROLES})""",
    )
    return {row["rolname"]: row["rolpassword"] for row in rows}


def row_versions(conn) -> dict[str, str] | None:
    """Of each role a text that is another one as soon as it was altered; None if this role may not see that."""
    if not known(conn, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"):
        return None
    query = f"""
        SELECT rolname, xmin::pg_catalog.text AS version FROM pg_catalog.pg_authid
        WHERE rolname !~ '^pg_' AND oid NOT IN ({OUR_ROLES})"""
    return {row["rolname"]: row["version"] for row in _rows(conn, query)}


def database_settings(data: dict, dbname: str) -> list[dict]:
    """The settings that hold in one database, of all roles (role: None) and of single ones."""
    return [setting for setting in data["settings"] if setting["database"] == dbname]


def as_sql(conn, data: dict, hashes: dict[str, str | None] | None = None) -> str:
    """The same as statements for psql and a superuser, on this major or a later one; ``conn`` is for quoting only.

    No comment in it holds a name: names may contain line breaks.
    """
    hashes = hashes or {}
    parts: list[tuple[str, list]] = [
        ("Roles. The superuser that initdb made is not among them, nor what belongs to it.", []),
        ("Memberships, in an order in which every grantor may grant.", _memberships_as_sql(data)),
        ("Settings, in all databases.", []),
        ("Settings in one database, which must exist.", []),
    ]
    for role in data["roles"]:
        if not role["bootstrap"]:
            parts[0][1].append(create_role(role, hashes.get(role["name"])))
            if role["comment"] is not None:
                parts[0][1].append(comment_on_role(role["name"], role["comment"]))
    for setting in data["settings"]:
        if setting["role"] is None or setting["role"] != bootstrap_name(data):
            parts[2 if setting["database"] is None else 3][1].append(set_parameter(**setting))
    lines = ["SET client_encoding = 'UTF8';", "SET standard_conforming_strings = on;"]
    for title, statements in parts:
        lines += ["", f"-- {title}"] + [statement.as_string(conn) + ";" for statement in statements]
    return "\n".join(lines) + "\n"


def create_role(role: dict, stored_password: str | None = None) -> sql.Composable:
    """CREATE ROLE with every attribute said, and the password hash if there is one."""
    words: list[sql.Composable] = [
        sql.SQL(("" if role[attribute] else "NO") + attribute.upper()) for attribute in ATTRIBUTES
    ]
    words += role_limits(role)
    if stored_password is not None:
        words.append(sql.SQL("PASSWORD {}").format(sql.Literal(stored_password)))
    return sql.SQL("CREATE ROLE {} WITH {}").format(sql.Identifier(role["name"]), sql.SQL(" ").join(words))


def role_limits(role: dict) -> list[sql.Composable]:
    """The limits that a role has: CONNECTION LIMIT, VALID UNTIL."""
    words: list[sql.Composable] = []
    if role["connection_limit"] != -1:
        words.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role["connection_limit"])))
    if role["valid_until"] is not None:
        words.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(role["valid_until"])))
    return words


def comment_on_role(name: str, comment: str) -> sql.Composable:
    """COMMENT ON ROLE."""
    return sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def set_parameter(
    role: str | None, database: str | None, name: str, value: str, masked: bool = False
) -> sql.Composable:
    """ALTER ROLE or ALTER DATABASE ... SET. ``masked`` hides the value of a parameter that looks like a secret."""
    if role is None and database is not None:
        subject = sql.SQL("DATABASE {}").format(sql.Identifier(database))
    else:
        subject = sql.SQL("ROLE {}").format(sql.SQL("ALL") if role is None else sql.Identifier(role))
        if database is not None:
            subject += sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))
    elements = parameter_elements(name, value)
    if not elements:  # no statement before 19 says so
        return sql.SQL("SELECT pg_catalog.set_config({}, '', false); ALTER {} SET {} FROM CURRENT").format(
            sql.Literal(name), subject, sql.Identifier(name)
        )
    values: sql.Composable = sql.SQL(", ").join(sql.Literal(element) for element in elements)
    if masked and SECRET_PARAMETER.search(name):
        values = MASK
    return sql.SQL("ALTER {} SET {} TO {}").format(subject, sql.Identifier(name), values)


def parameter_elements(name: str, value: str) -> list[str]:
    """A stored value as the literals after SET: several, or none, for a list of quoted elements, else the value."""
    if name.lower() not in LIST_PARAMETERS:
        return [value]
    folded = name.lower() in ("search_path", "temp_tablespaces")  # identifiers, not file names
    elements = []
    for token in re.findall(r'"(?:[^"]|"")*"|[^,\s"][^,"]*', value):
        if token.startswith('"'):
            elements.append(token[1:-1].replace('""', '"'))
        else:
            elements.append(token.strip().lower() if folded else token.strip())
    return elements


def grant_membership(row: dict, granted_by: str | None = None) -> sql.Composable:
    """GRANT role TO member; options that are None are left to the server."""
    options = [
        sql.SQL(f"{option.upper()} {'TRUE' if row[option] else 'FALSE'}")
        for option in ("admin", "inherit", "set")
        if row[option] is not None
    ]
    if row["inherit"] is None and row["set"] is None:  # before 16 there is one option, and no way to say no
        options = [sql.SQL("ADMIN OPTION")] if row["admin"] else []
    statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(row["role"]), sql.Identifier(row["member"]))
    if options:
        statement += sql.SQL(" WITH {}").format(sql.SQL(", ").join(options))
    if granted_by is not None:
        statement += sql.SQL(" GRANTED BY {}").format(sql.Identifier(granted_by))
    return statement


def _memberships_as_sql(data: dict) -> list[sql.Composable]:
    """GRANT statements; the grantor is said where it means something: from 16 on, and if it is not the bootstrap."""
    bootstrap = bootstrap_name(data)
    return [
        grant_membership(row, None if row["set"] is None or row["grantor"] in (None, bootstrap) else row["grantor"])
        for row in in_grant_order(data)
        if bootstrap not in (row["role"], row["member"])
    ]


def bootstrap_name(data: dict) -> str | None:
    """The name of the superuser that initdb made; grants of any superuser are recorded as its from 16 on."""
    return next((role["name"] for role in data["roles"] if role["bootstrap"]), None)


def in_grant_order(data: dict) -> list[dict]:
    """Memberships so that a grantor has ADMIN OPTION before it grants (16+; earlier grantors mean nothing)."""
    waiting, ordered = list(data["memberships"]), []
    admins: set[tuple[str, str]] = set()
    free = (None, bootstrap_name(data))
    while waiting:
        ready, later = [], []
        for row in waiting:
            may = row["set"] is None or row["grantor"] in free or (row["role"], row["grantor"]) in admins
            (ready if may else later).append(row)
        if not ready:  # the grantor's own membership was not read
            return ordered + later
        ordered += ready
        admins |= {(row["role"], row["member"]) for row in ready if row["admin"]}
        waiting = later
    return ordered


def _password(name: str, hashes: dict | None) -> dict:
    stored = hashes.get(name) if hashes is not None else None
    if hashes is None or (stored is not None and hash_kind(stored) is None):
        return {"state": "unreadable", "kind": None}
    return {"state": "none" if stored is None else "hash", "kind": stored and hash_kind(stored)}


def _rows(conn, query: str) -> list[dict]:
    with conn.cursor() as cursor:
        cursor.execute(query)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]
