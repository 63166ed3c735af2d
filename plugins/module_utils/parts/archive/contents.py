# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of contents of an archive in pg_dump's directory format: read whole, edited, written back.

pg_restore lists it as text, but without quoting, so that names with spaces cannot be told apart; and it offers no way
to change an owner or a statement. The file ``toc.dat`` holds everything exactly. Its layout is that of WriteHead and
WriteToc in PostgreSQL's pg_backup_archiver.c, archive versions 1.14 (PostgreSQL 13) to 1.16 (PostgreSQL 17 and 18).
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

KNOWN_VERSIONS = ((1, 14), (1, 15), (1, 16))
OFTEN_REPEATED = 32  # bytes
STATISTICS = ("STATISTICS DATA", "EXTENDED STATISTICS DATA")  # since 18, and since 19
SECTIONS = {1: "none", 2: "pre-data", 3: "data", 4: "post-data"}


@dataclass
class Entry:
    """One object of the archive. Text is as pg_dump wrote it; names are not quoted."""

    dump_id: int
    has_data: int
    catalog_oid: str
    oid: str
    tag: str
    desc: str
    section_number: int
    definition: str | None
    drop: str | None
    copy: str | None
    namespace: str | None
    tablespace: str | None
    table_am: str | None
    relkind: int | None
    owner: str | None
    with_oids: str | None
    dependencies: list[int] = field(default_factory=list)
    filename: str | None = None

    @property
    def section(self) -> str:
        return SECTIONS.get(self.section_number, "none")

    @property
    def name(self) -> str:
        """For messages: ``TABLE public.orders``."""
        place = f"{self.namespace}.{self.tag}" if self.namespace else self.tag
        return f"{self.desc} {place}".encode("utf-8", "replace").decode()


class Contents:
    """All entries of an archive in its order, which respects dependencies."""

    def __init__(self, header: bytes, version: tuple, codec: str, entries: list[Entry]):
        self.header = header
        self.version = version
        self.codec = codec
        self.entries = entries
        self._needed_by: dict[int, list[int]] | None = None

    @classmethod
    def read(cls, directory: str) -> Contents:
        """From the archive in a directory. Raises HandoverError if it is not one, or of an unknown version."""
        path = os.path.join(directory, "toc.dat")
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise HandoverError(f"{path} is missing.", "Export the database again.") from None
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, path: str = "toc.dat") -> Contents:
        """From the bytes of ``toc.dat``."""
        version = tuple(data[5:7])
        if data[:5] != b"PGDMP" or version not in KNOWN_VERSIONS:
            raise HandoverError(
                f"{path} is not an archive of a version that is known here ({'.'.join(map(str, version))}).",
                "Export again with pg_dump 13 to 18, or use a newer release of this collection.",
            )
        try:
            beginning = cls._parse(data, version, "latin-1", until="ENCODING")
            return cls._parse(data, version, beginning._find_codec())
        except (IndexError, ValueError):
            raise HandoverError(f"{path} is damaged.", "Export the database again.") from None

    @classmethod
    def _parse(cls, data: bytes, version: tuple, codec: str, until: str | None = None) -> Contents:
        """All entries, or those up to the first of the class ``until``."""
        reader = _Reader(data, codec)
        reader.skip(5 + 6)  # magic; version (3 bytes), size of integers, size of offsets, format
        reader.int_size = data[8]
        if version >= (1, 15):
            reader.skip(1)  # compression algorithm
        else:
            reader.integer()  # compression level
        for _part in range(7):
            reader.integer()  # time of creation
        for _text in range(3):
            reader.text()  # database, server version, client version
        header = data[: reader.position]
        entries = []
        for _i in range(reader.integer()):
            entries.append(reader.entry(version))
            if entries[-1].desc == until:
                break
        return cls(header, version, codec, entries)

    def _find_codec(self) -> str:
        """The Python codec of the archive's encoding (its ENCODING entry), undecodable bytes surviving untouched."""
        definition = next((entry.definition for entry in self.entries if entry.desc == "ENCODING"), None) or ""
        name = definition.split("'")[1] if "'" in definition else "SQL_ASCII"
        return {"SQL_ASCII": "latin-1"}.get(name) or psycopg2.extensions.encodings.get(name, "latin-1")

    def to_bytes(self) -> bytes:
        """What belongs into ``toc.dat``: without an edit, the very bytes that were read."""
        writer = _Writer(self.codec, self.header[8])
        writer.integer(len(self.entries))
        for entry in self.entries:
            writer.entry(entry, self.version)
        return self.header + writer.buffer.getvalue()

    def take(self, entries: list[Entry]) -> None:
        """Have these entries instead, in this order."""
        self.entries = entries
        self._needed_by = None

    def leave_out(self, which) -> None:
        """Do without the entries for which ``which(entry)`` is true, and what needs them."""
        ids = {entry.dump_id for entry in self.entries if which(entry)}
        ids |= {entry.dump_id for entry in self.dependents(ids)}
        self.take([entry for entry in self.entries if entry.dump_id not in ids])

    def dependents(self, dump_ids: set[int]) -> list[Entry]:
        """Entries that need one of the given, directly or through others, in archive order; the given aside."""
        if self._needed_by is None:
            self._needed_by = {}
            for entry in self.entries:
                for dependency in entry.dependencies:
                    self._needed_by.setdefault(dependency, []).append(entry.dump_id)
        reached, waiting = set(), list(dump_ids)
        while waiting:
            for dump_id in self._needed_by.get(waiting.pop(), ()):
                if dump_id not in reached:
                    reached.add(dump_id)
                    waiting.append(dump_id)
        reached -= dump_ids
        return [entry for entry in self.entries if entry.dump_id in reached] if reached else []


