# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task says of several databases when the module did not come to say it: its host was lost, or it was killed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: of_each
short_description: Say of each database what a task without results says of all
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Turns the result of a task that failed, or was skipped, as a whole into that of a loop over the databases.
positional: names
options:
  _input:
    description: What the task has registered.
    type: dict
    required: true
  names:
    description: The databases that it was to work on.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Go on with what is known of each database
  ansible.builtin.set_fact:
    migrations: "{{ migrations | handover.postgresql.of_each(['shop', 'blog']) }}"
  when: migrations.results is not defined
"""

RETURN = r"""
_value:
  description: The C(results), empty where the task was skipped.
  type: dict
"""


def of_each(registered, names):
    """See DOCUMENTATION."""
    if registered.get("skipped"):
        return {"results": []}
    told = {"msg": str(registered.get("msg", "The task ended without a result.")), "failed": True, "changed": False}
    return {"results": [{"item": name, **told} for name in names]}


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"of_each": of_each}
