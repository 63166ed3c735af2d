# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables with the collection's prefix that no role takes, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_variables
short_description: Say which variables are none that the roles take
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Of names that begin with C(handover_), says those that no role or playbook of this collection takes, each with the
    closest one that there is.
options:
  _input:
    description: Names of variables.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse variables that nobody knows
  ansible.builtin.assert:
    that: unknown | length == 0
    fail_msg: "{{ unknown | join(' ') }}"
  vars:
    unknown: "{{ query('ansible.builtin.varnames', '^handover_') | handover.postgresql.unknown_variables }}"
"""

RETURN = r"""
_value:
  description: A sentence for each of them.
  type: list
  elements: str
"""

from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import KNOWN


def unknown_variables(names):
    """See DOCUMENTATION."""
    return [_sentence(name) for name in sorted(set(names) - KNOWN)]


def _sentence(name):
    import difflib  # only where something is wrong

    close = difflib.get_close_matches(name, sorted(KNOWN), n=1)
    return f"There is no variable {name}" + (f"; the closest is {close[0]}." if close else ".")


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"unknown_variables": unknown_variables}
