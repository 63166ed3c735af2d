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
  - With O(pair), it also brings the pair's page up to date, C(PAIR.html). The page shows the last report of each kind,
    and who ran what, and when. An action makes it on the controller.
  - The directory has mode 0750, the files 0640. Files that say the same already are left.
  - A report is about a run, and most say something else after each one. So the task is not C(changed) by it, and a
    second run of a playbook that has nothing to do is not either.
options:
  report_directory:
    description: Directory for the report.
    type: path
    required: true
  name:
    description: Name of the files, without what tells them apart. Without it, only the page is written.
    type: str
  markdown:
    description: The report for people.
    type: str
  data:
    description: The report for programs, which is written as JSON.
    type: dict
  pair:
    description: The pair whose page shows O(data).
    type: str
    version_added: 0.2.0
  kind:
    description: What O(data) is. The page has a section for each.
    type: str
    choices: [preflight, rehearsal, dump, status, verify, cutover, rollback]
    version_added: 0.2.0
  playbook:
    description: What was run, for the page. Without it, what O(kind) says.
    type: str
    version_added: 0.2.0
  page:
    description: The page as the action has made it, from O(former_page).
    type: str
    version_added: 0.2.0
  former_page:
    description: The page is only written in place of the one with this SHA-256, or, with V(none), where there is none.
    type: str
    version_added: 0.2.0
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
    pair: shop
    kind: preflight
"""

RETURN = r"""
files:
  description: Paths of the files.
  returned: success
  type: list
  elements: str
  sample: [/srv/handover/reports/shop.md, /srv/handover/reports/shop.json]
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.report_files import write

KINDS = ["preflight", "rehearsal", "dump", "status", "verify", "cutover", "rollback"]


def main():
    run(
        {
            "report_directory": {"type": "path", "required": True},
            "name": {"type": "str"},
            "markdown": {"type": "str"},
            "data": {"type": "dict"},
            "pair": {"type": "str"},
            "kind": {"type": "str", "choices": KINDS},
            "playbook": {"type": "str"},
            "page": {"type": "str"},
            "former_page": {"type": "str"},
        },
        lambda module: write(module.params, module.set_mode_if_different, module.atomic_move, module.check_mode),
        required_together=[["name", "markdown"], ["page", "former_page"]],
        required_by={"name": ["data"], "kind": ["pair", "data"], "page": ["pair"]},
        no_log=True,  # a report is too long for the system's log, and may hold values of rows
    )


if __name__ == "__main__":
    main()
