# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The export: roles and databases of the source into a dump directory."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, clients
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import archive, manifest
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.dump_options import DumpOptions
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.program_progress import of_dump
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.row_counts import (
    count_rows,
    tables_to_count,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.origin import describe
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.readability import (
    locked_out,
    refuse_unreadable,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import (
    connect_to_snapshot,
    export_snapshot,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.source_writes import (
    NOT_QUIET,
    count_writes,
    refuse_stale,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import role_data

# Bytes of dump for a byte of table: text is larger than TOAST's compressed storage, compressed text smaller.
EXPECTED_RATIO = {"compressed": 0.6, "uncompressed": 1.5}


@dataclass
class Export:
    """One run of the module: what every database of it has in common."""

    source: Endpoint
    directory: str
    options: DumpOptions
    server: catalog.Server
    check_mode: bool
    force: bool
    source_is_quiet: bool | None


def export(source: Endpoint, params: dict, check_mode: bool) -> dict:
    """Do what pg_dump_export documents; ``params`` are its parameters. Raises HandoverError."""
    connection = source.connect_for_maintenance(read_only=True)
    try:
        server = catalog.read_server(connection)
        selected = catalog.select_databases(connection, params["databases"], params["ignore_databases"])
        options = DumpOptions.from_params(params)
        run = Export(
            source, params["dump_directory"], options, server, check_mode, params["force"], params["source_is_quiet"]
        )
        _make_private(run.directory, check_mode)
        others = catalog.other_databases(connection, selected)
        result: dict[str, Any] = {
            "selected_databases": selected,
            "other_databases": others,
            "database_sizes": catalog.database_sizes(connection, selected),
            "source": server.as_result(),
        }
        result["directory"] = run.directory
        if "roles" in params["include"]:
            result["roles"] = export_roles(run, connection)
    finally:
        connection.close()
    if "databases" in params["include"]:
        result["databases"] = [export_database(run, dbname) for dbname in selected]
    units = [result.get("roles", {}), *result.get("databases", [])]
    return {**result, "changed": any(unit.get("changed", False) for unit in units)}


def export_roles(run: Export, connection) -> dict:
    """The roles as data and as SQL. They are read anew each time, and written when they are not as before."""
    data, hashes = role_data.read_roles_and_hashes(connection)
    content = json.dumps({"roles": data, "password_hashes": hashes}, indent=2, ensure_ascii=False)
    unit = manifest.Unit.of_roles(run.directory)
    result = {
        "directory": unit.path,
        "roles": len(data["roles"]),
        "memberships": len(data["memberships"]),
        "passwords": "read" if hashes is not None else "unreadable",
    }
    former = _former(run, unit)
    if former and former["source"]["system_identifier"] != run.server.system_identifier:
        if _has_databases_of(run, former["source"]["system_identifier"]):
            raise _other_source(unit, former)
        former = None  # no dump, but what a playbook keeps for itself: it is made anew
    if former and not unit.damage(former) and _read_text(unit.file("roles.json")) == content:
        return {**result, "changed": False}
    if not run.check_mode:
        description: dict[str, Any] = {"kind": "roles", "source": run.server.as_result()}
        with unit.locked(), unit.rewritten(description) as folder:
            manifest.write_private(os.path.join(folder, "roles.json"), content)
            manifest.write_private(os.path.join(folder, "roles.sql"), role_data.as_sql(connection, data, hashes))
    return {**result, "changed": True}


def export_database(run: Export, dbname: str) -> dict:
    """One database, unless an intact dump of it with the same options is there."""
    unit = manifest.Unit.of_database(run.directory, dbname)
    former = _former(run, unit)
    if former:
        _refuse_other(run, unit, former, dbname)
    connection = run.source.connect(dbname, read_only=True, lock_timeout=run.options.lock_wait_timeout)
    try:
        if former:
            more = refuse_stale(connection, former, unit.path) if run.source_is_quiet else []
            summary = _summary(unit, unit.require())
            return {**summary, "notices": [*summary["notices"], *more], "changed": False}
        client, notices = _prepare(run, connection, dbname)
        if run.check_mode:
            source, arguments = run.source.for_programs(connection), run.options.arguments(client, None, connection)
            command = archive.dump_command(client, source, dbname, arguments, unit.file("archive"))
            return {"database": dbname, "directory": unit.path, "changed": True, "command": command, "notices": notices}
        with unit.locked():
            described = _write(run, unit, connection, dbname, client, notices)
        return {**_summary(unit, described), "changed": True}
    except psycopg2.errors.LockNotAvailable:
        raise locked_out(run.source, dbname, run.options.lock_wait_timeout) from None
    finally:
        connection.close()


def _has_databases_of(run: Export, identifier: str) -> bool:
    """Whether a dump of a database of that server is in the directory, to which its roles belong."""
    units = [manifest.Unit.of_database(run.directory, name) for name in manifest.database_units(run.directory)]
    found = [unit.read() for unit in units]
    return any(one and one["source"]["system_identifier"] == identifier for one in found)


def _former(run: Export, unit: manifest.Unit) -> dict | None:
    """The manifest of the dump that is there and counts: none does with force, however damaged it is."""
    if not run.check_mode:
        unit.recover()
    return None if run.force else unit.read()


def _prepare(run: Export, connection, dbname: str) -> tuple[clients.Client, list[str]]:
    """Choose the client and refuse what would fail halfway."""
    options = run.options
    has_pg_attver = catalog.has_pg_attver(connection)
    client = clients.choose_for_dump(
        clients.find_clients(options.client_directory),
        run.server.major,
        options.target_version,
        has_pg_attver,
        options.client_directory,
    )
    notices = []
    if has_pg_attver and not client.knows_pg_attver:
        notices.append(
            f"The source marks columns with pg_attver, which pg_dump {client.version} writes as an option; "
            "pg_restore_import removes it."
        )
    if run.server.in_recovery and options.serializable_deferrable:
        notices.append(
            "The source is a standby, which cannot offer serializable_deferrable: the dump was made without it."
        )
    unlogged = [] if options.unlogged_table_data else catalog.unlogged_tables(connection)
    if unlogged:
        notices.append(f"The rows of {counted(len(unlogged), 'unlogged table')} were left out: {', '.join(unlogged)}.")
    if not options.filtered:
        refuse_unreadable(connection, dbname)
        if options.check_disk:
            _refuse_small_disk(run, connection, dbname)
    return client, notices


def _write(run: Export, unit: manifest.Unit, connection, dbname: str, client: clients.Client, notices: list) -> dict:
    """Dump in one snapshot, count in the same, and put the unit into place."""
    stages = Stages(dbname)
    writes = count_writes(connection)
    description: dict[str, Any] = {
        "kind": "database",
        "source": {**run.server.as_result(), "database": dbname},
        "notices": notices,
    }
    with stages.stage("snapshot"):
        serializable = run.options.serializable_deferrable and not run.server.in_recovery
        snapshot = export_snapshot(connection, serializable)
        description.update(
            snapshot=snapshot.as_result(),
            source_is_quiet=run.source_is_quiet,
            options=run.options.as_manifest(),
            client=client.version,
            **describe(connection, dbname),
            data_bytes=catalog.data_size(connection),
        )
    with unit.rewritten(description) as folder:
        place = os.path.join(folder, "archive")
        with stages.stage("pg_dump"):
            arguments = run.options.arguments(client, snapshot, connection)
            jobs = run.options.jobs_for(catalog.table_count(connection))
            looking = of_dump(lambda: run.source.connect(dbname, read_only=True), connection, jobs)
            with looking as dumping, progress.measured(dbname, dumping.look, only_for_watchers=True):
                archive.dump(client, run.source.for_programs(connection), dbname, arguments, place)
        with stages.stage("row counts"):
            wanted = run.options.counts_rows(description["data_bytes"])
            contents = Contents.read(place)
            description["row_counts"] = _count(run, connection, dbname, snapshot, contents) if wanted else None
        description["writes"] = count_writes(connection)
        if run.source_is_quiet and description["writes"] != writes:
            notices.append(NOT_QUIET)
        description["stages"] = stages.as_result()
    return description


def _count(run: Export, connection, dbname: str, snapshot, contents: Contents) -> list[dict]:
    """Rows of each table whose data is in the archive whole."""
    roots, partial = catalog.partition_roots(connection), catalog.partially_dumped_tables(connection)
    tables = tables_to_count(contents, roots, partial)
    jobs = run.options.jobs_for(len(tables))
    patience = run.options.lock_wait_timeout
    return count_rows(lambda: connect_to_snapshot(run.source, dbname, snapshot, patience), tables, jobs)


def _refuse_other(run: Export, unit: manifest.Unit, former: dict, dbname: str) -> None:
    """A dump of something else is not taken for the one that is wanted."""
    source = former["source"]
    if (source["system_identifier"], source["database"]) != (run.server.system_identifier, dbname):
        raise _other_source(unit, former)
    wanted = run.options.as_manifest()
    differing = sorted(name for name in wanted if former["options"].get(name) != wanted[name])
    if differing:
        raise HandoverError(
            f"{unit.path} holds a dump that was made with other options ({', '.join(differing)}).",
            "Use force: true to replace it, or another directory.",
        )


def _other_source(unit: manifest.Unit, former: dict) -> HandoverError:
    return HandoverError(
        f"{unit.path} holds a dump of another source (system identifier {former['source']['system_identifier']}).",
        "Use force: true to replace it, or another directory.",
    )


def _refuse_small_disk(run: Export, connection, dbname: str) -> None:
    ratio = EXPECTED_RATIO["compressed" if run.options.compressed else "uncompressed"]
    needed = int(catalog.data_size(connection) * ratio)
    place = run.directory
    while not os.path.isdir(place):  # in check mode the directory need not be there yet
        place = os.path.dirname(os.path.abspath(place))
    free = shutil.disk_usage(place).free
    if free < needed:
        raise HandoverError(
            f'The dump of database "{dbname}" is expected to need {needed >> 20} MiB, but {run.directory} '
            f"has {free >> 20} MiB free.",
            "Free disk space, choose another directory, or set check_disk: false if you know better.",
            expected_bytes=needed,
            free_bytes=free,
        )


def _summary(unit: manifest.Unit, described: dict) -> dict:
    """What the module returns about a dump, from its manifest."""
    counts = described["row_counts"]
    return {
        "database": described["source"]["database"],
        "directory": unit.path,
        "dump_id": described["dump_id"],
        "snapshot": described["snapshot"],
        "source_is_quiet": described.get("source_is_quiet"),
        "client": described["client"],
        "bytes": sum(file["size"] for file in described["files"]),
        "tables": len(counts) if counts is not None else None,
        "rows": sum(count["rows"] for count in counts) if counts is not None else None,
        "notices": described["notices"],
        "stages": described["stages"],
    }


def _make_private(directory: str, check_mode: bool) -> None:
    """The dump directory is for its owner alone, as it holds all data and the password hashes."""
    if not check_mode:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(directory, "databases"), mode=0o700, exist_ok=True)


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
