# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of modules that may work for hours."""

from __future__ import annotations


class ModuleDocFragment:
    """``handover.postgresql.progress``."""

    DOCUMENTATION = r"""
options:
  progress:
    description:
      - How often Ansible shows how far the module is, a line for each database, with C(-v) for each table, too.
      - V(0) shows nothing, and runs the module as Ansible runs others.
      - Otherwise the module runs under Ansible's async wrapper. It goes on when the connection to its host breaks, and
        the task finds it again. It ends within five minutes when Ansible itself is gone.
      - A task with C(async), or with C(become_user) other than root, shows nothing. Nor is
        anything shown where the path of the Python interpreter has a space in it.
    type: str
    default: 15s
"""
