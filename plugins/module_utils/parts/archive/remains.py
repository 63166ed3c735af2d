# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration has made in its source, as an archive of that shows it: it is not the user's, and is not copied."""

from __future__ import annotations

import re

from ansible_collections.handover.postgresql.plugins.module_utils.facts.naming import PREFIX, SCHEMA
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Entry

MADE = re.compile(rf"{PREFIX}[0-9a-f]{{10}}_\w+")
FENCE = re.compile(rf'EXECUTE FUNCTION "?{SCHEMA}"?\."?fence"?\(\);')


def ours(entry: Entry) -> bool:
    """Schema handover with all that is in it, the triggers of the fence, publications, subscriptions."""
    if entry.desc in ("PUBLICATION", "SUBSCRIPTION"):
        return bool(MADE.fullmatch(entry.tag))
    if entry.desc == "TRIGGER":
        return bool(FENCE.search(entry.definition or ""))
    return entry.namespace == SCHEMA or (entry.desc, entry.tag) == ("SCHEMA", SCHEMA)
