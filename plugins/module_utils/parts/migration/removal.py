# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration made on a server, found by its names, and the statements that remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal, source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import (
    publication,
    slot,
    subscription,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import execute_patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.trust import trust


@dataclass(frozen=True)
class Step:
    """The ``statements`` as they are shown, and ``run``, which does as they say, with patience, and again if needed."""

    statements: list[str]
    run: Callable[[], object]


def prefix(identifier: str) -> str:
    """How the names of everything of a migration begin."""
    return f"{naming.PREFIX}{identifier}_"


def subscriptions(connection, identifier: str) -> list[Step]:
    """Drop the subscriptions; the publisher is not needed for that."""
    query = """
        SELECT subname::text FROM pg_subscription
        WHERE starts_with(subname, %s) AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY 1"""
    names = [name for (name,) in rows(connection, query, (prefix(identifier),))]
    drop = drop_with_aiven if subscription.uses_aiven_extras(connection) else drop_subscription
    return [Step(drop(name), partial(subscription.drop, connection, name)) for name in names]


def drop_subscription(name: str) -> list[str]:
    """The SQL that drops a subscription of ours, whether or not its publisher can be reached."""
    quoted = _quoted(name)
    alter = f"ALTER SUBSCRIPTION {quoted}"
    return [f"{alter} DISABLE", f"{alter} SET (slot_name = NONE)", f"DROP SUBSCRIPTION {quoted}"]


def drop_with_aiven(name: str) -> list[str]:
    """The same for a role that is not allowed to, where the extension aiven_extras is."""
    functions = ("pg_alter_subscription_disable", "pg_drop_subscription")
    return [f"SELECT aiven_extras.{function}('{name}')" for function in functions]


def slots(connection, identifier: str) -> list[Step]:
    """Drop the slots, which lets go of the WAL; whoever still reads from one is ended."""
    query = """
        SELECT slot_name::text FROM pg_replication_slots
        WHERE starts_with(slot_name, %s) AND database = current_database() ORDER BY 1"""
    names = [name for (name,) in rows(connection, query, (prefix(identifier),))]
    return [
        Step([f"SELECT pg_drop_replication_slot('{name}')"], partial(slot.drop, connection, name)) for name in names
    ]


def publication_names(connection, identifier: str) -> list[str]:
    """The publications of a migration."""
    ours = trust.trusted("pubowner", connection.info.server_version)
    query = f"SELECT pubname::text FROM pg_publication WHERE starts_with(pubname, %s) AND {ours} ORDER BY 1"
    return [name for (name,) in rows(connection, query, (prefix(identifier),))]


def publications(connection, identifier: str) -> list[Step]:
    """Drop the publications."""
    return [
        Step([f"DROP PUBLICATION {_quoted(name)}"], partial(publication.drop, connection, name))
        for name in publication_names(connection, identifier)
    ]


def roles(connection, identifier: str) -> list[Step]:
    """Drop the roles, with which their memberships go."""
    query = "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, %s) ORDER BY 1"
    found = rows(connection, query, (prefix(identifier),))
    return [step for (name,) in found for step in _step(connection, _drop_role(identifier, name))]


def _drop_role(identifier: str, name: str) -> list[str]:
    """That which applies may have privileges of its own."""
    held = [f"DROP OWNED BY {_quoted(name)}"] if name == naming.applier_name(identifier) else []
    return [*held, f"DROP ROLE {_quoted(name)}"]


def fences(connection, found: fence.Fence | None, lift: bool) -> tuple[list[Step], bool]:
    """(what takes the fence down that was ``found``, whether it stays: a closed one does, unless it is lifted)."""
    if found is None or (found.closed and not lift):
        return [], found is not None
    drops = [
        f"DROP TRIGGER {fence.TRIGGER} ON {_quoted(schema)}.{_quoted(name)}"
        for schema, name in fence.tables_with_trigger(connection)
    ]
    logins = [f"ALTER ROLE {_quoted(role)} LOGIN" for role in found.roles]
    take_down = Step(
        [*logins, *drops, "DROP FUNCTION handover.fence()"], lambda: fence.remove(connection, found.migration)
    )
    return [take_down], False


def strangers(connection, known: set[str]) -> list[str]:
    """SQL that removes what is left in this database, named as ours are, of migrations that are not known any more."""
    pattern = f"^{naming.PREFIX}([0-9a-f]{{10}})_"
    query = """
        SELECT DISTINCT (regexp_match(name, %s))[1] FROM (
            SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()
            UNION SELECT pubname::text FROM pg_publication
            UNION SELECT subname::text FROM pg_subscription
                WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS made (name)
        WHERE name ~ %s ORDER BY 1"""
    found = [one for (one,) in rows(connection, query, (pattern, pattern)) if one not in known]
    looks = (subscriptions, slots, publications)
    return [line for one in found for look in looks for step in look(connection, one) for line in step.statements]


def undo(connection, statements: list[str]) -> list[Step]:
    """Put back what was changed; the record of it stays until all is."""
    return [step for statement in statements for step in _step(connection, [statement])]


def undo_on_source(connection, identifier: str, statements: list[str]) -> list[Step]:
    """Put back what was changed; what another migration of this database may rely on is left to the end of that."""
    heirs = [one["id"] for one in source_record.read(connection) if one["id"] != identifier]
    if not heirs:
        return undo(connection, statements)
    found = [source_record.undo_statement(heirs[-1], statement) for statement in reversed(statements)]
    return undo(connection, found)


