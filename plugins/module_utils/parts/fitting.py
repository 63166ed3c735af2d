# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting an archive to its target: what is left out, what is edited, which refusals of the server are known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import Capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive import RestoreError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.contents import Contents, Entry

# The database itself is made by us; the rest are settings of the session, which pg_restore takes without being asked.
NOT_RESTORED = {"DATABASE", "DATABASE PROPERTIES", "ENCODING", "STDSTRINGS", "SEARCHPATH"}

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
REFUSED = re.compile(
    r"ERROR:\s+(permission denied (to|for) |must be superuser|must be owner of extension"
    r"|only superuser |user mapping not found|extension \".*\" (is not available|is not supported|must be))"
)
PG_ATTVER_ONLY = re.compile(r"^ALTER .* ALTER COLUMN .* SET \(pg_attver=\d+\);\n", re.MULTILINE)
PG_ATTVER_AMONG = re.compile(r"(?<=[( ])pg_attver=\d+, |, pg_attver=\d+(?=\))")


TRANSACTION_TIMEOUT = "SET transaction_timeout = 0;"
SESSION_AUTHORIZATION = re.compile(r"^SET SESSION AUTHORIZATION (.*);$", re.MULTILINE)
STATEMENT_IN_ACL = re.compile(r"(?:[^;\"']|\"[^\"]*\"|'[^']*')+;\n*")


@dataclass
class Fitting:
    """An archive on its way into a target: ``contents`` as edited, and what was done to them.

    ``skipped``: ``{"object", "class", "reason"}`` of every object that is left out;
    ``edits``: ``{"edit", "objects", "reason"}``, objects being the number of those changed.
    """

    contents: Contents
    skipped: list[dict] = field(default_factory=list)
    edits: list[dict] = field(default_factory=list)
    _skipped_ids: set = field(default_factory=set)

    def skip(self, entry: Entry, reason: str) -> None:
        """Leave out an entry and all that needs it. What is skipped already is not listed twice."""
        self._leave_out(entry, reason)
        for dependent in self.contents.dependents({entry.dump_id}):
            self._leave_out(dependent, f"needs {entry.name}")

    def _leave_out(self, entry: Entry, reason: str) -> None:
        if entry.dump_id not in self._skipped_ids:
            self._skipped_ids.add(entry.dump_id)
            if entry.desc not in NOT_RESTORED:
                self.skipped.append({"object": entry.name, "class": entry.desc, "reason": reason})

    def is_skipped(self, entry: Entry) -> bool:
        return entry.dump_id in self._skipped_ids

    def skipped_rows(self) -> list[Entry]:
        """Data that is left out because something else is: that would be a loss."""
        return [entry for entry in self.contents.entries if entry.desc == "TABLE DATA" and self.is_skipped(entry)]

    def remaining(self) -> list[Entry]:
        """The entries to restore, in archive order."""
        return [
            entry
            for entry in self.contents.entries
            if not self.is_skipped(entry) and entry.desc not in NOT_RESTORED and not _is_of_database(entry)
        ]

    def edit(self, name: str, reason: str, change) -> None:
        """Replace every entry for which ``change(entry)`` gives another one."""
        changed = 0
        for index, entry in enumerate(self.contents.entries):
            edited = change(entry)
            if edited != entry:
                self.contents.entries[index] = edited
                changed += 1
        if changed:
            self.edits.append({"edit": name, "objects": changed, "reason": reason})

    def explain(self, errors: list[RestoreError]) -> list[RestoreError]:
        """Take refusals of known classes for skipped objects; what remains is a failure."""
        unknown = []
        for error in errors:
            if error.statement.startswith(TRANSACTION_TIMEOUT) and "unrecognized" in error.message:
                continue  # sent by pg_restore 17 and later on its own account; an older server has nothing to set
            if error.entry and not self.is_skipped(error.entry) and _is_reserved(error):
                self.skip(error.entry, error.message)
            if not error.entry or not self.is_skipped(error.entry):
                unknown.append(error)
        return unknown


def _is_of_database(entry: Entry) -> bool:
    return entry.desc in ("ACL", "COMMENT", "SECURITY LABEL") and entry.tag.startswith("DATABASE ")


def _is_reserved(error: RestoreError) -> bool:
    """Whether a service keeps this to itself."""
    if error.entry.desc in RESERVABLE and REFUSED.match(error.message):
        return True
    on_public = error.entry.tag == "SCHEMA public" or (error.entry.desc, error.entry.tag) == ("SCHEMA", "public")
    return on_public and bool(re.match(r"ERROR:\s+(must be owner of|permission denied for) schema public", error.message))


def fit(contents: Contents, target: Capabilities, exclude_extensions: list[str], no_privileges: bool) -> Fitting:
    """Leave out and edit what is known beforehand. Raises HandoverError where rows would be lost."""
    fitting = Fitting(contents)
    for entry in contents.entries:
        reason = _reason_to_skip(entry, target, no_privileges)
        if entry.desc == "EXTENSION" and entry.tag in exclude_extensions:
            reason = "it is in exclude_extensions"
        if reason:
            fitting.skip(entry, reason)
    require_rows(fitting, exclude_extensions)
    fitting.edit("pg_attver", "an internal option that an older pg_dump wrote as one of the user's", _without_pg_attver)
    return fitting


