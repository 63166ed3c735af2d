# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Markdown of reports as text for a terminal, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plain
short_description: Set a report that is Markdown for a terminal
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - Underlines headings, sets tables in columns, breaks long lines, and leaves out what only Markdown needs. So a report
    has one source for both.
  - It knows what the reports of this collection are made of, and no more of Markdown.
positional: width
options:
  _input:
    description: The Markdown.
    type: str
    required: true
  width:
    description: About how many columns a line may have. Blocks of code and words are not broken.
    type: int
    default: 100
"""

EXAMPLES = r"""
- name: Show a report
  handover.postgresql.show:
    text: "{{ lookup('ansible.builtin.file', 'reports/shop-verify.md') | handover.postgresql.plain }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.typesetting import plain_text


def plain(markdown, width=100):
    """See DOCUMENTATION."""
    return plain_text(str(markdown), int(width))


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"plain": plain}
