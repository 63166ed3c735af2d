# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queries of pg_preflight's fail_on, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: query_report
short_description: Query a preflight report with JMESPath
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Evaluates the same expressions as the option O(handover.postgresql.pg_preflight#module:fail_on).
options:
  _input:
    description: RV(handover.postgresql.pg_preflight#module:report), as the module returns it.
    type: dict
    required: true
  expression:
    description: A JMESPath expression.
    type: str
    required: true
requirements:
  - jmespath
seealso:
  - module: handover.postgresql.pg_preflight
"""

EXAMPLES = r"""
- name: Show what to fix before a continuous migration
  ansible.builtin.debug:
    msg: "{{ preflight.report | handover.postgresql.query_report(expression) }}"
  vars:
    expression: findings[?level=='blocker' && contains(methods, 'continuous')].remedy
"""

RETURN = r"""
_value:
  description: What the expression yields.
  type: raw
"""

from collections.abc import Mapping

from ansible_collections.handover.postgresql.plugins.module_utils.base.query import search
from ansible_collections.handover.postgresql.plugins.plugin_utils.filters import as_filter


@as_filter
def query_report(report, expression):
    """The result of an expression over a report. Raises AnsibleFilterError with the remedy."""
    return search(str(expression), plain(report))


def plain(value):
    """The same in Python's own types: JMESPath's functions refuse others, such as those of variables in Ansible."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, str) else value


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"query_report": query_report}