def record(connection, identifier: str, fence_stays: bool) -> list[Step]:
    """Drop the source's record of a migration, its beacons, and with the last one the schema."""
    records = source_record.read(connection)
    tables = _beacons(connection, identifier)
    ours = [one for one in records if one["id"] == identifier]
    forget = [f"DELETE FROM handover.migration WHERE id = '{identifier}'"] if ours else []
    if ours and len(records) == 1:
        forget, tables = [], [*tables, "migration"]
    return _step(connection, [*_drop_tables(connection, tables, fence_stays), *forget])


def record_of_target(connection, fence_stays: bool) -> list[Step]:
    """Drop the journals and the beacons, and the schema unless a fence is still in it."""
    if not import_journal.has_schema(connection):
        return []
    unfinished = "SELECT unnest(undo) FROM handover.restore WHERE completed IS NULL"
    left = [statement for (statement,) in rows(connection, unfinished)] if import_journal.is_present(connection) else []
    tables = [name for (name,) in rows(connection, f"{import_journal.RELATIONS} ORDER BY 1")]
    return [*undo(connection, left), *_step(connection, _drop_tables(connection, tables, fence_stays))]


def rest_of_target(connection, fence_stays: bool) -> list[Step]:
    """Drop what verifications recorded in a target without a continuous migration, and the schema if it is empty."""
    there = f"{import_journal.RELATIONS} AND relname IN ('verification', 'verified_table') ORDER BY 1"
    tables = [name for (name,) in rows(connection, there)] if import_journal.has_schema(connection) else []
    return _step(connection, _drop_tables(connection, tables, fence_stays))


def _drop_tables(connection, tables: list[str], fence_stays: bool) -> list[str]:
    """Statements that drop tables of schema handover, and the schema if it is empty then."""
    if not import_journal.has_schema(connection):
        return []
    others = """
        SELECT FROM pg_depend AS d WHERE refclassid = 'pg_namespace'::regclass
        AND refobjid = to_regnamespace('handover') AND deptype = 'n'
        AND NOT (classid = 'pg_class'::regclass AND objid IN (
            SELECT oid FROM pg_class WHERE relnamespace = refobjid AND relname = ANY (%s)))
        AND NOT (classid = 'pg_proc'::regclass AND NOT %s AND objid = to_regproc('handover.fence'))"""
    drops = [f"DROP TABLE handover.{_quoted(name)}" for name in tables]
    return drops if rows(connection, others, (tables, fence_stays)) else [*drops, "DROP SCHEMA handover"]


def _beacons(connection, identifier: str) -> list[str]:
    if not import_journal.has_schema(connection):
        return []
    query = f"{import_journal.RELATIONS} AND starts_with(relname, %s) ORDER BY 1"
    return [name for (name,) in rows(connection, query, (f"beacon_{identifier}_",))]


def _step(connection, statements: list[str]) -> list[Step]:
    """A step of statements that are run together, in one transaction; none without any."""
    together = "; ".join(statements)
    return [Step(statements, lambda: execute_patiently(connection, together))] if statements else []


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# --- for an end that cannot be reached: what somebody else has to run there ---------------------------------------


def left_on_source(identifier: str) -> list[str]:
    """SQL for the source's database."""
    beacons = f"{import_journal.RELATIONS} AND starts_with(relname, 'beacon_{identifier}_')"
    others = f"SELECT id FROM handover.migration WHERE id <> '{identifier}' ORDER BY started DESC LIMIT 1"
    undo_ = f"SELECT undo FROM handover.migration WHERE id = '{identifier}'"
    leave = f"UPDATE handover.migration SET undo = ({undo_}) || undo WHERE id = ({others})"
    run = f"SELECT unnest(undo) FROM handover.migration WHERE id = '{identifier}' AND NOT EXISTS ({others})"
    clear = (
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM handover.migration) THEN DROP TABLE handover.migration; "
        "IF to_regproc('handover.fence') IS NULL THEN DROP SCHEMA handover; END IF; END IF; END $$"
    )
    return [
        *_left_streams(identifier),
        leave,
        _for_each(run, "%s"),
        _for_each(beacons, "DROP TABLE handover.%I"),
        f"DELETE FROM handover.migration WHERE id = '{identifier}'",
        clear,
    ]


def left_on_target(identifier: str) -> list[str]:
    """SQL for the target's database. What a cutover prepared for the way back may be there, too."""
    return _left_streams(identifier)


def _left_streams(identifier: str) -> list[str]:
    """Subscriptions, slots, publications."""
    slots_ = f"SELECT slot_name FROM pg_replication_slots WHERE starts_with(slot_name, '{prefix(identifier)}')"
    publications_ = f"SELECT pubname FROM pg_publication WHERE starts_with(pubname, '{prefix(identifier)}')"
    published = (  # taken out first, for the reason that publication.drop has
        "SELECT format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', pubname, schemaname, tablename) "
        f"FROM pg_publication_tables WHERE starts_with(pubname, '{prefix(identifier)}')"
    )
    subscriptions_ = (
        f"SELECT subname FROM pg_subscription WHERE starts_with(subname, '{prefix(identifier)}') "
        "AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    alter = "ALTER SUBSCRIPTION %I"
    return [
        _for_each(subscriptions_, f"{alter} DISABLE", f"{alter} SET (slot_name = NONE)", "DROP SUBSCRIPTION %I"),
        _for_each(slots_, "SELECT pg_drop_replication_slot(%L)"),
        _for_each(published, "%s"),
        _for_each(publications_, "DROP PUBLICATION %I"),
    ]


def _for_each(query: str, *statements: str) -> str:
    """One statement that runs others for each name that a query finds."""
    runs = " ".join(f"EXECUTE format('{statement}', one);" for statement in statements)
    return f"DO $$ DECLARE one text; BEGIN FOR one IN {query} LOOP {runs} END LOOP; END $$"
