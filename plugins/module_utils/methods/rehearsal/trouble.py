# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal has met, as findings like those of the preflight."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, one_line, some
from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal.expressions import Lookup
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import Failure
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import METHODS, Finding
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome

HEAD = 200  # characters of a statement
NAMED = 20
OF_VALUES = "22"  # SQLSTATE class: data exceptions, as a query may raise that finds some of the rows only
REFRESHED = "MATERIALIZED VIEW DATA"

PATH = (
    "What it calls finds things by the application's search_path, and there is none when definitions are made: on the "
    "source, give the function one of its own, ALTER FUNCTION ... SET search_path = ..., or write the schema before "
    "each name in it."
)
OPERATOR = (
    "IS DISTINCT FROM, NULLIF and CASE x WHEN find operators by the search_path, and there is none when "
    "definitions are made: on the source, write the operator with its schema, a OPERATOR(schema.=) b, or compare "
    "a::text."
)
QUALIFIED = re.compile(r'relation "[^"]+\.[^"]+" does not exist')
LOOKUP = (
    "It calls a function that reads a table which is made, or filled, later. On the source, let a trigger fill the "
    "column, ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION, or drop the index and make it on the target afterwards."
)
ALIASES = (
    "Name what is taken: let the function RETURN TABLE (...) of the columns that are needed, in place of a row type of "
    "the server's, which has other columns on each major; or drop the view, and make it on the target afterwards."
)
RIGHTS = "On the source, GRANT the missing privilege to the owner of the object, or give the object to another owner."
ROWS = "Fix the rows on the source, or the definition."
OTHERWISE = (
    "On the source, write it so that the target takes it, or drop it there and make it on the target afterwards."
)
# By what the server says (SQLSTATE, words): what helps. The first that fits.
REMEDIES = (
    ("42883", "operator does not exist", OPERATOR),
    ("42883", "function", PATH),
    ("42P01", "relation", PATH),
    ("42702", "ambiguous", ALIASES),
    ("42703", "does not exist", ALIASES),
    ("42501", "permission denied", RIGHTS),
    ("23", "", ROWS),
)
BY_HAND = "Or use refresh_materialized_views: false, and refresh them by hand afterwards."
EXTENSION = (
    "Both ends need the extension in the same schema and version: make it available on the target, and "
    "move or upgrade it on the source, ALTER EXTENSION ... SET SCHEMA ... or UPDATE; or leave it out with its data by "
    "exclude_extensions, and set it up on the target by hand."
)


def refused(failure: Failure, dependents: list[str]) -> Finding:
    """A definition that the target does not take and what needs it."""
    text = one_line(failure.message)
    harmless = failure.desc == REFRESHED and (failure.sqlstate or "")[:2] == OF_VALUES
    seen = f"{failure.object} cannot be made on the target: {text.rstrip('.')}. The statement: {failure.head}"
    consequence = "The migration would end without it."
    if dependents:
        consequence += f" {counted(len(dependents), 'object')} that need it would be lacking, too: {some(dependents)}."
    if harmless:
        consequence = "Perhaps for want of rows only: here the target has a sample of them."
    remedy = EXTENSION if failure.desc == "EXTENSION" else _remedy(failure.sqlstate, text)
    remedy += f" {BY_HAND}" if failure.desc == REFRESHED else ""
    remedy += f" Or do without: leave_out: [{json.dumps(failure.object, ensure_ascii=False)}]."
    return Finding(
        "warning" if harmless else "blocker", seen, consequence, remedy, [failure.object, *dependents][:NAMED]
    )


def _remedy(sqlstate: str | None, text: str) -> str:
    """``sqlstate`` is None where only pg_restore heard it: then the words have to do."""
    if QUALIFIED.search(text):
        return LOOKUP
    for state, words, remedy in REMEDIES:
        if words in text and (sqlstate.startswith(state) if sqlstate else words):
            return remedy
    return OTHERWISE


def ended(error: HandoverError) -> Finding:
    """What ends the whole: rows cannot be brought."""
    facts = error.facts
    objects = [one.get("object") for one in facts.get("failures") or () if one.get("object")]
    objects += [one for one in facts.get("causes") or () if one not in objects]
    objects += [f"{kind.upper()} {facts[kind]}" for kind in ("table", "extension") if kind in facts]
    if "extension" in facts:  # what it brings by itself is in the way, or lacking
        remedy = error.remedy
    elif any(one.startswith("EXTENSION ") for one in objects):
        remedy = EXTENSION
    else:
        remedy = _remedy(facts.get("sqlstate"), error.problem)
        remedy = error.remedy if remedy == OTHERWISE else remedy
    return Finding("blocker", error.problem, "No rows can be copied with that.", remedy, objects[:NAMED])


def skipped(entries: list[dict[str, Any]]) -> Iterator[Finding]:
    """What is left out by class, as the target keeps it to itself."""
    if entries:
        names = [one["object"] for one in entries]
        reasons = sorted({one["reason"] for one in entries})
        yield Finding(
            "info",
            f"Left out: {some(names, 10)}.",
            f"The target does not take them: {some(reasons, 5)}.",
            objects=names[:NAMED],
        )


def different(outcome: Outcome, known: list[str], keys: set[str]) -> Iterator[Finding]:
    """Definitions that the target took, and that mean something else there; or that did not come along. ``known`` are
    names of objects of which it was said already that they are not there, ``keys`` (``name on schema.table``) foreign
    keys that wait for rows which are not in the sample.
    """
    differences = [one for one in outcome.different if not _is_expected(one, known, keys)]
    meant = [one for one in differences if one["class"] == "uses"]
    said: list[int] = []
    for one in meant:
        details = [other for other in differences if other["class"] != "uses" and _concerns(one["object"], other)]
        said += map(id, details)
        yield _other_meaning(one, details)
    yield from (_not_the_same(one) for one in differences if one["class"] != "uses" and id(one) not in said)


