# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes, constraints and foreign keys of an archive, by the table that each belongs to, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import (
    VIOLATION,
    Failure,
    failure_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.foreign_keys import (
    FOREIGN_KEY,
    parse,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.encoding import encoded

# (table, referenced or 0) by whether it is an index, and its oid: those of constraints are counted by themselves.
Owners = dict[tuple[bool, int], tuple[int, int]]


@dataclass(frozen=True)
class Definition:
    """One entry of the archive: ``statement`` in its encoding, made as ``tablespace`` wants it, None for the default.

    ``table`` is the oid on the source of the table that it belongs to, None if it is no table's; ``referenced`` the
    other table of a foreign key.
    """

    entry: Entry
    statement: bytes
    tablespace: str | None
    table: int | None
    referenced: int | None = None

    @property
    def is_index(self) -> bool:
        """Whether others may be made on the same table at the same time."""
        return self.entry.desc == "INDEX"

    @property
    def is_foreign_key(self) -> bool:
        return self.entry.desc == FOREIGN_KEY


def read_owners(connection) -> Owners:
    """The tables that indexes and constraints of the source belong to, and those that foreign keys refer to."""
    query = """
        SELECT true, indexrelid::bigint, indrelid::bigint, 0 FROM pg_index
        UNION ALL
        SELECT false, oid::bigint, conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE conrelid <> 0"""
    return {(is_index, oid): (table, other) for is_index, oid, table, other in rows(connection, query)}


def definitions_of(contents: Contents, entries: list[Entry], owners: Owners, no_tablespaces: bool) -> list[Definition]:
    """These entries with the tables that they belong to."""
    found = []
    for entry in entries:
        table, other = owners.get((entry.desc == "INDEX", int(entry.oid)), (None, 0))
        statement = entry.definition.encode(contents.codec, "surrogateescape")
        tablespace = None if no_tablespaces else entry.tablespace
        found.append(Definition(entry, statement, tablespace or None, table, other or None))
    return found


def build(session, definitions: list[Definition]) -> list[Failure]:
    """Make them in one transaction, in order, or else those that can be; the others are returned. Raises
    HandoverError if the session is lost.
    """
    if not definitions:
        return []
    try:
        with session.cursor() as cursor:
            cursor.execute(b"".join(_statements(session, definitions)))
    except psycopg2.Error as error:
        if len(definitions) > 1 and not _is_end(error):
            return [failure for one in definitions for failure in build(session, [one])]
        return [_failure(definitions[0].entry, error)]
    return []


def _statements(session, definitions: list[Definition]) -> list[bytes]:
    """Several statements in one string are one transaction; what SET does stays, so it is said where it changes."""
    statements = []
    for definition in definitions:
        place = sql.SQL("SET default_tablespace = {};\n").format(sql.Literal(definition.tablespace or ""))
        statements += [encoded(session, place), definition.statement]
    return statements


def make_keys(session, definitions: list[Definition], may_wait: bool) -> tuple[list[dict], list[Failure]]:
    """Make foreign keys: (those put off, those that failed). Where they ``may_wait``, those that rows do not satisfy
    yet are added without looking at the rows that are there, or left out if even that cannot be: ``{"definition",
    "added"}`` of each.
    """
    failures = build(session, definitions)
    if not may_wait:
        return [], failures
    by_id = {one.entry.dump_id: one for one in definitions}
    put_off, failed = [], []
    for failure in failures:
        definition = by_id[failure.dump_id]
        if failure.sqlstate != VIOLATION:
            failed.append(failure)
            continue
        added = add_unchecked(session, definition.entry, definition.statement)
        if isinstance(added, Failure):
            failed.append(added)
        else:
            put_off.append({"definition": definition, "added": added})
    return put_off, failed


def as_pending(source, definition: Definition, added: bool) -> dict:
    """A foreign key that is not valid yet, or not there, as a journal may keep it: with what makes it good, and a
    query for rows that break it.
    """
    query = """
        SELECT c.relname::text, k.conname::text FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid
        WHERE k.oid = %s"""
    table, name = rows(source, query, (int(definition.entry.oid),))[0]
    place = definition.entry.namespace
    validating = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    validate = validating.format(sql.Identifier(place, table), sql.Identifier(name)).as_string(source)
    statement = validate if added else definition.entry.definition.strip().rstrip(";")
    key = parse(definition.entry.definition or "")
    found = {"schema": place, "table": table, "name": name, "statement": statement, "added": added}
    return {**found, "query": key.orphans if key else None}


def add_unchecked(session, entry: Entry, statement: bytes) -> bool | Failure:
    """Whether a foreign key could be added without looking at the rows that are there, or what else the server says."""
    text = statement.rstrip().rstrip(b";")
    try:
        with session.cursor() as cursor:
            cursor.execute(text + (b"" if text.endswith(b" NOT VALID") else b" NOT VALID"))
    except (psycopg2.errors.FeatureNotSupported, psycopg2.errors.WrongObjectType):  # a partitioned table
        return False
    except psycopg2.Error as error:
        return _failure(entry, error)
    return True


def _failure(entry: Entry, error) -> Failure:
    """Raises HandoverError if the session is lost."""
    if _is_end(error):
        problem = f"The session with the target ended while {entry.name} was made: {one_line(error)}"
        raise HandoverError(problem, "Check the server's log for the reason, then run this again.") from None
    return failure_of(entry, error, error.pgcode)


def _is_end(error) -> bool:
    return error.pgcode is None or error.pgcode.startswith("57P")
