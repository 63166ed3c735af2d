# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the source's roles: which of them, and what of them, the target will take.

The import tries every statement; a preflight may not, so here the rules are asked (PostgreSQL documentation, 22.2, and
CREATE ROLE): they are those of a server that no service has changed.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.newer_rules import STRINGS, refusal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_data
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_import import RESERVED


def _read(side: Side) -> dict:
    return role_data.read_roles(side.connection)


def _quoted(side: Side) -> dict[str, str]:
    """Names of roles as SQL takes them."""
    return dict(side.rows("SELECT rolname::text, quote_ident(rolname) FROM pg_roles"))


def _named(pair: Pair, roles: list[dict]) -> list[str]:
    quoted = pair.source.once(_quoted)
    return [quoted[role["name"]] for role in roles]


def _carried(pair: Pair) -> list[dict]:
    """The source's roles but for those that are never carried over."""
    names = {pair.target.capabilities.role, pair.target.capabilities.bootstrap_role} if pair.target else set()
    return [
        role
        for role in pair.source.once(_read)["roles"]
        if not role["bootstrap"] and not RESERVED.fullmatch(role["name"]) and role["name"] not in names
    ]


@server_check("role_names", "Every role of the source can have its name on the target.")
def role_names(pair: Pair):
    """Names that providers reserve, the bootstrap superuser, and the connecting role of the target."""
    data = pair.source.once(_read)["roles"]
    reserved = _named(pair, [role for role in data if not role["bootstrap"] and RESERVED.fullmatch(role["name"])])
    if reserved:
        yield Finding(
            "info",
            f"{counted(len(reserved), 'role')} with a name that a provider reserves: {some(reserved)}.",
            "They are not carried over. If the target has no role of that name, their objects belong to the "
            "connecting role.",
            "Give what they own to roles of yours, in each database: REASSIGN OWNED BY ... TO ...;",
            reserved,
        )
    if pair.target is None:
        yield Finding("unknown", "The names that the target reserves were not looked at.", remedy="Give target.")
        return
    there = pair.target.capabilities
    bootstrap = pair.source.capabilities.bootstrap_role
    if bootstrap not in there.roles:
        yield Finding(
            "info",
            f"The source's bootstrap superuser is {bootstrap}; the target has no such role.",
            f"What {bootstrap} owns belongs to {there.role} on the target, and privileges given to it are left out.",
            "Give what it owns to a role of yours, in each database: REASSIGN OWNED BY ... TO ...;",
            [bootstrap],
        )
    for name in {role["name"] for role in data if not role["bootstrap"]} & {there.role, there.bootstrap_role}:
        yield Finding(
            "info",
            f"Role {name} of the source has the name of the target's "
            + ("bootstrap superuser." if name == there.bootstrap_role else "connecting role."),
            "The import treats it as the same role: its attributes, settings and password on the target stay as "
            "they are.",
            "",
            [name],
        )


@server_check(
    "role_attributes", "The target's role may give every attribute that a role of the source has.", needs_target=True
)
def role_attributes(pair: Pair):
    """A role without SUPERUSER may not give all, and since 16 only those that it has itself."""
    may = _grantable(pair.target)
    refused = {
        attribute: _named(pair, [role for role in _carried(pair) if role[attribute]])
        for attribute in role_data.ATTRIBUTES
        if attribute not in may
    }
    for attribute, names in refused.items():
        if names:
            yield Finding(
                "warning",
                f"{pair.target.capabilities.role} may not give {attribute.upper()} on the target; "
                f"{counted(len(names), 'role')} of the source have it: {some(names)}.",
                "They arrive without it.",
                "Use the service's replacement, or connect to the target as a superuser.",
                [f"{name}: {attribute.upper()}" for name in names],
            )


def _grantable(target: Side) -> set:
    """The attributes that the connecting role may give."""
    if target.capabilities.superuser:
        return set(role_data.ATTRIBUTES)
    may = {"inherit", "login"}
    if target.server.major < 16:
        return may | {"createrole", "createdb"}
    own = target.rows("""
        SELECT rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
        FROM pg_roles WHERE rolname = current_user""")[0]
    names = ("createrole", "createdb", "replication", "bypassrls")
    return may | {name for name, has in zip(names, own) if has}


@server_check("role_passwords", "The password of every role with LOGIN can be carried over.")
def role_passwords(pair: Pair):
    """The collection reads hashes from pg_authid; services hide it."""
    logins = [role for role in _carried(pair) if role["login"]]
    by_state = {
        state: _named(pair, [role for role in logins if role["password"]["state"] == state])
        for state in ("unreadable", "none")
    }
    if by_state["unreadable"]:
        yield Finding(
            "warning",
            f"This role may not read the passwords of {counted(len(by_state['unreadable']), 'role')}: "
            f"{some(by_state['unreadable'])}.",
            "They arrive without a password, and cannot log in with one.",
            "Give them in role_passwords of pg_restore_import, or connect to the source as a superuser.",
            by_state["unreadable"],
        )
    if by_state["none"]:
        yield Finding(
            "info",
            f"{counted(len(by_state['none']), 'role')} may log in but have no password: {some(by_state['none'])}.",
            "On the target they need another method of authentication, too: peer, certificates, LDAP.",
            "If they need a password there: role_passwords of pg_restore_import.",
            by_state["none"],
        )


