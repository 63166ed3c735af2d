# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift while a migration is under way: what is refused, what is only said, and what joins or leaves on request."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import dotted, unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.base.trial import transaction
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    apply,
    begin,
    following,
    glance,
    home_definitions,
    labels,
    redefining,
    waves,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import publication

FOLLOWED = ("identity", "parents", "defaults", "foreign_keys", "enums")  # to be made at the other end, too


def look(job: Job) -> list[dict]:
    """What differs from the beginning: tables that were made or dropped join or leave where ``refresh`` asks for it.

    Raises HandoverError for tables whose definition is another, unless the target has been given the same, and for
    those that were renamed: publications go by the table, the target's subscription and its tables by the name.
    """
    if job.params["follow_schema"] and glance.is_quiet(job):
        return []
    left = _follow_schema(job) if job.params["follow_schema"] else []
    found = drift.since(job.read(), job.source_session)
    if job.check_mode and job.followed and not left:
        return found
    renamed = [one for one in found if one["change"] == "renamed"]
    if renamed:
        raise HandoverError(
            f"Tables were renamed on the source: {drift.describe(renamed)}.{_not_followed(left)}",
            "Rename them back. Otherwise the migration cannot go on from here: " + apply.how_to_begin_anew(job) + ".",
            drift=renamed,
        )
    altered = [one for one in found if one["change"] not in drift.MEMBERSHIP]
    if altered and not job.check_mode:
        _free_refused(job, {one["table"] for one in altered})
    if altered and not _follow(job, altered):
        raise HandoverError(
            f"Tables were altered on the source: {drift.describe(altered)}.{_not_followed(left)}",
            "Run the same statements on the target, then run this again: it goes on if both ends are alike. Or undo "
            "them on the source.",
            drift=altered,
        )
    rest = [one for one in found if one["change"] in drift.MEMBERSHIP]
    refresh = job.may_copy and (job.params["refresh"] or job.params["follow_schema"])
    if rest and refresh and not job.check_mode:
        _refresh(job, rest)
        return []
    return rest


def _follow_schema(job: Job) -> list[dict]:
    """Tables, and, where anything may be copied and made, all else. What is not followed of tables is returned."""
    if not job.may_copy:
        labels.follow_labels(job)
        return following.follow(job)
    found = redefining.begin(job)
    left = following.follow(job, lambda: redefining.make_needed(job))
    if job.check_mode or left:
        return left
    waves.copy_waiting(job)  # what is copied anew has its keys afterwards
    for text in redefining.complete(job, found) if found else ():
        job.note(f"Not followed: {text}")
    return []


def _not_followed(left: list[dict]) -> str:
    """Why, of each table that was to be followed and was not."""
    return "".join(f" {one['table']} could not be followed: {one['reason']}." for one in left)


def forget_dropped(job: Job) -> None:
    """Tables that were dropped, and that no wave has taken in, need no more than a word."""
    query = """
        SELECT n.nspname::text, c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"""
    there = set(rows(job.source_session, query))
    waiting = [table for table in job.read().tables if table.wave is None]
    gone = [(table.schema, table.name) for table in waiting if (table.schema, table.name) not in there]
    if gone:
        names = job.quoted(gone)
        recorded = {name: one for name, one in (job.read().fingerprint or {}).items() if name not in names}
        with transaction(job.session):
            migration_journal.update(
                job.session, job.id, fingerprint=recorded
            )  # one that comes back by its name is a new one
            migration_journal.remove_tables(job.session, job.id, gone)
    for schema, name in gone:
        job.note(f"{schema}.{name} was dropped on the source, and left the migration.")


def _free_refused(job: Job, altered: set[str]) -> None:
    """The application must be able to change what is published already; a column that was added may have ended that.
    Where ``no_identity`` allows it, such tables are taken out of the publications. Raises HandoverError.
    """
    keys = [(table.schema, table.name) for table in job.read().replicated if table.wave is not None]
    there = [key for key, name in zip(keys, job.quoted(keys)) if name in altered]
    found = begin.refused(job, there)
    if found and job.params["no_identity"] == "copy_at_cutover":
        refused = {one.key for one in found}
        for name in job.read().names:
            left = publication.tables_of(job.source_session, name) - refused
            publication.restrict_to(job.source_session, name, sorted(left))
    begin.leave_to_cutover(job, found)


def _follow(job: Job, altered: list[dict]) -> bool:
    """Whether the target has by now what was altered on the source; that is what is recorded then."""
    if job.check_mode or not _are_alike(job.source_session, job.session, altered):
        return False
    _record(job, job.source_session, {one["table"] for one in altered})
    return True


def follow_home(job: Job) -> bool:
    """After a handover: whether tables were redefined where the application writes, and at the other end alike.

    Raises HandoverError for what the other end does not have, or cannot have without a copy of rows.
    """
    migration = job.read()
    is_back = migration.direction == "back"
    home, other = (job.source_session, job.session) if is_back else (job.session, job.source_session)
    end, over = ("target", "stop") if is_back else ("source", "finish")
    left = _follow_home(job) if job.params["follow_schema"] else []
    if job.followed and job.check_mode and not left:
        return True
    migration = job.read()
    found = drift.since(migration, home)
    names = set(map(unquoted, drift.fingerprint(other)))
    dropped = [one for one in found if one["change"] == "gone" and unquoted(one["table"]) not in names]
    lost = [one for one in found if one["change"] in ("new", "replaced", "renamed")]
    if lost:
        raise HandoverError(
            f"Since this migration was handed over, tables were made or renamed: {drift.describe(lost)}."
            + "".join(f" {text}" for text in job.notices),
            f"The {end} does not follow these. Undo that, or {over} the migration: there is no other way.",
            drift=lost,
        )
    altered = [one for one in found if one["change"] not in drift.MEMBERSHIP]
    if len(dropped) + len(altered) < len(found) or not _are_alike(home, other, altered):
        raise HandoverError(
            f"Since this migration was handed over, tables were redefined: {drift.describe(found)}."
            + _not_followed(left),
            f"Run the same statements on the {end}, then run this again.",
            drift=found,
        )
    if found and not job.check_mode:
        _record(job, home, {one["table"] for one in altered}, {one["table"] for one in dropped})
    job.changed = bool(found or job.followed)
    return job.changed


