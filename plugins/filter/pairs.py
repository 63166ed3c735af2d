# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a playbook, or an error: Ansible itself calls a playbook without hosts a success."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pairs
short_description: Say which hosts a playbook runs on
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - A pattern of hosts that the inventory has. An error where no host matches it, as a guard that guards nothing must
    not be green.
positional: hosts
options:
  _input:
    description: The variable C(groups).
    type: dict
    required: true
  hosts:
    description:
      - A pattern of hosts, or a list of them, as C(hosts) of a play has it.
      - Without it, the group C(handover_pairs) where there is one, otherwise all hosts.
    type: raw
"""

EXAMPLES = r"""
- name: Watch over the migrations
  hosts: "{{ groups | handover.postgresql.pairs(handover_hosts | default('')) }}"
"""

RETURN = r"""
_value:
  description: The pattern.
  type: raw
"""

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader


def pairs(groups, hosts=None):
    """See DOCUMENTATION."""
    pattern = hosts or ("handover_pairs" if "handover_pairs" in groups else "all")
    inventory = InventoryManager(DataLoader(), parse=False)
    for group, members in groups.items():
        inventory.add_group(group)
        for host in members:
            inventory.add_host(host, group=group)
    if not inventory.get_hosts(pattern) and not context.CLIARGS.get("syntax"):  # that needs no inventory
        known = ", ".join(sorted(groups.get("all", []))[:10]) or "none"
        raise AnsibleFilterError(
            f"No host of the inventory matches {pattern!r}; its hosts: {known}. "
            "Correct handover_hosts, or name an inventory with -i that has the pairs."
        )
    return pattern


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"pairs": pairs}