class _Reader:
    """pg_dump's integers (sign, then bytes from the lowest) and strings (length, then bytes; -1 is NULL)."""

    def __init__(self, data: bytes, codec: str):
        self.data = data
        self.codec = codec
        self.position = 0
        self.int_size = 4
        self.known = {}  # owners, schemas, classes come again and again

    def skip(self, count: int) -> None:
        self.position += count

    def integer(self) -> int:
        start = self.position
        self.position += 1 + self.int_size
        number = int.from_bytes(self.data[start + 1 : self.position], "little")
        return -number if self.data[start] else number

    def text(self) -> str | None:
        length = self.integer()
        if length < 0:
            return None
        start = self.position
        self.position += length
        if self.position > len(self.data):
            raise ValueError("truncated")
        text = self.data[start : self.position].decode(self.codec, "surrogateescape")
        return self.known.setdefault(text, text) if length < OFTEN_REPEATED else text

    def entry(self, version: tuple) -> Entry:
        found = Entry(
            dump_id=self.integer(),
            has_data=self.integer(),
            catalog_oid=self.text(),
            oid=self.text(),
            tag=self.text(),
            desc=self.text(),
            section_number=self.integer(),
            definition=self.text(),
            drop=self.text(),
            copy=self.text(),
            namespace=self.text(),
            tablespace=self.text(),
            table_am=self.text(),
            relkind=self.integer() if version >= (1, 16) else None,
            owner=self.text(),
            with_oids=self.text(),
        )
        for dependency in iter(self.text, None):
            found.dependencies.append(int(dependency))
        found.filename = self.text()
        return found


class _Writer:
    """The counterpart of _Reader."""

    def __init__(self, codec: str, int_size: int):
        self.codec = codec
        self.int_size = int_size
        self.buffer = io.BytesIO()

    def integer(self, number: int) -> None:
        self.buffer.write(bytes([number < 0]) + abs(number).to_bytes(self.int_size, "little"))

    def text(self, text: str | None) -> None:
        if text is None:
            self.integer(-1)
            return
        data = text.encode(self.codec, "surrogateescape")
        self.integer(len(data))
        self.buffer.write(data)

    def entry(self, entry: Entry, version: tuple) -> None:
        self.integer(entry.dump_id)
        self.integer(entry.has_data)
        for text in (entry.catalog_oid, entry.oid, entry.tag, entry.desc):
            self.text(text)
        self.integer(entry.section_number)
        names = (entry.definition, entry.drop, entry.copy, entry.namespace, entry.tablespace, entry.table_am)
        for text in names:
            self.text(text)
        if version >= (1, 16):
            self.integer(entry.relkind)
        self.text(entry.owner)
        self.text(entry.with_oids)
        for dependency in entry.dependencies:
            self.text(str(dependency))
        self.text(None)
        self.text(entry.filename)
