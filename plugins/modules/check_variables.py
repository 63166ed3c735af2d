#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_variables
short_description: Refuse variables that a role of this collection cannot mean
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - The first task of each role. Every other module needs a connection to a server; this one runs on the controller.
  - Refuses variables that begin with C(handover_) and that no role or playbook of this collection takes, each with the
    closest one that there is. A typo in C(handover_databases), for example, would mean all databases.
  - Checks the others against the argument spec of the role that depends on this one, and says in a sentence what is
    wrong, where Ansible shows the whole spec. Empty text counts as not given, as surveys answer so.
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Shows what would be or was changed.
    support: none
seealso:
  - module: ansible.builtin.validate_argument_spec
"""

EXAMPLES = r"""
- name: Refuse variables that cannot be meant
  handover.postgresql.check_variables:
"""

RETURN = r"""
"""
