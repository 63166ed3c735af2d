# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes next, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: next_step
short_description: Say what comes next in a migration
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - One line that begins with C(next:), which names the playbook that is next; a line for each where databases of a pair
    are in different states.
positional: playbook, check_mode, done
options:
  _input:
    description:
      - What is known of each database. C(database) or C(item) is its name. It counts as failed with C(failed) or
        C(msg), if it is not C(complete) or C(ready), or if something is C(left).
      - Otherwise its C(next) is taken, or that of the first of its C(databases), if there is one.
    type: list
    elements: dict
    required: true
  playbook:
    description: Which playbook has been run, without the name of the collection.
    type: str
    required: true
  check_mode:
    description: Whether that was in check mode.
    type: bool
    default: false
  done:
    description: The state of the others, as the roles of this collection know it.
    type: str
"""

EXAMPLES = r"""
- name: Say what is next
  handover.postgresql.show:
    text: "{{ verification.databases | handover.postgresql.next_step('verify') }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base import next_step as steps

METHODS = {"dump": "to_dump", "continuous": "to_replicate"}


def next_step(found, playbook, check_mode=False, done=None):
    """See DOCUMENTATION."""
    states = {}
    for one in found:
        inner = (one.get("databases") or [one])[0]
        method = METHODS.get(inner.get("recommended_method"))
        state = inner.get("next") or done or method or f"again:{playbook}"
        if _failed(one):
            state = f"again:{playbook}"
        elif check_mode:
            state = f"check:{playbook}"
        states[inner.get("database") or one["item"]] = state
    return "\n".join(steps.lines(states))


def _failed(one):
    left = one.get("left") or {}
    return (
        one.get("failed")
        or "msg" in one
        or False in (one.get("complete"), one.get("ready"))
        or any(statements != [] for statements in left.values())
    )


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"next_step": next_step}
