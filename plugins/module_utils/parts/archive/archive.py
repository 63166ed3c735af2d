# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive in pg_dump's directory format: made by pg_dump, loaded by pg_restore, errors told apart entry by entry."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base import child
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.hidden_options import (
    without_hidden_options,
)

DUMP_REMEDIES = (
    ("No space left on device", "Free disk space under directory, or choose another directory or a stronger compress."),
    ("statement timeout", "A session holds a lock on that table; end it, or raise lock_wait_timeout."),
    ("closed the connection", "Check the source's log for why it ended the session, then export again."),
    ("terminating connection", "Check the source's log for why it ended the session, then export again."),
    (
        "could not obtain lock",
        "Prevent schema changes while the dump runs, or use jobs: 1, which does not need these locks.",
    ),
    ("died unexpectedly", "Check the system's log for what killed pg_dump (often memory ran out), then export again."),
    ("SIGXFSZ", "Raise the limit on the size of files (ulimit -f) for the user that the module runs as."),
    ("killed by", "Check the system's log for what killed pg_dump (often memory ran out), then export again."),
    ("permission denied", "Grant the role the missing privilege, or use a role that has it."),
    ("row-level security", "Use a role with BYPASSRLS, or the owner of that table."),
    ("conflict with recovery", "Raise max_standby_streaming_delay on the standby, or dump from the primary."),
    ("server version mismatch", "Install a pg_dump of the source's major or later."),
    ("unrecognized option", "Correct dump_extra_args for this version of pg_dump."),
    ("no matching", "Correct schemas, tables or the exclude_ filters: they matched nothing."),
)


@dataclass(frozen=True)
class RestoreError:
    """One complaint of pg_restore: the entry if it is known, the server's message, the statement as far as it is shown
    (1 kB).
    """

    entry: Entry | None
    message: str
    statement: str

    @property
    def is_of_pg_restore(self) -> bool:
        """Whether it met what some send on their own account, and this server has nothing to set."""
        return any(
            f'unrecognized configuration parameter "{name}"' in self.message
            and (not self.statement or self.statement.startswith(f"SET {name} = "))
            for name in OWN_SETTINGS
        )

    def describe(self) -> str:
        where = f"{self.entry.name}: " if self.entry else ""
        what = f" (statement: {self.statement[:HEAD]})" if self.statement else ""
        return f"{where}{self.message}{what}"


def dump(client: Client, endpoint: Endpoint, dbname: str, arguments: list[str], directory: str) -> None:
    """Write the archive into a new directory. Raises HandoverError with pg_dump's own words."""
    with contextlib.closing(begin_dump(client, endpoint, dbname, arguments, directory)) as program:
        end_dump(program, dbname)


def begin_dump(client: Client, endpoint: Endpoint, dbname: str, arguments: list[str], directory: str) -> child.Program:
    """pg_dump at work, as :func:`dump` awaits it."""
    return child.Program(dump_command(client, endpoint, dbname, arguments, directory), endpoint)


def end_dump(program: child.Program, dbname: str) -> None:
    """Wait for pg_dump. Raises HandoverError with its own words."""
    status, errors = program.end()
    if status != 0:
        raise _dump_error(status, errors, dbname)


def dump_command(client: Client, endpoint: Endpoint, dbname: str, arguments: list[str], directory: str) -> list[str]:
    """The command line of pg_dump; it holds no secret."""
    fixed = ["--format=directory", f"--file={directory}", "--no-password"]
    return [client.program("pg_dump"), *fixed, *arguments, f"--dbname={endpoint.conninfo(dbname)}"]


def _dump_error(status: int, errors: str, dbname: str) -> HandoverError:
    lines = [line for line in errors.splitlines() if ": error: " in line or ": detail: " in line or "ERROR: " in line]
    text = " ".join(lines or errors.splitlines()[-3:]) or child.describe_end(status)
    remedy = next((remedy for sign, remedy in DUMP_REMEDIES if sign in text), "Fix the cause, then export again.")
    return HandoverError(
        f'pg_dump failed on database "{dbname}": {text}', remedy, pg_dump_errors=errors.splitlines()[-50:]
    )


