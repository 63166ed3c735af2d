# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of columns: values that mean something on their server only, or that are made where they are."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.facts.columns import ColumnOfType, columns_made_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

CONTINUOUS = ("continuous",)

# Names of objects, kept as their oids (PostgreSQL documentation, 8.19), and counters of one server's own life.
NAMES = (
    "regclass", "regcollation", "regconfig", "regdatabase", "regdictionary", "regnamespace", "regoper", "regoperator",
    "regproc", "regprocedure", "regrole", "regtype", "aclitem",
)  # fmt: skip
COUNTERS = ("oid", "xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot")


def _of_catalog(names: tuple) -> str:
    return f"t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN {names}"


@database_check("object_names", "No column holds names of database objects or roles.")
def object_names(database: Database):
    """regclass and its like are stored as oids and written as names; the named objects must exist when the rows are
    loaded.
    """
    columns = columns_made_of(database, _of_catalog(NAMES))
    if columns:
        yield Finding(
            "warning",
            f"{counted(len(columns), 'column')} of types that name objects: {_shown(columns)}.",
            "If a row names an object or a role that the target lacks, or that was dropped here, the row cannot be "
            "loaded.",
            script(
                [f"SELECT DISTINCT {column.name} FROM {column.table}; -- are they all there?" for column in columns]
            ),
            [str(column) for column in columns],
        )


@database_check("server_counters", "No column holds oids, transaction ids or WAL positions.")
def server_counters(database: Database):
    """They are the source's own: on the target the same numbers mean other things, and new ones begin elsewhere."""
    columns = columns_made_of(database, _of_catalog(COUNTERS))
    columns = [column for column in columns if column.type.rpartition(".")[2] not in ("lo", "lo[]")]
    if columns:
        yield Finding(
            "warning",
            f"{counted(len(columns), 'column')} of types that hold the source's internal numbers: {_shown(columns)}.",
            "They arrive unchanged. Oids of large objects stay right; but the target's transaction ids and WAL "
            "positions are lower or higher, so an order by such values breaks.",
            "Check what the application does with them.",
            [str(column) for column in columns],
        )


def _shown(columns: list[ColumnOfType]) -> str:
    return some([f"{column} ({column.type})" for column in columns])


@database_check("binary_format", "Every type has a binary format.", CONTINUOUS)
def binary_format(database: Database):
    """If a type lacks send and receive functions, all columns of the subscription are replicated as text."""
    columns = columns_made_of(database, "t.typsend = 0 OR t.typreceive = 0")
    if columns:
        seen = f"{counted(len(columns), 'column')} of types without binary format: {_shown(columns)}."
        objects = [str(column) for column in columns]
        yield Finding("info", seen, "Rows are replicated as text, which takes more time.", "", objects)


@database_check("toast_compression", "The target supports every column's compression.", needs_target=True)
def toast_compression(database: Database):
    """SET COMPRESSION lz4 is for servers that were built with it."""
    if database.server.major < 14:
        return
    query = f"""
        SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname)
        FROM pg_attribute AS a, {OWN_RELATIONS} AND a.attrelid = c.oid AND c.relkind IN ('r', 'p', 'm')
        AND a.attcompression = 'l' AND NOT a.attisdropped ORDER BY 1, 2"""
    columns = database.rows(query)
    methods = database.target.rows(
        "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    if columns and methods != [(True,)]:
        names = [f"{table}.{column}" for table, column in columns]
        yield Finding(
            "blocker",
            f"{counted(len(columns), 'column')} with COMPRESSION lz4, which the target does not know: {some(names)}.",
            "Their tables cannot be made, and the import fails.",
            script([f"ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION pglz;" for table, column in columns])
            + "\n-- or export with dump_extra_args: [--no-toast-compression]",
            names,
        )


@database_check("generated_columns", "No column is generated.")
def generated_columns(database: Database):
    """They are neither dumped nor replicated but computed by the target, with its own functions and libraries."""
    yield from _listed(
        database,
        "a.attgenerated <> ''",
        "generated column",
        "The target computes them: a value that depends on a library or on settings may differ there.",
    )


@database_check("identity_columns", "No identity column refuses values.")
def identity_columns(database: Database):
    """GENERATED ALWAYS AS IDENTITY: COPY and apply write the source's values all the same."""
    yield from _listed(
        database,
        "a.attidentity = 'a'",
        "identity column",
        "Their values are kept. Other tools that load rows by INSERT need OVERRIDING SYSTEM VALUE.",
    )


def _listed(database: Database, condition: str, noun: str, consequence: str):
    query = f"""
        SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname)
        FROM pg_attribute AS a, {OWN_RELATIONS} AND a.attrelid = c.oid AND c.relkind IN ('r', 'p') AND a.attnum > 0
        AND NOT a.attisdropped AND {condition} ORDER BY 1"""
    names = [name for (name,) in database.rows(query)]
    if names:
        yield Finding("info", f"{counted(len(names), noun)}: {some(names)}.", consequence, "", names)