@server_check("md5_passwords", "No role of the source has an MD5 password.")
def md5_passwords(pair: Pair):
    """MD5 hashes work only if pg_hba.conf says md5; 18 warns, and a later major will drop them."""
    roles = [role for role in _carried(pair) if role["login"]]
    old = _named(pair, [role for role in roles if role["password"]["kind"] == "md5"])
    if old:
        yield Finding(
            "warning",
            f"{counted(len(old), 'role')} with an MD5 password: {some(old)}.",
            "If the target asks for scram-sha-256, as services do, their login fails.",
            "Set the same passwords anew on the source, before the migration, with psql:\n"
            "SET password_encryption = 'scram-sha-256';\n"
            + script([f"\\password {name}" for name in old])
            + "\nOr give them in role_passwords of pg_restore_import.",
            old,
        )
    elif any(role["password"]["state"] == "unreadable" for role in roles):
        remedy = "As a superuser on the source: SELECT rolname FROM pg_authid WHERE rolpassword LIKE 'md5%';"
        yield Finding("unknown", "This role may not read the passwords of roles.", remedy=remedy)


@server_check("role_settings", "The target takes every setting that roles and databases have.", needs_target=True)
def role_settings(pair: Pair):
    """ALTER ROLE and ALTER DATABASE SET: the target may lack the setting, reserve it for superusers, or refuse the
    value.
    """
    quoted = pair.source.once(_quoted)
    carried = {None, *(role["name"] for role in _carried(pair))}
    databases = {None, *pair.databases}
    refusals = _refused_settings(pair)
    refused = {}
    for setting in pair.source.once(_read)["settings"]:
        name = setting["name"]
        if setting["role"] in carried and setting["database"] in databases and name != STRINGS:
            reason = refusals.get(name.lower()) or refusal(pair.target, name, setting["value"])
            role, database = quoted.get(setting["role"]), setting["database"]
            holder = " in ".join(filter(None, (role, database and f"database {database}"))) or "all roles"
            refused.setdefault((name, reason), []).append(holder)
    for (name, reason), holders in ((key, holders) for key, holders in refused.items() if key[1]):
        yield Finding(
            "warning",
            f"{name} is set for {some(holders)}; {reason}.",
            "It is left out.",
            "If it matters, set it in the target's configuration.",
            [f"{name}: {holder}" for holder in holders],
        )


def _refused_settings(pair: Pair) -> dict[str, str]:
    """Why the target does not take a setting, by its name in lower case."""
    target = pair.target
    names = {setting["name"].lower() for setting in pair.source.once(_read)["settings"]}
    allowed = "has_parameter_privilege(name, 'SET')" if target.server.major >= 15 else "false"
    found = target.rows(
        f"SELECT lower(name), context, context IN ('user', 'backend') OR {allowed} FROM pg_settings"
        " WHERE lower(name) = ANY (%s)",
        (list(names),),
    )
    known = {name: (context, free) for name, context, free in found}
    reasons = {}
    for name in names:
        if name in known:
            context, free = known[name]
            if context in ("internal", "postmaster", "sighup"):
                reasons[name] = "on the target it can only be set for the whole server"
            elif not (free or target.capabilities.superuser):
                reasons[name] = "on the target only a superuser may set it"
        elif "." not in name:
            hidden = "" if target.sees_all_settings else "or does not show it"
            reasons[name] = f"the target has no such setting{hidden}"
    return reasons


@server_check(
    "role_memberships", "The target's role may grant every membership that roles of the source have.", needs_target=True
)
def role_memberships(pair: Pair):
    """In predefined roles, and since 16 in roles of the target's own, it takes ADMIN OPTION."""
    target = pair.target
    if target.capabilities.superuser:
        return
    carried = {role["name"] for role in _carried(pair)}
    wanted = {}
    for row in pair.source.once(_read)["memberships"]:
        if row["member"] in carried and (row["role"] not in carried or row["role"] in target.capabilities.roles):
            wanted.setdefault(row["role"], []).append(row["member"])
    admin = "pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')"
    if target.server.major < 16:  # CREATEROLE was enough for every role that is not a superuser
        admin += " OR NOT rolsuper AND (SELECT rolcreaterole FROM pg_roles WHERE rolname = current_user)"
    may = {name for (name,) in target.rows(f"SELECT rolname::text FROM pg_roles WHERE {admin}")}
    refused = {role: members for role, members in wanted.items() if role not in may}
    if refused:
        names, me = pair.source.once(_quoted), target.value("SELECT quote_ident(current_user)")
        yield Finding(
            "warning",
            f"{me} may not grant membership in {some(sorted(refused))} on the target.",
            "Members of these roles on the source arrive without it: "
            f"{some(sorted({member for members in refused.values() for member in members}))}.",
            "If the service allows it, as its superuser:\n"
            + script([f"GRANT {names[role]} TO {me} WITH ADMIN OPTION;" for role in sorted(refused)]),
            [names[role] for role in sorted(refused)],
        )


@server_check("roles_there", "The target has none of the source's roles yet.", needs_target=True)
def roles_there(pair: Pair):
    """The import treats them as the same roles, and leaves what it may not change."""
    there = [role["name"] for role in _carried(pair) if role["name"] in pair.target.capabilities.roles]
    if not there:
        return
    quoted = [pair.source.once(_quoted)[name] for name in there]
    yield Finding(
        "info",
        f"On the target, too: {counted(len(there), 'role')} of the source: {some(quoted)}.",
        "The import treats them as the same roles: it adds what they lack, and takes nothing away.",
        "",
        quoted,
    )
