#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_configuration_reload
short_description: Make a server read its configuration files again, if they are free of errors
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Asks the server to check C(pg_hba.conf) and the other configuration files as they are now. If they have errors, the
    module fails with file and line, and reloads nothing.
  - Otherwise, if a file has been written since the server read it, the server reads all files, and the task ends when
    it has. A removed file does not count.
  - The connecting role has to be a superuser, or a role that may read C(pg_hba_file_rules) and C(pg_file_settings) and
    call C(pg_reload_conf()).
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.endpoints.attributes
attributes:
  check_mode:
    description: Looks for errors, and reloads nothing.
    support: full
options:
  settings:
    description:
      - Settings with the values that the files have to give them. A line that overrides one of them is an error.
    type: dict
    default: {}
seealso:
  - module: handover.postgresql.pg_source_prepare
"""

EXAMPLES = r"""
- name: Let a new line of pg_hba.conf take effect
  handover.postgresql.pg_configuration_reload:
    source:
      host: db.example.com
      user: postgres
      password: "{{ vault_source_password }}"
"""

RETURN = r"""
configuration_errors:
  description: What is wrong, with file and line.
  returned: when there are errors
  type: list
  elements: str
  sample: ["/etc/postgresql/15/main/postgresql.conf line 12: syntax error"]
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import SOURCE
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.configuration_reload import (
    reload_configuration,
)


def main():
    run(
        {**SOURCE, "settings": {"type": "dict", "default": {}}},
        lambda module: reload_configuration(endpoint(module, "source"), module.params["settings"], module.check_mode),
    )


if __name__ == "__main__":
    main()
