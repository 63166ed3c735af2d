# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the place for the databases on the target: what is there already, and how much room they need."""

from __future__ import annotations

import contextlib
import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, size, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import database_sizes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.target_database import (
    WORKING_PREFIX,
    exists,
    own_objects,
    working_name,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import (
    Finding,
    database_check,
    server_check,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles.memberships import NAME as TEMPORARY_ROLE
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.scratch import (
    PREFIX as VERIFICATION_PREFIX,
)


@database_check("target_database", "The target has no database of this name.", needs_target=True)
def target_database(database: Database):
    """Empty, full, or one that an earlier run made or began."""
    name, target = database.name, database.target
    if not exists(target.connection, name):
        return
    with contextlib.closing(target.endpoint.connect(name, read_only=True)) as connection:
        entry = import_journal.read(connection)
        objects = own_objects(connection)
    if entry and not entry["completed"]:
        seen = f"The target has a database {name}, whose import was begun and not completed."
        yield Finding("info", seen, "It will be replaced.", "Run the import again.", methods=("dump",))
    elif entry:
        yield Finding(
            "warning",
            f"The target has a database {name}, which an earlier run imported until {entry['completed']}.",
            "The same dump is not imported again, and another one is refused.",
            f"To replace it: replace: true, replace_databases: {json.dumps([name], ensure_ascii=False)}",
        )
    elif objects:
        yield Finding(
            "blocker",
            f"The target has a database {name}, which holds {counted(len(objects), 'object')}: {some(objects)}.",
            "The import refuses a database that is not empty.",
            f"To replace it: replace: true, replace_databases: {json.dumps([name], ensure_ascii=False)}. "
            "Or drop or rename it there.",
            objects[:100],
        )
    else:
        yield Finding(
            "warning",
            f"The target has a database {name}; it is empty.",
            "With create: false, the import uses it as it is, with its encoding and locale; otherwise it refuses.",
            "Use create: false, or on the target:\n" + f"DROP DATABASE {_quoted(database)};",
        )


def _quoted(database: Database) -> str:
    return database.value("SELECT quote_ident(current_database())")


@server_check("leftovers", "No earlier run left anything behind.")
def leftovers(pair: Pair):
    """Databases that were being filled or compared with, and roles that were there for the time of a run only."""
    for side in pair.sides:
        of_source = {working_name(name) for name in pair.databases}
        query = "SELECT datname FROM pg_database WHERE datname LIKE ANY (%s) ORDER BY 1"
        prefixes = [one.replace("_", r"\_") + "%" for one in (WORKING_PREFIX, VERIFICATION_PREFIX)]
        databases = [name for (name,) in side.rows(query, (prefixes,))]
        roles = [name for name in side.capabilities.roles if TEMPORARY_ROLE.fullmatch(name)]
        drop = [f"DROP DATABASE {name};" for name in databases] + [f"DROP ROLE {name};" for name in sorted(roles)]
        if drop:
            ours = all(name in of_source for name in databases)
            yield Finding(
                "info",
                f"Left on the {side.endpoint.side} by a killed run, or in use by a running one: "
                f"{some([*databases, *sorted(roles)])}.",
                "They take room.",
                ("The next import removes them. If there will be none:\n" if ours else "If no run is using them:\n")
                + script(drop),
                [*databases, *sorted(roles)],
            )


@server_check("target_disk", "The target has room for the databases.", needs_target=True)
def target_disk(pair: Pair):
    """SQL does not show free disk space, so you have to look; this says how much is needed."""
    sizes = list(database_sizes(pair.source.connection, pair.databases).values())
    unknown = sizes.count(None)
    total = sum(filter(None, sizes))
    beside = f", and those of {counted(unknown, 'database')} whose size this role may not ask" if unknown else ""
    yield Finding(
        "unknown",
        f"The target needs {size(total)} for the databases{beside}, and as much again for WAL and for sorting while "
        "they are filled; its free space is not visible in SQL.",
        "A full disk stops the target.",
        "Services show the free space in their console. On your own machine: df -h \"$(psql -XAtc 'SHOW "
        "data_directory')\"",
    )


@server_check("database_tablespaces", "All databases are in the default tablespace.")
def database_tablespaces(pair: Pair):
    """The default tablespace of a database holds its tables that have no tablespace of their own."""
    found = pair.source.rows(
        """
        SELECT quote_ident(datname), quote_ident(spcname) FROM pg_database AS d JOIN pg_tablespace AS t
        ON t.oid = d.dattablespace WHERE spcname <> 'pg_default' AND datname = ANY (%s) ORDER BY 1""",
        (pair.databases,),
    )
    if found:
        yield Finding(
            "info",
            f"Databases in another tablespace: {some([f'{name} in {place}' for name, place in found])}.",
            "On the target, they go into its default tablespace.",
            "",
            [name for name, _place in found],
        )


@server_check("databases_left_out", "No database beside those chosen holds data.")
def databases_left_out(pair: Pair):
    """Your own templates, databases that refuse connections, half-dropped ones, and the postgres database."""
    found = pair.source.rows(
        """
        SELECT quote_ident(datname),
               CASE WHEN datconnlimit = -2 THEN 'half dropped' WHEN datistemplate THEN 'a template'
                    WHEN NOT datallowconn THEN 'takes no connections' ELSE 'not chosen' END
        FROM pg_database WHERE datname <> ALL (%s) AND datname NOT IN ('postgres', 'template0', 'template1')
        ORDER BY 1""",
        (pair.databases,),
    )
    if found:
        yield Finding(
            "info",
            f"Not looked at, and not migrated: {some([f'{name} ({why})' for name, why in found])}.",
            "Their contents stay on the source.",
            "To migrate them, name them in databases.",
            [name for name, _why in found],
        )
    if pair.source.connection.info.dbname == "postgres" and "postgres" not in pair.databases:
        objects = [one for one in own_objects(pair.source.connection) if not one.startswith("extension ")]
        if objects:
            yield Finding(
                "warning",
                f"The database postgres is not chosen, and holds {counted(len(objects), 'object')}: {some(objects)}.",
                "They stay on the source.",
                "To migrate it, name it in databases.",
                objects[:100],
            )