def restore(
    client: Client, endpoint: Endpoint, dbname: str, directory: str, entries: list[Entry], arguments: list[str]
) -> list[RestoreError]:
    """Load exactly these entries, in their order; what the server refused is returned. Only when it is verbose does
    pg_restore say which entry an error belongs to.

    Raises HandoverError where pg_restore ended for another reason than errors of statements.
    """
    if not entries:
        return []
    with tempfile.NamedTemporaryFile("w", prefix="handover-list-", suffix=".txt", encoding="utf-8") as use_list:
        use_list.write("".join(f"{entry.dump_id};\n" for entry in entries))
        use_list.flush()
        command = [client.program("pg_restore"), "--no-password", "--verbose", f"--use-list={use_list.name}"]
        command += arguments
        command += [f"--dbname={endpoint.conninfo(dbname)}", directory]
        status, output = child.run(command, endpoint)
    parallel = any(argument.startswith("--jobs=") for argument in arguments)
    errors, complete = parse_errors(output, {entry.dump_id: entry for entry in entries}, parallel)
    if status != 0 and not complete:
        said = without_hidden_options(output).splitlines()
        raise HandoverError(
            f"pg_restore failed: {' '.join(said[-5:]) or child.describe_end(status)}",
            "Check the server's log, or this machine's, for what ended it, then run the import again; it starts over.",
            pg_restore_output=said[-50:],
        )
    return errors


def edited(contents: Contents, stack) -> str:
    """An archive of this table of contents alone, for everything but data; removed with the stack.

    Data is loaded from where it is: links to it would not do, as pg_restore of the minors of 2026-11-12 takes
    regular files only.
    """
    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="handover-archive-"))
    with open(os.path.join(place, "toc.dat"), "wb") as file:
        file.write(contents.to_bytes())
    return place


# Several processes of one pg_restore write at once: labels may get between each other, the texts after them do not.
LABELS = re.compile(r"^(?:pg_restore: |error: |warning: )*")
HEAD = 200  # of a statement in a message
LONGER = "..."  # the end of a statement of which pg_restore shows the first kB
NOT_ASCII = re.compile(r"[^\x00-\x7f]+")  # the archive's encoding, in output that was read as UTF-8
COMMAND_LABELS = re.compile(r"^(?:Command was: )+")
ERROR_TEXTS = ("could not execute query: ", "COPY failed for table ")
ENTRY_TEXT = re.compile(r"from TOC entry (\d+);")
IGNORED_TEXT = re.compile(r"errors ignored on restore: (\d+)$")
OWN_SETTINGS = ("transaction_timeout", "escape_string_warning")  # before 17 servers lack the one, since 19 the other


def parse_errors(output: str, entries: dict[int, Entry], parallel: bool) -> tuple[list[RestoreError], bool]:
    """(errors, whether they explain the whole output): at its end pg_restore counts the errors that it went past.

    Which entry one with workers speaks of is known by the statement alone.
    """
    errors: list[list[Any]] = []
    current, ignored, within = None, 0, False
    for line in output.splitlines():
        label = LABELS.match(line).group()
        text = line[len(label) :]
        entry, count = ENTRY_TEXT.match(text), IGNORED_TEXT.match(text)
        if within and not label and not text.startswith((*ERROR_TEXTS, "Command was: ")):
            errors[-1][2] += f" {text}"
            continue
        within = False
        if entry:
            current = entries.get(int(entry.group(1)))
        elif count:
            ignored = int(count.group(1))
        elif "pg_restore: error: " in label or text.startswith(ERROR_TEXTS):
            errors.append([current, text, ""])
        elif COMMAND_LABELS.match(text) and errors:
            errors[-1][2] = COMMAND_LABELS.sub("", text)
            within = True
        elif text.startswith(("DETAIL:", "HINT:")) and errors and not errors[-1][2]:
            errors[-1][1] += f" {text}"
    if parallel:
        known = [(_comparable(entry.definition or ""), entry) for entry in entries.values()]
        for error in errors:
            error[0] = _entry_of(error[2], known)
            error[2] = (error[0].definition or "") if error[0] else error[2]
    found = [RestoreError(entry, text, without_hidden_options(one_line(said))) for entry, text, said in errors]
    return found, _are_all(found, ignored, parallel)


def _comparable(statement: str) -> str:
    return NOT_ASCII.sub("?", one_line(statement))


def _entry_of(statement: str, known: list[tuple[str, Entry]]) -> Entry | None:
    """The entry that a statement is of, what another process wrote after it aside; None where that is not certain."""
    text = _comparable(statement)
    whole = [one for one in known if one[0] and text.startswith(one[0])]
    if whole:
        longest = max(len(definition) for definition, _entry in whole)
        found = [entry for definition, entry in whole if len(definition) == longest]
    else:
        head = text.partition(LONGER)[0] if LONGER in text else ""
        found = [entry for definition, entry in known if head and definition.startswith(head)]
    return found[0] if len(found) == 1 else None


def _are_all(errors: list[RestoreError], ignored: int, parallel: bool) -> bool:
    """Whether pg_restore counted these errors and no other.

    With workers it counts those of entries twice and their own not at all; it connects twice itself.
    """
    if not parallel:
        return 0 < ignored == len(errors)
    of_entries = [error for error in errors if not error.is_of_pg_restore]
    return ignored > 0 if of_entries else ignored == 2
