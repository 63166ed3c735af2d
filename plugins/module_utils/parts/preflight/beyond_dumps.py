# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check of what is in a database and in no dump of it."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import counted, some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.not_dumped import NOT_DUMPED
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.finding import Finding, database_check
from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.subject import Database


@database_check("not_dumped", "A dump holds everything that was made in the database.")
def not_dumped(database: Database):
    """pg_dump passes over members of the server's operator families, shell operators and the like without a word."""
    found = {what: sorted(name for (name,) in database.rows(query)) for what, query in NOT_DUMPED.items()}
    names = [name for some_names in found.values() for name in some_names]
    if names:
        listed = "; ".join(f"{what}: {some(some_names)}" for what, some_names in found.items() if some_names)
        yield Finding(
            "warning",
            f"{counted(len(names), 'object')} that no dump holds: {listed}.",
            "They do not come along, and what needs them is refused by the target or does something else there.",
            "Make them on the target by the statements by which they were made here; pg_verify says what is missing.",
            names,
        )
