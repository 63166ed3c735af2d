# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event triggers that act on what a migration does, since the connecting role may not keep its sessions from them.

Sessions of ours that may, pass them (endpoint.pass_event_triggers); for the application's they are on all the time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

# Of a session as it is; those of extensions are left to them.
ACTING = """
    SELECT quote_ident(e.evtname), p.oid::regprocedure::text, l.lanname::text, p.prosrc, e.evtenabled::text
    FROM pg_event_trigger AS e JOIN pg_proc AS p ON p.oid = e.evtfoid JOIN pg_language AS l ON l.oid = p.prolang
    WHERE e.evtevent <> 'login' AND current_setting('event_triggers', true) IS DISTINCT FROM 'off' AND e.evtenabled IN (
        'A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END)
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_event_trigger'::regclass
                    AND d.objid = e.oid AND d.deptype = 'e') ORDER BY 1"""

# Every kind of statement that a migration and its end run in a database that replicates, with an object of its own.
TRIAL = """
    CREATE SCHEMA handover_trial; COMMENT ON SCHEMA handover_trial IS 'handover.postgresql: a trial';
    CREATE TABLE handover_trial.t (i integer PRIMARY KEY); REVOKE ALL ON handover_trial.t FROM PUBLIC;
    ALTER TABLE handover_trial.t REPLICA IDENTITY FULL;
    CREATE FUNCTION handover_trial.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    COMMENT ON FUNCTION handover_trial.f() IS 'handover.postgresql: a trial';
    CREATE TRIGGER t BEFORE DELETE ON handover_trial.t FOR EACH STATEMENT EXECUTE FUNCTION handover_trial.f();
    CREATE PUBLICATION handover_trial FOR TABLE handover_trial.t;
    ALTER PUBLICATION handover_trial SET (publish = 'insert'); DROP PUBLICATION handover_trial;
    DROP TRIGGER t ON handover_trial.t; DROP FUNCTION handover_trial.f(); DROP TABLE handover_trial.t;
    DROP SCHEMA handover_trial"""

SILENT = re.compile(r"\braise\s+(debug|log|info|notice|warning)\b", re.IGNORECASE)
RAISES = re.compile(r"\braise\b", re.IGNORECASE)
COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class EventTrigger:
    """One that fires for our sessions: its name and its function's, quoted; ``kind`` is pg_event_trigger.evtenabled."""

    name: str
    function: str
    language: str
    body: str
    kind: str

    @property
    def may_refuse(self) -> bool:
        """Whether its own body raises errors."""
        body = COMMENTS.sub(" ", self.body)
        return self.language == "plpgsql" and bool(RAISES.search(SILENT.sub(" ", body)))


def acting(connection) -> list[EventTrigger]:
    """Those that act on what this session does."""
    return [EventTrigger(*row) for row in rows(connection, ACTING)]


def refusal(connection) -> tuple[str, str] | None:
    """(problem, remedy) where event triggers refuse what a migration does here: tried, and taken back."""
    found = acting(connection)
    if not found:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"BEGIN; {TRIAL}; ROLLBACK")
    except psycopg2.Error as error:
        if connection.closed:
            raise
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
        if isinstance(error, psycopg2.errors.InsufficientPrivilege) and not error.diag.context:
            return None  # the role's own, and no function's: others say so
        return f"{_named(found)} refuse what the migration does: {reason(error)}.", remedy(connection, found)
    return None


def _named(found: list[EventTrigger]) -> str:
    return f"Event triggers ({some([one.name for one in found])})"


def remedy(connection, found: list[EventTrigger]) -> str:
    """What keeps them out of the sessions of the connecting role alone."""
    role = sql.Identifier(value(connection, "SELECT session_user::text")).as_string(connection)
    version = connection.info.server_version
    name = "event_triggers" if version >= 170000 else "session_replication_role"
    usual = all(one.kind == "O" for one in found)
    if version >= 170000 or (version >= 150000 and usual):
        return f"GRANT SET ON PARAMETER {name} TO {role}; -- as a superuser"
    body = f"IF session_user = {_literal(connection)} THEN RETURN; END IF;"
    functions = some(sorted({one.function for one in found}))
    return f"Let them pass this role: begin the body of {functions} with {body}" + (
        "" if not usual else " Or connect as a superuser, whose sessions they need not act on."
    )


def _literal(connection) -> str:
    return value(connection, "SELECT quote_literal(session_user)")
