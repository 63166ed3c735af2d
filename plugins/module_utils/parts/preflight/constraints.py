# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of indexes and constraints that do not hold what they promise."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, script, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

NAME = "format('%I.%I', n.nspname, c.relname)"


@database_check("invalid_indexes", "Every index is valid.")
def invalid_indexes(database: Database):
    """What is left of a CREATE or REINDEX ... CONCURRENTLY that failed; pg_dump leaves it out."""
    query = f"""
        SELECT format('%I.%I', n.nspname, x.relname), {NAME}, i.indisunique, format('%I', n.nspname)
        FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid, {OWN_RELATIONS} AND c.oid = i.indrelid
        AND c.relkind IN ('r', 'm') AND NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 1"""
    found = database.rows(query)
    if found:
        names = [row[0] for row in found]
        unique = [row[0] for row in found if row[2]]
        yield Finding(
            "warning",
            f"{counted(len(found), 'invalid index')}: {some(names)}." + (f" Unique: {some(unique)}." if unique else ""),
            "They do not arrive on the target. If one is unique, there may be duplicates that it should have refused.",
            script([f"REINDEX INDEX CONCURRENTLY {name}; -- or DROP INDEX {name}" for name in names]),
            names,
        )


@database_check("unvalidated_constraints", "Every constraint was validated.")
def unvalidated_constraints(database: Database):
    """NOT VALID constraints arrive as such; rows that break them, too."""
    enforced = "AND k.conenforced" if database.server.major >= 18 else ""
    query = f"""
        SELECT format('%I ON %s', k.conname, {NAME}),
               format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', {NAME}, k.conname)
        FROM pg_constraint AS k, {OWN_RELATIONS} AND c.oid = k.conrelid AND NOT k.convalidated {enforced}
        UNION ALL SELECT format('%I ON DOMAIN %I.%I', k.conname, n.nspname, t.typname),
                         format('ALTER DOMAIN %I.%I VALIDATE CONSTRAINT %I;', n.nspname, t.typname, k.conname)
        FROM pg_constraint AS k JOIN pg_type AS t ON t.oid = k.contypid JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE NOT k.convalidated ORDER BY 1"""
    found = database.rows(query)
    if found:
        names = [name for name, _statement in found]
        yield Finding(
            "info",
            f"{counted(len(found), 'constraint')} NOT VALID: {some(names)}.",
            "They arrive as NOT VALID; rows that break them arrive, too.",
            script([statement for _name, statement in found]),
            names,
        )


@database_check("unchecked_foreign_keys", "Every foreign key is checked.")
def unchecked_foreign_keys(database: Database):
    """DISABLE TRIGGER ALL switches foreign keys off, but a dump does not say so: they are made anew, and all rows
    checked.
    """
    query = f"""
        SELECT DISTINCT format('%I ON %s', k.conname, {NAME}), {NAME}, k.convalidated, pg_get_constraintdef(k.oid),
               quote_ident(k.conname)
        FROM pg_trigger AS t JOIN pg_constraint AS k ON k.oid = t.tgconstraint AND k.contype = 'f', {OWN_RELATIONS}
        AND c.oid = k.conrelid AND t.tgisinternal AND t.tgenabled = 'D' ORDER BY 1"""
    found = [row for row in database.rows(query) if row[2]]
    if found:
        names = [row[0] for row in found]
        statement = "ALTER TABLE {0} DROP CONSTRAINT {1}, ADD CONSTRAINT {1} {2}; -- checks all rows"
        yield Finding(
            "warning",
            f"{counted(len(found), 'foreign key')} whose triggers are switched off: {some(names)}.",
            "Rows may break them. If any do, the keys cannot be made on the target, and the import fails.",
            script([statement.format(row[1], row[4], row[3]) for row in found]),
            names,
        )


@database_check("inherited_not_null", "Columns of children are NOT NULL wherever those of their parents are.")
def inherited_not_null(database: Database):
    """CREATE TABLE ... INHERITS makes columns of a child NOT NULL as its parent's, even if the source's differ."""
    not_inherited = """AND NOT EXISTS (
        SELECT FROM pg_constraint AS k
        WHERE k.conrelid = p.attrelid AND k.contype = 'n' AND k.connoinherit AND k.conkey = ARRAY[p.attnum])"""
    more = not_inherited if database.server.major >= 18 else ""
    query = f"""
        SELECT {NAME} || '.' || quote_ident(a.attname),
               format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', {NAME}, a.attname),
               EXISTS (SELECT FROM pg_stats AS s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
                       AND s.attname = a.attname AND s.null_frac > 0)
        FROM pg_inherits AS i JOIN pg_attribute AS p ON p.attrelid = i.inhparent AND p.attnotnull AND p.attnum > 0
        JOIN pg_attribute AS a ON a.attrelid = i.inhrelid AND a.attname = p.attname AND NOT a.attnotnull,
        {OWN_RELATIONS} AND c.oid = a.attrelid AND c.relkind = 'r' {more} ORDER BY 1"""
    found = database.rows(query)
    for level, having_nulls in (("blocker", True), ("warning", False)):
        columns = [(name, statement) for name, statement, nulls in found if nulls is having_nulls]
        if columns:
            names = [name for name, _statement in columns]
            yield Finding(
                level,
                f"{counted(len(columns), 'column')} that may be null although the parent's may not: {some(names)}."
                + (" Statistics show that they hold nulls." if having_nulls else ""),
                "On the target they are NOT NULL, so rows with nulls cannot be loaded.",
                script([statement for _name, statement in columns]),
                names,
            )


@database_check("extension_references", "No foreign key references a table of an extension.")
def extension_references(database: Database):
    """The extension decides about the rows of such a table: on the target, they may differ or be missing."""
    query = f"""
        SELECT format('%I ON %s', k.conname, {NAME}), k.confrelid::regclass::text
        FROM pg_constraint AS k JOIN pg_depend AS e ON e.classid = 'pg_class'::regclass AND e.objid = k.confrelid
             AND e.deptype = 'e', {OWN_RELATIONS} AND c.oid = k.conrelid AND k.contype = 'f' ORDER BY 1"""
    found = database.rows(query)
    if found:
        names = [name for name, _table in found]
        yield Finding(
            "warning",
            f"{counted(len(found), 'foreign key')} to tables of extensions: "
            f"{some([f'{name} to {table}' for name, table in found])}.",
            "If a referenced row is missing on the target, the foreign key cannot be made.",
            script(
                [f"SELECT * FROM {table}; -- compare with the target's" for table in sorted({row[1] for row in found})]
            ),
            names,
        )
