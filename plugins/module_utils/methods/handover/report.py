# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was done, or would be, and what is left for people to enable at the new home."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import after, cargo
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import READY, Place
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.poolers import Poolers

SHOWN = 10  # things named in a notice
CRON_JOBS = "SELECT format('%s (%s)', jobid, left(command, 80)) FROM cron.job ORDER BY jobid"

STEPS = (
    ("pause", "PAUSE at the poolers ({poolers})"),
    ("lock", "LOCK TABLE ... IN SHARE ROW EXCLUSIVE MODE on the tables of the {old} ({tables})"),
    ("apply", "wait until the {new} shows everything that was committed"),
    ("copy", "copy the tables that are not replicated ({copied_bytes} bytes): {copied_names}"),
    ("large_objects", "copy the large objects that changed since the copy before (of {large_objects})"),
    ("sequences", "set the sequences of the {new} ({sequences}), {margin} calls further"),
    ("fence", "close the fence on the {old}; writers are told: handed over to {address}"),
    ("fence_roles", "ALTER ROLE ... NOLOGIN on the {old}: {roles}"),
    ("slot", "make the replication slot {returning} on the {new}, for the way back"),
    ("commit", "COMMIT on the {old}"),
    ("open", "open the fence on the {new}"),
    ("switch", "run {command}"),
    ("reload", "RELOAD and RESUME at the poolers ({poolers})"),
)


def outcome(passage: Passage, poolers: Poolers) -> dict:
    """What became of one database."""
    held_back = after.attempt(passage, "to_enable", lambda: to_enable(passage))
    return {
        **_basics(passage),
        "changed": passage.changed,
        "handed_over": True,
        "way_back": passage.way_back,
        "timeline": passage.timeline.as_result() if passage.decided else [],
        "to_enable": held_back or {},
        "problems": [problem.as_result() for problem in passage.problems],
        "notices": [*passage.notices, *_warnings(passage, poolers)],
    }


def forecast(passage: Passage, poolers: Poolers) -> dict:
    """What would become of it, and how long that would take."""
    if passage.route.status != READY:
        return {
            **_basics(passage),
            "changed": not passage.route.is_recorded,
            "handed_over": passage.route.is_recorded,
            "steps": [],
            "notices": [],
        }
    obstacles = passage.findings.obstacles_to_way_back
    wanted = passage.params["reverse"]
    return {
        **_basics(passage),
        "changed": True,
        "handed_over": False,
        "ready": not passage.findings.closed and not (wanted and obstacles),
        "way_back": wanted is not False and not obstacles,
        "window_ms": cargo.forecast(passage, _round_trips(passage, poolers)),
        "steps": _steps(passage, poolers),
        "to_enable": to_enable(passage),
        "notices": [*passage.notices, *_warnings(passage, poolers)],
    }


