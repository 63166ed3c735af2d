# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What statements remove or put back, in words, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: removals
short_description: Say in words what statements remove or put back
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - Counts and names, of SQL that M(handover.postgresql.pg_logical_migrate) returns when it stops or finishes a
    migration.
options:
  _input:
    description: The statements for one server.
    type: list
    elements: str
    required: true
seealso:
  - module: handover.postgresql.pg_logical_migrate
"""

EXAMPLES = r"""
- name: Say what would go
  handover.postgresql.show:
    text: "{{ result.databases[0].statements.source | handover.postgresql.removals }}"
"""

RETURN = r"""
_value:
  description: A line, such as V(slot handover_0a1b2c3d4e_w1; 2 replica identities as before).
  type: str
"""

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some

# What is named: noun, what becomes of it if it does not go, and the statement.
NAMED = (
    ("subscription", "", r"DROP SUBSCRIPTION (.+)"),
    ("subscription", "", r"SELECT aiven_extras\.pg_drop_subscription\('(.+)'\)"),
    ("slot", "", r"SELECT pg_drop_replication_slot\('(.+)'\)"),
    ("publication", "", r"DROP PUBLICATION (.+)"),
    ("role", "", r"DROP ROLE (?:IF EXISTS )?(.+)"),
    ("role", " allowed to connect again", r"ALTER ROLE (.+) LOGIN"),
    ("database", "", r"DROP DATABASE (?:IF EXISTS )?(.+)"),
    ("schema", "", r"DROP SCHEMA (?:IF EXISTS )?(\S+)"),
)
# What is counted.
COUNTED = (
    ("trigger", "", r"DROP TRIGGER "),
    ("replica identity", " put back", r"(?s)(?:ALTER TABLE|DO \$\$).* REPLICA IDENTITY "),
    ("table", " of the journal", r"DROP TABLE handover\."),
    ("object", "", r"(?s)DROP .* IF EXISTS .* CASCADE$|SELECT lo_unlink"),
)
# They belong to one of the above.
PARTS = (
    r"ALTER SUBSCRIPTION |SELECT aiven_extras\.pg_alter_|DROP OWNED BY |DROP FUNCTION handover\.|DELETE FROM handover\."
)


def removals(statements):
    """See DOCUMENTATION."""
    names, numbers, others = {}, {}, 0
    for statement in statements:
        if kind := _named(statement):
            name = kind[2].strip('"').replace('""', '"')
            names.setdefault(kind[:2], {})[name] = True
        elif kind := _counted(statement):
            numbers[kind] = numbers.get(kind, 0) + 1
        elif not re.match(PARTS, statement):
            others += 1
    found = [
        f"{noun if len(them) == 1 else counted(len(them), noun)} {some(list(them), 5)}{suffix}"
        for (noun, suffix), them in names.items()
    ]
    found += [counted(number, noun) + suffix for (noun, suffix), number in numbers.items()]
    return "; ".join([*found, *([counted(others, "other statement")] if others else [])])


def _named(statement):
    matches = ((noun, suffix, re.fullmatch(pattern, statement)) for noun, suffix, pattern in NAMED)
    return next(((noun, suffix, found[1]) for noun, suffix, found in matches if found), None)


def _counted(statement):
    return next(((noun, suffix) for noun, suffix, pattern in COUNTED if re.match(pattern, statement)), None)


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"removals": removals}
