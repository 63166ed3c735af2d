# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what the connecting roles may do on the servers: asked, or tried, where that changes nothing."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.network_trial import (
    PROBE,
    refused_subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_import import RESERVED

CONTINUOUS = ("continuous",)
REPLICATION_REFUSED = ("must be superuser or replication role", "permission denied to start WAL sender")


@server_check("replication_role", "The source accepts a replication connection of this role.", CONTINUOUS)
def replication_role(pair: Pair):
    """The check tries it: services grant it by other means than the attribute, and pg_hba.conf matters, too."""
    source = pair.source
    role = source.value("SELECT quote_ident(current_user)")
    try:
        source.endpoint.connect_for_replication(pair.databases[0]).close()
    except HandoverError as error:
        refused = any(sign in error.said for sign in REPLICATION_REFUSED)
        yield Finding(
            "blocker",
            f"The source refuses a replication connection: {error.problem}",
            "The migration can neither make slots nor read changes.",
            f"ALTER ROLE {role} REPLICATION; -- as a superuser; or connect as a superuser" if refused else error.remedy,
            [role],
        )


@database_check("publisher", "The role may publish the database's tables.", CONTINUOUS)
def publisher(database: Database):
    """CREATE on the database and ownership of the tables (PostgreSQL documentation, CREATE PUBLICATION)."""
    name, role, may_create = database.rows("""
        SELECT quote_ident(current_database()), quote_ident(current_user),
               has_database_privilege(current_database(), 'CREATE')""")[0]
    if not may_create:
        yield Finding(
            "blocker",
            f"{role} lacks CREATE on the database.",
            "It can make neither a publication nor a schema for the beacon.",
            f"GRANT CREATE ON DATABASE {name} TO {role};",
        )
    foreign = database.rows(
        """
        SELECT c.oid::regclass::text, quote_ident(pg_get_userbyid(c.relowner)) FROM pg_class AS c
        WHERE c.oid = ANY (%s) AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1""",
        ([table.oid for table in database.tables],),
    )
    if foreign:
        owners = sorted({owner for _table, owner in foreign})
        yield Finding(
            "blocker",
            f"{role} does not own {counted(len(foreign), 'table')}; they belong to {some(owners)}.",
            "That role can neither publish them nor fence them at the cutover.",
            script([f"GRANT {owner} TO {role};" for owner in owners], most=9),
            [table for table, _owner in foreign],
        )


@server_check("target_role", "The role may make databases and roles on the target.", needs_target=True)
def target_role(pair: Pair):
    """CREATEDB for databases that are not there yet, CREATEROLE for roles."""
    target, role = pair.target, pair.target.value("SELECT quote_ident(current_user)")
    may = target.capabilities
    if not (may.superuser or may.createdb):
        there = {name for (name,) in target.rows("SELECT datname FROM pg_database")}
        missing = [name for name in pair.databases if name not in there]
        if missing:
            yield Finding(
                "blocker",
                f"{role} may not create databases on the target; {some(missing)} are not there.",
                "The import cannot make them.",
                f"ALTER ROLE {role} CREATEDB;\n-- or create them there, and import with create: false",
                missing,
            )
    if not (may.superuser or may.createrole):
        yield Finding(
            "warning",
            f"{role} may not create roles on the target.",
            "Roles are not carried over; then objects belong to this role, and privileges are left out.",
            f"ALTER ROLE {role} CREATEROLE;\n-- or create the roles there by other means",
        )


@server_check("subscriber", "The role may create subscriptions on the target.", CONTINUOUS, needs_target=True)
def subscriber(pair: Pair):
    """A superuser, pg_create_subscription with a password (since 16), aiven_extras, or what a service allows."""
    target, role = pair.target, pair.target.value("SELECT quote_ident(current_user)")
    refusal = _refusal(target, pair)
    if target.capabilities.superuser or (refusal != "" and "aiven_extras" in target.capabilities.extensions):
        return
    if refusal == "" and not pair.source.endpoint.parameters.get("password"):
        yield Finding(
            "blocker",
            f"{role} is not a superuser on the target, and source.password is not given.",
            "Only a superuser may create a subscription whose connection has no password.",
            "Set source.password.",
        )
    elif refusal is None:
        yield Finding(
            "unknown",
            f"{role} is an administrator of a service, which may allow it to create subscriptions.",
            "A continuous migration needs that right.",
            f"Use test_network: subscription, or try it on the target:\n{PROBE}",
        )
    elif refusal:
        yield Finding(
            "blocker",
            f"{role} may not create subscriptions on the target: {refusal}.",
            "A continuous migration is not possible.",
            _grant(target, role, "migrate by dump"),
        )


