# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What describes the rows of a database: definitions, owners, privileges, comments and settings, class by class.

Each class is a query: the first column names the object, the others say what it is, in words that do not depend on
oids, on what only one of the majors knows (parts/verification/spelling.py) or on keywords (base/identifiers.py).
Definitions whose texts are not the same all the same are compared on one server (parts/verification/scratch.py).
Members of extensions are left to their extension, and what is ours (schema handover, names that begin with handover_)
is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.identifiers import unquoted
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import records
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication.apply_settings import WANTED
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification import (
    definitions,
    programs,
    rights,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.administrators import (
    NOBODY,
    Administrators,
    Descriptions,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.left_behind import (
    UNCHECKED,
    LeftBehind,
    plain,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Outcome
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.passing import passing
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.spelling import Majors, same_words

Both = tuple[dict[str, Any], dict[str, Any]]  # an object as source and target describe it
OneServer = Callable[[], AbstractContextManager[Connection]]

LARGE = {"tables", "columns", "constraints", "indexes", "uses", "views", "triggers", "sequence_definitions"}
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
READS = "reads"  # what a definition names: no part of what an object is, but tells apart what is spelled the same
NOT_DUMPED = "not_dumped"  # why no dump holds an object, if so
# What servers compose from trees of expressions, or bring into a canonical form, each in its own way.
COMPOSED = {
    "arguments", "body", "collate", "ctype", "default", "definition", "dictinitoption", "locale", "partition_bound",
    "partition_key", "rules", "sql", "tables", "using", "with_check",
}  # fmt: skip
IN_WORDS = {"body", "definition"}  # of these, what is said in the same words, and names the same, is the same
# What a migration does not carry while it goes on, and no client of the database sees: how it is to be tended.
TENDING = {"clustered", "statistics_target", "statistics_targets", "target"}
SET_MEANWHILE = (
    "{}: CLUSTER or SET STATISTICS on one end since it was copied, which says how it is to be tended, and not what is "
    "in it; say the same on the other end"
)
# What is not made by the server of names and keywords, but as somebody wrote it.
VERBATIM = {
    "agginitval", "aggminitval", "collate", "comment", "ctype", "dictinitoption", "label", "labels", "library",
    "locale", "options", "owner", "privileges", "roles", "rules", "server_options", "settings", "source",
    "toast_options", "version",
}  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """How to look: without ``owners``, without ``privileges``, with the source's locales by other names on the target
    (``locale_map``); ``live``: replica identities, and how apply reads text, are ours for now; ``not_carried``: why
    large objects need not be the same now; ``pending``: constraints (schema, table, name) that the migration has yet to
    validate.
    ``behind``: what the operator had the migration leave. ``administrators`` are found out by ``compare``.
    """

    owners: bool = True
    privileges: bool = True
    live: bool = False
    not_carried: str | None = None
    pending: frozenset[tuple[str, str, str]] = frozenset()
    locale_map: tuple[tuple[str, str], ...] = ()
    behind: LeftBehind = field(default_factory=LeftBehind)
    administrators: Administrators = NOBODY


@dataclass(frozen=True)
class Described:
    """The objects of one class on one end, or the reason why they cannot be seen."""

    objects: Descriptions
    reason: str | None = None


@dataclass(frozen=True)
class Doubt:
    """An object that is described otherwise on the two ends, perhaps in spelling only: source and target as they are
    compared, and as they say themselves.
    """

    kind: str
    name: str
    compared: Both
    said: Both


@dataclass
class Doubts:
    """What is settled when everything has been looked at. ``one_server()`` gives a session in a database of the
    target's server that holds the source's definitions, or raises HandoverError.
    """

    one_server: OneServer
    found: list[Doubt] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        return sorted({doubt.kind for doubt in self.found})


def compare(connections: dict[str, Connection], outcome: Outcome, looks: Looks, one_server: OneServer) -> None:
    """Add the comparison of every class to the outcome; the sessions are in transactions, which they stay in."""
    versions = {side: connection.info.server_version // 10000 for side, connection in connections.items()}
    looks = replace(looks, administrators=Administrators.read(connections))
    majors = {side: Majors(one, min(versions.values()), max(versions.values())) for side, one in versions.items()}
    queries = {side: _queries(one) for side, one in majors.items()}
    doubts, known = Doubts(one_server), _at_once(connections, queries)
    for kind in queries["source"]:
        if kind == "owners" and not looks.owners:
            outcome.leave_out(kind, "*", "no_owner is set")
            continue
        if kind in ("privileges", "default_privileges") and not looks.privileges:
            outcome.leave_out(kind, "*", "no_privileges is set")
            continue
        sides = {side: known[side].pop(kind) for side in known if kind in known[side]}
        sides = sides if len(sides) == len(known) else _both(connections, queries, kind)
        _compare_class(kind, sides, outcome, looks, doubts)
    if doubts.found:
        _settle(connections, majors, outcome, looks, doubts)


def _settle(
    connections: dict[str, Connection], majors: dict[str, Majors], outcome: Outcome, looks: Looks, doubts: Doubts
) -> None:
    """First what is said in the same words, then, of the rest, what is said in the same words on one server."""
    with_reads = {side: _queries(replace(one, with_reads=True)) for side, one in majors.items()}
    named = {kind: list(_both(connections, with_reads, kind).values()) for kind in doubts.kinds}
    open_ones = []
    for doubt in doubts.found:
        if hidden := [one.reason for one in named[doubt.kind] if one.reason is not None]:
            outcome.miss(doubt.kind, doubt.name, "; ".join(hidden))
            continue
        ours, theirs = (_named(one.objects.get(doubt.name, {})) for one in named[doubt.kind])
        apart = _apart(*doubt.compared)
        if _called(ours) != _called(theirs):  # what they call is not the same, in whatever words
            _conclude(doubt, apart, outcome, looks)
            continue
        if ours == theirs:  # majors do not record the same columns of what functions return
            apart = [key for key in apart if key not in IN_WORDS or not _in_same_words(key, doubt)]
        if apart:
            open_ones.append((doubt, apart, theirs))
        else:
            outcome.equal(doubt.kind)
    if open_ones:
        _settle_on_one_server(with_reads["target"], open_ones, outcome, looks, doubts.one_server)


def _settle_on_one_server(
    queries: dict[str, str],
    open_ones: list[tuple[Doubt, list[str], list[str]]],
    outcome: Outcome,
    looks: Looks,
    one_server: OneServer,
) -> None:
    """What differs between the target and the source's definitions on the same server."""
    made = {}
    try:
        with one_server() as session:
            for kind in {doubt.kind for doubt, _apart_in_words, _theirs in open_ones}:
                made[kind] = _read(session, queries[kind]).objects
    except HandoverError as error:
        outcome.notices.append(
            f"{len(open_ones)} definitions are not the same in their words, some perhaps in spelling only, as they "
            f"could not be compared on one server: {error.as_result()['msg']}"
        )
    for doubt, apart, theirs in open_ones:
        scratch = made.get(doubt.kind, {}).get(doubt.name, {})
        target = doubt.compared[1]
        spelled = COMPOSED.intersection(apart).intersection(scratch if _named(scratch) == theirs else ())
        settled = {key for key in spelled if _spelled(key, scratch[key]) == _spelled(key, target[key])}
        _conclude(doubt, [key for key in apart if key not in settled], outcome, looks)


def _named(described: dict[str, Any]) -> list[str]:
    """What a definition names."""
    return sorted(_spelled(READS, described.get(READS) or []))


def _called(names: list[str]) -> list[str]:
    """Functions and operators among that."""
    return [name for name in names if "(" in name]


def _conclude(doubt: Doubt, apart: list[str], outcome: Outcome, looks: Looks) -> None:
    """What remains of a doubt."""
    if not apart:
        outcome.equal(doubt.kind)
    elif looks.live and set(apart) <= TENDING:
        outcome.leave_out(doubt.kind, doubt.name, SET_MEANWHILE.format(", ".join(apart)))
    else:
        outcome.differ(doubt.kind, doubt.name, what={key: _shown(doubt.kind, key, doubt.said) for key in apart})


def _queries(majors: Majors) -> dict[str, str]:
    """Every class, and how to ask a server of this major for it."""
    return {**definitions.queries(majors), **programs.queries(majors), **rights.queries(majors)}


def _both(connections: dict[str, Connection], queries: dict[str, dict[str, str]], kind: str) -> dict[str, Described]:
    """One class on the source and on the target, at once."""
    sides = ("source", "target")
    found = together(*(partial(_read, connections[side], queries[side][kind]) for side in sides))
    return dict(zip(sides, found))


def _at_once(connections: dict[str, Connection], queries: dict[str, dict[str, str]]) -> dict[str, dict[str, Described]]:
    """The classes that are small, on each end in one answer; none where a query is refused."""
    kinds = [kind for kind in queries["source"] if kind not in LARGE]

    def read(side: str) -> dict[str, Described]:
        connection = connections[side]
        try:
            with passing(connection):
                asked = [(f"SELECT * FROM ({queries[side][kind]}) AS described (object)", None) for kind in kinds]
                found = records(connection, *asked)
        except psycopg2.Error:
            if connection.closed:
                raise
            return {}
        return {kind: _described(found.pop(0)) for kind in kinds}

    return dict(zip(connections, together(*(partial(read, side) for side in connections))))


def _read(connection: Connection, query: str) -> Described:
    """What there is; without a privilege for it, that."""
    try:
        with passing(connection), connection.cursor() as cursor:
            cursor.execute(query)
            names = [column.name for column in cursor.description or ()]
            names[0] = "object"
            return _described(dict(zip(names, values)) for values in cursor.fetchall())
    except psycopg2.Error as error:
        if connection.closed:
            raise
        return Described({}, one_line(error))


def _described(everything: Iterable[dict[str, Any]]) -> Described:
    found = {}
    for one in everything:
        quoted = one.pop("object")
        if quoted is None:  # dropped since the instant, as large objects are at any time: it has no identity any more
            continue
        name = unquoted(quoted)
        while name in found:  # two objects of one name in this class: each needs its counterpart
            name += " (another)"
        found[name] = one
    return Described(found)


def _compare_class(kind: str, sides: dict[str, Described], outcome: Outcome, looks: Looks, doubts: Doubts) -> None:
    hidden = [f"{side}: {one.reason}" for side, one in sides.items() if one.reason is not None]
    if hidden:
        if not outcome.excluded(kind, "*"):
            outcome.miss(kind, "*", "; ".join(hidden))
        return
    outcome.look_at(kind)
    ours, theirs = (
        _as_for_apply(one.objects) if looks.live and kind == "settings" else one.objects for one in sides.values()
    )
    ours = looks.administrators.objects(kind, ours, theirs)
    for name in sorted({*ours, *theirs}):
        if outcome.excluded(kind, name):
            continue
        reason = NOT_COMPARED.get(kind) or (looks.not_carried if name.startswith("large object ") else None)
        lost = ours[name].get(NOT_DUMPED) if name in ours else None
        if reason:
            outcome.leave_out(kind, name, reason)
        elif kind in LEFT_BEHIND and name not in theirs:
            outcome.leave_out(kind, name, LEFT_BEHIND[kind])
        elif name not in theirs:
            outcome.lack(kind, name, f"only on the source: {lost}" if lost else "only on the source")
        elif name not in ours:
            outcome.differ(kind, name, problem="only on the target")
        else:
            _compare_object(kind, name, (ours[name], theirs[name]), outcome, looks, doubts)


# What no dump holds, and what the application need not miss: what does is compared by itself, or could not be made.
LEFT_BEHIND = {
    "shell_operators": "no dump holds an operator that was named and never made, and nothing can use it",
    "in_system_schemas": "no dump holds what is in the server's own schemas; make it on the target, if it is missed",
}
NOT_COMPARED = {
    "subscriptions": "the source's own subscriptions are not brought over: two would compete for the publisher",
}


# pg_trigger.tgenabled: what is to fire for replicated rows does not while a migration is under way.
QUIETED = {"A": "O", "R": "D"}


def _compare_object(kind: str, name: str, both: Both, outcome: Outcome, looks: Looks, doubts: Doubts) -> None:
    source, target = both
    source = looks.administrators.described(kind, name, source, target)
    if kind == "database":
        source = {key: dict(looks.locale_map).get(one, one) if one else one for key, one in source.items()}
    if looks.live:
        source, target = ({**one, "replica_identity": None} for one in (source, target))
    if looks.live and kind in ("triggers", "constraints"):
        source, target = _quieted(source), _quieted(target)
    apart = _apart(source, target)
    if reason := _why_otherwise(kind, name, source, target, looks.behind):
        outcome.leave_out(kind, name, reason)
        return
    doubt = Doubt(kind, name, (source, target), both)
    hidden = [key for key in source if "(hidden)" in (source[key], target.get(key))]
    if kind == "constraints" and _is_pending(name, looks) and apart == ["validated"]:
        outcome.leave_out(kind, name, "the migration validates it at the end")
    elif hidden:
        outcome.miss(kind, name, f"{', '.join(hidden)}: not shown to this role")
    elif COMPOSED.intersection(apart):
        doubts.found.append(doubt)
    else:
        _conclude(doubt, apart, outcome, looks)


def _why_otherwise(kind: str, name: str, source: dict[str, Any], target: dict[str, Any], behind: LeftBehind) -> str:
    """Why an object is to be as it is on the target, where the operator had the migration leave something of it."""
    apart = _apart(source, target)
    if kind == "constraints" and behind.is_unchecked(name) and set(apart) == {"sql", "validated"}:
        return UNCHECKED if f"{source['sql']} NOT VALID" == target["sql"] else ""
    if behind.keeps_own and name == "database" and apart and kind in ("owners", "privileges", "database"):
        return behind.keeps_own if kind != "database" or set(apart) <= {"comment", "connection_limit"} else ""
    return behind.not_filled.get(plain(name), "") if kind == "views" and apart == ["populated"] else ""


def _as_for_apply(objects: Descriptions) -> Descriptions:
    """Settings without those that a migration makes, while it is under way, for roles that apply changes."""
    found = {}
    for name, described in objects.items():
        if name.endswith(" in the database") and not name.startswith("role * "):
            kept = [entry for entry in described["settings"] if entry.partition("=")[0].lower() not in WANTED]
            described = {**described, "settings": kept}
        if described["settings"]:
            found[name] = described
    return found


def _quieted(described: dict[str, Any]) -> dict[str, Any]:
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


def _apart(source: dict[str, Any], target: dict[str, Any]) -> list[str]:
    """What is not the same."""
    if source == target:
        return []
    compared = (key for key in source if key not in (READS, NOT_DUMPED))
    return [key for key in compared if _spelled(key, source[key]) != _spelled(key, target.get(key))]


def _in_same_words(key: str, doubt: Doubt) -> bool:
    return same_words(*(_spelled(key, one.get(key)) for one in doubt.compared))


def _spelled(key: str, found: Any) -> Any:
    """A value of a description as any server would write it."""
    if isinstance(found, list):
        return [_spelled(key, one) for one in found]
    return unquoted(found) if isinstance(found, str) and key not in VERBATIM else found


def _shown(kind: str, key: str, both: Both) -> dict[str, Any]:
    """What one end says that the other does not, by side, as far as it may be shown: settings and options may hold
    secrets, and functions too, so there it is their names, or nothing.
    """
    sides = dict(zip(("source", "target"), (_spelled(key, described.get(key)) for described in both)))
    if key in NOT_SHOWN.get(kind, ()):
        return dict.fromkeys(sides, MASK)
    if key in NAMES_ONLY.get(kind, ()):
        entries = {side: set(found or ()) for side, found in sides.items()}
        common = entries["source"] & entries["target"]
        return {side: sorted(entry.partition("=")[0] for entry in found - common) for side, found in entries.items()}
    return {side: _without_secrets(found) for side, found in sides.items()}


def _without_secrets(found: Any) -> Any:
    """A value of a description, as far as it may be shown."""
    if isinstance(found, list):
        return [_without_secrets(one) for one in found]
    if not isinstance(found, str):
        return found
    return MASK if SECRET.search(found) else found[:SHOWN]
