# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to single entries of an archive, so that what a target would refuse in them is said in another way."""

from __future__ import annotations

import re
from dataclasses import replace

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry

PRIVILEGES = ("ACL", "DEFAULT ACL")
NAME = r"""(?:"(?:[^"]|"")+"|[\w$]+)"""
COLUMN_OPTIONS = re.compile(
    rf"^(ALTER (?:FOREIGN )?TABLE ONLY {NAME}\.{NAME} ALTER COLUMN {NAME} SET \()(.*)(\);\n)", re.MULTILINE
)
SESSION_AUTHORIZATION = re.compile(r"^SET SESSION AUTHORIZATION (.*);$", re.MULTILINE)
STATEMENT = re.compile(r"""(?:[^;"']|"[^"]*"|'[^']*')+;\n*""")
WITH_GRANT_OPTION = " WITH GRANT OPTION"


def without_pg_attver(entry: Entry) -> Entry:
    """Without the internal column option that an older pg_dump takes for one of the user's."""
    if not entry.definition or "pg_attver=" not in entry.definition:
        return entry
    return replace(entry, definition=COLUMN_OPTIONS.sub(_without_pg_attver, entry.definition))


def _without_pg_attver(match: re.Match) -> str:
    head, options, tail = match.groups()
    others = [option for option in options.split(", ") if not option.startswith("pg_attver=")]
    return f"{head}{', '.join(others)}{tail}" if others else ""


def with_public_perhaps_there(entry: Entry) -> Entry:
    """CREATE SCHEMA IF NOT EXISTS for schema public, which a dump of chosen schemas creates as any other."""
    if (entry.desc, entry.tag) != ("SCHEMA", "public") or not entry.definition:
        return entry
    return replace(entry, definition=entry.definition.replace("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS "))


def without_owner(entry: Entry, role: str) -> Entry:
    """Left to the connecting role if it belongs to this one."""
    return replace(entry, owner="") if entry.owner == role else entry


def without_grants(entry: Entry, role: str) -> Entry:
    """Without the grants to, and the revocations from, this role."""
    quoted = '"' + role.replace('"', '""') + '"'
    if entry.desc not in PRIVILEGES or quoted[1:-1] not in (entry.definition or ""):
        return entry
    ends = tuple(f" {word} {name}" for word in ("TO", "FROM") for name in (quoted, role))

    def concerns_role(statement: str) -> bool:
        text = statement.rstrip().rstrip(";")
        return (text[: -len(WITH_GRANT_OPTION)] if text.endswith(WITH_GRANT_OPTION) else text).endswith(ends)

    kept = [statement for statement in STATEMENT.findall(entry.definition) if not concerns_role(statement)]
    return replace(entry, definition="".join(kept))


def with_set_role(entry: Entry, roles: set[str]) -> Entry:
    """SET ROLE, as far as these roles can be taken, for SET SESSION AUTHORIZATION, which is for superusers."""
    if entry.desc not in PRIVILEGES or "SESSION AUTHORIZATION" not in (entry.definition or ""):
        return entry

    def set_role(match: re.Match) -> str:
        return f"SET ROLE {match.group(1)};" if _unquoted(match.group(1)) in roles else ""

    text = SESSION_AUTHORIZATION.sub(set_role, entry.definition)
    return replace(entry, definition=text.replace("RESET SESSION AUTHORIZATION;", "RESET ROLE;"))


def grants_alone(entry: Entry) -> str:
    """What the entry grants, without what it revokes."""
    if entry.desc != "ACL":
        return ""
    return "".join(one for one in STATEMENT.findall(entry.definition or "") if not one.lstrip().startswith("REVOKE "))


def owners_grants_alone(entry: Entry) -> str:
    """What the entry grants as the owner, without what others pass on, and without grant options.

    For a role that acts as the owner because it is a member: were grant options there, the server would take a role
    that has them for the grantor, not the owner, when the entry itself is restored (acl.c, select_best_grantor).
    """
    return re.split("^SET ", grants_alone(entry), flags=re.MULTILINE)[0].replace(f"{WITH_GRANT_OPTION};", ";")


def grantors(entry: Entry) -> set[str]:
    """Roles as which the entry grants, or whose default privileges it sets."""
    if entry.desc not in PRIVILEGES:
        return set()
    owner = {entry.owner} if entry.desc == "DEFAULT ACL" and entry.owner else set()
    return owner | {_unquoted(name) for name in SESSION_AUTHORIZATION.findall(entry.definition or "")}


def _unquoted(name: str) -> str:
    """The name that an identifier in a statement stands for."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.strip("'")
