# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_dump said of each object, as far as it has to be known to tell, later, whether that was redefined or dropped.

Of one server, by one pg_dump: so what is not the same text was changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.retracting import SAID

# Objects that are dropped and made anew where they were changed, or have a statement that changes them.
REDEFINED = frozenset({
    "AGGREGATE", "COLLATION", "CONSTRAINT", "FK CONSTRAINT", "FUNCTION", "INDEX",
    "MATERIALIZED VIEW", "POLICY", "PROCEDURE", "RULE", "SEQUENCE", "STATISTICS", "TRIGGER", "VIEW",
})  # fmt: skip
# Objects that are only made and dropped; that tables and types were changed is seen by their shapes, with what is in
# their CREATE statement only at times, as CHECK constraints are.
KEPT = frozenset({"CAST", "DOMAIN", "OPERATOR", "SCHEMA", "TABLE", "TYPE"})
# Of these, no statement changes them, and others may use them.
USED = frozenset({"DOMAIN", "TYPE"})
# Of a table, by its name: whose text is another as soon as a name in it is.
OF_NAMES = frozenset({"CONSTRAINT", "FK CONSTRAINT", "INDEX"})


@dataclass(frozen=True)
class DescribedEntry:
    """``key`` is what the object is called; ``oid`` what it is, with its catalog; ``drop`` pg_dump's own statement;
    ``digest`` of its definition; ``about`` is the key of what has the privileges or the comment of which ``text`` is.
    """

    key: str
    desc: str
    oid: str
    digest: str
    drop: str
    unchecked: bool = False
    owner: str = ""
    about: str = ""
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def was_changed(self, before: DescribedEntry) -> bool:
        """Whether it is defined otherwise. An index or a constraint is made anew for that, unless it was checked."""
        if self.desc == "FK CONSTRAINT" and self.oid != before.oid:
            return True  # it may lead to another key
        if self.desc not in REDEFINED | USED or self.digest == before.digest:
            return False
        return self.desc not in OF_NAMES or self.oid != before.oid or self.unchecked != before.unchecked


def describe_entries(contents: Contents) -> list[DescribedEntry]:
    """Of those that can be followed, in the archive's order."""
    wanted, by_id = REDEFINED | KEPT | SAID, {entry.dump_id: entry for entry in contents.entries}
    return [
        describe_entry(entry, by_id)
        for entry in contents.entries
        if entry.desc in wanted and entry.definition and not is_of_column(entry)
    ]


def is_of_column(entry: Entry) -> bool:
    """The sequence of an identity column."""
    return entry.desc == "SEQUENCE" and (entry.definition or "").lstrip().startswith("ALTER TABLE ")


def key_of(entry: Entry) -> str:
    """What an object is called, among all of an archive."""
    whose = f" {entry.owner}" if entry.desc == "DEFAULT ACL" else ""
    return f"{entry.desc} {entry.namespace or ''}.{entry.tag}{whose}"


def describe_entry(entry: Entry, by_id: dict[int, Entry]) -> DescribedEntry:
    """One of them; ``by_id`` has all of the archive."""
    text = entry.definition or ""
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    is_said = entry.desc in SAID
    return DescribedEntry(
        key_of(entry),
        entry.desc,
        f"{entry.catalog_oid}/{entry.oid}",
        digest,
        (entry.drop or "").strip(),
        " NOT VALID" in text,
        entry.owner or "",
        _about(entry, by_id) if is_said else "",
        text.strip() if is_said else "",
    )


def _about(entry: Entry, by_id: dict[int, Entry]) -> str:
    """Privileges of a column come after those of its table."""
    found = next((by_id[one] for one in entry.dependencies if one in by_id), None)
    if found is None:
        return ""
    return _about(found, by_id) if found.desc in SAID else key_of(found)
