# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows text as it is. ansible.builtin.debug shows it as JSON, out of which SQL with quotes cannot be copied."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """See plugins/modules/show.py."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Write the lines to standard output, and to Ansible's log if there is one."""
        result = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec({"text": {"type": "str", "required": True}})
        Display().display(options["text"])
        return {**result, "changed": False}
