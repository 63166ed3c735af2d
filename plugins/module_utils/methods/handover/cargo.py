# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What replication does not bring and the window has to: sequences, large objects, tables that are copied whole."""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2, sql
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.grouping import in_groups
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import messages
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.findings import CargoSize
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.relay import copy_table
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import large_objects

ROUNDS = 3  # of copying large objects before the window, while that takes so long that many may have changed meanwhile
BRIEF = 1.0  # seconds
NOTHING = sql.SQL("SELECT") if sql else None
SNAPSHOT, END_OF_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT", "COMMIT; SELECT"

# Roles to which this one may give objects, and take them away again.
MINE = """
    SELECT rolname::text FROM pg_roles
    WHERE pg_has_role(oid, 'USAGE') AND CASE WHEN {since_16} THEN pg_has_role(oid, 'SET') ELSE true END"""


def look(passage: Passage) -> CargoSize:
    """What there will be to bring."""
    query = "SELECT (SELECT count(*) FROM pg_largeobject_metadata), pg_table_size('pg_largeobject')"
    with passage.old.cursor() as cursor:
        cursor.execute(query)
        large_objects_there, large_object_bytes = cursor.fetchone()
    passage.readable = tuple(large_objects.shows_versions(session) for session in (passage.old, passage.new))
    passage.catalogs = large_objects.lockable(passage.old) if passage.readable[0] else []
    return CargoSize(sum(table.size for table in passage.copied), large_objects_there, large_object_bytes)


def unfenced(passage: Passage) -> list[tuple[str, str]]:
    """What cannot be fenced, and is locked all the same: extensions' tables that are copied, and large objects where
    this role may do that, whether there are any or not.
    """
    fenced = set(passage.tables)
    return [*(table.key for table in passage.copied if table.key not in fenced), *passage.catalogs]


def set_sequences(passage: Passage) -> None:
    """Bring the sequences of new to where they are on old, and ``sequence_margin`` calls further.

    Done before the window and again in it, where only those are left that moved meanwhile.
    """
    _follow(passage, passage.helper, sequences.moved(passage.old, passage.sequences))
    passage.measures.sequences = len(passage.sequences)


def set_sequences_at_once(passage: Passage, positions: list) -> str | None:
    """The same in the window, where old's are at ``positions`` (sequences.POSITIONS); returns the stamp of new's
    definitions as it was then, if there is a way back.
    """
    moved = _wanted(passage, sequences.moved_in(passage.old, passage.sequences, positions))
    found = None
    for group in [*in_groups(moved, sequences.TOGETHER)] or ([[]] if passage.way_back else []):
        [(there, found)] = rows(passage.helper, messages.positions_and_stamp(passage, group))
        if there != len(group):
            sequences.apply(passage.helper, group, passage.sequence_margin)  # says what is missing
    _remember(passage, moved)
    return found


def overtake_sequences(passage: Passage) -> None:
    """The same once more, after the commit and before new is open: nothing that a transaction of ours could lock in
    passing keeps nextval() from a session that goes past the poolers. LOCK TABLE refuses sequences, and ALTER SEQUENCE,
    which conflicts with nextval(), takes a tenth of a second and more for each five hundred, and would wait for
    transactions that wait for us. What is fetched from here on, a session can write nowhere in old.
    """
    known, old = passage.sequences, passage.old  # nothing is known where an earlier run was interrupted here
    if passage.overtaken is None:
        passage.overtaken = sequences.overtaken(old, known) if known else sequences.read(old)
    _follow(passage, passage.new, passage.overtaken)


def _follow(passage: Passage, session, moved: list) -> None:
    moved = _wanted(passage, moved)
    if moved:
        sequences.apply(session, moved, passage.sequence_margin)
    _remember(passage, moved)


def _wanted(passage: Passage, moved: list) -> list:
    return [one for one in moved if one.key not in passage.left_out]


def _remember(passage: Passage, moved: list) -> None:
    """That new's were set to these, and where a bound was in the way."""
    margin = passage.sequence_margin
    for one in moved:
        if margin and one.advanced(margin).value in (one.least, one.most):
            passage.note(
                f"The sequence {one.schema}.{one.name} is nearer to its bound than the sequence_margin, and was set "
                "to the bound."
            )
    passage.sequences = list({one.key: one for one in (*passage.sequences, *moved)}.values())


