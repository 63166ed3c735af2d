# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of migrations for people, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: render_status
short_description: Render the status of migrations as text or Markdown
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Shows the servers, and for each database with a migration its phase, amounts, problems, and the next step.
    What could not be looked at is C(unknown).
positional: title, form, width
extends_documentation_fragment:
  - handover.postgresql.rendering
options:
  _input:
    description: What M(handover.postgresql.pg_migration_info) or M(handover.postgresql.pg_migration_watch) returned.
    type: dict
    required: true
seealso:
  - module: handover.postgresql.pg_migration_info
  - module: handover.postgresql.pg_migration_watch
  - module: handover.postgresql.show
"""

EXAMPLES = r"""
- name: Show how it goes
  handover.postgresql.show:
    text: "{{ status | handover.postgresql.render_status(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The status, of many lines.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring import status_rendering
from ansible_collections.handover.postgresql.plugins.plugin_utils.filters import rendered


def render_status(result, title="the migration", form="text", width=100):
    """See DOCUMENTATION."""
    return rendered(status_rendering, result, title, form, width)


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"render_status": render_status}
