# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of migrations for monitoring, for playbooks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openmetrics
short_description: Render the status of migrations as metrics
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - Gauges of phase, amounts, lag, retained WAL, problems and guards, in OpenMetrics' text format, which the textfile
    collector of Prometheus' node_exporter reads. What is unknown has no sample.
positional: pair
options:
  _input:
    description: What M(handover.postgresql.pg_migration_info) or M(handover.postgresql.pg_migration_watch) returned.
    type: dict
    required: true
  pair:
    description: The label C(pair) of every sample.
    type: str
    required: true
seealso:
  - module: handover.postgresql.pg_migration_info
  - module: handover.postgresql.pg_migration_watch
"""

EXAMPLES = r"""
- name: Let Prometheus know
  ansible.builtin.copy:
    content: "{{ status | handover.postgresql.openmetrics(inventory_hostname) }}"
    dest: /var/lib/prometheus/node-exporter/handover_shop.prom
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The metrics, of many lines.
  type: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.parts.monitoring.metrics import as_openmetrics


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"openmetrics": as_openmetrics}