def _reason_to_skip(entry: Entry, target: Capabilities, no_privileges: bool) -> str:
    if entry.desc.startswith("SUBSCRIPTION"):
        return "a restored subscription would compete with the source's for its publisher"
    if entry.desc == "EXTENSION" and entry.tag not in target.extensions:
        return "the target does not offer this extension"
    if entry.desc == "COMMENT" and entry.tag.startswith("EXTENSION ") and not target.superuser:
        return "only the owner of an extension may comment on it"
    if entry.desc == "STATISTICS DATA" and target.major < 18:
        return "a target before PostgreSQL 18 takes no statistics; ANALYZE makes them"
    if entry.desc in ("ACL", "DEFAULT ACL") and no_privileges:
        return "no_privileges is set"
    return ""


def _is_excused(fitting: Fitting, entry: Entry, exclude_extensions: list[str]) -> bool:
    """Whether the operator said that the extension, and so this data, may be left out."""
    excluded = {one.dump_id for one in fitting.contents.entries if one.desc == "EXTENSION" and one.tag in exclude_extensions}
    return entry.dump_id in {one.dump_id for one in fitting.contents.dependents(excluded)}


def require_rows(fitting: Fitting, exclude_extensions: list[str]) -> None:
    """Raise HandoverError if a table's data had to be left out without the operator's word for it."""
    lost = [entry for entry in fitting.skipped_rows() if not _is_excused(fitting, entry, exclude_extensions)]
    if lost:
        raise _rows_lost(fitting, lost)


def _rows_lost(fitting: Fitting, lost: list[Entry]) -> HandoverError:
    causes = [one for one in fitting.skipped if not one["reason"].startswith("needs ")]
    reasons = "; ".join(f"{one['object']}: {one['reason']}" for one in causes[:5])
    tables = ", ".join(entry.name[len("TABLE DATA ") :] for entry in lost[:10])
    return HandoverError(
        f"The target cannot take everything that these tables need: {tables}. The cause: {reasons}.",
        "Make it available on the target (services have a list of allowed extensions), "
        "or name the extension in exclude_extensions to leave it out with these tables.",
        skipped=fitting.skipped,
    )


def _without_pg_attver(entry: Entry) -> Entry:
    if not entry.definition or "pg_attver=" not in entry.definition:
        return entry
    definition = PG_ATTVER_AMONG.sub("", PG_ATTVER_ONLY.sub("", entry.definition))
    return replace(entry, definition=definition)


def owners(fitting: Fitting) -> list[str]:
    """Roles that the archive gives objects to, or speaks as when it grants."""
    found = {entry.owner for entry in fitting.remaining() if entry.owner}
    for entry in fitting.remaining():
        if entry.desc in ("ACL", "DEFAULT ACL"):
            found.update(_unquoted(name) for name in SESSION_AUTHORIZATION.findall(entry.definition or ""))
    return sorted(found)


def speak_as_roles(fitting: Fitting, taken: set[str]) -> None:
    """For a role that is not a superuser: SET ROLE where the archive has SET SESSION AUTHORIZATION."""

    def change(entry: Entry) -> Entry:
        if entry.desc not in ("ACL", "DEFAULT ACL") or "SESSION AUTHORIZATION" not in (entry.definition or ""):
            return entry
        text = SESSION_AUTHORIZATION.sub(
            lambda match: f"SET ROLE {match.group(1)};" if _unquoted(match.group(1)) in taken else "", entry.definition
        )
        return replace(entry, definition=text.replace("RESET SESSION AUTHORIZATION;", "RESET ROLE;"))

    fitting.edit("grantor", "SET SESSION AUTHORIZATION is for superusers", change)


def replace_owner(fitting: Fitting, role: str, reason: str) -> None:
    """Let the objects of this role belong to the connecting role."""

    def change(entry: Entry) -> Entry:
        return replace(entry, owner="") if entry.owner == role else entry

    fitting.edit(f"owner {role}", reason, change)


def drop_grants(fitting: Fitting, role: str, reason: str) -> None:
    """Take the grants to, and revocations from, a role that the target does not have out of the archive."""
    quoted = '"' + role.replace('"', '""') + '"'
    suffixes = tuple(f" {word} {name}" for word in ("TO", "FROM") for name in (quoted, role))

    def concerns_role(statement: str) -> bool:
        head = statement.strip().rstrip(";")
        return head[: -len(" WITH GRANT OPTION")].endswith(suffixes) or head.endswith(suffixes)

    def change(entry: Entry) -> Entry:
        if entry.desc not in ("ACL", "DEFAULT ACL") or role not in (entry.definition or ""):
            return entry
        kept = [one for one in STATEMENT_IN_ACL.findall(entry.definition) if not concerns_role(one)]
        return replace(entry, definition="".join(kept))

    fitting.edit(f"grants of {role}", reason, change)


def _unquoted(name: str) -> str:
    """The name that an identifier in a statement stands for."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.strip("'")
