# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of triggers and rules: what fires where rows arrive."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import pass_event_triggers
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import event_triggers as watching

CONTINUOUS = ("continuous",)
NAME = "format('%I.%I', n.nspname, c.relname)"


def _triggers(database: Database, condition: str) -> list[tuple[str, str, str]]:
    """(``trigger ON table``, table, trigger) of those for which the condition on ``t``, a row of pg_trigger, holds."""
    query = f"""
        SELECT format('%I ON %s', t.tgname, {NAME}), {NAME}, quote_ident(t.tgname)
        FROM pg_trigger AS t, {OWN_RELATIONS} AND c.oid = t.tgrelid AND {condition} ORDER BY 1"""
    return database.rows(query)


@database_check("triggers_in_apply", "No trigger fires while changes are applied.", CONTINUOUS)
def triggers_in_apply(database: Database):
    """Apply runs with session_replication_role = replica; then triggers with ENABLE ALWAYS or REPLICA fire."""
    found = _triggers(database, "NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')")
    if found:
        names = [name for name, _table, _trigger in found]
        yield Finding(
            "info",
            f"{counted(len(found), 'trigger')} with ENABLE ALWAYS or ENABLE REPLICA: {some(names)}.",
            "They would fire for replicated rows, too. Until the migration is finished, it prevents that on the "
            "target and, for the way back, on the source; for the application's own sessions they fire as always.",
            "",
            names,
        )


@database_check("replica_sessions", "No setting lets sessions pass the cutover's fence.", CONTINUOUS)
def replica_sessions(database: Database):
    """Sessions that begin with session_replication_role = replica fire no trigger and check no foreign key."""
    found = fence.passing(database.connection)
    if found:
        whom, statements = (list(dict.fromkeys(column)) for column in zip(*found))
        yield Finding(
            "blocker",
            f"session_replication_role = replica is set for {some(whom)}.",
            "Their sessions would go on writing to the source after the cutover, past the fence, so the cutover "
            "refuses.",
            script([f"{one};" for one in statements], most=len(statements)) + "\n-- then end the sessions that have it",
            whom,
        )


@database_check("disabled_triggers", "No trigger is switched off.")
def disabled_triggers(database: Database):
    """They are carried over as they are."""
    found = _triggers(database, "NOT t.tgisinternal AND t.tgenabled = 'D'")
    if found:
        names = [name for name, _table, _trigger in found]
        seen = f"{counted(len(found), 'trigger')} switched off: {some(names)}."
        yield Finding("info", seen, "They are switched off on the target, too.", "", names)


@database_check("event_triggers", "There are no event triggers.")
def event_triggers(database: Database):
    """They come last in a dump, so they do not fire during the import of their database. Only superusers make them."""
    query = """
        SELECT quote_ident(e.evtname), e.evtenabled IN ('A', 'R') FROM pg_event_trigger AS e
        WHERE NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_event_trigger'::regclass
                          AND d.objid = e.oid AND d.deptype = 'e') ORDER BY 1"""
    found = database.rows(query)
    if found:
        names = [name for name, _always in found]
        reserved = database.target is not None and not database.target.capabilities.superuser
        yield Finding(
            "warning" if reserved else "info",
            f"{counted(len(found), 'event trigger')}: {some(names)}.",
            "The target reserves them for superusers: they are left out, unless the service allows them."
            if reserved
            else "They are made last; from then on they fire on the target for every command of the application.",
            "Ask the service, or do without." if reserved else "",
            names,
        )


@database_check("guarded_definitions", "No event trigger acts on what the migration does.", CONTINUOUS)
def guarded_definitions(database: Database):
    """Sessions of a role that may do so keep event triggers to the application; others would be refused, or watched."""
    pass_event_triggers(database.connection)
    found = watching.acting(database.connection)
    remedy = watching.remedy(database.connection, found) if found else ""
    for level, refuses, consequence in (
        ("blocker", True, "They may refuse what replication needs: a schema, triggers, a publication, and their end."),
        ("warning", False, "They act on these, too; one that refuses them ends replicate, stop, cutover or finish."),
    ):
        names = [one.name for one in found if one.may_refuse == refuses]
        if names:
            seen = f"{counted(len(names), 'event trigger')} that this role's sessions cannot pass: {some(names)}."
            yield Finding(level, seen, consequence, remedy, names)


LOGIN_TRIGGERS = """
    SELECT quote_ident(evtname), format('ALTER ROLE %I SET event_triggers = off;', session_user) FROM pg_event_trigger
    WHERE evtevent = 'login' AND evtenabled IN ('O', 'A')
    AND coalesce((SELECT reset_val FROM pg_settings WHERE name = 'event_triggers'), 'on') <> 'off' ORDER BY 1"""


@database_check("login_triggers", "No event trigger acts on logins of the migration.", CONTINUOUS)
def login_triggers(database: Database):
    """They act before a session can say that it is none of the application's, on both servers, fenced or not."""
    found = database.rows(LOGIN_TRIGGERS)
    if found:
        names = [name for name, _remedy in found]
        yield Finding(
            "warning",
            f"{counted(len(names), 'event trigger')} ON login, enabled for this role's sessions: {some(names)}.",
            "If they write, rows of the target are in the way of rows that are replicated; and after the cutover "
            "nobody can log in at the old home, not even to roll back.",
            f"{found[0][1]} -- on both servers, as a superuser, for a role that the application does not use",
            names,
        )


@database_check("rules", "No table has rewrite rules.")
def rules(database: Database):
    """COPY and apply do not go through rules (PostgreSQL documentation, COPY, Notes)."""
    query = f"""
        SELECT format('%I ON %s', r.rulename, {NAME})
        FROM pg_rewrite AS r, {OWN_RELATIONS} AND c.oid = r.ev_class AND c.relkind IN ('r', 'p') ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names:
        consequence = (
            "They do not act on rows that arrive from the source, only on later statements of the application."
        )
        yield Finding("info", f"{counted(len(names), 'rule')} on tables: {some(names)}.", consequence, "", names)
