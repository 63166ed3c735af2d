# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Direct copy: databases from one server into another as one snapshot shows them, without files in between."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import beside
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.methods.destination import (
    Destination,
    complete_pending,
    each,
    find_pending,
    make_place,
    make_working,
    only_run,
    refuse_occupied,
    take_place,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_snapshot import (
    SnapshotLoader,
    open_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.sessions import connect_for_record
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
    SnapshotSource,
    patience_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.source_schema import digest
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import databases, target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.readability import (
    locked_out,
    refuse_unreadable,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import export_snapshot
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.source_writes import (
    NOT_QUIET,
    count_writes,
    refuse_stale,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal

KEYS_TO_UNLOGGED = """
    SELECT conname::text FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.confrelid
    WHERE k.contype = 'f' AND c.relpersistence = 'u' ORDER BY 1"""
# What changes the contents of a copy.
REMEMBERED = (
    "exclude_schemas",
    "exclude_tables",
    "exclude_extensions",
    "unlogged_table_data",
    "no_owner",
    "no_privileges",
    "skip_roles",
)


@dataclass
class Copy:
    """One run of the module: what every database of it has in common."""

    source: Endpoint
    server: catalog.Server
    destination: Destination
    params: dict

    @property
    def connection(self):
        """The maintenance session on the target."""
        return self.destination.connection


def copy(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_direct_copy documents; ``params`` are its parameters. Raises HandoverError."""
    with contextlib.closing(source.connect_for_maintenance(read_only=True)) as connection:
        server = catalog.read_server(connection)
        selected = catalog.select_databases(connection, params["databases"], params["ignore_databases"])
        others = catalog.other_databases(connection, selected)
    with contextlib.closing(target.connect_for_maintenance()) as connection:
        run = Copy(source, server, Destination(target, connection, params, check_mode), params)
        result: dict[str, Any] = {
            "selected_databases": selected,
            "other_databases": others,
            "source": server.as_result(),
        }
        result["target"] = catalog.read_server(connection).as_result()
        result["databases"] = each(selected, lambda dbname: copy_database(run, dbname))
    return {**result, "changed": any(unit["changed"] for unit in result["databases"])}


def copy_database(run: Copy, dbname: str) -> dict:
    """One database, unless a complete copy of it is there."""
    goal = run.params["rename"].get(dbname, dbname)
    patience = patience_of(run.params)
    with (
        only_run(run.destination, goal),
        contextlib.closing(run.source.connect(dbname, read_only=True, lock_timeout=patience)) as session,
    ):
        try:
            former = _former_copy(run, goal)
            if former and former["completed"] and _is_of(run, former, dbname) and not run.params["force"]:
                return _settled(run, session, former["result"], dbname, goal)
            refuse_occupied(run.destination, goal, former)
            refuse_unreadable(session, dbname)
            return {"database": goal, "source_database": dbname, "changed": True, **_bring(run, session, dbname, goal)}
        except psycopg2.errors.LockNotAvailable:
            raise locked_out(run.source, dbname, patience) from None
        except HandoverError as error:
            raise error.of_database(goal) from None


def _former_copy(run: Copy, goal: str) -> dict | None:
    """What the target's journal says. A copy that lacked but its name gets it first."""
    working = target_database.working_name(goal)
    if not run.destination.check_mode and not target_database.exists(run.connection, goal):
        former = _read_journal(run, working)
        if former and former["completed"] and former["dump_id"].startswith("copy-"):
            target_database.rename(run.connection, working, goal)
    return _read_journal(run, goal)


def _read_journal(run: Copy, dbname: str) -> dict | None:
    if not target_database.is_valid(run.connection, dbname):
        return None
    with run.destination.visit(dbname) as session:
        return import_journal.read(session)


def _is_of(run: Copy, former: dict, dbname: str) -> bool:
    """Whether it is a direct copy of this very database."""
    origin = (former["result"] or {}).get("origin") or {}
    return (origin.get("system_identifier"), origin.get("database")) == (run.server.system_identifier, dbname)


def _settled(run: Copy, session, result: dict, dbname: str, goal: str) -> dict:
    """The copy that is there is taken, if it is what the operator asks for."""
    place, notices = f'The target\'s database "{goal}"', result["notices"]
    differing = _other_options(run, result["origin"])
    if differing:
        raise HandoverError(
            f"{place} holds a copy that was made with other options ({', '.join(differing)}).",
            "Use force: true and replace: true to replace it.",
        )
    if run.params["source_is_quiet"]:
        facts = {**result, "writes": result["origin"]["writes"]}
        notices = notices + refuse_stale(session, facts, place) + _refuse_redefined(run, session, result, dbname, place)
    return {**result, "database": goal, "source_database": dbname, "notices": notices, "changed": False}


def _other_options(run: Copy, origin: dict) -> list[str]:
    """Those that this run was given other values of; older copies do not know theirs."""
    return [name for name, value in origin.get("options", {}).items() if _options(run)[name] != value]


def _options(run: Copy) -> dict:
    values = {name: run.params[name] for name in REMEMBERED}
    return {name: sorted(value) if isinstance(value, list) else value for name, value in values.items()}


def _refuse_redefined(run: Copy, session, result: dict, dbname: str, place: str) -> list[str]:
    """Definitions count no writes. pg_dump of another version may describe the same ones otherwise."""
    loader = _loader(run, session, dbname, hold=False)
    now, then = loader.facts["origin"], result["origin"]
    if now["pg_dump"] != then.get("pg_dump"):
        return ["It is unknown whether the source's schema has changed since: another pg_dump described it then."]
    if now["schema"] != then["schema"]:
        raise HandoverError(
            f"{place} was copied at {result['snapshot']['time']}; the source's schema was changed after that.",
            "Use force: true and replace: true to replace it. With source_is_quiet: false, the copy is used as it is.",
        )
    return []


def _bring(run: Copy, session, dbname: str, goal: str) -> dict:
    """Copy, or say what would be copied."""
    target = run.destination.target
    loader, made = _open(run, session, dbname, goal)
    filling = Filling(loader)
    is_new = made or run.params["force"]
    pending = None if is_new else find_pending(run.destination, goal, lambda one: _is_of(run, one, dbname))
    if pending:
        place, former = pending
        if run.params["source_is_quiet"]:
            facts = {**former, "writes": former["origin"]["writes"]}
            loader.notices += refuse_stale(session, facts, f'The target\'s database "{place}"')
        return complete_pending(run.destination, goal, filling, pending)
    if run.destination.check_mode:
        return filling.preview(goal)
    archive = loader.archive
    place = make_place(run.destination, goal, archive, made) if made else _prepare_place(run, goal, loader)
    with contextlib.closing(connect_for_record(target, place)) as own:
        loader.scope.on_state = lambda changes: _remember(own, changes)
        loader.scope.on_copied = lambda: _let_go(session, own)
        try:
            result = filling.fill(place)
        except BaseException:
            own.close()
            _abandon(run, place)
            raise
    filling.require_all(place)
    if place != goal:
        take_place(run.destination, goal)
    if run.params["source_is_quiet"]:
        with contextlib.closing(run.source.connect(dbname, read_only=True)) as later:
            result["notices"] += [NOT_QUIET] if count_writes(later) != loader.facts["origin"]["writes"] else []
    return result


def _open(run: Copy, session, dbname: str, goal: str) -> tuple[SnapshotLoader, str | None]:
    """Everything about the copy before it begins; and the empty database for it, which is made while the source is
    described, where the target has nothing that is to be looked at first.
    """
    working = target_database.working_name(goal)
    there = any(target_database.exists(run.connection, one) for one in (goal, working))
    if run.destination.check_mode or there or not run.params["create"]:
        return _loader(run, session, dbname, hold=True), None
    properties = databases.read_properties(session, dbname)
    with contextlib.closing(run.destination.target.connect_for_maintenance()) as own:
        destination = replace(run.destination, connection=own)
        try:
            made, loader = beside(
                own,
                lambda: make_working(destination, goal, properties),
                lambda: _loader(run, session, dbname, hold=True),
            )
        except BaseException:
            with contextlib.suppress(Exception):  # the error that brought us here says more
                target_database.drop(run.connection, working)
            raise
    return loader, made


def _loader(run: Copy, session, dbname: str, hold: bool) -> SnapshotLoader:
    """Everything about the copy before it begins."""
    writes = count_writes(session)
    snapshot = export_snapshot(session, serializable_deferrable=False)
    unchecked = run.params["unchecked_foreign_keys"]
    scope = Scope(
        unlogged=run.params["unlogged_table_data"], hold=hold, keys_may_wait=unchecked, left_unchecked=unchecked
    )
    source = SnapshotSource(run.source, dbname, snapshot, session, patience_of(run.params))
    target, dump_id = run.destination.target, f"copy-{uuid.uuid4()}"
    loader = open_snapshot(source, target, run.connection, run.params, dump_id, scope)
    origin = {
        "system_identifier": run.server.system_identifier,
        "database": dbname,
        "writes": writes,
        "options": _options(run),
        "pg_dump": loader.schema.client.version,
        "schema": digest(loader.archive.contents),
    }
    quiet = run.params["source_is_quiet"]
    loader.facts = {"origin": origin, "snapshot": snapshot.as_result(), "source_is_quiet": quiet}
    return loader


def _prepare_place(run: Copy, goal: str, loader: SnapshotLoader) -> str:
    """The database to fill: as an interrupted run left it, where that can be continued, else empty."""
    own_name = loader.archive.fitting.needs_own_name or not run.params["create"]
    place = goal if own_name else target_database.working_name(goal)
    former = _read_journal(run, place)
    if former and not former["completed"] and (place != goal or former["made"] or not run.params["create"]):
        with run.destination.visit(place) as session:
            finished = import_journal.restored_rows(session)
            bound = catalog.rows(session, KEYS_TO_UNLOGGED)
        reason = _reason_to_start_over(run, former, loader)
        if bound and not reason:
            reason = f"its unlogged tables have to be copied again, but foreign keys refer to them ({bound[0][0]})"
        if finished and not reason:
            target_database.end_leftovers(run.connection, place, [])
            loader.keep(finished)
            loader.archive.origin["dump_id"] = former["dump_id"]
            loader.notices.append(
                f"An interrupted run had copied {counted(len(loader.kept), 'table')}, which this run kept."
            )
            return place
        loader.notices.append(f"An interrupted run was started over: {reason or 'it had completed no table'}.")
    if run.params["create"]:
        return make_place(run.destination, goal, loader.archive)
    target_database.clear(run.destination.target, run.connection, goal)
    return place


def _reason_to_start_over(run: Copy, former: dict, loader: SnapshotLoader) -> str:
    """Why tables that an interrupted run has copied cannot stay; empty if they can. Its snapshot is gone: only if
    nothing was written since then does a new one show the same.
    """
    then, now = (former["result"] or {}).get("origin"), loader.facts["origin"]
    if not run.params["source_is_quiet"]:
        return "nobody had said that the source is quiet, so tables of two instants would not fit together"
    if then is None or [then.get(one) for one in ("system_identifier", "database")] != [
        now[one] for one in ("system_identifier", "database")
    ]:
        return "it was the copy of another database"
    if then.get("options") != now["options"]:
        return "its options were different"
    if then["schema"] != now["schema"]:
        return "the source's schema was changed since then"
    if now["writes"] is None:
        return "the source does not count its writes, because it is a standby or track_counts is off"
    if then["writes"] != now["writes"]:
        return "somebody wrote to the source since then, or its counters were reset, as by a crash"
    return ""


def _remember(session, changes: list[tuple]) -> None:
    """Each table in the journal as soon as its rows are there."""
    copied = [(schema, name, rows, size) for schema, name, state, rows, size in changes if state == "copied"]
    if copied:
        import_journal.record_rows(session, copied)


def _let_go(session, own) -> None:
    """All rows are there and recorded: the source's tables need no lock and no snapshot any more, and the target counts
    what was written when sessions end.
    """
    own.close()
    with contextlib.suppress(psycopg2.Error), session.cursor() as cursor:
        cursor.execute("ROLLBACK")


def _abandon(run: Copy, place: str) -> None:
    """After an error: what a rerun can continue stays, the rest of a database of ours goes."""
    with contextlib.suppress(Exception):  # the error that brought us here says more
        if run.params["create"] and not (run.params["source_is_quiet"] and _restored(run, place)):
            target_database.drop(run.connection, place)


def _restored(run: Copy, place: str) -> dict:
    with run.destination.visit(place) as session:
        return import_journal.restored_rows(session)