def _follow_home(job: Job) -> list[dict]:
    """Tables and all else, as far as that needs no copy. What is not followed of tables is returned."""
    labels.follow_labels(job)
    found = home_definitions.begin(job)
    left = following.follow(job, (lambda: home_definitions.make_needed(job, found)) if found else None)
    if found and not job.check_mode and not left:
        for text in home_definitions.complete(job, found):
            job.note(f"Not followed: {text}")
    return left


def _are_alike(home, other, altered: list[dict]) -> bool:
    """Whether both ends have the same columns, and whatever else of what was altered would be missed there."""
    here, there = drift.of_another(home), drift.of_another(other)
    asked = {(one["table"], key) for one in altered for key in ("columns", "unlogged")}
    asked |= {(one["table"], one["change"]) for one in altered if one["change"] in FOLLOWED}
    return all(here[unquoted(name)][key] == there.get(unquoted(name), {}).get(key) for name, key in asked)


def _record(job: Job, home, altered: set[str], dropped: Iterable[str] = ()) -> None:
    """These are defined as they are at home; rows that were verified before are not known to be equal any more."""
    current, migration = drift.fingerprint(home), job.read()
    recorded = {name: one for name, one in migration.fingerprint.items() if name not in dropped}
    recorded |= {name: current[name] for name in altered}
    left = set(map(unquoted, dropped))
    keys = [(table.schema, table.name) for table in migration.tables if dotted(table.schema, table.name) in left]
    with transaction(job.session):
        migration_journal.update(job.session, job.id, fingerprint=recorded, verified=None)
        migration_journal.remove_tables(job.session, job.id, keys)
        job.event("followed", tables=sorted({*altered, *dropped}))


def _refresh(job: Job, found: list[dict]) -> None:
    """New tables wait for a wave, dropped ones are forgotten; what the target has of these stays. Until the new ones
    are there, too, nothing can be handed over, and what was verified is not all.
    """
    gone = {one["table"] for one in found if one["change"] != "new"}
    replaced = {one["table"] for one in found if one["change"] == "replaced"}
    planned = begin.read_plan(job)  # both may refuse, so before anything is forgotten
    _refuse_unlike(job, replaced, planned)
    if replaced:  # changes of the former tables would be taken for theirs
        apply.await_step(job, job.params["timeout"])
    migration = job.read()
    recorded = {name: value for name, value in migration.fingerprint.items() if name not in gone}
    there = {one.table.key for one in planned.tables}
    keys = [(table.schema, table.name) for table in migration.tables]
    left = [key for key, name in zip(keys, job.quoted(keys)) if key not in there or name in replaced]
    begin.prepare_source(job, planned)
    with transaction(job.session):  # a table without a fingerprint, but with a wave, would look as if it were in step
        migration_journal.set_phase(job.session, job.id, "copying")
        migration_journal.update(job.session, job.id, fingerprint=recorded, verified=None)
        migration_journal.remove_tables(job.session, job.id, left)
        begin.record_tables(job, planned)
    kept = drift.of_another(job.session) if left else {}
    for (schema, name), quoted in zip(left, job.quoted(left)):
        fate = "replaced on the source, and will be copied anew"
        if (schema, name) not in there:
            fate = f"dropped on the source, and left the migration; {_what_stays(quoted, kept)}"
        job.note(f"{schema}.{name} was {fate}.")
    joined = sorted(one["table"] for one in found if one["change"] != "gone")
    job.event("refreshed", joined=joined, left=len(left))


def _what_stays(name: str, kept: dict) -> str:
    """On the target, which is of that fingerprint, of a table that was dropped on the source."""
    if unquoted(name) not in kept:
        return "the target has dropped it, too"
    parents = kept[unquoted(name)].get("parents")
    if not parents:
        return "the target still has it"
    shown = ", ".join(sorted(parents))
    return f"the target still has it, and shows its rows in {shown}; to drop it there, run: DROP TABLE {name}"


def _refuse_unlike(job: Job, replaced: set[str], planned) -> None:
    """Raise HandoverError for tables that the target has with another definition than those that replaced them here:
    rows would not fit, or find other keys. What is missing there is made.
    """
    here, there = drift.of_another(job.source_session), drift.of_another(job.session)
    names = set(map(unquoted, replaced)) & there.keys() & here.keys()
    given = {dotted(*one.table.key) for one in planned.tables if one.identity}
    expected = {}
    for name in names:
        left = ["oid", "foreign_keys", *(["identity"] if name in given else [])]
        expected[name] = {**here[name], **{key: there[name][key] for key in left}}
    found = drift.differences({name: there[name] for name in names}, expected)
    if found:
        raise HandoverError(
            f"Tables were replaced on the source, and differ on the target: {drift.describe(found)}.",
            "Drop or alter the target's tables first, then run this again: it makes and copies what is missing.",
            drift=found,
        )
