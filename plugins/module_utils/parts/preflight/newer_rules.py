# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of what older servers took and newer ones refuse: values of settings, names with line breaks."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.side import Side
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.role_data import read_roles

STRINGS = "standard_conforming_strings"
NO_LINE_BREAKS_SINCE = 19


def refusal(target: Side, name: str, text: str) -> str:
    """Why the target does not take this value of a setting that any session may change; empty if it does.

    It is tried for the time of one statement. Timeouts are not tried: they could end the session.
    """
    query = """
        SELECT set_config(name, %s, true) FROM pg_settings
        WHERE lower(name) = lower(%s) AND context = 'user' AND vartype <> 'string' AND name !~ 'timeout'"""
    try:
        target.rows(query, (text, name))
    except psycopg2.errors.InsufficientPrivilege:
        return ""  # which is another matter
    except psycopg2.Error as error:
        return reason(error)
    return ""


@server_check("string_literals", "The target reads string literals as the source does.", needs_target=True)
def string_literals(pair: Pair):
    """With standard_conforming_strings = off a backslash escapes in every literal. From PostgreSQL 19 on it is on."""
    if not refusal(pair.target, STRINGS, "off"):
        return
    places = {f"DATABASE {one}": f"database {one}" for one in _set_off(pair, "database")}
    places |= {f"ROLE {one}": f"role {one}" for one in _set_off(pair, "role")}
    statements = [f"ALTER {place} RESET {STRINGS};" for place in places]
    if pair.source.defaults[STRINGS] == "off" and not places:
        places["SYSTEM"] = "the server"
        statements = [f"ALTER SYSTEM SET {STRINGS} = on;", "SELECT pg_reload_conf();"]
    if places:
        yield Finding(
            "warning",
            f"{STRINGS} is off on the source for {some(list(places.values()))}; the target does not support that.",
            "The setting is left out. On the target, a backslash in a literal '...' is a plain character: "
            "values get longer by each one, and \\' ends the literal, so that user input may run as SQL.",
            "-- First let the application write E'...' where a backslash is to escape; then, on the source, to see\n"
            f"-- that it works:\n{script(statements)}",
            list(places.values()),
        )


def _set_off(pair: Pair, kind: str) -> list[str]:
    """Databases for which ALTER DATABASE set it off, or roles, in any database; quoted as SQL takes them."""
    found = {
        one["database"] if kind == "database" else one["role"]
        for one in pair.source.once(_settings)
        if one["name"].lower() == STRINGS and one["value"] == "off" and (one["role"] is None) == (kind == "database")
    }
    concerned = sorted(one for one in found if one and (kind == "role" or one in pair.databases))
    return [pair.source.value("SELECT quote_ident(%s)", (one,)) for one in concerned]


def _settings(side: Side) -> list[dict]:
    return read_roles(side.connection)["settings"]


@server_check("line_breaks", "No name has a line break.", needs_target=True)
def line_breaks(pair: Pair):
    """From PostgreSQL 19 on names of roles, databases and tablespaces have neither line feeds nor carriage returns."""
    if pair.target.server.major < NO_LINE_BREAKS_SINCE:
        return
    breaks = "~ E'[\\n\\r]'"
    query = f"""
        SELECT 'ROLE', rolname::text FROM pg_roles WHERE rolname {breaks}
        UNION ALL SELECT 'TABLESPACE', spcname::text FROM pg_tablespace WHERE spcname {breaks}
        UNION ALL SELECT 'DATABASE', datname::text FROM pg_database WHERE datname {breaks} AND datname = ANY (%s)
        ORDER BY 1, 2"""
    found = pair.source.rows(query, (pair.databases,))
    if found:
        names = [f"{kind.lower()} {_escaped(name)}" for kind, name in found]
        yield Finding(
            "blocker",
            f"{counted(len(found), 'name')} with a line break: {some(names)}.",
            "The target cannot create them, and the import of what belongs to them fails.",
            "-- On the source; a role with an MD5 password needs it anew, and clients the new names.\n"
            + script([f"ALTER {kind} {_escaped(name)} RENAME TO {_plain(name)};" for kind, name in found]),
            names,
        )


def _escaped(name: str) -> str:
    """A name as SQL takes it on one line (PostgreSQL documentation, 4.1.2.3)."""
    text = name.replace("\\", "\\\\").replace('"', '""').replace("\n", "\\000A").replace("\r", "\\000D")
    return f'U&"{text}"'


def _plain(name: str) -> str:
    return '"' + re.sub(r"[\r\n]+", " ", name).replace('"', '""') + '"'
