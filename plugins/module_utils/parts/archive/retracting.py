# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes back what pg_dump once said of an object: privileges, comments, security labels, owners.

pg_dump has statements that set these, and says nothing where there are none any more.
"""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.edits import (
    NAME,
    PRIVILEGES,
    SESSION_AUTHORIZATION,
    STATEMENT,
)

# Of what other objects have.
SAID = frozenset({*PRIVILEGES, "COMMENT", "SECURITY LABEL"})
OWNED = frozenset({
    "AGGREGATE", "COLLATION", "DOMAIN", "FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "PROCEDURE", "SCHEMA", "SEQUENCE",
    "STATISTICS", "TABLE", "TYPE", "VIEW",
})  # fmt: skip
LABELLED = re.compile(r"""((?:COMMENT|SECURITY LABEL) (?:[^"']|"(?:[^"]|"")*")*?) IS E?'""")
GRANTED = re.compile(rf"(ALTER DEFAULT .*?)?(GRANT|REVOKE) (.*) (TO|FROM) ({NAME})( WITH GRANT OPTION)?;", re.DOTALL)
OPPOSITE = {"GRANT": "REVOKE", "REVOKE": "GRANT", "TO": "FROM", "FROM": "TO"}


def retracting_statements(before: str, now: str) -> list[str]:
    """What was said ``before`` and is not ``now``, taken back, the last first. What is said now is said again later."""
    if not before.startswith(("COMMENT ", "SECURITY LABEL ")):
        kept = _privileges(now)
        return [_opposite(*one) for one in reversed(_privileges(before)) if one not in kept]
    kept_labels = _labelled(now)
    return [f"{one} IS NULL;" for one in _labelled(before) if one not in kept_labels]


def _labelled(text: str) -> list[str]:
    """What has comments or labels, in the words that begin such statements."""
    found = [LABELLED.match(one.strip()) for one in STATEMENT.findall(text)]
    return [one.group(1) for one in found if one]


def _privileges(text: str) -> list[tuple[str, str]]:
    """(as whom, the statement) of each."""
    found, role = [], ""
    for one in STATEMENT.findall(text):
        statement = one.strip()
        authorization = SESSION_AUTHORIZATION.match(statement)
        if authorization:
            role = authorization.group(1).strip("'")
        elif statement.startswith("RESET "):
            role = ""
        elif GRANTED.fullmatch(statement):
            found.append((role, statement))
    return found


def _opposite(role: str, statement: str) -> str:
    head, verb, what, preposition, grantee, _option = GRANTED.fullmatch(statement).groups()
    text = f"{head or ''}{OPPOSITE[verb]} {what} {OPPOSITE[preposition]} {grantee};"
    return f"SET ROLE {role}; {text} RESET ROLE;" if role else text


def owner_statement(drop: str, owner: str) -> str:
    """What gives an object to another role, as pg_restore makes it of pg_dump's statement that drops the object."""
    quoted = owner.replace('"', '""')
    return re.sub(r"^DROP (.*?)(?: CASCADE)?;$", r"ALTER \1 OWNER TO ", drop, flags=re.DOTALL) + f'"{quoted}";'
