# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuses variables that a role cannot mean, before anything is touched, in a sentence for each."""

from __future__ import annotations

import os

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

from ansible_collections.handover.postgresql.plugins.plugin_utils.variables import refusals, unknown


class ActionModule(ActionBase):
    """See plugins/modules/check_variables.py."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Fail for whatever is wrong, all of it."""
        result = super().run(tmp, task_vars)
        problems = unknown(name for name in task_vars if name.startswith("handover_"))
        if task_vars.get("handover_pair") == "":
            problems.append("handover_pair is empty: leave it out, or name the pair's host.")
        if problems:
            problems.append("For variables of your own, take another prefix than handover_.")
        for role in self._task.get_dep_chain() or []:
            problems += self._refusals(role, task_vars)
        if problems:
            return {**result, "failed": True, "msg": " ".join(dict.fromkeys(problems))}
        return {**result, "changed": False}

    def _refusals(self, role, task_vars):
        """What the spec of the role's entry point has against its variables. The playbooks leave it to this alone:
        Ansible would take a survey's blank answer for a value.
        """
        path = os.path.join(role._role_path, "meta", "argument_specs.yml")
        if not self._loader.path_exists(path):
            return []
        specs = self._loader.load_from_file(path)["argument_specs"]
        spec = specs.get(role._from_files.get("tasks", "main"), {}).get("options", {})
        given = {name: task_vars[name] for name in spec if name in task_vars}
        given = {**self._templar.template(given), **role._role_params}
        given = {name: value for name, value in given.items() if not (isinstance(value, str) and value == "")}
        validated = ArgumentSpecValidator(spec).validate(given, validate_role_argument_spec=True)
        is_pair = task_vars["inventory_hostname"] in task_vars["groups"].get("handover_pairs", [])
        return refusals(validated.error_messages, given, role.get_name(), is_pair)
