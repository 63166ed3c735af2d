#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: write_report
short_description: Keep a report in files, for people and for programs
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Writes C(NAME.md) and C(NAME.json) into a directory, which it makes. It does in one go what
    M(ansible.builtin.file) and two M(ansible.builtin.copy) would do.
  - The directory has mode 0750, the files 0640. Files that say the same already are left.
  - A report is about a run, and most say something else after each one. So the task is not C(changed) by it, and a
    second run of a playbook that has nothing to do is not either.
options:
  report_directory:
    description: Directory for the report.
    type: path
    required: true
  name:
    description: Name of the files, without what tells them apart.
    type: str
    required: true
  markdown:
    description: The report for people.
    type: str
    required: true
  data:
    description: The report for programs, which is written as JSON.
    type: dict
    required: true
attributes:
  check_mode:
    description: Writes nothing.
    support: full
  diff_mode:
    description: Shows what would be or was changed.
    support: none
seealso:
  - module: handover.postgresql.show
"""

EXAMPLES = r"""
- name: Keep what was found
  handover.postgresql.write_report:
    report_directory: /srv/handover/reports
    name: shop-preflight
    markdown: "{{ preflight.report | handover.postgresql.render_report('shop', 'markdown') }}"
    data: "{{ preflight.report }}"
"""

RETURN = r"""
files:
  description: Paths of the two files.
  returned: success
  type: list
  elements: str
  sample: [/srv/handover/reports/shop.md, /srv/handover/reports/shop.json]
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.report_files import write


def main():
    run(
        {
            "report_directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "markdown": {"type": "str", "required": True},
            "data": {"type": "dict", "required": True},
        },
        lambda module: write(module.params, module.set_mode_if_different, module.atomic_move, module.check_mode),
        no_log=True,  # a report is too long for the system's log, and may hold values of rows
    )


if __name__ == "__main__":
    main()
