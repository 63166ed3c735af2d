# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator had a migration leave behind, by its journal: it is lacking on the target on purpose.

The journal names objects as archives do, a comparison as catalogs do: both without quotes here.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases.databases import KEPT
from ansible_collections.handover.postgresql.plugins.module_utils.parts.verification.outcome import Exclusion

ASKED = {"it is in leave_out", "it is in exclude_extensions"}  # reasons of parts/archive/fitting.py
NEEDS = "needs "
WHY = "the migration left it behind: {}"
UNCHECKED = "unchecked_foreign_keys let the migration make it NOT VALID, as rows break it"
NOT_FILLED = "the migration did not refresh it: {}"

# Kinds of comparison that a class of the archive may lack something of. Relations share their names with nothing but
# types; what is said of all kinds of objects (who owns them, ...) has the kind before the name.
OF_ALL = ("comments", "owners", "privileges", "security_labels", "uses")
RELATIONS = (
    "columns", "constraints", "foreign_tables", "indexes", "policies", "rows", "rules", "sequence_definitions",
    "sequences", "tables", "triggers", "views",
)  # fmt: skip
KINDS = {
    "ACCESS METHOD": ("access_methods",),
    "AGGREGATE": ("aggregates", "functions"),
    "CAST": ("casts",),
    "CHECK CONSTRAINT": ("constraints",),
    "COLLATION": ("collations",),
    "CONSTRAINT": ("constraints", "indexes"),
    "CONVERSION": ("conversions",),
    "DOMAIN": ("constraints", "types"),
    "EVENT TRIGGER": ("event_triggers",),
    "EXTENSION": ("extensions",),
    "FK CONSTRAINT": ("constraints",),
    "FOREIGN DATA WRAPPER": ("foreign_data_wrappers",),
    "FOREIGN TABLE": RELATIONS,
    "FUNCTION": ("functions",),
    "INDEX": ("indexes",),
    "MATERIALIZED VIEW": RELATIONS,
    "OPERATOR": ("operators",),
    "OPERATOR CLASS": ("functions_of_families", "operator_classes", "operators_of_families"),
    "OPERATOR FAMILY": ("functions_of_families", "operators_of_families"),
    "POLICY": ("policies",),
    "PROCEDURAL LANGUAGE": ("languages",),
    "PROCEDURE": ("functions",),
    "PUBLICATION": ("publications",),
    "RULE": ("rules",),
    "SCHEMA": ("schemas",),
    "SEQUENCE": RELATIONS,
    "SERVER": ("foreign_servers",),
    "STATISTICS": ("statistics_objects",),
    "TABLE": RELATIONS,
    "TEXT SEARCH CONFIGURATION": ("text_search_configurations",),
    "TEXT SEARCH DICTIONARY": ("text_search_dictionaries",),
    "TEXT SEARCH PARSER": ("text_search_parsers",),
    "TEXT SEARCH TEMPLATE": ("text_search_templates",),
    "TRIGGER": ("triggers",),
    "TYPE": ("columns", "types"),
    "VIEW": RELATIONS,
}
OF_TABLES = {"CHECK CONSTRAINT", "CONSTRAINT", "FK CONSTRAINT", "POLICY", "RULE", "TRIGGER"}
ROWS, REFRESH = "TABLE DATA", "MATERIALIZED VIEW DATA"


@dataclass
class LeftBehind:
    """Reasons by class of the comparison and name; ``unchecked`` are names of foreign keys, ``not_filled`` reasons by
    materialized view; ``keeps_own``: why owner, privileges, limit and comment of the database are its own.
    """

    lacking: dict[tuple[str, str], str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    unchecked: frozenset[str] = frozenset()
    not_filled: dict[str, str] = field(default_factory=dict)
    keeps_own: str = ""

    def reason(self, kind: str, name: str) -> str:
        """Why the target lacks an object; empty where it should not."""
        return next((self.lacking[kind, one] for one in _parts(plain(name)) if (kind, one) in self.lacking), "")

    def is_unchecked(self, name: str) -> bool:
        """Whether a foreign key was made without a look at the rows, as the operator wants it."""
        return plain(name) in self.unchecked

    @property
    def exclusions(self) -> list[Exclusion]:
        """Of rows that stay behind, while their table may be there."""
        return [Exclusion("rows", glob.escape(name), reason) for name, reason in self.rows.items()]


def read(result: dict[str, Any] | None) -> LeftBehind:
    """From what the journal has of the last import into this database."""
    found = LeftBehind()
    if not result:
        return found
    skipped = {one["object"]: one for one in result.get("skipped") or ()}
    found.keeps_own = KEPT if any(one["reason"] == KEPT for one in skipped.values()) else ""
    for one in skipped.values():
        if _is_asked(one, skipped):
            _add(found, one)
    keys = (name for one in result.get("unchecked") or () for name in _names("FK CONSTRAINT", one["object"]))
    found.unchecked = frozenset(keys)
    return found


def plain(name: str) -> str:
    """A name as archives and catalogs have in common."""
    return name.replace('"', "").replace(", ", ",")


def _is_asked(one: dict[str, str], skipped: dict[str, dict[str, str]]) -> bool:
    """Whether the operator named it, or what it needs."""
    reason = one["reason"]
    if reason in ASKED:
        return True
    cause = skipped.get(reason[len(NEEDS) :]) if reason.startswith(NEEDS) else None
    return cause is not None and cause["reason"] in ASKED


def _add(found: LeftBehind, one: dict[str, str]) -> None:
    names = _names(one["class"], one["object"])
    if one["class"] == ROWS:
        found.rows.update((name, WHY.format(one["reason"])) for name in names)
    if one["class"] == REFRESH:
        found.not_filled.update((name, NOT_FILLED.format(one["reason"])) for name in names)
    for kind in (*KINDS.get(one["class"], ()), *OF_ALL):
        found.lacking.update(((kind, name), WHY.format(one["reason"])) for name in names)


def _names(desc: str, text: str) -> list[str]:
    """As a comparison names it; of a table's objects, ``schema.table name``, each way to read that."""
    text = plain(text[len(desc) + 1 :])
    if desc == "CAST":
        return [text.removeprefix("CAST (").removesuffix(")").replace(" AS ", " as ")]
    if desc not in OF_TABLES:
        return [text]
    words = text.split(" ")
    cuts = [(" ".join(words[:cut]), " ".join(words[cut:])) for cut in range(1, len(words))]
    schema = text.partition(".")[0]
    of_index = [f"{schema}.{name}" for _table, name in cuts] if desc == "CONSTRAINT" else []
    return [f"{name} on {table}" for table, name in cuts] + of_index


def _parts(name: str) -> Iterator[str]:
    """An object's name, and of what it may be a part: ``table column public.t.c`` is one of public.t."""
    yield from _without_arguments(name)
    words = name.split(" ")
    for number in range(1, len(words)):
        yield from _without_arguments(" ".join(words[number:]))


def _without_arguments(name: str) -> Iterable[str]:
    """Also without the last of its names, a column, and without what archives do not tell of operators."""
    return dict.fromkeys((name, name.rpartition(".")[0], name.partition("(")[0], name.partition(" USING ")[0]))
