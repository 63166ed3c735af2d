# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot of the source holds: the schema as pg_dump describes it, and the tables whose rows are copied."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import beside
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog, clients
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
    SnapshotSource,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import (
    STATISTICS,
    Contents,
    Entry,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import (
    DescribedEntry,
    describe_entries,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import (
    SourceTable,
    hold,
    read_tables,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import origin


@dataclass
class Seen:
    """What is no matter of pg_dump: ``tables`` are those to copy, ``unlogged`` those that nobody asked for,
    ``awaited_roots`` (schema, name) of partitioned tables that come later, ``views`` oids of materialized views with
    data; ``origin`` is what else describes the database.
    """

    tables: list[SourceTable]
    unlogged: list[SourceTable]
    awaited_roots: set[tuple[str, str] | None]
    views: set[int]
    origin: dict[str, Any]


@dataclass
class SourceSchema:
    """``client`` is the pg_dump that described it, with ``arguments`` less its snapshot; ``described``: what it said,
    before that is fitted to the target.
    """

    client: clients.Client
    arguments: list[str]
    contents: Contents
    seen: Seen
    described: list[DescribedEntry]


def describe(source: SnapshotSource, connection: Connection, params: dict[str, Any], scope: Scope) -> SourceSchema:
    """Let pg_dump describe the schema, and look at the rest meanwhile, as pg_dump asks one thing after the other;
    ``connection`` is one to the target. Raises HandoverError.
    """
    session = source.session
    client = choose_client(session, connection, params)
    selection = schema.SchemaSelection(
        tuple(params.get("exclude_schemas") or ()),
        tuple(params.get("exclude_tables") or ()),
        statistics=params["analyze"] == "auto"
        and scope.tables is None
        and connection.info.server_version >= schema.STATISTICS_SINCE * 10000,
    )
    arguments = selection.arguments(client, session, None, source.patience)

    def dump() -> Contents:
        endpoint, given = source.endpoint.for_programs(session), [*arguments, f"--snapshot={source.snapshot.name}"]
        return schema.dump(client, endpoint, source.dbname, given)

    if scope.ahead:
        seen = _look(source, scope)  # before its pg_dump is awaited
        contents = scope.ahead.contents(session) or dump()
    else:
        seen, contents = beside(session, lambda: _look(source, scope), dump)
    _list_data(contents, seen, selection.is_partial)
    return SourceSchema(client, arguments, contents, seen, describe_entries(contents))


def _look(source: SnapshotSource, scope: Scope) -> Seen:
    session = source.session
    found = read_tables(session)
    tables, unlogged = _choose_tables(found, scope)
    if scope.hold:
        _hold(session, tables)
    roots = {table.root for table in found if table.key in scope.later}
    described = {
        **origin.describe(session, source.dbname),
        "source": {**catalog.read_server(session).as_result(), "database": source.dbname},
    }
    return Seen(tables, unlogged, roots, schema.populated_views(session), described)


def choose_client(session: Connection, connection: Connection, params: dict[str, Any]) -> clients.Client:
    """The pg_dump for this source and this target. Raises HandoverError where there is none."""
    return clients.choose_for_dump(
        clients.find_clients(params["client_directory"]),
        session.info.server_version // 10000,
        connection.info.server_version // 10000,
        catalog.has_pg_attver(session),
        params["client_directory"],
    )


def digest(contents: Contents) -> str:
    """Of everything that a schema consists of, in an order that knows nothing of sizes. Statistics are no part of it,
    nor is the database itself, which may be closed to others so that it is quiet.
    """
    entries = [entry for entry in contents.entries if not _is_beside_schema(entry)]
    text = repr(sorted(repr((one.desc, one.namespace, one.tag, one.owner, one.definition)) for one in entries))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_beside_schema(entry: Entry) -> bool:
    of_database = entry.desc in ("ACL", "COMMENT", "SECURITY LABEL") and entry.tag.startswith("DATABASE ")
    return of_database or entry.desc in ("DATABASE", "DATABASE PROPERTIES", *STATISTICS)


def _choose_tables(found: list[SourceTable], scope: Scope) -> tuple[list[SourceTable], list[SourceTable]]:
    """(those to copy, unlogged ones that nobody asked for)."""
    if scope.tables is not None:
        wanted = set(map(tuple, scope.tables))
        return [table for table in found if table.key in wanted], []
    if scope.unlogged:
        return found, []
    return [table for table in found if not table.unlogged], [table for table in found if table.unlogged]


def _hold(session: Connection, tables: list[SourceTable]) -> None:
    changed = hold(session, tables)
    if changed:
        raise HandoverError(
            f"Tables were truncated or redefined while the copy began: {', '.join(changed[:10])}.",
            "Run this again.",
        )


def _list_data(contents: Contents, seen: Seen, is_partial: bool) -> None:
    """Add the data of the tables to the schema; those that are left out of the schema are not copied."""
    unknown = schema.list_data(contents, seen.tables, seen.views)
    if unknown and not is_partial:
        raise HandoverError(
            f"pg_dump did not describe tables that hold rows: {', '.join(map(str, unknown[:10]))}.",
            "Run this again. If it happens again, report it with the definition of such a table.",
        )
    for table in unknown:
        seen.tables.remove(table)
