# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How apply reads values: its worker begins with the settings of the database and of the subscription's owner, as the
application does, but what it reads was written by the publisher, which spells a null as NULL and any XML as content.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, sql
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

WANTED = {"array_nulls": "on", "xmloption": "content"}

# What holds in the sessions of a role in this database, most particular first; and whether that is particular already.
SETTINGS = """
    SELECT DISTINCT ON (w.name) w.name, s.value, coalesce(s.particular, false)
    FROM unnest(%(names)s::text[]) AS w (name) LEFT JOIN LATERAL (
        SELECT substr(entry, strpos(entry, '=') + 1) AS value, setrole <> 0 AND setdatabase <> 0 AS particular,
               (setrole <> 0)::int * 2 + (setdatabase <> 0)::int AS weight
        FROM pg_db_role_setting, unnest(setconfig) AS entry
        WHERE lower(split_part(entry, '=', 1)) = w.name
        AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = %(role)s))
        AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        UNION ALL SELECT reset_val, false, -1 FROM pg_settings
        WHERE name = w.name AND source NOT IN ('database', 'user', 'database user', 'global')) AS s ON true
    ORDER BY w.name, s.weight DESC"""


def statements(connection: Connection, role: str) -> list[tuple[str, str]]:
    """(SQL that lets this role's sessions here read what was written, SQL that takes it back) where it is needed."""
    found = rows(connection, SETTINGS, {"names": list(WANTED), "role": role})
    others = [one for one in found if one[1] is not None and one[1].lower() not in (WANTED[one[0]], "true", "yes", "1")]
    if not others:
        return []
    place = sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(
        sql.Identifier(role), sql.Identifier(rows(connection, "SELECT current_database()::text")[0][0])
    )
    made = []
    for name, value, particular in others:
        former = sql.SQL(f"SET {name} = {{}}").format(sql.Literal(value)) if particular else sql.SQL(f"RESET {name}")
        undo = (place + former).as_string(connection)
        body = f"BEGIN {undo}; EXCEPTION WHEN undefined_object OR invalid_catalog_name THEN NULL; END"
        made.append(((place + sql.SQL(f"SET {name} = {WANTED[name]}")).as_string(connection), f"DO {constant(body)}"))
    return made
