# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What identifies rows on the target. Without it, the first UPDATE or DELETE of a table stops all that is applied."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import columns_of, rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job

# (table, quoted; how archives name its key, with and without the class) on the source.
KEYS = """
    SELECT format('%I.%I', n.nspname, c.relname), ARRAY[
        format('CONSTRAINT %s.%s %s', n.nspname, c.relname, x.relname),
        format('%s.%s %s', n.nspname, c.relname, x.relname),
        format('INDEX %s.%s', n.nspname, x.relname), format('%s.%s', n.nspname, x.relname)]
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_index AS i ON i.indrelid = c.oid
    JOIN pg_class AS x ON x.oid = i.indexrelid
    WHERE c.oid >= 16384 AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)
    ORDER BY 1"""
NAMED = "FROM unnest(%s::text[], %s::text[]) AS t (schema, name) JOIN pg_namespace AS n ON n.nspname = t.schema"
IN_FULL = f"""
    SELECT t.schema, t.name {NAMED} JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
    WHERE c.relreplident = 'f'"""
WITHOUT = f"""
    SELECT format('%%I.%%I', t.schema, t.name) {NAMED}
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name
    WHERE NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisvalid AND (
        i.indisprimary OR i.indisreplident)) ORDER BY 1"""


def refuse_left_out(job: Job) -> None:
    """Raise HandoverError where the operator wants to do without the replica identity of a table."""
    wanted = set(job.params["leave_out"])
    found = [table for table, names in rows(job.source_session, KEYS) if wanted.intersection(names)] if wanted else []
    if found:
        raise HandoverError(
            f"leave_out names the replica identity of {some(found)}: without it, UPDATE and DELETE there could not be "
            "applied on the target, and would stop the replication of all tables.",
            "Have the target take it, as the failure says; or on the source, ALTER TABLE ... REPLICA IDENTITY FULL.",
        )


def lacking(job: Job) -> list[str]:
    """Copied tables that have none on the target, quoted, but for those that are known by all of their columns."""
    keys = [(one.schema, one.name) for one in job.read().replicated if one.state in ("copied", "indexed")]
    in_full = set(rows(job.source_session, IN_FULL, columns_of(keys)))
    others = [key for key in keys if key not in in_full]
    return [name for (name,) in rows(job.session, WITHOUT, columns_of(others))]


def explained(job: Job, error: HandoverError) -> HandoverError:
    """The error, with what becomes of tables that have none."""
    try:
        found = lacking(job)
    except psycopg2.Error:  # a session that is lost, which the error is about
        return error
    if not found:
        return error
    return type(error)(
        f"{error.problem} The replica identity of {some(found)} is lacking on the target: UPDATE and DELETE there "
        "cannot be applied, and stop the replication of all tables.",
        f"{error.remedy} Where rows have the same key, the source's index is damaged: fix the rows there and REINDEX "
        "it, then stop the migration and begin anew, as changes by that key concern all of its rows on the target.",
        **error.facts,
    )