def _grant(side: Side, role: str, otherwise: str) -> str:
    if side.server.major >= 16:
        return f"GRANT pg_create_subscription TO {role}; -- as a superuser; or {otherwise}"
    return f"ALTER ROLE {role} SUPERUSER; -- as a superuser; or {otherwise}"


def _refusal(side: Side, pair: Pair) -> str | None:
    """Why the role may not create subscriptions; empty if it may, None if only a trial would show."""
    if side.capabilities.superuser:
        return ""
    if side.server.major >= 16 and side.value("SELECT pg_has_role('pg_create_subscription', 'USAGE')"):
        return ""
    if side is pair.target and pair.options.test_network == "subscription":
        return refused_subscription(side)
    of_service = side.rows(
        "SELECT rolname FROM pg_roles WHERE oid >= 16384 AND pg_has_role(oid, 'MEMBER') AND rolname ~ %s",
        (f"^({RESERVED.pattern})$",),
    )
    needed = "is neither a superuser nor has pg_create_subscription" if side.server.major >= 16 else "is no superuser"
    return None if of_service else f"it {needed}"


@server_check("way_back_roles", "The roles may exchange their parts after the cutover.", CONTINUOUS, needs_target=True)
def way_back_roles(pair: Pair):
    """For the rollback the role on the target makes a slot, and the one on the source a subscription."""
    source, target = pair.sides
    role = source.value("SELECT quote_ident(current_user)")
    consequence = "After the cutover, there will be no rollback without loss."
    refusal = _refusal(source, pair)
    if refusal:
        seen = f"{role} may not create subscriptions on the source: {refusal}."
        yield Finding("warning", seen, consequence, _grant(source, role, "do without"), [f"source: {role}"])
    role = target.value("SELECT quote_ident(current_user)")
    try:
        target.endpoint.connect_for_replication(target.connection.info.dbname).close()
    except HandoverError as error:
        remedy = f"ALTER ROLE {role} REPLICATION; -- as a superuser, or by what the service offers for it"
        seen = f"The target refuses a replication connection: {error.problem}"
        yield Finding("warning", seen, consequence, remedy, [f"target: {role}"])


# What looks inside of functions, where the statement that subscribes is run (trust/unseen.py): by the setting that the
# session would turn off, the setting that tells, and the values with which it does not look.
LOOKING = {
    "pg_stat_statements.track_utility": ("pg_stat_statements.track", ("none", "top")),
    "pgaudit.log": ("pgaudit.log", ("none", "")),
}


@server_check("logged_passwords", "No extension logs the statement that subscribes.", CONTINUOUS, needs_target=True)
def logged_passwords(pair: Pair):
    """It has the password for the connection. Servers do not log it; extensions that read statements inside of
    functions do, unless the role may turn them off.
    """
    for side in (pair.target, pair.source):
        found = [name for name in LOOKING if _looks(side, name)]
        if found:
            role, end = side.value("SELECT quote_ident(current_user)"), side.endpoint.side
            off = {"pg_stat_statements.track_utility": "off", "pgaudit.log": "'none'"}
            yield Finding(
                "warning",
                f"On the {end}, {some([LOOKING[name][0] for name in found])} reads statements inside of functions, "
                f"and {role} may not turn that off.",
                f"When the {end} subscribes, the password for its connection is written there.",
                "-- as a superuser, before the migration\n"
                + script([f"ALTER ROLE {role} SET {name} = {off[name]};" for name in found]),
                found,
            )


def _looks(side: Side, name: str) -> bool:
    """Whether it writes down what our session runs, and the role may not keep it from that."""
    telling, quiet = LOOKING[name]
    if side.defaults.get(telling, quiet[0]) in quiet or side.defaults.get(name) in ("off", "none"):
        return False
    if side.server.major < 15:
        return not side.capabilities.superuser
    return not side.value("SELECT has_parameter_privilege(%s, 'SET')", (name,))
