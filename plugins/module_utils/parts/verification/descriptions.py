# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What describes the rows of a database: definitions, owners, privileges, comments and settings, class by class.

Each class is a query: the first column names the object, the others say what it is, in words that do not depend on
oids, on the server's major (parts/verification/spelling.py) or on its keywords (base/identifiers.py). Members of
extensions are left to their extension, and what is ours (schema handover, names that begin with handover_) is not
looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import (
    definitions,
    programs,
    rights,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.administrators import (
    Administrators,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import Majors, same_words

SHOWN = 300  # characters of a definition in the result
NOT_SHOWN = {"user_mappings": {"options"}, "functions": {"source", "body"}}
NAMES_ONLY = {
    "settings": {"settings"},
    "functions": {"settings"},
    "columns": {"server_options"},
    "foreign_tables": {"server_options"},
    "foreign_servers": {"options"},
    "foreign_data_wrappers": {"options"},
}
# Of a text that may hold a secret, as views, defaults and arguments of triggers do: no part of it is shown.
SECRET = re.compile(r"passw|pwd|secret|token|authorization|api.?key|://[^\s/@]*:[^\s/]*@", re.IGNORECASE)
MASK = "********"
SPELLED_DIFFERENTLY = {"definition", "body"}
READS = "reads"
# What is not made by the server of names and keywords, but as somebody wrote it.
VERBATIM = {
    "agginitval", "aggminitval", "collate", "comment", "ctype", "dictinitoption", "label", "labels", "library",
    "locale", "options", "owner", "privileges", "roles", "rules", "server_options", "settings", "source",
    "toast_options", "version",
}  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """How to look: without ``owners``, without ``privileges``, with the source's locales by other names on the target
    (``locale_map``); ``live``: replica identities are ours for the time; ``not_carried``: why large objects need not be
    the same now; ``pending``: constraints (schema, table, name) that the migration has yet to validate.
    ``administrators`` and ``same_major`` are found out by ``compare``.
    """

    owners: bool = True
    privileges: bool = True
    live: bool = False
    not_carried: str | None = None
    pending: frozenset = frozenset()
    locale_map: tuple = ()
    administrators: Administrators | None = None
    same_major: bool = False


@dataclass(frozen=True)
class Side:
    """The objects of one class on one end, or the reason why they cannot be seen."""

    objects: dict[str, dict] | None
    reason: str = ""


def compare(connections: dict, outcome: Outcome, looks: Looks) -> None:
    """Add the comparison of every class to the outcome; the sessions are in transactions, which they stay in."""
    versions = {side: connection.info.server_version // 10000 for side, connection in connections.items()}
    administrators = Administrators.read(connections)
    lower, higher = min(versions.values()), max(versions.values())
    queries = {side: _queries(Majors(version, lower, higher)) for side, version in versions.items()}
    for kind in queries["source"]:
        if kind == "owners" and not looks.owners:
            outcome.leave_out(kind, "*", "no_owner is set")
            continue
        if kind in ("privileges", "default_privileges") and not looks.privileges:
            outcome.leave_out(kind, "*", "no_privileges is set")
            continue
        sides = {side: _read(connection, queries[side][kind]) for side, connection in connections.items()}
        _compare_class(kind, sides, outcome, replace(looks, administrators=administrators, same_major=lower == higher))


def _queries(majors: Majors) -> dict[str, str]:
    """Every class, and how to ask a server of this major for it."""
    return {**definitions.queries(majors), **programs.queries(majors), **rights.queries(majors)}


def _read(connection, query: str) -> Side:
    """What there is; without a privilege for it, that."""
    try:
        with passing(connection), connection.cursor() as cursor:
            cursor.execute(query)
            names = [column.name for column in cursor.description][1:]
            everything = cursor.fetchall()
    except psycopg2.Error as error:
        if connection.closed:
            raise
        return Side(None, one_line(error))
    found = {}
    for quoted, *values in everything:
        if quoted is None:  # dropped since the instant, as large objects are at any time: it has no identity any more
            continue
        name = unquoted(quoted)
        while name in found:  # two objects of one name in this class: each needs its counterpart
            name += " (another)"
        found[name] = dict(zip(names, values))
    return Side(found)


def _compare_class(kind: str, sides: dict[str, Side], outcome: Outcome, looks: Looks) -> None:
    hidden = [f"{side}: {one.reason}" for side, one in sides.items() if one.objects is None]
    if hidden:
        if not outcome.excluded(kind, "*"):
            outcome.miss(kind, "*", "; ".join(hidden))
        return
    outcome.look_at(kind)
    theirs = sides["target"].objects
    ours = looks.administrators.objects(kind, sides["source"].objects, theirs)
    for name in sorted({*ours, *theirs}):
        if outcome.excluded(kind, name):
            continue
        reason = NOT_COMPARED.get(kind) or (looks.not_carried if name.startswith("large object ") else None)
        if reason:
            outcome.leave_out(kind, name, reason)
        elif name not in ours or name not in theirs:
            outcome.differ(kind, name, problem=f"only on the {'source' if name in ours else 'target'}")
        else:
            _compare_object(kind, name, (ours[name], theirs[name]), outcome, looks)


NOT_COMPARED = {
    "subscriptions": "a subscription of the source's is not brought over: two would compete for its publisher",
}


# pg_trigger.tgenabled: what is to fire for replicated rows does not while a migration is under way.
QUIETED = {"A": "O", "R": "D"}


def _compare_object(kind: str, name: str, both: tuple[dict, dict], outcome: Outcome, looks: Looks) -> None:
    source, target = both
    source = looks.administrators.described(kind, name, source, target)
    if kind == "database":
        source = {key: dict(looks.locale_map).get(one, one) if one else one for key, one in source.items()}
    if looks.live:
        source, target = ({**one, "replica_identity": None} for one in (source, target))
    if looks.live and kind in ("triggers", "constraints"):
        source, target = _quieted(source), _quieted(target)
    apart = _apart(source, target, looks.same_major)
    hidden = [key for key in source if "(hidden)" in (source[key], target.get(key))]
    if kind == "constraints" and _is_pending(name, looks) and apart == ["validated"]:
        outcome.leave_out(kind, name, "the migration validates it at the end")
    elif hidden:
        outcome.miss(kind, name, f"{', '.join(hidden)}: not shown to this role")
    elif apart:
        outcome.differ(kind, name, what={key: _shown(kind, key, both) for key in apart})
    else:
        outcome.equal(kind)


def _quieted(described: dict) -> dict:
    """A trigger, or a constraint with its triggers, as it is while a migration is under way; else what it was."""
    one, several = described.get("enabled"), described.get("enforced")
    quieted = {"enabled": QUIETED.get(one, one)} if one else {}
    if several:
        quieted["enforced"] = sorted({QUIETED.get(one, one) for one in several})
    return {**described, **quieted}


def _is_pending(name: str, looks: Looks) -> bool:
    """Whether a constraint is one of those, whatever is quoted in its name."""
    plain = name.replace('"', "")
    pending = (f"{constraint} on {schema}.{table}" for schema, table, constraint in looks.pending)
    return any(plain == one.replace('"', "") for one in pending)


def _apart(source: dict, target: dict, same_major: bool) -> list[str]:
    """What is not the same. Definitions that are spelled the same read the same, whatever older minors recorded."""
    source, target = ({key: _spelled(key, one) for key, one in side.items()} for side in (source, target))
    apart = [key for key in source if source[key] != target.get(key)]
    spelled = [key for key in apart if key in SPELLED_DIFFERENTLY]
    if not spelled:
        return [key for key in apart if key != READS]
    same = [key for key in spelled if not same_major and same_words(source[key], target.get(key))]
    return [key for key in apart if key not in same]


def _spelled(key: str, found):
    """A value of a description as any server would write it."""
    if isinstance(found, list):
        return [_spelled(key, one) for one in found]
    return unquoted(found) if isinstance(found, str) and key not in VERBATIM else found


def _shown(kind: str, key: str, both: tuple[dict, dict]) -> dict:
    """What one end says that the other does not, by side, as far as it may be shown: settings and options may hold
    secrets, and functions too, so there it is their names, or nothing.
    """
    sides = dict(zip(("source", "target"), (_spelled(key, described.get(key)) for described in both)))
    if key in NOT_SHOWN.get(kind, ()):
        return dict.fromkeys(sides, MASK)
    if key == READS or key in NAMES_ONLY.get(kind, ()):
        entries = {side: set(found or ()) for side, found in sides.items()}
        common = entries["source"] & entries["target"]
        name = str if key == READS else lambda entry: entry.partition("=")[0]
        return {side: sorted(map(name, found - common)) for side, found in entries.items()}
    return {side: _without_secrets(found) for side, found in sides.items()}


def _without_secrets(found):
    """A value of a description, as far as it may be shown."""
    if isinstance(found, list):
        return [_without_secrets(one) for one in found]
    if not isinstance(found, str):
        return found
    return MASK if SECRET.search(found) else found[:SHOWN]
