# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A preflight report for people, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: render_report
short_description: Render a preflight report as text or Markdown
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Shows a table for the servers and one for each database, with the level, the check, what was found, and the remedy,
    worst first. V(ok) findings are only counted.
  - Of many objects, names the first and counts the rest.
positional: title, form, width
extends_documentation_fragment:
  - handover.postgresql.rendering
options:
  _input:
    description: RV(handover.postgresql.pg_preflight#module:report), as the module returns it.
    type: dict
    required: true
seealso:
  - module: handover.postgresql.pg_preflight
  - module: handover.postgresql.show
"""

EXAMPLES = r"""
- name: Show what was found
  handover.postgresql.show:
    text: "{{ preflight.report | handover.postgresql.render_report(inventory_hostname) }}"

- name: Keep it for the ticket
  ansible.builtin.copy:
    content: "{{ preflight.report | handover.postgresql.render_report(inventory_hostname, 'markdown') }}"
    dest: "~/reports/{{ inventory_hostname }}-preflight.md"
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The report, of many lines.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight import report_rendering
from ansible_collections.handover.postgresql.plugins.plugin_utils.filters import rendered


def render_report(report, title="the migration", form="text", width=100):
    """See DOCUMENTATION."""
    return rendered(report_rendering, report, title, form, width)


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"render_report": render_report}
