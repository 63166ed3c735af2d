# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The questions of a survey in AWX, from what the roles say of their variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: survey
short_description: Make the survey of a job template in AWX
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Makes a question of each variable, with its description, type and choices from the argument specifications of the
    roles, as O(awx.awx.job_template#module:survey_spec) takes it. No answer is required; a blank one counts as not
    given.
options:
  _input:
    description: Names of variables of this collection.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Make a job template that asks whether the source is quiet
  awx.awx.job_template:
    name: Dump
    playbook: dump.yml
    survey_enabled: true
    survey_spec: "{{ ['handover_source_is_quiet'] | handover.postgresql.survey }}"
"""

RETURN = r"""
_value:
  description: The survey.
  type: dict
  sample:
    name: ""
    description: ""
    spec:
      - question_name: Allow restart
        variable: handover_allow_restart
        type: multiplechoice
        choices: ["true", "false"]
        required: false
"""

import functools
import re
from pathlib import Path

import yaml
from ansible.errors import AnsibleFilterError

ROLES = Path(__file__).resolve().parents[2] / "roles"
TYPES = {"bool": "multiplechoice", "int": "integer", "dict": "textarea"}


@functools.cache
def _specified():
    """Every variable of every role."""
    found = {}
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found.update(entry["options"])
    return found


def survey(names):
    """See DOCUMENTATION."""
    unknown = [name for name in names if name not in _specified()]
    if unknown:
        raise AnsibleFilterError(f"The roles have no variable {', '.join(unknown)}.")
    return {"name": "", "description": "", "spec": [_question(name, _specified()[name]) for name in names]}


def _question(name, spec):
    choices = ["true", "false"] if spec.get("type") == "bool" else spec.get("choices", [])
    kind = "password" if name.endswith("_password") else TYPES.get(spec.get("type"), "text")
    return {
        "question_name": name[len("handover_") :].replace("_", " ").capitalize(),
        "question_description": _plain(spec["description"][0]),
        "variable": name,
        "type": "multiplechoice" if choices else kind,
        "choices": choices,
        "required": False,
        "default": "",
        "min": 0,
        "max": 2**31 - 1 if kind == "integer" else 4096,
        "new_question": True,
    }


def _plain(text):
    """A description without the markup of Ansible's documentation."""
    return re.sub(r"\b[A-Z]+\(([^)]*)\)", lambda found: found[1].rpartition("#module:")[2], text)


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"survey": survey}
