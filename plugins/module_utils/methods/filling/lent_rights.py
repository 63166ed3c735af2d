# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles are lent, or given before its time, while a database is filled: so that objects can be given to their
owners, and be built with their owners' rights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import script
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.edits import (
    grants_alone,
    owners_grants_alone,
    with_set_role,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.target_database import attempt
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.memberships import temporary_memberships


def take_ownership(archive: FittedArchive, elsewhere: set[str], stack: contextlib.ExitStack) -> set[str]:
    """Membership in the owners, and in those ``elsewhere``, for the time of the import; objects of those that cannot be
    had go to us. Returned are the roles that objects can be given to.
    """
    roles, fitting = archive.capabilities.roles, archive.fitting
    if archive.capabilities.superuser:
        return set(roles)
    owners = fitting.grantors()
    if not archive.params["no_owner"]:
        owners |= fitting.owners() | elsewhere | {archive.origin["properties"]["owner"]}
    there = sorted(owners & roles)
    memberships = stack.enter_context(temporary_memberships(archive.connection, there))
    for refused in memberships.refused:
        fitting.leave_to_us(refused["role"], refused["reason"])
    taken = set(there) - {refused["role"] for refused in memberships.refused}
    fitting.edit("grantor", "SET ROLE for SET SESSION AUTHORIZATION", lambda one: with_set_role(one, taken))
    return taken


def let_owners_create(session: Connection) -> None:
    """Let owners have CREATE while objects are given to them: for a role that is not a superuser, ALTER ... OWNER
    demands it of the new owner, and the privileges of the archive come last. Nobody else is in the database yet.
    """
    closed = closed_to_owners(session)
    revocations = [sql.SQL("REVOKE CREATE ON {} FROM PUBLIC").format(thing) for thing in closed]
    import_journal.record_undo(session, [revocation.as_string(session) for revocation in revocations])
    for thing in closed:
        attempt(session, sql.SQL("GRANT CREATE ON {} TO PUBLIC").format(thing))


def closed_to_owners(session: Connection) -> list[sql.Composed]:
    """SQL for the schemas, and the database, where not everybody may create."""
    query = """
        SELECT 'SCHEMA', nspname::text FROM pg_namespace WHERE NOT has_schema_privilege('public', oid, 'CREATE')
        AND nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'handover')
        UNION ALL SELECT 'DATABASE', current_database()::text
        WHERE NOT has_database_privilege('public', current_database(), 'CREATE')"""
    return [sql.SQL(kind + " {}").format(sql.Identifier(name)) for kind, name in rows(session, query)]


def grant_for_building(archive: FittedArchive, prepared: Callable[[], Connection]) -> None:
    """Grant, before rows come, what the archive grants at the end: an index is built, a constraint checked with the
    rights of the table's owner, who may have to call a function in another's schema. Nothing is revoked yet; what is
    refused here is refused again, and said, when privileges are restored. ``prepared()`` is a session that reads
    statements as the archive has them.
    """
    for group in in_groups(grants_for_building(archive), script.TOGETHER):
        if not _execute(prepared(), b"\n".join(group)):
            for one in group:
                _execute(prepared(), one)


def grants_for_building(archive: FittedArchive) -> list[bytes]:
    """The grants of the archive that can be made before rows come, of its entries in their order."""
    granted = grants_alone if archive.capabilities.superuser else owners_grants_alone
    texts = [granted(entry) for entry in archive.fitting.remaining()]
    return [text.encode(archive.contents.codec, "surrogateescape") for text in texts if text]


def _execute(session: Connection, statements: bytes) -> bool:
    """In one transaction; whether the server took them."""
    with contextlib.suppress(psycopg2.Error), session.cursor() as cursor:
        cursor.execute(statements)
        return True
    return False


def try_to_undo(session: Connection) -> None:
    """After an error: what was granted for a while goes, if the server still takes it; else the next run sees to it."""
    with contextlib.suppress(psycopg2.Error):  # the error that brought us here says more
        import_journal.undo(session)


def open_public_schema(session: Connection, archive: FittedArchive) -> None:
    """Before 15 everybody may create in schema public; an application may count on it."""
    acl = archive.origin["properties"]["public_schema_acl"] or []
    if not any(grant["grantee"] is None and grant["privilege"] == "CREATE" for grant in acl):
        return
    if archive.params["no_privileges"]:
        return
    if rows(session, "SELECT has_schema_privilege('public', 'public', 'CREATE')")[0][0]:
        return
    refused = attempt(session, sql.SQL("GRANT CREATE ON SCHEMA public TO PUBLIC"))
    if refused:
        archive.fitting.note("CREATE on SCHEMA public for PUBLIC", "ACL", refused)