def copy_tables(passage: Passage) -> None:
    """Replace what new has in the tables that are copied whole, all of them or none."""
    with _sessions(passage) as (source, target):
        cursor = target.cursor()
        cursor.execute("BEGIN")
        replica = _as_replica(cursor)
        fenced = [] if replica else [one for one in fence.fenced_tables(target) if one in _keys(passage)]
        _set_triggers(cursor, fenced, "DISABLE")
        promises = _take_promises(cursor, passage)
        _empty(cursor, passage)
        copied = [copy_table(source, target, table, binary=_binary(table)) for table in passage.copied]
        for _drop, add in promises:
            cursor.execute(add)
        _set_triggers(cursor, fenced, "ENABLE")
        cursor.execute("COMMIT")
    passage.measures.copied_rows = sum(amount for amount, _bytes in copied)
    passage.measures.copied_bytes = sum(count for _rows, count in copied)


def stow_large_objects(passage: Passage) -> None:
    """Make new's large objects like old's before the window, so that only what changes from now on is left to it."""
    if not any(together(*(lambda one=one: large_objects.count(one) for one in (passage.reader, passage.writer)))):
        passage.large_objects = {}, {}
        return
    for _round in range(ROUNDS):
        started = time.monotonic()
        with _sessions(passage) as (source, target):
            rows(source, SNAPSHOT)
            here = large_objects.versions(source, passage.readable[0])
            there = large_objects.versions(target, passage.readable[1], contents=False)
            if passage.large_objects:
                wanted = _changed(passage, here, there)
            else:
                wanted = large_objects.differing(source, target) if here or there else set()
            if wanted:
                _bring(source, target, wanted)
                made = large_objects.versions(target, passage.readable[1], contents=False)
                there = {
                    **{oid: now for oid, now in there.items() if oid not in wanted},
                    **{oid: made[oid] for oid in wanted if oid in made},
                }
        passage.large_objects = here, there
        if time.monotonic() - started < BRIEF:
            return


def bring_large_objects(passage: Passage) -> None:
    """The same under the locks: what changed on either end since, and that may be the first one, or the last.

    Where the catalog cannot be locked, that is as of a snapshot; what comes later is looked for after the commit.
    """
    amounts = together(
        lambda: large_objects.count(passage.reader, messages.held_back(passage, NOTHING)),
        lambda: large_objects.count(passage.writer),
    )
    if not any(passage.large_objects) and not any(amounts):
        passage.measures.large_objects = passage.measures.large_objects_in_window = 0
        return
    if not passage.catalogs:
        rows(passage.reader, SNAPSHOT)
    here, there = together(
        lambda: large_objects.versions(passage.reader, passage.readable[0]),
        lambda: large_objects.versions(passage.writer, passage.readable[1], contents=False),
    )
    wanted = _changed(passage, here, there)
    if wanted:  # who reads bytes locks as who writes them, and would wait for us
        with messages.keeping_slot_away(passage):
            _bring(passage.lock if passage.catalogs else passage.reader, passage.writer, wanted)
    if not passage.catalogs:
        rows(passage.reader, END_OF_SNAPSHOT)
    passage.large_objects = here, there
    passage.measures.large_objects, passage.measures.large_objects_in_window = len(here), len(wanted)


def _changed(passage: Passage, *ends: dict) -> set[int]:
    """Large objects whose versions, on old or on new, are not those any more that are known."""
    pairs = [
        (known.get(oid), now.get(oid), oid) for known, now in zip(passage.large_objects, ends) for oid in {*known, *now}
    ]
    return {oid for known, now, oid in pairs if known != now}


def _bring(source, target, wanted: set[int]) -> None:
    owners = {name for (name,) in rows(target, MINE.format(since_16=target.info.server_version >= 160000))}
    grantees = {name for (name,) in rows(target, "SELECT rolname::text FROM pg_roles")}
    try:
        large_objects.bring(source, target, wanted, owners, grantees)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise HandoverError(
            f"Large objects cannot be brought to the new home: {one_line(error)}.",
            "Make the connecting role a member of the roles that own them, on both ends, or connect as a superuser.",
        ) from None


def strays(passage: Passage) -> list[str]:
    """What sessions changed on old since the window read it: large objects, where those could not be locked or as soon
    as they were not any more, values of sequences, further than the margin goes, and tables that were made, which no
    lock prevents. New does not have that.
    """
    known, now = passage.large_objects[0], large_objects.versions(passage.reader, passage.readable[0])
    changed = [oid for oid in sorted({*known, *now}) if known.get(oid) != now.get(oid)]
    found = [f"large object {oid} was {_change(oid in known, oid in now)}" for oid in changed]
    before = {one.key: one for one in passage.sequences}
    for one in sequences.overtaken(passage.reader, passage.sequences):
        covered = sorted([before[one.key].value, before[one.key].advanced(passage.sequence_margin).value])
        if not covered[0] <= one.value <= covered[1]:
            found.append(f"sequence {one.schema}.{one.name} went on to {one.value}")
    made = fence.without_trigger(passage.reader, passage.configuration)
    return found + [f"table {name} was made, and is not fenced" for name in made]