def _is_expected(one: dict[str, Any], known: list[str], keys: set[str]) -> bool:
    """Whether it follows from what was said already, or from the rows being a sample."""
    kind, name = one["class"], one["object"]
    if kind == "constraints" and name.replace('"', "") in keys:
        return True
    if kind == "views" and set(one.get("what") or ()) == {"populated"}:
        return True
    return "problem" in one and any(_is_part(name, other) for other in known)


def _concerns(name: str, other: dict[str, Any]) -> bool:
    """Whether another difference is of the same object, or of a column of it."""
    plain = other["object"].replace('"', "")
    return _is_part(name, plain) or (other["class"] == "columns" and _is_part(name, plain.rpartition(".")[0]))


def _other_meaning(one: dict[str, Any], details: list[dict[str, Any]]) -> Finding:
    name = one["object"].replace('rule "_RETURN" on ', "view ").replace("rule _RETURN on ", "view ")
    what = _sides(one.get("what") or {}) or f"what it calls there is {one.get('problem', 'something else')}"
    more = "".join(f"; {_sides(other.get('what') or {})}" for other in details)
    return Finding(
        "blocker",
        f"{name} means something else on the target, by other functions or operators: {what}{more}.",
        "Nothing fails, and rows that it yields, or lets pass, are others.",
        OPERATOR,
        [name],
    )


def _not_the_same(one: dict[str, Any]) -> Finding:
    name = one["object"]
    shown = f"{one['class'].replace('_', ' ')}: {name}"
    if "problem" in one:
        return Finding(
            "warning",
            f"{shown} is {one['problem']}.",
            "No dump brings it over.",
            "Make it on the target by hand, or drop it on the source if nobody misses it.",
            [name],
        )
    return Finding(
        "warning",
        f"{shown} is not the same after a restore: {_sides(one.get('what') or {})}.",
        "The verification will find the same.",
        "On the source, write it so that it comes out the same, or accept it in verify_exclude.",
        [name],
    )


def _sides(what: dict[str, Any]) -> str:
    """``on the source [...], on the target [...]``."""
    said = []
    for key, sides in what.items():
        if isinstance(sides, dict):
            ours, theirs = (json.dumps(sides.get(side), ensure_ascii=False) for side in ("source", "target"))
            said.append(f"{key.replace('_', ' ')} on the source {ours[:HEAD]}, on the target {theirs[:HEAD]}")
    return "; ".join(said)


def _is_part(name: str, other: str) -> bool:
    """Whether an object that is described here as ``schema.table.column`` belongs to one of the archive's."""
    return re.search(rf"(?<![\w$]){re.escape(other)}(?![\w$])", name.replace('"', "")) is not None


def looks_up(found: Lookup) -> Finding:
    """An expression that counts as immutable, and reads tables of which rows may come later than its own."""
    if found.kind == "index":
        remedy = f"After the migration, on the target: REINDEX INDEX {found.name};"
    else:
        remedy = "On the source, let a trigger fill the column: ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION;"
    return Finding(
        "warning",
        f"{found.kind.capitalize()} {found.name} is computed from rows of other tables: {some(list(found.tables))}.",
        "They may not be there yet when it is computed on the target, and nothing fails then.",
        remedy,
        [found.name],
    )


def changed(name: str, read: tuple[str, ...]) -> Finding:
    """A generated column with other values, which reads other tables."""
    why = f"from rows of other tables, {some(list(read))}, which may come later"
    return Finding(
        "blocker",
        f"Generated column {name} has other values on the target, for the same rows.",
        f"It is computed anew there, {why if read else 'by a function that depends on settings, locales or versions'}.",
        "On the source, let a trigger fill the column: ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION;",
        [name],
    )


def of_one_database(extension: str, wanted: str, goal: str) -> Finding:
    """An extension that the server takes in one database only, which is not this one."""
    return Finding(
        "blocker",
        f'The target takes extension {extension} in database "{wanted}" only, not in "{goal}".',
        "CREATE EXTENSION fails there, and the rows of its tables have no place.",
        f"On the target, set cron.database_name = '{goal}' and restart it; or leave the extension out with "
        f"exclude_extensions: [{extension}].",
        [f"EXTENSION {extension}"],
    )


def not_reached(error: HandoverError) -> Finding:
    """The subscription cannot be made."""
    return Finding("blocker", error.problem, "Nothing can be replicated.", error.remedy, methods=("continuous",))


def not_rehearsed(reason: str, remedy: str, methods: tuple[str, ...] = METHODS) -> Finding:
    """What could not be tried."""
    consequence = "What the target refuses may be found only when rows have been copied."
    return Finding("unknown", reason, consequence, remedy, methods=methods)


def rolled_back(goal: str) -> Finding:
    """What a rehearsal in one transaction does not do."""
    return Finding(
        "info",
        f'All was done in one transaction of database "{goal}", which was rolled back.',
        "Settings and properties of the database were left as they are, sequences were not set, and nothing was "
        "analyzed.",
    )


def without_roles(names: list[str]) -> Finding:
    """Roles that are brought over first, and were not yet."""
    return Finding(
        "info",
        f"The target lacks {counted(len(names), 'role')} that own objects or have privileges: {some(names, 10)}.",
        "What belongs to them was rehearsed as the connecting role's, so a lack of privileges was not found.",
        "Bring the roles over, then rehearse again; dump, replicate and migrate rehearse after their roles.",
        names[:NAMED],
    )
