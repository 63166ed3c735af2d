# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a variable means, for roles. Modules see to it themselves (base/frame.py)."""

from __future__ import annotations

DOCUMENTATION = r"""
name: given
short_description: Take a value, or the default where none was given
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Returns the default for V(none) and for empty text, which is what a survey answers where nothing was filled in, and
    any other value as it is, V(false) and V(0) included.
positional: otherwise
options:
  _input:
    description: A variable's value.
    type: raw
    required: true
  otherwise:
    description: The default.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Rehearse unless the survey says no
  ansible.builtin.include_role:
    name: handover.postgresql.rehearse
  when: handover_rehearse | handover.postgresql.given(true) | bool
"""

RETURN = r"""
_value:
  description: The value or the default.
  type: raw
  sample: true
"""


def given(value, otherwise):
    """See DOCUMENTATION."""
    return otherwise if value is None or value == "" else value


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"given": given}
