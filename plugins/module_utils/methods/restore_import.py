# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The import: roles and databases from a dump directory into the target."""

from __future__ import annotations

import contextlib
import json
import os

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import read_server
from ansible_collections.handover.postgresql.plugins.module_utils.methods.destination import (
    Destination,
    clear_and_fill,
    complete_pending,
    create_and_fill,
    each,
    find_pending,
    only_run,
    refuse_occupied,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.filling import Filling
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.from_files import open_dump
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.manifest import Unit, database_units
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import rehearsal_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_import

NOT_YET = "There is no dump yet, so check mode could not look at its contents."


def import_dump(target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_restore_import documents; ``params`` are its parameters. Raises HandoverError."""
    with contextlib.closing(target.connect_for_maintenance()) as connection:
        run = Destination(target, connection, params, check_mode)
        if params["state"] == "finished":
            return finish(run)
        result = {"directory": params["dump_directory"], "target": read_server(connection).as_result()}
        if "roles" in params["include"]:
            result["roles"] = import_roles(run)
            statements = result["roles"].get("statements", [])
            result["diff"] = {"before": "", "after": "".join(f"{statement};\n" for statement in statements)}
        if "databases" in params["include"]:
            result["databases"] = each(_selected(run), lambda dbname: import_database(run, dbname))
        units = [result.get("roles", {}), *result.get("databases", [])]
        return {**result, "changed": any(unit.get("changed", False) for unit in units)}


def finish(run: Destination) -> dict:
    """Drop the journals from the databases that were imported; the data stays."""
    finished = []
    for dbname in run.params["databases"]:
        goal = run.params["rename"].get(dbname, dbname)
        forgotten = rehearsal_database.forget(run.target, goal, run.check_mode)
        finished += [goal] if forgotten else []
        if not target_database.exists(run.connection, goal):
            continue
        with run.visit(goal) as session:
            entry = import_journal.read(session)
            if entry and not entry["completed"]:
                raise HandoverError(
                    f'The import of database "{goal}" is not complete.', "Run the import again before finishing it."
                )
            if entry and (run.check_mode or import_journal.remove(session)):
                finished.append(goal)
    return {"finished_databases": list(dict.fromkeys(finished)), "changed": bool(finished)}


def import_roles(run: Destination) -> dict:
    """What the target lacks of the source's roles, as far as it may be given there."""
    unit = Unit.of_roles(run.params["dump_directory"])
    if run.check_mode and unit.read() is None:
        return {"changed": True, "notices": [NOT_YET]}
    unit.require()
    with open(unit.file("roles.json"), encoding="utf-8") as file:
        content = json.load(file)
    options = role_import.RoleOptions(
        password_hashes=content["password_hashes"] or {},
        role_passwords=run.params["role_passwords"],
        skip_roles=tuple(run.params["skip_roles"]),
        update_passwords=run.params["update_passwords"],
    )
    plan = role_import.plan(run.connection, content["roles"], options)
    return plan.as_result() if run.check_mode else role_import.apply(run.connection, plan)


def import_database(run: Destination, dbname: str) -> dict:
    """One database, unless this very dump of it is there already."""
    unit = Unit.of_database(run.params["dump_directory"], dbname)
    goal = run.params["rename"].get(dbname, dbname)
    manifest = None if run.check_mode and unit.read() is None else unit.require()
    dump_id = manifest["dump_id"] if manifest else None
    with only_run(run, goal):
        was_there = target_database.exists(run.connection, goal)
        former = _former_import(run, goal, dump_id)
        if former and former["completed"] and former["dump_id"] == dump_id:
            return {**former["result"], "database": goal, "changed": not was_there}
        refuse_occupied(run, goal, former)
        if manifest is None:
            return {"database": goal, "changed": True, "notices": [NOT_YET]}
        filling = Filling(open_dump(run.target, run.connection, run.params, unit, manifest))
        pending = find_pending(run, goal, lambda entry: entry["dump_id"] == dump_id)
        if pending:
            try:
                return {"database": goal, "changed": True, **complete_pending(run, goal, filling, pending)}
            except HandoverError as error:
                raise error.of_database(goal) from None
        if run.check_mode:
            return {"database": goal, "changed": True, **filling.preview(goal)}
        fill = create_and_fill if run.params["create"] else clear_and_fill
        try:
            result = fill(run, goal, filling)
        except HandoverError as error:
            raise error.of_database(goal) from None
        return {"database": goal, "changed": True, **result}


def _selected(run: Destination) -> list[str]:
    """The databases to import: those named, else all in the dump directory."""
    if run.params["databases"]:
        return run.params["databases"]
    found = database_units(run.params["dump_directory"])
    if not found and not run.check_mode:
        raise HandoverError(
            f"{os.path.join(run.params['directory'], 'databases')} holds no dump.",
            "Export first, or correct directory.",
        )
    return found


def _former_import(run: Destination, goal: str, dump_id: str | None) -> dict | None:
    """What the journal in the target database says; an import of this dump that lacked but its name gets it first."""
    working = target_database.working_name(goal)
    if not run.check_mode and target_database.is_valid(run.connection, working):
        with run.visit(working) as session:
            entry = import_journal.read(session)
        is_this = entry and entry["completed"] and entry["dump_id"] == dump_id
        if is_this and not target_database.exists(run.connection, goal):
            target_database.rename(run.connection, working, goal)
    if not target_database.is_valid(run.connection, goal):
        return None
    with run.visit(goal) as session:
        return import_journal.read(session)
