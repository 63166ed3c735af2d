#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: show
short_description: Show text as it is
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Shows text line by line, without the quotes and escapes that M(ansible.builtin.debug) puts around it, so that you
    can copy SQL out of the output.
  - It runs on the controller and needs no connection.
options:
  text:
    description: What to show.
    type: str
    required: true
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: Shows what would be or was changed.
    support: none
seealso:
  - module: ansible.builtin.debug
"""

EXAMPLES = r"""
- name: Show what was found
  handover.postgresql.show:
    text: "{{ preflight.report | handover.postgresql.render_report }}"
"""

RETURN = r"""
"""
