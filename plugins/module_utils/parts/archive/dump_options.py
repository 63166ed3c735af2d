# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a dump: as given, as arguments of pg_dump, and as a manifest remembers them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import catalog
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.snapshot import Snapshot
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals.import_journal import has_schema

FILTERS = ("schemas", "exclude_schemas", "tables", "exclude_tables", "exclude_table_data")
# What changes the contents of a dump; jobs and the like do not.
REMEMBERED = (*FILTERS, "quote_all_identifiers", "unlogged_table_data", "large_objects", "compress", "dump_extra_args")
MAX_JOBS = 8


@dataclass(frozen=True)
class DumpOptions:
    """The options of pg_dump_export, by the same names."""

    schemas: list
    exclude_schemas: list
    tables: list
    exclude_tables: list
    exclude_table_data: list
    large_objects: bool | None
    quote_all_identifiers: bool
    lock_wait_timeout: int
    unlogged_table_data: bool
    serializable_deferrable: bool
    compress: str | None
    jobs: int | None
    dump_extra_args: list
    count_rows: bool | None
    count_rows_limit: int
    check_disk: bool
    client_directory: list | None
    target_version: int | None

    @classmethod
    def from_params(cls, params: dict) -> DumpOptions:
        """From the module's parameters."""
        return cls(**{name: params[name] for name in cls.__dataclass_fields__})

    @property
    def filtered(self) -> bool:
        """Whether a part of the database is left out."""
        return any(getattr(self, name) for name in FILTERS)

    @property
    def compressed(self) -> bool:
        return self.compress not in ("none", "0")

    def counts_rows(self, data_bytes: int) -> bool:
        """Whether rows are counted: as said, else up to a size."""
        return self.count_rows if self.count_rows is not None else data_bytes <= self.count_rows_limit

    def jobs_for(self, tables: int) -> int:
        """As said, else by cores and tables."""
        return jobs_for(self.jobs, tables)

    def as_manifest(self) -> dict:
        return {name: getattr(self, name) for name in REMEMBERED}

    def arguments(self, client: Client, snapshot: Snapshot | None, connection) -> list[str]:
        """Arguments of this pg_dump, the fixed ones aside. Raises HandoverError for a compress it does not know."""
        arguments = [f"--jobs={self.jobs_for(catalog.table_count(connection))}"]
        arguments += [f"--lock-wait-timeout={self.lock_wait_timeout}"]
        arguments += [f"--snapshot={snapshot.name}"] if snapshot else []
        arguments += ["--quote-all-identifiers"] if self.quote_all_identifiers else []
        arguments += [] if self.unlogged_table_data else ["--no-unlogged-table-data"]
        arguments += [f"--compress={self._compress_for(client)}"] if self.compress else []
        arguments += ["--statistics"] if client.major >= 18 else []
        arguments += {True: ["--blobs"], False: ["--no-blobs"], None: []}[self.large_objects]
        arguments += [f"--schema={pattern}" for pattern in self.schemas]
        arguments += [f"--exclude-schema={pattern}" for pattern in self.exclude_schemas]
        arguments += ["--exclude-schema=handover"] if has_schema(connection) else []
        arguments += [f"--table={pattern}" for pattern in self.tables]
        arguments += [f"--exclude-table={pattern}" for pattern in self.exclude_tables]
        arguments += [f"--exclude-table-data={pattern}" for pattern in self.exclude_table_data]
        return arguments + list(self.dump_extra_args)

    def _compress_for(self, client: Client) -> str:
        """pg_dump before 16 knows gzip only, and only its level."""
        if client.major >= 16:
            return self.compress
        method, _colon, level = self.compress.partition(":")
        if method == "none":
            return "0"
        if method == "gzip":
            return level or "6"
        if not method.isdigit():
            raise HandoverError(
                f"compress is {self.compress}, but pg_dump {client.version} knows gzip only.",
                "Use compress: gzip:LEVEL or none, or install pg_dump 16 or later.",
            )
        return method


def jobs_for(jobs: int | None, tables: int) -> int:
    """The number of jobs: as said, else by cores and tables."""
    return jobs or max(1, min(MAX_JOBS, os.cpu_count() or 1, tables))
