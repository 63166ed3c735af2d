# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of a database as pg_dump describes it in a snapshot, with the data that is to be copied listed in it.

pg_dump writes no entry for data that it leaves out. They are added here as it would have written them, so that what
needs something that the target cannot take is known before any row is copied.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import archive
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.remains import ours
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.source_tables import SourceTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import import_journal

STATISTICS_SINCE = 18
DATA, POST_DATA = 3, 4


@dataclass(frozen=True)
class SchemaSelection:
    """What of a database is described: patterns as pg_dump takes them, and whether with the planner's statistics."""

    exclude_schemas: tuple = ()
    exclude_tables: tuple = ()
    statistics: bool = False

    @property
    def is_partial(self) -> bool:
        return bool(self.exclude_schemas or self.exclude_tables)

    def arguments(self, client: Client, connection, snapshot: str | None, lock_wait_timeout: int) -> list[str]:
        """Arguments of pg_dump, those of archive.dump aside; ``lock_wait_timeout`` is in milliseconds."""
        chosen = [f"--lock-wait-timeout={lock_wait_timeout}", "--quote-all-identifiers"]
        chosen += [f"--snapshot={snapshot}"] if snapshot else []
        with_statistics = self.statistics and client.major >= STATISTICS_SINCE
        chosen += ["--no-data", "--statistics", "--no-large-objects"] if with_statistics else ["--schema-only"]
        chosen += ["--exclude-schema=handover"] if import_journal.has_schema(connection) else []
        chosen += [f"--exclude-schema={pattern}" for pattern in self.exclude_schemas]
        return chosen + [f"--exclude-table={pattern}" for pattern in self.exclude_tables]


class SchemaDump:
    """pg_dump at work, with these arguments. Begin it in the main thread, and see that it is closed."""

    def __init__(self, client: Client, source: Endpoint, dbname: str, given: list[str]) -> None:
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="handover-schema-"))
            self._dbname, self._directory = dbname, os.path.join(place, "archive")
            self._program = archive.begin_dump(client, source, dbname, given, self._directory)
            stack.callback(self._program.close)
            self._rest = stack.pop_all()

    def read(self) -> Contents:
        """What it said, when it has ended. Raises HandoverError with its own words."""
        archive.end_dump(self._program, self._dbname)
        contents = Contents.read(self._directory)
        contents.leave_out(ours)
        return contents

    def close(self) -> None:
        """End it, and leave nothing behind."""
        self._rest.close()


def dump(client: Client, source: Endpoint, dbname: str, given: list[str]) -> Contents:
    """What pg_dump with these arguments says. Raises HandoverError with its own words."""
    with contextlib.closing(SchemaDump(client, source, dbname, given)) as begun:
        return begun.read()


def list_data(contents: Contents, tables: list[SourceTable], refreshed: set[int]) -> list[SourceTable]:
    """Add the data of these tables, and of the materialized views of these oids. Returned are the tables that pg_dump
    did not describe.
    """
    described = {entry.oid: entry for entry in contents.entries if entry.desc in ("TABLE", "MATERIALIZED VIEW")}
    extensions = {entry.tag: entry for entry in contents.entries if entry.desc == "EXTENSION"}
    ids = iter(range(1 + max(entry.dump_id for entry in contents.entries), 1 << 31))
    added, unknown = [], []
    for table in tables:
        base = extensions.get(table.extension) if table.extension else described.get(str(table.oid))
        if base:
            added.append(_data(next(ids), base, table))
        else:
            unknown.append(table)
    views = [entry for entry in contents.entries if entry.desc == "MATERIALIZED VIEW" and int(entry.oid) in refreshed]
    numbers = (number for number, entry in enumerate(contents.entries) if entry.section_number == POST_DATA)
    position = next(numbers, len(contents.entries))
    refreshes = [_refresh(next(ids), entry) for entry in views]
    contents.take([*contents.entries[:position], *added, *contents.entries[position:], *refreshes])
    return unknown


def populated_views(connection) -> set[int]:
    """Oids of the materialized views that hold data."""
    query = "SELECT oid::bigint FROM pg_class WHERE relkind = 'm' AND relispopulated"
    return {oid for (oid,) in rows(connection, query)}


def _data(dump_id: int, base: Entry, table: SourceTable) -> Entry:
    text = "-- load via partition root\n" if table.through_root else None
    return _entry(dump_id, "TABLE DATA", DATA, table.oid, (table.schema, table.name), base, text)


def _refresh(dump_id: int, base: Entry) -> Entry:
    name = (base.namespace, base.tag)
    return _entry(dump_id, "MATERIALIZED VIEW DATA", POST_DATA, int(base.oid), name, base, None)


def _entry(dump_id: int, desc: str, section: int, oid: int, name: tuple, base: Entry, text: str | None) -> Entry:
    return Entry(
        dump_id,
        has_data=0,
        catalog_oid="0",
        oid=str(oid),
        tag=name[1],
        desc=desc,
        section_number=section,
        definition=text,
        drop=None,
        copy=None,
        namespace=name[0],
        tablespace=None,
        table_am=None,
        relkind=0,
        owner=base.owner,
        with_oids="false",
        dependencies=[base.dump_id],
        filename="",
    )
