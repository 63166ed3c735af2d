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
  - The servers, and for each database with a migration the phase, amounts, what is wrong, and what is next to do.
    What could not be looked at is C(unknown).
positional: title, form, width
options:
  _input:
    description: What M(handover.postgresql.pg_migration_info) or M(handover.postgresql.pg_migration_watch) returned.
    type: dict
    required: true
  title:
    description: What it is about, for example the name of the pair.
    type: str
    default: the migration
  form:
    description: V(text) for a terminal, V(markdown) for a ticket.
    type: str
    choices: [text, markdown]
    default: text
  width:
    description: Columns of the text. Words that are longer are not broken.
    type: int
    default: 100
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

from ansible.errors import AnsibleFilterError

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.rendering import (
    as_markdown,
    as_text,
)


def render_status(result, title="the migration", form="text", width=100):
    """See DOCUMENTATION."""
    if form == "markdown":
        return as_markdown(result, title)
    if form != "text":
        raise AnsibleFilterError(f"render_status has the forms text and markdown, not {form}")
    return as_text(result, title, int(width))


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"render_status": render_status}
