# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's configuration file with databases that lead elsewhere, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lead_pooler
short_description: Point databases in a configuration file of PgBouncer at another server
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Changes C(host), C(port) and C(dbname) of entries in the section C([databases]), and nothing else.
  - Adds a missing entry, with the other parameters of the fallback C(*).
positional: entries
options:
  _input:
    description: The file.
    type: str
    required: true
  entries:
    description: C(host), C(port) and C(dbname) by the name of each entry.
    type: dict
    required: true
seealso:
  - module: handover.postgresql.pg_cutover
"""

EXAMPLES = r"""
- name: Point the pooler at the new home with its next RELOAD
  ansible.builtin.copy:
    content: >-
      {{ (config.content | b64decode)
         | handover.postgresql.lead_pooler({'shop': {'host': 'db.example.com', 'port': 5432, 'dbname': 'shop'}}) }}
    dest: /etc/pgbouncer/pgbouncer.ini
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The file with the entries changed.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_file import lead
from ansible_collections.handover.postgresql.plugins.plugin_utils.filters import as_filter


@as_filter
def lead_pooler(text, entries):
    """See DOCUMENTATION."""
    return lead(text, entries)


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"lead_pooler": lead_pooler}
