# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the connecting roles may read in a database, and write on the target."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, unreadable_objects
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database


def _unreadable(database: Database):
    return unreadable_objects(database.connection)


def _role(database: Database) -> str:
    """The connecting role on the source, quoted."""
    return database.value("SELECT quote_ident(current_user)")


@database_check("select_privileges", "The role can read every table, sequence and large object.")
def select_privileges(database: Database):
    """pg_dump locks every table and reads every sequence and large object (PostgreSQL documentation, pg_dump)."""
    missing = [one for one in database.once(_unreadable) if one.privilege != "BYPASSRLS"]
    if missing:
        role = _role(database)
        yield Finding(
            "blocker",
            f"Role {role} cannot read {counted(len(missing), 'object')}: {some([str(one) for one in missing])}.",
            "A dump fails, and rows cannot be copied.",
            script(_grants(missing, role, database.server.major), most=9),
            [one.name if one.schema else f"{one.kind} {one.name}" for one in missing],
        )


def _grants(missing: list, role: str, major: int) -> list[str]:
    """What an administrator of the source has to run, schema by schema."""
    grants = []
    for schema in sorted({one.schema for one in missing if one.schema}):
        if any(one.privilege == "USAGE" for one in missing if one.schema == schema):
            grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {role};")
        kinds = ("TABLES", "SEQUENCES")
        grants += [f"GRANT SELECT ON ALL {kind} IN SCHEMA {schema} TO {role};" for kind in kinds]
    if len(grants) > 9 and major >= 14:
        grants = [f"GRANT pg_read_all_data TO {role};"]
    objects = [one.name for one in missing if not one.schema]
    return grants + [f"GRANT SELECT ON LARGE OBJECT {name} TO {role};" for name in objects]


@database_check("row_security", "No row level security hides rows from the role.")
def row_security(database: Database):
    """The collection and pg_dump set row_security off, so that such a table is an error instead of a part of it."""
    hidden = [one.name for one in database.once(_unreadable) if one.privilege == "BYPASSRLS"]
    if hidden:
        role = _role(database)
        yield Finding(
            "blocker",
            f"Row level security of {counted(len(hidden), 'table')} applies to role {role}: {some(hidden)}.",
            "A dump fails, and rows cannot be copied, because some would be missing.",
            f"ALTER ROLE {role} BYPASSRLS; -- or connect as the owner of these tables",
            hidden,
        )


@database_check("forced_row_security", "No row level security stops apply.", ("continuous",), needs_target=True)
def forced_row_security(database: Database):
    """From 15 on, apply refuses tables whose policies apply to its role. From 16 on, its role is the table's owner, and
    policies apply to owners with FORCE. A superuser can give such tables a subscription of their own.
    """
    query = f"""
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM {OWN_RELATIONS} AND c.relkind = 'r' AND c.relrowsecurity AND c.relforcerowsecurity
        AND NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = c.relowner AND (r.rolsuper OR r.rolbypassrls))
        ORDER BY 1"""
    forced = [name for (name,) in database.rows(query)]
    if not forced or database.target.server.major < 15:
        return
    bypass = database.target.capabilities.superuser
    yield Finding(
        "info" if bypass else "blocker",
        f"{counted(len(forced), 'table')} with FORCE ROW LEVEL SECURITY: {some(forced)}.",
        (
            "On a target of 16 or later, they get a subscription and a slot of their own. A role that is a member of "
            "their owners and bypasses row level security applies their changes."
        )
        if bypass
        else "Apply stops, because their owners do not bypass these policies, and the target's role is no superuser.",
        "" if bypass else script([f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY;" for name in forced]),
        forced,
    )


@database_check("user_mappings", "The options of all user mappings are visible.")
def user_mappings(database: Database):
    """If pg_dump cannot see a mapping's options, it writes the mapping without them, and says nothing."""
    query = """
        SELECT format('USER MAPPING FOR %s SERVER %I',
                      CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE quote_ident(m.usename) END, m.srvname)
        FROM pg_user_mappings AS m JOIN pg_foreign_server AS s ON s.oid = m.srvid
        WHERE m.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        AND NOT (CASE WHEN m.umuser = 0 THEN pg_has_role(s.srvowner, 'USAGE')
                      ELSE m.usename = current_user AND (pg_has_role(s.srvowner, 'USAGE')
                           OR has_server_privilege(s.oid, 'USAGE')) END)
        ORDER BY 1"""
    hidden = [name for (name,) in database.rows(query)]
    if hidden:
        yield Finding(
            "warning",
            f"The options of {counted(len(hidden), 'user mapping')} are hidden from this role: {some(hidden)}.",
            "They arrive without user and password, so foreign tables fail on the target.",
            script([f"ALTER {name} OPTIONS (ADD user '...', ADD password '...'); -- on the target" for name in hidden]),
            hidden,
        )
