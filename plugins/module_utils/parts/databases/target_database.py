# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database that an import fills: made under a name of ours and renamed when complete, or found empty."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Endpoint,
    psycopg2,
    sql,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import referenced_roles, rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.memberships import temporary_memberships

END_OWN_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user"""
RENAME_ATTEMPTS = 20
RENAME_PAUSE = 0.5
WORKING_PREFIX = "handover_restore_"


def working_name(dbname: str) -> str:
    """The name under which a database is filled."""
    return f"{WORKING_PREFIX}{hashlib.sha256(dbname.encode()).hexdigest()[:16]}"


def exists(connection, dbname: str) -> bool:
    """Whether the server has a database of this name."""
    return value(connection, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", (dbname,))


def is_valid(connection, dbname: str) -> bool:
    """Whether there is one that can be used: an interrupted DROP DATABASE leaves one that can only be dropped."""
    query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s AND datconnlimit <> -2)"
    return value(connection, query, (dbname,))


@contextlib.contextmanager
def visit(endpoint: Endpoint, connection, dbname: str, check_mode: bool = False):
    """A session in a database of the target, whose own privileges may keep the connecting role out by now.

    In check mode nothing is granted, not even for a moment.
    """
    with contextlib.ExitStack() as stack:
        if not check_mode:
            stack.enter_context(_as_owner(connection, dbname))
        yield stack.enter_context(contextlib.closing(endpoint.connect(dbname, read_only=check_mode)))


def drop(connection, dbname: str) -> None:
    """Drop a database, and end the sessions in it: only for one of ours, or one that the operator named.

    FORCE is refused to a role that is not a superuser while autovacuum is in the database; without it, the server
    ends autovacuum by itself. Raises HandoverError naming sessions that the role may not end.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(dbname))
    with _as_owner(connection, dbname):
        try:
            execute(connection, statement + sql.SQL(" WITH (FORCE)"))
        except psycopg2.errors.InsufficientPrivilege:
            try:
                execute(connection, statement)
            except psycopg2.errors.ObjectInUse:
                raise _in_use(connection, dbname) from None


def _in_use(connection, dbname: str) -> HandoverError:
    sessions = _sessions(connection, dbname)
    shown = f": {some(sessions, 10)}" if sessions else ""
    return HandoverError(
        f'Database "{dbname}" of the target is to be dropped, and sessions use it that its role may not end{shown}.',
        "End these sessions, keep their clients away, then run this again.",
    )


def users(connection, dbname: str) -> list[str]:
    """Sessions of clients in a database that are neither a migration's nor its subscriptions', which are called alike.
    What kind a session is, the server does not show to everybody.
    """
    return _sessions(
        connection,
        dbname,
        "AND usename IS NOT NULL AND NOT starts_with(application_name, 'handover') AND application_name <> 'pg_restore'"
        " AND coalesce(backend_type, 'client backend') = 'client backend'",
    )


def _sessions(connection, dbname: str, which: str = "") -> list[str]:
    query = f"""
        SELECT format('%%s (process %%s%%s)', usename, pid, ', ' || nullif(application_name, ''))
        FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid() {which} ORDER BY pid"""
    return [text for (text,) in rows(connection, query, (dbname,))]


def end_leftovers(connection, dbname: str, spared: list[int]) -> None:
    """End what a run that was killed still does in a database, but for sessions of these process ids: a server notices
    late that nobody listens any more.
    """
    query = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = %s AND usename = current_user AND application_name = 'handover'
        AND pid <> ALL (%s) AND state <> 'idle' AND query !~* '^\\s*(SELECT|WITH)'"""
    rows(connection, query, (dbname, [connection.info.backend_pid, *spared]))


def end_sessions(connection) -> None:
    """End every other session of ours in the connection's database, whatever it does, and wait for their end."""
    query = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = session_user AND application_name = 'handover'
        AND pid <> pg_backend_pid()"""
    for _attempt in range(RENAME_ATTEMPTS):
        if not rows(connection, query):
            return
        time.sleep(RENAME_PAUSE)


def rename(connection, former: str, new: str) -> None:
    """Rename a database of ours; our own sessions in it, which a pooler may keep, are ended, others waited for."""
    statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(former), sql.Identifier(new))
    with _as_owner(connection, former):
        for attempt in range(RENAME_ATTEMPTS):
            rows(connection, END_OWN_SESSIONS, (former,))
            try:
                return execute(connection, statement)
            except psycopg2.errors.ObjectInUse:
                if attempt == RENAME_ATTEMPTS - 1:
                    raise
                time.sleep(RENAME_PAUSE)


def _as_owner(connection, dbname: str, others: Iterable[str] = ()):
    """Membership in the owner of a database, who may be one of the source's roles already, and in other roles."""
    query = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s"
    return temporary_memberships(connection, [owner for (owner,) in rows(connection, query, (dbname,))] + list(others))


