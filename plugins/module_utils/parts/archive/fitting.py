# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting an archive to its target: what is left out, and which refusals of the server are known."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import Capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import edits
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.archive import RestoreError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.failures import (
    Failure,
    failure_for_want,
    failure_of,
    holds_rows,
)

# The database itself is made by us; the rest are settings of the session, which pg_restore takes without being asked.
NOT_RESTORED = {"DATABASE", "DATABASE PROPERTIES", "ENCODING", "STDSTRINGS", "SEARCHPATH"}

# Extensions that can only be created in the database that a setting of the server names: cron.database_name.
OF_ONE_DATABASE = {"pg_cron"}

# Classes that some services reserve for a superuser. Their absence loses no row and is listed.
RESERVABLE = {
    "ACCESS METHOD",
    "AGGREGATE",
    "CAST",
    "COMMENT",
    "CONVERSION",
    "EVENT TRIGGER",
    "EXTENSION",
    "FOREIGN DATA WRAPPER",
    "FUNCTION",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE",
    "PROCEDURE",
    "PUBLICATION",
    "PUBLICATION TABLE",
    "PUBLICATION TABLES IN SCHEMA",
    "SECURITY LABEL",
    "SERVER",
    "SHELL TYPE",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
    "TRANSFORM",
    "TYPE",
    "USER MAPPING",
}
RELATIONS = ("INDEX", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")
OF_TABLES = ("CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "TRIGGER")
OF_EXTENSION = (
    "Make it available on the target (services have a list of allowed extensions), "
    "or name the extension in exclude_extensions to leave it out with these tables."
)
OF_DEFINITION = "Change that definition on the source so that the target takes it, then run this again."
OF_ITS_ROWS = (
    "Bring extension {0}, whose table it is, to the same version on both ends; or leave it out with its rows, "
    "exclude_extensions: [{0}] (handover_exclude_extensions), and run this again."
)
NOT_COPIED = re.compile('COPY failed for table "(.+?)": ')
REFUSED = re.compile(
    r"ERROR:\s+(permission denied (to|for) |must be superuser|must be owner of extension|only superuser "
    r"|aggregate transition data type cannot be internal|user mapping not found|server \".*\" does not exist"
    r"|extension \".*\" (is not available|is not supported|must be)"
    r"|unrecognized configuration parameter |invalid value for parameter |non-standard string literals )"
)

# What an archive may hold of objects that it does not define, and how a privilege's tag names its object.
OF_RELATIONS = ("TABLE DATA", "SEQUENCE SET", "STATISTICS DATA", "EXTENDED STATISTICS DATA")
OF_PRIVILEGE = re.compile(
    r'(?P<relation>TABLE|SEQUENCE|VIEW|MATERIALIZED VIEW)? ?(FUNCTION|PROCEDURE|AGGREGATE)? ?'
    r'(?P<name>"(?:[^"]|"")+"|[^ "(]+)(\(.*\))?$', re.DOTALL,
)  # fmt: skip


class Fitting:
    """An archive on its way into a target: ``contents`` as edited, and what was done to them.

    ``skipped``: ``{"object", "class", "reason"}`` of every object that is left out; ``failures`` (Failure) those that
    the target should have taken, and what needs them: they are left out, too, and pending.
    ``edits``: ``{"edit", "objects", "reason"}``, objects being the number of those changed.

    ``members`` are the (kind, schema, name) of each extension's relations and functions, of which an archive has
    contents, statistics and privileges, but not the definitions, so that nothing in it says whose they are.
    """

    def __init__(self, contents: Contents, exclude_extensions: list[str], members: dict | None = None):
        self.contents = contents
        self._members = {name: set(map(tuple, keys)) for name, keys in (members or {}).items()}
        self.skipped = []
        self.edits = []
        self.failures: list[Failure] = []
        self._skipped_ids = set()
        self._there_ids: set[int] = set()
        self._reasons = []
        excluded = {
            one.dump_id for one in contents.entries if one.desc == "EXTENSION" and one.tag in exclude_extensions
        }
        left_out = [one for one in contents.entries if one.dump_id in excluded] + list(contents.dependents(excluded))
        self._excused_ids = {entry.dump_id for one in left_out for entry in (one, *self._contents_of(one))}
        self._excluded_ids = excluded

    def fit(self, target: Capabilities, no_privileges: bool) -> None:
        """Leave out and edit what is known beforehand. Raises HandoverError where rows would be lost."""
        for entry in self.contents.entries:
            reason = "it is in exclude_extensions" if entry.dump_id in self._excluded_ids else ""
            reason = reason or _reason_to_skip(entry, target, no_privileges)
            if reason:
                self.skip(entry, reason)
        self.require_rows()
        self.edit(
            "pg_attver", "an internal option that an older pg_dump took for a user's option", edits.without_pg_attver
        )
        self.edit("schema public", "every new database has one", edits.with_public_perhaps_there)

    def leave_out(self, names: list[str]) -> None:
        """Leave out what the operator names, with its class or without, and what needs it, rows included."""
        wanted = set(names)
        for entry in self.contents.entries if wanted else ():
            if {entry.name, entry.name[len(entry.desc) + 1 :]} & wanted:
                self._excused_ids |= {entry.dump_id, *(one.dump_id for one in self._needing(entry))}
                self.skip(entry, "it is in leave_out")

    def keep_to(self, names: set[str]) -> None:
        """Everything but these objects is there already."""
        self._there_ids = {entry.dump_id for entry in self.contents.entries if entry.name not in names}

    def pass_existing(self, relations: list[tuple[str, str]], of_tables: list[tuple[str, str]]) -> None:
        """Of those, these are there, too."""
        self._there_ids |= self.existing(relations, of_tables)

    def existing(self, relations: list[tuple[str, str]], of_tables: list[tuple[str, str]]) -> set[int]:
        """Dump ids of what bears these names; constraints and triggers by the names of table and object."""
        found = set()
        for classes, names in ((RELATIONS, set(relations)), (OF_TABLES, set(of_tables))):
            entries = (one for one in self.contents.entries if one.desc in classes)
            found |= {one.dump_id for one in entries if (one.namespace, one.tag) in names}
        return found

    def skip(self, entry: Entry, reason: str) -> None:
        """Leave out an entry and all that needs it. What is skipped already is not listed twice."""
        self._reasons.append((entry, reason))
        self._leave_out(entry, reason)
        for dependent in self._needing(entry):
            self._leave_out(dependent, f"needs {entry.name}")

    def _needing(self, entry: Entry) -> list[Entry]:
        """All that needs an entry, and what extensions among that hold."""
        found = list(self.contents.dependents({entry.dump_id}))
        return found + [one for extension in (entry, *found) for one in self._contents_of(extension)]

    def _contents_of(self, entry: Entry) -> list[Entry]:
        """What an archive has of the relations of an extension."""
        keys = self._members.get(entry.tag, ()) if entry.desc == "EXTENSION" else ()
        return [one for one in (self.contents.entries if keys else ()) if _concerns(one) in keys]

    def extension_of(self, error: RestoreError) -> str | None:
        """The extension whose rows could not be loaded, where it was these."""
        found = NOT_COPIED.match(error.message)
        places = {(one.namespace, one.tag) for one in self.contents.entries if one.desc == "TABLE DATA"}
        places = {place for place in places if found and place[1] == found[1]}
        owners = {
            next((name for name, keys in self._members.items() if ("relation", *place) in keys), None)
            for place in places
        }
        return owners.pop() if len(owners) == 1 else None

    def left_out_of_extensions(self) -> set[tuple[str, str]]:
        """(schema, name) of the relations of extensions that are left out."""
        skipped = [one.tag for one in self.contents.entries if one.desc == "EXTENSION" and self.is_skipped(one)]
        found = set().union(*(self._members.get(name, ()) for name in skipped))
        return {(schema, name) for kind, schema, name in found if kind == "relation"}

    def fail(self, failure: Failure) -> None:
        """Go on without an entry that the target refused, and without all that needs it."""
        entry = next(one for one in self.contents.entries if one.dump_id == failure.dump_id)
        if self.is_skipped(entry):
            return
        self._reasons.append((entry, failure.message))
        self._skipped_ids.add(entry.dump_id)
        self.failures.append(failure)
        for dependent in self._needing(entry):
            if not self.is_skipped(dependent):
                self._skipped_ids.add(dependent.dump_id)
                self.failures.append(failure_for_want(dependent, entry))

    @property
    def tried(self) -> list[Failure]:
        """Those that the target refused, without what needs them."""
        return [failure for failure in self.failures if not failure.needs]

    def _leave_out(self, entry: Entry, reason: str) -> None:
        if entry.dump_id not in self._skipped_ids:
            self._skipped_ids.add(entry.dump_id)
            if entry.desc not in NOT_RESTORED:
                self.note(entry.name, entry.desc, reason)

    def note(self, name: str, desc: str, reason: str) -> None:
        """List something as skipped that is not, or not only, an entry of the archive."""
        self.skipped.append({"object": name, "class": desc, "reason": reason})

    def is_skipped(self, entry: Entry) -> bool:
        return entry.dump_id in self._skipped_ids

    def skipped_rows(self) -> list[Entry]:
        """Data that is left out because something else is."""
        return [entry for entry in self.contents.entries if entry.desc == "TABLE DATA" and self.is_skipped(entry)]

    def remaining(self) -> list[Entry]:
        """The entries to restore, in archive order."""
        return [
            entry
            for entry in self.contents.entries
            if not self.is_skipped(entry)
            and entry.dump_id not in self._there_ids
            and entry.desc not in NOT_RESTORED
            and not _is_of_database(entry)
        ]

    @property
    def needs_own_name(self) -> bool:
        """Whether something can only be made, or loaded, in a database that has its own name by then."""
        return any(
            entry.tag in OF_ONE_DATABASE if entry.desc == "EXTENSION" else "regdatabase" in (entry.definition or "")
            for entry in self.remaining()
        )

    def owners(self) -> set[str]:
        """Roles that the archive gives objects to."""
        found = {entry.owner for entry in self.remaining() if entry.owner}
        return {name for name in found if not name.startswith("pg_")}  # pg_database_owner is whoever owns the database

    def grantors(self) -> set[str]:
        """Roles that the archive speaks as when it grants, or whose default privileges it sets."""
        return set().union(*map(edits.grantors, self.remaining()))

    def edit(self, name: str, reason: str, change) -> None:
        """Replace every entry for which ``change(entry)`` gives another one."""
        changed = 0
        for index, entry in enumerate(self.contents.entries):
            edited = change(entry)
            if edited is not entry and edited != entry:
                self.contents.entries[index] = edited
                changed += 1
        if changed:
            self.edits.append({"edit": name, "objects": changed, "reason": reason})

    def leave_to_us(self, role: str, reason: str) -> None:
        """Let what belongs to this role belong to the connecting role; its default privileges are for it alone."""
        for entry in self.contents.entries:
            if entry.desc == "DEFAULT ACL" and entry.owner == role:
                self.skip(entry, reason)
        self.edit(f"owner {role}", reason, lambda entry: edits.without_owner(entry, role))

    def forget(self, role: str, reason: str) -> None:
        """Take a role that the target does not have out of the archive."""
        for entry in self.contents.entries:
            if entry.desc == "USER MAPPING" and entry.tag.startswith(f"USER MAPPING {role} SERVER "):
                self.skip(entry, reason)
        self.leave_to_us(role, reason)
        self.edit(f"grants of {role}", reason, lambda entry: edits.without_grants(entry, role))

    def explain(self, errors: list[RestoreError]) -> list[RestoreError]:
        """Take refusals of known classes for skipped objects, others of definitions for failures; what remains loses
        rows, or is of no entry.
        """
        unknown = []
        for error in errors:
            if error.is_of_pg_restore or (self._there_ids and " already exists" in error.message):
                continue  # somebody has made what was pending
            if error.entry and not self.is_skipped(error.entry) and _is_reserved(error):
                self.skip(error.entry, error.message.partition("ERROR:")[2].strip())
            elif error.entry and not holds_rows(error.entry):
                self.fail(failure_of(error.entry, error.message.partition("ERROR:")[2].strip() or error.message))
            if not error.entry or not self.is_skipped(error.entry):
                unknown.append(error)
        return unknown

    def require_rows(self) -> None:
        """Raise HandoverError if a table's data had to be left out without the operator's word for it."""
        lost = [entry for entry in self.skipped_rows() if entry.dump_id not in self._excused_ids]
        if not lost:
            return
        causes = self._causes(lost)
        reasons = "; ".join(f"{cause.name}: {reason}" for cause, reason in causes[:5])
        tables = ", ".join(entry.name[len("TABLE DATA ") :] for entry in lost[:10])
        failed = {failure.dump_id for failure in self.failures}
        raise HandoverError(
            f"The target cannot take everything that these tables need: {tables}. The cause: {reasons}.",
            OF_DEFINITION if failed.intersection(entry.dump_id for entry in lost) else OF_EXTENSION,
            skipped=self.skipped,
            failures=[failure.as_result() for failure in self.failures],
            causes=[cause.name for cause, _reason in causes],
        )

    def _causes(self, lost: list[Entry]) -> list[tuple[Entry, str]]:
        """What was left out for a reason of its own and is needed by these entries, with that reason."""
        ids = {entry.dump_id for entry in lost}
        return [
            (cause, reason)
            for cause, reason in self._reasons
            if ids & {entry.dump_id for entry in self._needing(cause)}
        ]


def _concerns(entry: Entry) -> tuple[str, str | None, str] | None:
    """The object, (kind, schema, name), that something in an archive is about and that may be an extension's."""
    if entry.desc in OF_RELATIONS:
        return "relation", entry.namespace, entry.tag
    found = OF_PRIVILEGE.match(entry.tag) if entry.desc == "ACL" else None
    if not found:
        return None
    name = found["name"]
    name = name[1:-1].replace('""', '"') if name.startswith('"') else name
    return "relation" if found["relation"] else "function", entry.namespace, name


def _is_of_database(entry: Entry) -> bool:
    return entry.desc in ("ACL", "COMMENT", "SECURITY LABEL") and entry.tag.startswith("DATABASE ")


def _is_reserved(error: RestoreError) -> bool:
    """Whether a service keeps this to itself."""
    on_system = error.entry.desc == "ACL" and error.entry.namespace in ("pg_catalog", "information_schema")
    if (error.entry.desc in RESERVABLE or on_system) and REFUSED.search(error.message):
        return True
    names = ('SCHEMA "public"', "SCHEMA public")
    on_public = error.entry.tag in names or (error.entry.desc, error.entry.tag) == ("SCHEMA", "public")
    return on_public and bool(re.search(r"(must be owner of|permission denied for) schema public", error.message))


def _reason_to_skip(entry: Entry, target: Capabilities, no_privileges: bool) -> str:
    if entry.desc.startswith("SUBSCRIPTION"):
        return "a restored subscription would compete with the source's for its publisher"
    if entry.desc == "EXTENSION" and entry.tag not in target.extensions:
        return "the target does not offer this extension"
    if entry.desc == "COMMENT" and entry.tag.startswith("EXTENSION ") and not target.superuser:
        return "only the owner of an extension may comment on it"
    if entry.desc == "STATISTICS DATA" and target.major < 18:
        return "a target before PostgreSQL 18 takes no statistics; ANALYZE makes them"
    if entry.desc == "EXTENDED STATISTICS DATA" and target.major < 19:
        return "a target before PostgreSQL 19 takes no extended statistics; ANALYZE makes them"
    if entry.desc in edits.PRIVILEGES and no_privileges:
        return "no_privileges is set"
    return ""
