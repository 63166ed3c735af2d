# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables whose rows are compared: those that hold rows of their own, partitions and children each by itself."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import (
    OWN_RELATIONS,
    rows,
    unreadable_objects,
)
from ansible_collections.handover.postgresql.plugins.module_utils.facts.planning import EVALUATES

# Types, beneath domains, by how their values are told apart in a row's text.
KINDS = {
    # The text is never empty, and says itself where it ends: numbers, times, addresses, JSON; arrays, see COLUMNS.
    **dict.fromkeys((16, 20, 21, 23, 26, 114, 650, 700, 701, 774, 790, 829, 869, 1082, 1083, 1114), "plain"),
    **dict.fromkeys((1184, 1186, 1266, 1700, 2950, 3802), "plain"),
    **dict.fromkeys((25, 1042, 1043), "text"),  # text, character, character varying
    17: "bytea",
    18: "char",  # "char": as text it is another since 15, from 128 on
    **dict.fromkeys((3220, 3221), "lsn"),  # pg_lsn and arrays of it: since 19 with the zeros before its second number
}


@dataclass(frozen=True)
class Column:
    """A column as it matters to a comparison; ``kind`` is one of KINDS, or ``other``."""

    name: str
    kind: str
    generated: bool

    @classmethod
    def of(cls, name: str, base: int, is_array: bool, generated: bool) -> Column:
        """``base``: oid of the type, that beneath it where it is a domain."""
        return cls(name, KINDS.get(base, "plain" if is_array else "other"), generated)


@dataclass(frozen=True)
class Table:
    """``columns`` are in the order of their names, the same on both ends whatever their order in the table.

    ``key``: columns that tell rows apart, empty where there are none; ``persistence``: p or u; ``condition``: the
    rows of an extension's table that are the user's, as SQL; ``whole``: (schema, name) of the topmost parent where
    rows may lie in another partition on the other end; ``empty``: whether it had no rows in the snapshot for certain,
    whatever has been done to it since; ``blocks`` and ``bytes``: its size, TOAST in ``bytes`` only;
    ``evaluates``: whether no query of it is planned without the application's functions; ``unreadable``: why this role
    cannot read it.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    persistence: str
    condition: str
    whole: tuple[str, str] | None
    empty: bool
    blocks: int
    bytes: int
    evaluates: bool
    unreadable: str | None

    @property
    def identity(self) -> tuple[str, str]:
        """(schema, name), by which the two ends' tables belong together."""
        return self.schema, self.name


# Hashes of enums depend on oids, so the same rows may be in other parts of a hash partitioning after a restore.
WHOLE = """
    (SELECT jsonb_build_array(rn.nspname, r.relname)
     FROM pg_class AS r JOIN pg_namespace AS rn ON rn.oid = r.relnamespace
     WHERE r.oid = pg_partition_root(c.oid) AND EXISTS (
        SELECT FROM pg_partition_ancestors(c.oid) AS a JOIN pg_partitioned_table AS p ON p.partrelid = a.relid
        WHERE p.partstrat = 'h'))"""

# The primary key, else the replica identity, else any unique index over columns that are never null.
KEY = """
    (SELECT jsonb_agg(a.attname ORDER BY k.position)
     FROM (SELECT i.indrelid, i.indkey, i.indnkeyatts FROM pg_index AS i
           WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
           AND NOT EXISTS (SELECT FROM pg_attribute AS b WHERE b.attrelid = c.oid AND NOT b.attnotnull
                           AND b.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
           ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid LIMIT 1) AS chosen,
          unnest((chosen.indkey::smallint[])[0:chosen.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, position)
     JOIN pg_attribute AS a ON a.attnum = k.attnum WHERE a.attrelid = c.oid)"""

# Of every type, what is beneath it; itself, but for domains.
BASES = """
    WITH RECURSIVE base (oid, base, is_array) AS (
        SELECT oid, oid, typoutput = 'array_out'::regproc FROM pg_type WHERE typtype <> 'd'
        UNION ALL SELECT t.oid, base.base, is_array FROM pg_type AS t JOIN base ON t.typbasetype = base.oid
        WHERE typtype = 'd')"""

COLUMNS = """
    (SELECT jsonb_agg(jsonb_build_array(a.attname, b.base::bigint, b.is_array, a.attgenerated <> '')
                      ORDER BY a.attname COLLATE "C")
     FROM pg_attribute AS a JOIN base AS b ON b.oid = a.atttypid
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)"""

QUERY = """
    SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname), {columns}, {key},
           c.relpersistence::text, {condition}, {whole},
           pg_relation_size(c.oid) = 0 AND pg_relation_filenode(c.oid) = c.relfilenode,
           pg_relation_size(c.oid) / current_setting('block_size')::bigint, pg_table_size(c.oid),
           {evaluates}
    FROM {relations} AND c.relkind = 'r' AND c.relpersistence <> 't'"""

# Configuration of extensions: rows that the user added (PostgreSQL documentation, pg_extension_config_dump).
CONFIGURATION = """
    (SELECT c.*, conf.condition FROM pg_extension AS e,
     ROWS FROM (unnest(e.extconfig), unnest(e.extcondition)) AS conf (oid, condition)
     JOIN pg_class AS c ON c.oid = conf.oid) AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE true"""


def read_tables(connection: Connection) -> dict[tuple[str, str], Table]:
    """Every table with rows of the user's, by (schema, name)."""
    unreadable = {found.name: str(found) for found in unreadable_objects(connection) if found.kind == "table"}
    parts = {"columns": COLUMNS, "key": KEY, "whole": WHOLE, "evaluates": EVALUATES}
    own = QUERY.format(relations=OWN_RELATIONS, condition="''", **parts)
    of_extensions = QUERY.format(relations=CONFIGURATION, condition="c.condition", **parts)
    found = {}
    for schema, name, quoted, columns, key, persistence, condition, whole, empty, blocks, size, evaluates in rows(
        connection, f"{BASES} {own} UNION ALL {of_extensions}"
    ):
        found[schema, name] = Table(
            schema,
            name,
            tuple(Column.of(*column) for column in columns or ()),
            tuple(key or ()),
            persistence,
            condition,
            tuple(whole) if whole else None,
            empty,
            blocks,
            size,
            evaluates,
            unreadable.get(quoted),
        )
    return found
