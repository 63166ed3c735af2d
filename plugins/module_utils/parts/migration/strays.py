# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What sessions change past the fence of a database that was handed over: tables without its trigger, as they were made
since, or somebody has taken it away; and large objects, which have none.

The function of the fence was made by the commit that handed the database over, so rows of a later xmin are strays. So
are those of a rollback that had begun to bring large objects back, and was taken back itself.
"""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import some
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import large_objects

SHOWN = 10  # that are named

SINCE = """
    WITH fence AS (SELECT age(p.xmin) AS age FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
                   WHERE n.nspname = 'handover' AND p.proname = 'fence')
    SELECT m.oid::bigint FROM pg_largeobject_metadata AS m, fence WHERE age(m.xmin) BETWEEN 0 AND fence.age - 1"""
BYTES = """
    UNION SELECT p.loid::bigint FROM pg_largeobject AS p, fence WHERE age(p.xmin) BETWEEN 0 AND fence.age - 1"""


def past_the_fence(connection, side: str, contents: bool = False) -> list[str]:
    """Sentences. With ``contents`` the bytes of all large objects are looked at as well, if this role may read them."""
    found = fence.read(connection)
    if found is None or not (found.closed and found.handed_over):
        return []
    query = SINCE + (BYTES if contents and large_objects.shows_versions(connection) else "")
    oids = [str(oid) for (oid,) in rows(connection, f"{query} ORDER BY 1")]
    sentences = {
        f"Large objects were changed on the {side} after the handover, and not at the new home": oids,
        (
            f"Tables of the {side} are not fenced, because somebody made or freed them after the handover; writes to "
            "them do not reach the new home"
        ): fence.without_trigger(connection),
    }
    return [f"{text}: {some(names, SHOWN)}." for text, names in sentences.items() if names]
