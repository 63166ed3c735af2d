# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions besides tables that were made, changed or dropped on the source: by a fresh pg_dump of its schema.

What is missing on the target is made as a copy makes it, by pg_restore's statements; what was changed is replaced, or
dropped before; what was dropped is dropped, by pg_dump's statements. Never with CASCADE: what the target refuses is
found and said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason, transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import source_schema
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import apply, following, wave_copy
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.following import Way
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.described_entries import (
    KEPT,
    REDEFINED,
    USED,
    DescribedEntry,
    describe_entries,
    key_of,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

# What columns and tables need, and is made before them.
NEEDED = frozenset({
    "AGGREGATE", "COLLATION", "DOMAIN", "EXTENSION", "FUNCTION", "OPERATOR", "PROCEDURE", "SCHEMA", "SEQUENCE",
    "SHELL TYPE", "TYPE",
})  # fmt: skip
GONE = ("42704", "42P01", "42883", "3F000", "42703")  # SQLSTATEs of what is not there: somebody dropped it
REPLACED = ("FUNCTION", "PROCEDURE", "VIEW")  # of which CREATE OR REPLACE is known on all majors
OWNERS = f"""
    SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM {OWN_RELATIONS}
    UNION SELECT pg_get_userbyid(p.proowner)::text FROM pg_proc AS p WHERE p.oid >= 16384
    UNION SELECT pg_get_userbyid(t.typowner)::text FROM pg_type AS t WHERE t.oid >= 16384
    UNION SELECT pg_get_userbyid(n.nspowner)::text FROM pg_namespace AS n WHERE n.oid >= 16384
    AND n.nspname <> 'handover'"""

FOLLOWED = REDEFINED | KEPT  # of which a drop is followed
# What goes along with its table, whatever that is called.
OF_TABLES = ("CHECK CONSTRAINT", "CONSTRAINT", "FK CONSTRAINT", "POLICY", "RULE", "TABLE", "TRIGGER")


@dataclass
class Redefinitions:
    """What was found at the publisher, by the ``client`` of that version, when its catalogs had this ``stamp``: all
    ``entries``, and what is to be done, by the name of the object: statements, of which the subscriber may take one.

    ``refused``: what it took none of, and why; ``left`` says the rest that could not be done.
    """

    stamp: str
    client: str
    entries: dict[str, DescribedEntry]
    todo: dict[str, list[str]]
    left: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def make_needed(job: Job) -> None:
    """What changes of tables need, such as types of columns."""
    wave_copy.complete(job, job.read().waves[-1].number, NEEDED)


def begin(job: Job) -> Redefinitions | None:
    """Look for what was changed or dropped, and drop or replace that on the target, as it may be in the way of other
    changes, and of rows. None where nothing was changed. Raises HandoverError where the source cannot be described.
    """
    stamp, known = definitions_known.read_stamp(job.source_session), definitions_known.recorded(job.session, job.id)
    if known is None or known.stamp == stamp:
        return None
    with following.way(job) as ends:
        client, contents = describe(job, ends)
        entries = {one.key: one for one in describe_entries(contents)}
        found = Redefinitions(stamp, client.version, entries, {})
        if client.version == known.client:  # another one says the same in other words
            find(found, known.entries, contents, _left_out(job, contents))
        found.todo.update({text: [text] for text in following.labels(job)})
        attempt_unless_checking(job, ends, found)
    return found


def attempt_unless_checking(job: Job, ends: Way, found: Redefinitions) -> None:
    """Drop and replace all but tables, whose rows may be on their way; in check mode, say what would be."""
    if job.check_mode:
        job.followed += [statements[0] for statements in found.todo.values()]
    else:
        attempt(job, ends, found, [key for key in found.todo if not key.startswith("TABLE ")])


def complete(job: Job, found: Redefinitions) -> list[str]:
    """Make what is missing, and record all that; what could not be done is returned, in sentences."""
    with job.stages.stage("following the schema"), following.way(job) as ends:
        number = job.read().waves[-1].number
        wave_copy.complete(job, number)
        tables = [key for key in found.todo if key.startswith("TABLE ")]
        if tables and job.read().names:  # rows of before may be on their way
            apply.await_step(job, job.params["timeout"])
        if attempt(job, ends, found, [*found.refused, *tables]):
            wave_copy.complete(job, number)
    known = definitions_known.recorded(job.session, job.id)
    former = known.entries if known else {}
    kept = {**found.entries, **{key: former[key] for key in found.refused if key in former}}
    left = sentences(found)
    stamp = None if left else found.stamp
    definitions_known.record(job.session, job.id, definitions_known.KnownDefinitions(stamp, found.client, kept))
    return left


def sentences(found: Redefinitions) -> list[str]:
    """What could not be dropped or replaced, and why."""
    refused = found.refused.items()
    return [*found.left, *(f"{key}: {why}. The statement: {found.todo[key][0]}" for key, why in refused)]


def describe(job: Job, ends: Way) -> tuple[Client, Contents]:
    """What pg_dump says of the publisher's schema, and which pg_dump. Raises HandoverError."""
    client = source_schema.choose_client(ends.publisher, ends.maintenance, job.params)
    return client, describe_by(client, ends.publisher, *ends.published)


def describe_by(client: Client, session: Connection, endpoint: Endpoint, dbname: str) -> Contents:
    """What this one says of a database; ``session`` is with that. Raises HandoverError."""
    arguments = schema.SchemaSelection().arguments(client, session, None, 60_000)
    return schema.dump(client, endpoint.for_programs(session), dbname, arguments)


def _left_out(job: Job, contents: Contents) -> set[str]:
    """Keys of what the operator does without: what is replaced would be made."""
    fitting, params = Fitting(contents, []), job.params
    fitting.leave_out([*params["leave_out"], *(f"EXTENSION {name}" for name in params["exclude_extensions"])])
    return {key_of(entry) for entry in contents.entries if fitting.is_skipped(entry)}


def find(found: Redefinitions, before: dict[str, DescribedEntry], contents: Contents, left_out: set[str]) -> None:
    """What is to be dropped, in an order in which nothing needs it any more, and what is to be replaced."""
    texts = {key_of(entry): (entry.definition or "").strip() for entry in contents.entries}
    there = {one.oid for one in found.entries.values()}
    tables = [key[len("TABLE ") :] for key, one in before.items() if one.desc == "TABLE" and one.oid not in there]
    for key, one in reversed(before.items()):
        if any(key.startswith(f"{one.desc} {table} ") for table in tables):
            continue  # it goes along with its table, whose rows may be on their way
        now = found.entries.get(key)
        if now is None:
            was_renamed = one.oid in there and one.desc in OF_TABLES
            if one.drop and one.desc in FOLLOWED and not was_renamed:
                found.todo[key] = [one.drop]
        elif key in left_out or not now.was_changed(one):
            pass
        elif one.desc not in USED:
            replaced = _replaced(one.desc, texts[key])
            found.todo[key] = [replaced, one.drop] if replaced else [one.drop]
        elif " AS ENUM " not in texts[key]:
            found.left.append(f"{key} was changed: change it at the other end, too.")


def _replaced(desc: str, text: str) -> str:
    """The statement that lets an object be as this one makes it; empty where there is none."""
    if desc in REPLACED:
        return text.replace(f"CREATE {desc} ", f"CREATE OR REPLACE {desc} ", 1)
    return text.replace("CREATE SEQUENCE ", "ALTER SEQUENCE ", 1) if desc == "SEQUENCE" else ""


def attempt(job: Job, ends: Way, found: Redefinitions, keys: list[str]) -> bool:
    """Drop and replace, as far as the subscriber lets us; whether it let us do anything."""
    todo = {key: found.todo[key] for key in keys}
    if not todo:
        return False
    session = ends.subscriber
    owners = [] if ends.is_superuser else [owner for (owner,) in rows(session, OWNERS)]
    with memberships.temporary_memberships(ends.maintenance, owners):
        found.refused, done = patiently(session, lambda: _attempt_all(session, todo))
    if done:
        job.followed += done
        job.event("followed", tables=[], statements=done)
    return bool(done)


def _attempt_all(session: Connection, todo: dict[str, list[str]]) -> tuple[dict[str, str], list[str]]:
    """(What the target refused, and why; what it took), in one transaction, over and over, as what is in the way of
    something may go after it.
    """
    done: list[str] = []
    waiting = dict(todo)
    with transaction(session) as cursor:
        cursor.execute("SET LOCAL check_function_bodies = off")
        while True:
            refused = {}
            for key, statements in waiting.items():
                taken, why = _first_taken(cursor, statements)
                if taken:
                    done.append(taken)
                elif why:
                    refused[key] = why
            if len(refused) in (0, len(waiting)):
                return refused, done
            waiting = {key: waiting[key] for key in refused}


def _first_taken(cursor, statements: list[str]) -> tuple[str, str]:
    """(The first statement that the target takes, why it took none); neither where there is nothing to drop."""
    why = ""
    for statement in statements:
        cursor.execute("SAVEPOINT handover_following")
        try:
            cursor.execute(statement)
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            raise
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO SAVEPOINT handover_following")
            is_gone = error.pgcode in GONE and statement is statements[-1]
            why = "" if is_gone else reason(error).rstrip(".")
            continue
        cursor.execute("RELEASE SAVEPOINT handover_following")
        return statement, ""
    return "", why