def _change(was_there: bool, is_there: bool) -> str:
    if not was_there:
        return "made"
    return "changed" if is_there else "removed"


@contextlib.contextmanager
def _sessions(passage: Passage):
    """A session with each end that ends with the window at the latest."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(contextlib.closing(passage.route.old.connect(read_only=True)))
        target = stack.enter_context(contextlib.closing(passage.route.new.connect()))
        passage.others += [source, target]
        yield source, target


def _keys(passage: Passage) -> set[tuple[str, str]]:
    return {table.key for table in passage.copied} | {table.root for table in passage.copied if table.root}


def _binary(table) -> bool:
    return table.binary and not table.extensions


def _as_replica(cursor) -> bool:
    """Whether triggers and foreign keys leave us alone in this transaction: not every role may ask for that."""
    cursor.execute("SAVEPOINT handover")
    try:
        cursor.execute("SET LOCAL session_replication_role = replica")
        return True
    except psycopg2.errors.InsufficientPrivilege:
        cursor.execute("ROLLBACK TO SAVEPOINT handover")
        return False


def _take_promises(cursor, passage: Passage) -> list[tuple[str, str]]:
    """Drop CHECK constraints that are not valid, which rows there may be do not fulfil; (drop, add) statements."""
    query = """
        SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', k.conrelid::regclass, k.conname),
               format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', k.conrelid::regclass, k.conname,
                      pg_get_constraintdef(k.oid))
        FROM pg_constraint AS k WHERE k.contype = 'c' AND NOT k.convalidated AND k.coninhcount = 0
        AND k.conrelid IN (
            SELECT r.oid FROM ROWS FROM (unnest(%s::text[]), unnest(%s::text[])) AS t (schema, name)
            JOIN pg_namespace AS n ON n.nspname = t.schema
            JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.name,
            LATERAL (SELECT c.oid UNION SELECT relid FROM pg_partition_ancestors(c.oid)) AS r (oid))"""
    keys = sorted(_keys(passage))
    cursor.execute(query, ([schema for schema, _name in keys], [name for _schema, name in keys]))
    found = cursor.fetchall()
    for drop, _add in found:
        cursor.execute(drop)
    return found


def _set_triggers(cursor, tables: list[tuple[str, str]], action: str) -> None:
    for table in tables:
        statement = sql.SQL("ALTER TABLE {} " + action + " TRIGGER " + fence.TRIGGER)
        cursor.execute(statement.format(sql.Identifier(*table)))


def _empty(cursor, passage: Passage) -> None:
    """Take out what is there: of configuration tables of extensions, the user's part only."""
    whole = {table.root if table.through_root else table.key for table in passage.copied if not table.extension}
    if whole:
        roots = {table.root for table in passage.copied if table.through_root}
        only = sql.SQL("ONLY {}")
        names = sql.SQL(", ").join(
            sql.Identifier(*key) if key in roots else only.format(sql.Identifier(*key)) for key in sorted(whole)
        )
        cursor.execute("SAVEPOINT handover")
        try:
            cursor.execute(sql.SQL("TRUNCATE {}").format(names))
        except psycopg2.errors.FeatureNotSupported:  # referenced by a foreign key
            cursor.execute("ROLLBACK TO SAVEPOINT handover")
            for key in sorted(whole):
                cursor.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(*key)))
    for table in passage.copied:
        if table.extension:
            statement = sql.SQL("DELETE FROM {} " + table.condition.replace("{", "{{").replace("}", "}}"))
            cursor.execute(statement.format(sql.Identifier(*table.key)))


# What steps take on two cores with both servers on them; networks add their round trips, other machines differ.
SLOT, PER_TABLE, PER_COPIED_TABLE = 30, 0.03, 5  # milliseconds
RELAYED, READ, DIGESTED = 40e6, 800e6, 200e6  # bytes a second: of tables, and of large objects, most as they were


def forecast(passage: Passage, round_trips: float) -> int:
    """How long the window will be about, in milliseconds; ``round_trips`` is what its statements take to and fro."""
    findings, size = passage.findings, passage.findings.cargo
    reading = READ if passage.readable[0] else DIGESTED
    slot = 0 if passage.params["reverse"] is False or findings.obstacles_to_way_back else SLOT
    return round(
        round_trips
        + slot
        + len(passage.tables) * PER_TABLE
        + len(passage.copied) * PER_COPIED_TABLE
        + size.large_object_bytes / reading * 1000
        + size.copied_bytes / RELAYED * 1000
    )


def sequences_of(passage: Passage) -> int:
    """How many sequences old has."""
    return value(passage.old, "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relpersistence <> 't'")