def execute(connection, statement) -> None:
    """Run one statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def attempt(session, statement) -> str:
    """Empty if the server did it, else its reason."""
    try:
        execute(session, statement)
    except psycopg2.Error as error:
        return one_line(error)
    return ""


# Everything that a database may hold beyond what initdb and extensions put there: (how to drop it, its name).
# Oids from 16384 on are the user's, those of large objects all of them; what depends on a schema of the user's goes
# with that schema. Event triggers go first, or they would have a say. Extensions stay: the service may have made them.
OWN_OBJECTS = """
    WITH object (classid, objid) AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'n' AND refclassid = 'pg_namespace'::regclass
        AND refobjid < 16384 AND classid <> 'pg_extension'::regclass
        UNION SELECT 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
        UNION SELECT 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata
        UNION SELECT 'pg_publication'::regclass, oid FROM pg_publication
        UNION SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
        UNION SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
        UNION SELECT 'pg_am'::regclass, oid FROM pg_am
        UNION SELECT 'pg_cast'::regclass, oid FROM pg_cast
        UNION SELECT 'pg_language'::regclass, oid FROM pg_language)
    SELECT CASE kind.type WHEN 'large object' THEN format('SELECT lo_unlink(%s)', objid)
           ELSE format('DROP %s IF EXISTS %s CASCADE',
                       CASE kind.type WHEN 'statistics object' THEN 'STATISTICS' WHEN 'composite type' THEN 'TYPE'
                       ELSE replace(upper(kind.type), '-', ' ') END, kind.identity) END,
           kind.type || ' ' || kind.identity
    FROM object, pg_identify_object(classid, objid, 0) AS kind
    WHERE (objid >= 16384 OR classid = 'pg_largeobject'::regclass) AND NOT EXISTS (
        SELECT FROM pg_depend AS d WHERE d.classid = object.classid AND d.objid = object.objid
        AND d.deptype IN ('e', 'i')) -- part of an extension, or of another object, such as an identity's sequence
    ORDER BY classid <> 'pg_event_trigger'::regclass, classid <> 'pg_namespace'::regclass, 2"""


# Default privileges are no objects, but change what is made: (how to make them again what initdb says, what they are).
DEFAULT_PRIVILEGES = """
    WITH entry AS (
        SELECT format('FOR ROLE %I%s', pg_get_userbyid(defaclrole), ' IN SCHEMA ' || quote_ident(nspname)) AS scope,
               CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                    WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind, defaclacl AS now,
               CASE WHEN nspname IS NULL
                    THEN acldefault(replace(defaclobjtype::text, 'S', 's')::"char", defaclrole) END AS initial
        FROM pg_default_acl LEFT JOIN pg_namespace AS n ON n.oid = defaclnamespace),
    step AS (
        SELECT 1 AS number, scope, kind, format('REVOKE ALL ON %s FROM', kind) AS verb, grantee
        FROM entry, aclexplode(now)
        UNION SELECT 2, scope, kind, format('GRANT %s ON %s TO', privilege_type, kind), grantee
        FROM entry, aclexplode(initial))
    SELECT string_agg(
        format('ALTER DEFAULT PRIVILEGES %s %s %s', scope, verb, coalesce(quote_ident(rolname), 'PUBLIC')),
        '; ' ORDER BY number), format('default privileges on %s %s', kind, scope)
    FROM step LEFT JOIN pg_roles AS r ON r.oid = grantee GROUP BY scope, kind ORDER BY 2"""


def own_objects(connection) -> list[str]:
    """What a database holds that is not an extension's or the server's: ``table public.orders``; empty if empty."""
    return [name for query in (OWN_OBJECTS, DEFAULT_PRIVILEGES) for _drop, name in rows(connection, query)]


def clear(endpoint: Endpoint, connection, dbname: str) -> None:
    """Drop all that ``own_objects`` lists, in one transaction: all, or nothing with an error.

    It may belong to roles of the source already, which an import that was killed gave it to.
    """
    with visit(endpoint, connection, dbname) as session:
        owners = referenced_roles(session)
    with _as_owner(connection, dbname, owners), contextlib.closing(endpoint.connect(dbname)) as session:
        try:
            import_journal.undo(session)
            execute(session, "; ".join(["BEGIN", *clearing(session), "COMMIT"]))
        except psycopg2.Error as error:
            raise HandoverError(
                f"It cannot be emptied: {one_line(error)}",
                "Empty it yourself, or connect as the owner of what it holds.",
            ) from None


def clearing(connection) -> list[str]:
    """SQL that drops all that ``own_objects`` lists."""
    return [drop for query in (DEFAULT_PRIVILEGES, OWN_OBJECTS) for drop, _name in rows(connection, query)]
