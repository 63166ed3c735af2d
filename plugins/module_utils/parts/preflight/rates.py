# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast one session reads the source and writes the target, measured on bounded samples, and what follows.

Nothing is measured unless the operator asks. Reading writes nothing. Writing can only be measured by writing: into a
table of a transaction that is always rolled back, so that nobody ever sees it; the WAL of it is all that stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import zlib
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.database_tables import DatabaseTable
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, server_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database, Pair

SAMPLE_BYTES = 32 * 1024 * 1024
SAMPLE_SECONDS = 5
LEAST_BYTES = 1024 * 1024  # less than that says nothing about a rate
GZIP_LEVEL = 6  # pg_dump's default
SCHEMA = "handover_preflight"  # exists within the transaction alone

_PLACE = re.compile(rb"^\((\d+),\d+\)\t?", re.MULTILINE)


@dataclass(frozen=True)
class ReadRates:
    """What reading the beginning of the largest table showed.

    Rates are bytes of tables as they lie on disk, a second; ``text_ratio`` and ``file_ratio`` are the bytes of COPY's
    text, and of gzip's output for it, for each byte on disk.
    """

    table: str
    bytes_per_second: float
    compressed_per_second: float
    text_ratio: float
    file_ratio: float


class _Sample:
    """Takes what COPY sends, until there is enough of it; then has the server stop."""

    def __init__(self, connection):
        self.connection = connection
        self.data = bytearray()
        self.enough = False
        self.started = time.monotonic()
        self.seconds = 0.0

    def write(self, data: bytes) -> None:
        if self.enough:
            return
        self.data += data
        self.seconds = time.monotonic() - self.started
        if len(self.data) >= SAMPLE_BYTES or self.seconds >= SAMPLE_SECONDS:
            self.enough = True
            self.connection.cancel()


def measure_reading(database: Database) -> ReadRates | None:
    """Read the beginning of the largest readable table as pg_dump reads it. None where it is too small to say much."""
    table = _largest(database)
    sample = _read(database.connection, table.name) if table else None
    places = [int(block) for block in _PLACE.findall(sample.data)] if sample else []
    text = _PLACE.sub(b"", sample.data) if sample else b""
    if len(text) < LEAST_BYTES:
        return None
    # Rows lie in the order of blocks, and what is out of line is taken to be spread evenly over them.
    blocks = (table.bytes - table.toast_bytes) / int(database.settings["block_size"])
    table_bytes = min((places[-1] + 1) / blocks, 1) * table.bytes
    started = time.monotonic()
    compressed = len(zlib.compress(text, GZIP_LEVEL))
    seconds = time.monotonic() - started
    return ReadRates(
        table=table.name,
        bytes_per_second=table_bytes / sample.seconds,
        compressed_per_second=table_bytes / seconds,
        text_ratio=len(text) / table_bytes,
        file_ratio=compressed / table_bytes,
    )


def _largest(database: Database) -> DatabaseTable | None:
    """The largest table that the role may read."""
    query = """
        SELECT oid::bigint FROM pg_class WHERE relkind = 'r' AND has_schema_privilege(relnamespace, 'USAGE')
        AND has_table_privilege(oid, 'SELECT') AND NOT row_security_active(oid)"""
    readable = {oid for (oid,) in database.rows(query)}
    tables = [table for table in database.tables if table.oid in readable]
    return max(tables, key=lambda table: table.bytes, default=None)


def _read(connection, table: str) -> _Sample:
    """The first rows in the order of their blocks, each with its place before it; none where the table is locked."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SET LOCAL synchronize_seqscans = off; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor.execute(f"SET LOCAL statement_timeout = '{2 * SAMPLE_SECONDS}s'")
        sample = _Sample(connection)
        with contextlib.suppress(psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable):
            cursor.copy_expert(f"COPY (SELECT ctid, t.* FROM ONLY {table} AS t) TO STDOUT", sample)
        cursor.execute("ROLLBACK")
        return sample


class _Rows:
    """A file of rows of random letters, which ends after enough bytes or seconds."""

    def __init__(self):
        self.chunk = b"".join(os.urandom(50).hex().encode() + b"\n" for _row in range(80))
        self.sent = 0
        self.started = time.monotonic()

    def read(self, _size: int = -1, /) -> bytes:
        if self.sent >= SAMPLE_BYTES or time.monotonic() - self.started >= SAMPLE_SECONDS:
            return b""
        self.sent += len(self.chunk)
        return self.chunk


@server_check("write_rate", "The target's rate of writing was measured, if you asked for it.")
def write_rate(pair: Pair):
    """With measure: write; estimates use the result."""
    if pair.options.measure != "write" or pair.target is None:
        return
    try:
        pair.write_rate = _measure_writing(pair.target.endpoint)
    except psycopg2.errors.InsufficientPrivilege as error:
        yield Finding(
            "unknown",
            f"The rate of writing could not be measured: {one_line(error)}.",
            "The time of an import and of a copy cannot be estimated.",
            pair.target.value("SELECT format('GRANT CREATE ON DATABASE %I TO %I;', current_database(), current_user)"),
        )


def _measure_writing(target: Endpoint) -> float:
    """Bytes of COPY's text a second that one session writes into a table that is rolled back."""
    with contextlib.closing(target.connect_for_maintenance()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")  # never committed: it ends with the connection
        cursor.execute(f"CREATE SCHEMA {SCHEMA} CREATE TABLE sample (line text)")
        data = _Rows()
        cursor.copy_expert(f"COPY {SCHEMA}.sample FROM STDIN", data)  # type: ignore[arg-type]  # COPY only reads
        return data.sent / (time.monotonic() - data.started)


def estimate(described: dict, reading: ReadRates | None, writing: float | None) -> dict:
    """Seconds and bytes for one database, of which ``described`` has the sizes; None for what was not measured.

    Seconds are those of one session, without the time for indexes and constraints; several sessions divide them as
    far as disks, cores and the largest table let them. ``target_bytes`` is at most what the source takes now.
    """
    result = dict.fromkeys(ESTIMATED)
    result["target_bytes"] = described["bytes"]
    if reading:
        data_size = described["table_bytes"] + described["large_object_bytes"]
        result["sampled_table"] = reading.table
        result["read_bytes_per_second"] = round(reading.bytes_per_second)
        result["dump_bytes"] = round(data_size * reading.file_ratio)
        result["export_seconds"] = _seconds(data_size, min(reading.bytes_per_second, reading.compressed_per_second))
    if writing:
        result["write_bytes_per_second"] = round(writing)
    if reading and writing:
        written = writing / reading.text_ratio
        result["import_seconds"] = _seconds(data_size, written)
        result["copy_seconds"] = _seconds(data_size, min(reading.bytes_per_second, written))
    return result


# Export is pg_dump into files, import pg_restore from them, copy from the one server into the other without files.
ESTIMATED = (
    "sampled_table",
    "read_bytes_per_second",
    "write_bytes_per_second",
    "export_seconds",
    "import_seconds",
    "copy_seconds",
    "dump_bytes",
    "target_bytes",
)


def _seconds(size: int, rate: float) -> float:
    return round(size / rate, 1)
