# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last rehearsal found. The preflight itself rehearses nothing, as it changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import duration
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import rehearsal_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database

ID = "rehearsal"  # of this check, and of all findings of a rehearsal: what is waived in the one is waived in the other

# It may have been mended since, so this alone is in the way of nothing.
AGAIN = "If it is still so, dump, replicate and migrate end before they copy rows."


@database_check("rehearsal", "The last rehearsal found nothing.", needs_target=True)
def rehearsal(database: Database) -> Iterator[Finding]:
    """A rehearsal makes everything on the target as the migration will, with some rows of each table, and drops it."""
    source = rehearsal_journal.key_of(database.server.system_identifier, database.name)
    last = rehearsal_journal.read(database.target.connection, source)
    if last is None:
        yield Finding(
            "info",
            "Not rehearsed, or not by this role.",
            "What the target refuses is found by dump, replicate and migrate before they copy rows.",
            "ansible-playbook -i inventory handover.postgresql.rehearse",
        )
        return
    age = duration(last["seconds"])
    for one in last["result"]["findings"]:
        if one["level"] != "ok":
            given = {name: one[name] for name in ("remedy", "objects", "methods")}
            seen, consequence = f"Rehearsed {age} ago: {one['seen']}", one["consequence"]
            if one["level"] == "blocker":
                yield Finding("warning", seen, f"{consequence} {AGAIN}", **given)
            else:
                yield Finding(one["level"], seen, consequence, **given)
