# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions besides tables that were made, changed or dropped on the source: by a fresh pg_dump of its schema.

What is missing on the target is made as a copy makes it, by pg_restore's statements; what was changed is replaced, or
dropped before; what was dropped is dropped, by pg_dump's statements. Never with CASCADE: what the target refuses is
found and said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    Cursor,
    Endpoint,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import reason, transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import OWN_RELATIONS, rows
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling import source_schema
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    apply,
    following,
    labels,
    namesakes,
    wave_copy,
)
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
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.edits import PRIVILEGES
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.fitting import Fitting
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.retracting import (
    OWNED,
    SAID,
    owner_statement,
    retracting_statements,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.existing import existing_entries
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known, shapes
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.identifying import taken_over
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.patience import patiently
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

# What columns and tables need, and is made before them.
NEEDED = frozenset({
    "AGGREGATE", "COLLATION", "DOMAIN", "EXTENSION", "FUNCTION", "OPERATOR", "PROCEDURE", "SCHEMA", "SEQUENCE",
    "SHELL TYPE", "TYPE",
})  # fmt: skip
# What is dropped to be made again, as a matter of definitions alone.
AGAIN = frozenset({
    "AGGREGATE", "COLLATION", "FUNCTION", "MATERIALIZED VIEW", "POLICY", "PROCEDURE", "RULE", "STATISTICS", "TRIGGER",
    "VIEW",
})  # fmt: skip
GONE = ("42704", "42P01", "42883", "3F000", "42703")  # SQLSTATEs of what is not there: somebody dropped it
REPLACED = ("FUNCTION", "PROCEDURE", "VIEW")  # of which CREATE OR REPLACE is known on all majors
OWNER_OF = "OWNER OF "
ROLES = "SELECT rolname::text FROM pg_roles"
OWNERS = f"""
    SELECT DISTINCT pg_get_userbyid(c.relowner)::text FROM {OWN_RELATIONS}
    UNION SELECT pg_get_userbyid(p.proowner)::text FROM pg_proc AS p WHERE p.oid >= 16384
    UNION SELECT pg_get_userbyid(t.typowner)::text FROM pg_type AS t WHERE t.oid >= 16384
    UNION SELECT pg_get_userbyid(n.nspowner)::text FROM pg_namespace AS n WHERE n.oid >= 16384
    AND n.nspname <> 'handover'"""

FOLLOWED = REDEFINED | KEPT  # of which a drop is followed
# What goes along with its table, whatever that is called.
OF_TABLES = ("CONSTRAINT", "FK CONSTRAINT", "POLICY", "RULE", "TABLE", "TRIGGER")
# What is altered where it was changed or renamed, as tables are: parts/following/type_amendments.py.
ALTERED_TYPES = re.compile(r"^CREATE TYPE [^;]+? AS (ENUM )?\(", re.MULTILINE)


@dataclass
class Redefinitions:
    """What was found at the publisher, by the ``client`` of that version, when its catalogs had this ``stamp``: all
    ``entries``, and what is to be done, by the name of the object: statements, of which the subscriber may take one.

    ``owners`` are roles that get something. ``refused``: what it took none of, and why; ``left`` says the rest that
    could not be done. ``kept`` is what it would not take again, had it been dropped, and why.
    """

    stamp: str
    client: str
    entries: dict[str, DescribedEntry]
    todo: dict[str, list[str]]
    left: list[str] = field(default_factory=list)
    owners: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def known(self, former: dict[str, DescribedEntry]) -> dict[str, DescribedEntry]:
        """The entries, but as they were where that could not be changed."""
        undone = [*self.refused, *self.kept]
        found = {**self.entries, **{key: former[key] for key in undone if key in former}}
        for key in (key[len(OWNER_OF) :] for key in undone if key.startswith(OWNER_OF)):
            if key in found and key in former:
                found[key] = replace(found[key], owner=former[key].owner)
        return found


def make_needed(job: Job) -> None:
    """What changes of tables need, such as types of columns."""
    wave_copy.complete(job, job.read().waves[-1].number, NEEDED)


def begin(job: Job) -> Redefinitions | None:
    """Look for what was changed or dropped, and drop or replace that on the target, as it may be in the way of other
    changes, and of rows. None where nothing was changed. Raises HandoverError where the source cannot be described.
    """
    stamp, known = read_stamp(job.source_session), definitions_known.recorded(job.session, job.id)
    if known is None or known.stamp == stamp:
        return None
    with following.way(job) as ends:
        client, contents = describe(job, ends)
        entries = {one.key: one for one in describe_entries(contents)}
        found = Redefinitions(stamp, client.version, entries, {})
        left_out = _left_out(job, contents)
        if client.version == known.client:  # another one says the same in other words
            find(job, ends, found, known.entries, contents, left_out)
        found.todo.update({text: [text] for text in labels.labels(job)})
        carry_out(job, ends, found, contents, left_out, lambda: make_needed(job))
    return found


def carry_out(
    job: Job, ends: Way, found: Redefinitions, contents: Contents, left_out: set[str], may_make: Callable[[], None]
) -> None:
    """Drop and replace all but tables, whose rows may be on their way; in check mode, say what would be. Before, it is
    tried, with changes of tables. Raises HandoverError where these would be refused.
    """
    if job.check_mode:
        job.followed += [statements[0] for statements in found.todo.values()]
        return
    first = [key for key in found.todo if not key.startswith("TABLE ")]

    def try_out() -> dict[str, str]:
        return _try_out(job, ends, found, contents, left_out, [key for key in first if key not in found.kept])

    try:
        unmade = try_out() if first else {}
    except HandoverError as error:
        if error.facts.get("sqlstate") not in following.LACKING:
            raise
        may_make()
        unmade = try_out()
    while unmade:
        found.kept.update(unmade)
        unmade = try_out()
    attempt(job, ends, found, [key for key in first if key not in found.kept])


def _try_out(
    job: Job, ends: Way, found: Redefinitions, contents: Contents, left_out: set[str], keys: list[str]
) -> dict[str, str]:
    """See that changes of tables would be taken after that. What would be dropped and not taken again is returned, and
    why. Raises HandoverError.
    """
    todo = {key: found.todo[key] for key in keys}
    again = {key for key in keys if key in found.entries and found.entries[key].desc in AGAIN}
    again = again if ends.is_superuser else set()  # others are lent rights when all that is made
    dropped: set[str] = set()
    unmade: dict[str, str] = {}

    def before(cursor: Cursor) -> None:
        dropped.clear()
        unmade.clear()
        _refused, done = _attempt_all(cursor, todo)
        dropped.update(key for key in again if todo[key][-1] in done)

    def after(cursor: Cursor) -> None:
        if dropped:
            refused, _done = _attempt_all(cursor, _missing(ends, contents, left_out), may_be_gone=False)
            unmade.update({key: why for key, why in refused.items() if key in dropped})

    following.try_out_between(job, ends, before, after if again else None, _owners(ends, found))
    return unmade


def _missing(ends: Way, contents: Contents, left_out: set[str]) -> dict[str, list[str]]:
    """What makes objects that the subscriber does not have now, as far as that is a matter of definitions alone."""
    there = existing_entries(ends.publisher, ends.subscriber, contents)
    wanted = [one for one in contents.entries if one.desc in AGAIN | NEEDED | KEPT and one.dump_id not in there]
    return {key_of(one): [one.definition] for one in wanted if one.definition and key_of(one) not in left_out}


def complete(job: Job, found: Redefinitions) -> list[str]:
    """Make what is missing, and record all that; what could not be done is returned, in sentences."""
    with job.stages.stage("following the schema"), following.way(job) as ends:
        number = job.read().waves[-1].number
        rename_namesakes(job, ends, found)
        before = definitions_known.recorded(job.session, job.id)
        job.changed = job.changed or bool(before and found.entries.keys() - before.entries.keys())  # made in a moment
        wave_copy.complete(job, number)
        tables = [key for key in found.todo if key.startswith("TABLE ")]
        if tables and job.read().names:  # rows of before may be on their way
            apply.await_step(job, job.params["timeout"])
        if attempt(job, ends, found, [*found.refused, *tables]):
            wave_copy.complete(job, number)
    known = definitions_known.recorded(job.session, job.id)
    kept = found.known(known.entries if known else {})
    left = sentences(found)
    stamp = None if left else found.stamp
    definitions_known.record(job.session, job.id, definitions_known.KnownDefinitions(stamp, found.client, kept))
    return left


def rename_namesakes(job: Job, ends: Way, found: Redefinitions) -> None:
    """Before what is made would be called like them."""
    todo = namesakes.renaming(ends.publisher, ends.subscriber)
    found.todo.update(todo)
    refused = found.refused
    attempt(job, ends, found, list(todo))
    found.refused = {**refused, **found.refused}


def sentences(found: Redefinitions) -> list[str]:
    """What could not be dropped or replaced, and why."""
    refused = {**found.refused, **found.kept}.items()
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


def _keys(job: Job, ends: Way) -> set[str]:
    """What identifies rows is changed as rows need it, and not as all else is."""
    before, now = shapes.recorded(job.session, job.id) or {}, shapes.read(ends.publisher)
    return {
        name
        for oid in before.keys() & now.keys()
        for key in taken_over(before[oid], now[oid])
        for one in (before[oid], now[oid])
        for name in (f"CONSTRAINT {one.schema}.{one.name} {key}", f"INDEX {one.schema}.{key}")
    }


def find(
    job: Job,
    ends: Way,
    found: Redefinitions,
    before: dict[str, DescribedEntry],
    contents: Contents,
    left_out: set[str],
) -> None:
    """What is to be dropped, in an order in which nothing needs it any more, and what is to be replaced."""
    texts = {key_of(entry): (entry.definition or "").strip() for entry in contents.entries}
    there, keys = {one.oid for one in found.entries.values()}, _keys(job, ends)
    tables = [key[len("TABLE ") :] for key, one in before.items() if one.desc == "TABLE" and one.oid not in there]
    for key, one in reversed(before.items()):
        if key in keys or any(key.startswith(f"{one.desc} {table} ") for table in tables):
            continue  # it goes along with its table, whose rows may be on their way
        now = found.entries.get(key)
        if one.desc in SAID:
            taken_back = retracting_statements(one.text, now.text if now else "")
            is_ours = one.desc not in PRIVILEGES or not job.params.get("no_privileges")
            if taken_back and is_ours and (not one.about or one.about in texts):
                found.todo[key] = [" ".join(taken_back)]
        elif now is None:
            was_renamed = one.oid in there and one.desc in (*OF_TABLES, *USED)
            if one.drop and one.desc in FOLLOWED and not was_renamed:
                found.todo[key] = [one.drop]
        elif key in left_out or not now.was_changed(one):
            pass
        elif one.desc not in USED or now.oid != one.oid:
            replaced = _replaced(one.desc, texts[key])
            found.todo[key] = [replaced, one.drop] if replaced else [one.drop]
        elif one.desc == "TYPE" and not ALTERED_TYPES.search(texts[key]):
            found.left.append(f"{key} was changed: change it at the other end, too.")
    if not job.params.get("no_owner"):
        _find_owners(ends, found, before, left_out)


def _find_owners(ends: Way, found: Redefinitions, before: dict[str, DescribedEntry], left_out: set[str]) -> None:
    """What belongs to another role now; after privileges, in which those of the former owner are named."""
    roles = {name for (name,) in rows(ends.subscriber, ROLES)}
    for key, one in before.items():
        now = found.entries.get(key)
        is_other = now is not None and one.desc in OWNED and one.owner and now.owner != one.owner
        if is_other and key not in left_out and now.owner in roles:
            found.todo[OWNER_OF + key] = [owner_statement(now.drop, now.owner)]
            found.owners.add(now.owner)


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

    def work() -> tuple[dict[str, str], list[str]]:
        with transaction(ends.subscriber) as cursor:
            return _attempt_all(cursor, todo)

    if found.owners and not ends.is_back and apply.is_subscriber(job):
        apply.join_owners(job, sorted(found.owners))  # apply becomes the owner of each table
    with memberships.temporary_memberships(ends.maintenance, _owners(ends, found)):
        found.refused, done = patiently(ends.subscriber, work)
    if done:
        job.followed += done
        job.event("followed", tables=[], statements=done)
    return bool(done)


def _owners(ends: Way, found: Redefinitions) -> set[str]:
    """Roles whose rights that takes; none for a superuser."""
    return set() if ends.is_superuser else {owner for (owner,) in rows(ends.subscriber, OWNERS)} | found.owners


def _attempt_all(
    cursor: Cursor, todo: dict[str, list[str]], may_be_gone: bool = True
) -> tuple[dict[str, str], list[str]]:
    """(What the target refused, and why; what it took), in its transaction, over and over, as what is in the way of
    something may go after it. What is gone need not be dropped.
    """
    done: list[str] = []
    waiting = dict(todo)
    cursor.execute("SET LOCAL check_function_bodies = off")
    while True:
        refused = {}
        for key, statements in waiting.items():
            taken, why = _first_taken(cursor, statements, GONE if may_be_gone else ())
            if taken:
                done.append(taken)
            elif why:
                refused[key] = why
        if len(refused) in (0, len(waiting)):
            return refused, done
        waiting = {key: waiting[key] for key in refused}


def _first_taken(cursor, statements: list[str], gone: tuple[str, ...]) -> tuple[str, str]:
    """(The first statement that the target takes, why it took none); neither where the last one says that the object
    is ``gone``.
    """
    why = ""
    for statement in statements:
        cursor.execute("SAVEPOINT handover_following")
        try:
            cursor.execute(statement)
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            raise
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO SAVEPOINT handover_following")
            is_gone = error.pgcode in gone and statement is statements[-1]
            why = "" if is_gone else reason(error).rstrip(".")
            continue
        cursor.execute("RELEASE SAVEPOINT handover_following")
        return statement, ""
    return "", why
