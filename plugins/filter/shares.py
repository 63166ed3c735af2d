# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases one call of a module works on: with little ones, its start would take most of the time."""

from __future__ import annotations

DOCUMENTATION = r"""
name: shares
short_description: Share databases out among hosts
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Puts databases of at most 64 MiB together, up to ten, but no more than it takes to give each fork its share. Larger
    ones, and those whose size is not known, are by themselves, and come first.
positional: sizes, forks
options:
  _input:
    description: Names of databases.
    type: list
    elements: str
    required: true
  sizes:
    description: Their sizes in bytes, none where it is not known.
    type: dict
    required: true
  forks:
    description: How many hosts Ansible works on at once.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show what is worked on together
  ansible.builtin.debug:
    msg: "{{ found.selected_databases | handover.postgresql.shares(found.database_sizes, ansible_forks) }}"
"""

RETURN = r"""
_value:
  description: The databases of each host, for example V([[shop], [blog, wiki]]).
  type: list
  elements: list
"""

LITTLE = 64 << 20  # bytes
TOGETHER = 10


def shares(names, sizes, forks):
    """See DOCUMENTATION."""
    little = [name for name in names if sizes.get(name) is not None and sizes[name] <= LITTLE]
    together = max(1, min(TOGETHER, -(-len(little) // max(1, int(forks)))))
    alone = [[name] for name in names if name not in set(little)]
    return alone + [little[start : start + together] for start in range(0, len(little), together)]


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"shares": shares}
