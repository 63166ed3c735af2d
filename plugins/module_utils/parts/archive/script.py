# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of an archive as the script that pg_restore writes of them, run over a session of ours.

Hundreds of statements go in one message, where pg_restore sends and awaits each. The server's complaint then belongs to
the whole, so whoever wants to know which entry it is about restores them one by one instead.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base import child
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents, Entry

TOGETHER = 300  # entries in a transaction; each may take a handful of locks until it ends
WRITTEN_TOGETHER = 6000  # entries in a script; pg_restore reads the whole table of contents for each
SESSION_ENTRIES = ("ENCODING", "STDSTRINGS")
# What pg_restore begins with, as of its _doSetFixedOutputState: for a session of ours it is said once.
SETTINGS = b"SET check_function_bodies = false; SET xmloption = content"
LAST_OF_HEAD = b"\nSET row_security = off;\n"
RESTRICT = re.compile(rb"^\\restrict (\w+)\n", re.MULTILINE)


@dataclass(frozen=True)
class ArchivePlace:
    """Where an archive is, and the Python codec of its texts."""

    directory: str
    codec: str


def prepare(session, contents: Contents) -> None:
    """Let a session read statements as the archive has them: in its encoding, with its kind of strings. Raises
    HandoverError where the server has no such strings: what older releases of ours exported may hold them.
    """
    statements = [entry.definition for entry in contents.entries if entry.desc in SESSION_ENTRIES]
    try:
        with session.cursor() as cursor:
            cursor.execute(b"; ".join([SETTINGS, *(statement.encode() for statement in statements)]))
    except psycopg2.errors.FeatureNotSupported as error:
        raise HandoverError(
            f"The target cannot read the archive's string literals: {one_line(error)}.",
            "Export the database again.",
        ) from None


def run(session, client: Client, endpoint: Endpoint, place: ArchivePlace, entries: list[Entry], arguments: list) -> int:
    """Restore these entries, many in a transaction; how many of them the server took before it refused one. Nothing
    has happened then from that one's transaction on.

    ``session`` is a prepared one. Raises HandoverError if pg_restore cannot write the script, or the session is lost.
    """
    done = 0
    script = write(client, endpoint, place.directory, entries, arguments)
    for count, text in transactions(script, entries, place.codec):
        try:
            with session.cursor() as cursor:
                cursor.execute(b"BEGIN;\n" + text + b"\nCOMMIT")
        except psycopg2.Error as error:
            if session.closed:
                raise HandoverError(
                    f"The session with the target ended while the schema was restored: {one_line(error)}",
                    "Check the server's log for the reason, then run this again; it starts over.",
                ) from None
            with session.cursor() as cursor:
                cursor.execute("ROLLBACK")
            return done
        done += count
    return done


def transactions(text: bytes, entries: list[Entry], codec: str, together: int = 0) -> list[tuple[int, bytes]]:
    """A script in parts: the number of entries in each, about ``together`` (TOGETHER), and its statements.

    A part ends before the comment that begins an entry. Where that is, is known from the definition before it, which
    is in the script as it is in the archive; where it is not, the part is longer.
    """
    cuts, position, known, together = [(0, 0)], 0, False, together or TOGETHER
    for number, entry in enumerate(entries):
        beginning = f"--\n-- Name: {entry.tag}; Type: {entry.desc};".encode(codec, "surrogateescape")
        if known and number - cuts[-1][0] >= together:
            start = 1 + text.find(b"\n--\n-- Name: ", position)
            cuts += [(number, start)] if start and text.startswith(beginning, start) else []
        definition = (entry.definition or "").encode(codec, "surrogateescape")
        found = text.find(definition, position) if definition else -1
        known = found >= 0
        position = found + len(definition) if known else position
    cuts.append((len(entries), len(text)))
    return [(after[0] - one[0], text[one[1] : after[1]]) for one, after in zip(cuts, cuts[1:])]


def write(client: Client, endpoint: Endpoint, directory: str, entries: list[Entry], arguments: list) -> bytes:
    """The script of these entries of the archive in this directory. Raises HandoverError if pg_restore cannot."""
    with tempfile.TemporaryDirectory(prefix="handover-script-") as place:
        use_list, script = os.path.join(place, "list"), os.path.join(place, "script.sql")
        with open(use_list, "w", encoding="utf-8") as file:
            file.write("".join(f"{entry.dump_id};\n" for entry in entries))
        command = [client.program("pg_restore"), f"--use-list={use_list}", f"--file={script}", *arguments, directory]
        status, errors = child.run(command, endpoint)
        if status != 0:
            raise HandoverError(
                f"pg_restore cannot write a script: {' '.join(errors.split()) or child.describe_end(status)}",
                "Fix the cause, then run this again; it starts over.",
            )
        with open(script, "rb") as file:
            return statements_of(file.read())


def statements_of(script: bytes) -> bytes:
    r"""A script of pg_restore without its head, which sets up a session of its own, and without the pair of
    ``\restrict`` and ``\unrestrict`` with which its newer minors protect psql's users (CVE-2025-8714).
    """
    head, last, body = script.partition(LAST_OF_HEAD)
    restrict = RESTRICT.search(head)
    end = rb"\unrestrict " + restrict.group(1) if restrict else b""
    if not last or not body.rstrip().endswith(end):
        raise HandoverError("pg_restore wrote a script without a head or an end.", "Run this again; it starts over.")
    return body.rstrip()[: -len(end)] if end else body
