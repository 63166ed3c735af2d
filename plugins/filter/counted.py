# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many of what, for the templates of reports."""

from __future__ import annotations

DOCUMENTATION = r"""
name: counted
short_description: Say how many there are of something
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Puts a number before a noun, which gets its plural unless the number is 1.
positional: noun
options:
  _input:
    description: The number.
    type: int
    required: true
  noun:
    description: An English noun in the singular.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show how many databases a pair has
  ansible.builtin.debug:
    msg: "{{ handover_databases | length | handover.postgresql.counted('database') }}"  # 1 database
"""

RETURN = r"""
_value:
  description: The number and the noun, for example V(1 table).
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base import wording


def counted(number, noun):
    """``1 table``, ``1,234 tables``."""
    return wording.counted(int(number), str(noun))


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"counted": counted}