def to_enable(passage: Passage) -> dict:
    """What is held back at the new home, or may run there only once old is out of use; names, quoted."""
    cron = rows(passage.new, "SELECT to_regclass('cron.job') IS NOT NULL")[0][0]
    queries = {
        "pg_cron_jobs": CRON_JOBS if cron else None,
        "disabled_event_triggers": "SELECT evtname::text FROM pg_event_trigger WHERE evtenabled = 'D' ORDER BY 1",
        "disabled_triggers": """
            SELECT format('%I on %s', tgname, tgrelid::regclass) FROM pg_trigger
            WHERE tgenabled = 'D' AND NOT tgisinternal ORDER BY 1""",
        "always_triggers": """
            SELECT format('%I on %s', tgname, tgrelid::regclass) FROM pg_trigger
            WHERE tgenabled IN ('A', 'R') AND NOT tgisinternal ORDER BY 1""",
    }
    found = {name: [text for (text,) in rows(passage.new, query)] for name, query in queries.items() if query}
    found["missing_event_triggers"] = _missing(passage, "SELECT evtname::text FROM pg_event_trigger")
    found["missing_settings"] = _missing(
        passage,
        """
        SELECT trim(coalesce(r.rolname::text, '') || ' ' || setting) FROM pg_db_role_setting AS s
        LEFT JOIN pg_roles AS r ON r.oid = s.setrole, unnest(s.setconfig) AS setting
        WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    )
    return {name: texts for name, texts in found.items() if texts}


def _missing(passage: Passage, query: str) -> list[str]:
    """What old has and new has not."""
    there, here = ({text for (text,) in rows(session, query)} for session in (passage.new, passage.old))
    return sorted(here - there)


def _basics(passage: Passage) -> dict:
    route = passage.route
    return {
        "database": route.source.dbname,
        "target_database": route.target.dbname,
        "id": route.migration.id,
        "direction": route.direction,
        "home": route.new.address,
        "place": _place(route.new, passage.new),
        "tables": len(passage.tables) or None,
        "sequence_margin": passage.sequence_margin,
        **(passage.findings.as_result() if passage.findings else {}),
        **({"roles": [statement.shown for statement in passage.roles.statements]} if passage.roles else {}),
        **({"followed": passage.followed.statements} if passage.followed.statements else {}),
        **passage.measures.as_result(),
    }


def _place(place: Place, session) -> dict:
    """Where the new home is, for files of poolers; a service or a list of hosts has led the session there."""
    host = place.endpoint.parameters.get("hostaddr") or session.info.host
    return {"host": host, "port": session.info.port, "dbname": place.dbname}


def _warnings(passage: Passage, poolers: Poolers) -> list[str]:
    found, findings = [], passage.findings
    if findings and findings.unfenced:
        names, side = ", ".join(findings.unfenced), passage.route.old.endpoint.side
        found.append(
            f"Not fenced, because they belong to extensions: {names}. Writes to them on the {side} stay there."
        )
    if _large_objects(passage):
        found.append("Large objects cannot be fenced: later writes to them at the old home stay there.")
    if passage.measures.strays:
        some = passage.measures.strays
        shown = "; ".join(some[:SHOWN]) + (f"; and {len(some) - SHOWN} more" if len(some) > SHOWN else "")
        side = passage.route.old.endpoint.side
        found.append(f"Past the fence, on the {side} only: {shown}. Bring these changes over by hand.")
    if findings and findings.obstacles_to_way_back:
        found.append("There is no way back: " + " ".join(findings.obstacles_to_way_back))
    if not poolers and passage.route.status == READY:
        found.append(
            "Without a pooler, the fence's error (25006) tells the application's sessions to connect to the new home."
        )
    return found


def _large_objects(passage: Passage) -> int:
    """How many there are, as they were counted last."""
    counted = passage.measures.large_objects
    if counted is None and passage.findings:
        counted = passage.findings.cargo.large_objects
    return counted or 0


def _round_trips(passage: Passage, poolers: Poolers) -> float:
    """Milliseconds that what the window says takes to and fro: twice to both servers, three times to the poolers."""
    started = time.monotonic()
    for session in (passage.old, passage.new):
        rows(session, "SELECT 1")
    to_servers = time.monotonic() - started
    poolers.places()
    to_poolers = time.monotonic() - started - to_servers
    return 20 + (to_servers * 2 + to_poolers * 3) * 1000


def _steps(passage: Passage, poolers: Poolers) -> list[str]:
    route, findings = passage.route, passage.findings
    words = {
        "poolers": len(poolers),
        "tables": len(passage.tables),
        "old": route.old.endpoint.side,
        "new": route.new.endpoint.side,
        "copied": len(passage.copied),
        "copied_bytes": findings.cargo.copied_bytes,
        "copied_names": ", ".join(str(table) for table in passage.copied),
        "large_objects": findings.cargo.large_objects,
        "sequences": cargo.sequences_of(passage),
        "margin": passage.sequence_margin,
        "address": route.new.address,
        "roles": ", ".join(findings.fenced_roles),
        "returning": route.returning,
        "command": " ".join(passage.params["switch_command"] or ()),
    }
    left_out = {
        "pause": not poolers,
        "reload": not poolers,
        "copy": not passage.copied,
        "large_objects": not findings.cargo.large_objects,
        "fence_roles": not findings.fenced_roles,
        "slot": passage.params["reverse"] is False or bool(findings.obstacles_to_way_back),
        "switch": not passage.params["switch_command"],
    }
    return [text.format(**words) for name, text in STEPS if not left_out.get(name)]
