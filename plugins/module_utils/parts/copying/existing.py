# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects of an archive a database has already, by what identifies them on any server."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import STATISTICS, Contents

# Every object of a user's that depends on something, or that something depends on; parts of objects aside.
OBJECTS = """
    WITH object (classid, objid) AS (
        SELECT classid, objid FROM pg_depend WHERE objid >= 16384 AND objsubid = 0
        UNION SELECT refclassid, refobjid FROM pg_depend WHERE refobjid >= 16384 AND refobjsubid = 0
        UNION SELECT 'pg_extension'::regclass, oid FROM pg_extension
        UNION SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
        UNION SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
        UNION SELECT 'pg_publication'::regclass, oid FROM pg_publication)
    SELECT i.type, i.object_names, i.object_args
    FROM object AS o, pg_identify_object_as_address(o.classid, o.objid, 0) AS i
    WHERE o.classid NOT IN ('pg_largeobject'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass)"""
# Only those of the archive: what else a snapshot shows may be gone, and a server before 14 then has an error for us.
DESCRIBED = """
    SELECT o.classid::text, o.objid::text, i.type, i.object_names, i.object_args
    FROM ROWS FROM (unnest(%s::oid[]), unnest(%s::oid[])) AS o (classid, objid),
    pg_identify_object_as_address(o.classid, o.objid, 0) AS i"""
ATTACHED = """
    SELECT n.nspname::text, c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relispartition"""
# Statements that may be repeated: they set what they describe.
REPEATABLE = (
    "ACL",
    "DEFAULT ACL",
    "COMMENT",
    "SECURITY LABEL",
    "DEFAULT",
    "SEQUENCE OWNED BY",
    *STATISTICS,
    "ROW SECURITY",
    "INDEX ATTACH",
)


def existing_entries(source, target, contents: Contents) -> set[int]:
    """Dump ids of the entries whose objects the target has. An entry without an object of its own is there if all
    that it depends on is.
    """
    there = {_identity(*row) for row in rows(target, OBJECTS)}
    described = [(entry.catalog_oid, entry.oid) for entry in contents.entries if entry.catalog_oid != "0"]
    columns = [list(column) for column in zip(*described)] or [[], []]
    here = {row[:2]: _identity(*row[2:]) for row in rows(source, DESCRIBED, columns)}
    attached = set(rows(target, ATTACHED))
    found = set()
    for entry in contents.entries:
        identity = here.get((entry.catalog_oid, entry.oid))
        if entry.desc == "TABLE ATTACH":
            exists = (entry.namespace, entry.tag) in attached
        elif identity is not None:
            exists = identity in there
        else:
            exists = bool(entry.dependencies) and found.issuperset(entry.dependencies)
        if exists and entry.desc not in REPEATABLE:
            found.add(entry.dump_id)
    return found


def _identity(kind: str, names: list | None, arguments: list | None) -> tuple:
    return (kind, tuple(names or ()), tuple(arguments or ()))
