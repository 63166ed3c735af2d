#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_import
short_description: Import roles and databases from a dump directory
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Brings what M(handover.postgresql.pg_dump_export) wrote to another server, mostly a managed one.
  - Roles are fitted to what the connecting role may do there; what it may not give is left out and listed. Existing
    roles get what the source's have, and are never dropped or weakened.
  - A database is filled under a temporary name and gets its real name when everything is there and compared. A run
    that is killed leaves nothing behind that looks finished; a rerun starts over.
  - What a service does not allow is left out by class, and the result lists every skipped object. Any other error fails
    the task.
extends_documentation_fragment:
  - handover.postgresql.endpoints.target
  - handover.postgresql.endpoints.clients
  - handover.postgresql.databases.rename
  - handover.postgresql.databases.filling
  - handover.postgresql.databases.unchecked
  - handover.postgresql.endpoints.attributes
  - handover.postgresql.progress
attributes:
  diff_mode:
    description: Shows the statements that change roles, with secrets masked. Databases are made anew or not at all.
    support: partial
options:
  state:
    description:
      - V(imported) brings in what is missing.
      - V(finished) removes the schema C(handover), the journal of the import, from the O(databases); the data stays.
        After that, a rerun of the import takes the database for somebody else's.
    type: str
    choices: [imported, finished]
    default: imported
  dump_directory:
    description: Dump directory. Not needed for O(state=finished).
    type: path
  include:
    description: What to import.
    type: list
    elements: str
    choices: [roles, databases]
    default: [roles, databases]
  databases:
    description: Databases to import, by their names on the source. Without it, all in the directory.
    type: list
    elements: str
    default: []
  role_passwords:
    description:
      - Passwords of roles whose hashes could not be read or are refused.
      - The module hashes them before it sends them.
    type: dict
    default: {}
  update_passwords:
    description:
      - Whether to set passwords of roles that the target already has. V(auto) sets one if the target's can be read and
        differs, V(always) also if it cannot be read, V(on_create) never.
    type: str
    choices: [auto, always, on_create]
    default: auto
  skip_roles:
    description: Roles to leave alone, besides those that services reserve.
  no_owner:
    description:
      - Let everything belong to the connecting role.
      - Without it, objects keep their owners where possible. The connecting role becomes a member of the owners while
        the import lasts.
  restore_extra_args:
    description: More arguments for C(pg_restore), if nothing else helps. They must not hold secrets.
    type: list
    elements: str
    default: []
seealso:
  - module: handover.postgresql.pg_dump_export
  - name: pg_restore
    description: PostgreSQL documentation of pg_restore.
    link: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

EXAMPLES = r"""
- name: Import everything
  handover.postgresql.pg_restore_import:
    target:
      uri: "{{ vault_target_uri }}"
    dump_directory: /srv/handover

- name: Import into the database that the service made, replacing what an earlier trial left there
  handover.postgresql.pg_restore_import:
    target:
      host: db.service.example
      port: 25060
      user: doadmin
      password: "{{ vault_target_password }}"
      dbname: defaultdb
    dump_directory: /srv/handover
    databases: [shop]
    rename:
      shop: defaultdb
    create: false
    replace: true
    replace_databases: [defaultdb]
    role_passwords:
      shop_app: "{{ vault_shop_app_password }}"

- name: Remove the journal once all is well
  handover.postgresql.pg_restore_import:
    target:
      uri: "{{ vault_target_uri }}"
    state: finished
    databases: [shop]
"""

RETURN = r"""
directory:
  description: The dump directory.
  returned: when O(state=imported)
  type: str
  sample: /srv/handover
target:
  description: Identity of the target.
  returned: when O(state=imported)
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
roles:
  description: What happened to the roles.
  returned: when O(include) has V(roles)
  type: dict
  contains:
    changed:
      description: Whether a statement was run.
      type: bool
    statements:
      description: The statements, with secrets masked.
      type: list
      elements: str
    changes:
      description: What the statements are about, with C(role), C(attribute) and, where there are many, C(detail).
      type: list
      elements: dict
    skipped:
      description: Roles left alone, with the reason, and whether the target has them.
      type: list
      elements: dict
    left_out:
      description: Attributes, memberships and settings that the target refused or cannot express, with the reason.
      type: list
      elements: dict
    kept:
      description: What a role of the target has beyond the source's role, of attributes, memberships and settings.
      type: list
      elements: dict
    without_password:
      description: Roles with LOGIN that have no password on the target.
      type: list
      elements: dict
    password_unknown:
      description: Roles whose password on the target cannot be read, so that it was not compared.
      type: list
      elements: dict
    md5:
      description: Roles with MD5 hashes, with the consequence.
      type: list
      elements: dict
failures:
  description:
    - Definitions that the target refused, and what could not be made for want of them, with C(object), C(class),
      C(statement), the server's C(message) and C(sqlstate) (null if only pg_restore heard of it), the object that it
      C(needs), or null, and, for a foreign key that rows break, a C(query) for these rows.
    - All rows are there. A rerun makes these objects and nothing else, without those in O(leave_out).
  returned: when definitions failed
  type: list
  elements: dict
  sample:
    - object: VIEW public.writes
      class: VIEW
      statement: CREATE VIEW public.writes AS SELECT buffers_backend FROM pg_stat_bgwriter
      message: column "buffers_backend" does not exist
      sqlstate: "42703"
      needs: null
databases:
  description: One element for each database.
  returned: when O(include) has V(databases)
  type: list
  elements: dict
  contains:
    database:
      description: Name on the target.
      type: str
    changed:
      description:
        - Whether it was imported in this run. If not, the other values are of the run that imported it.
      type: bool
    dump_id:
      description: Identity of the dump.
      type: str
    client:
      description: Version of C(pg_restore).
      type: str
    restored:
      description: Number of restored objects by class, as C(pg_restore --list) names the classes.
      type: dict
    skipped:
      description: Every object that was left out, with its class and the reason.
      type: list
      elements: dict
    failures:
      description: Definitions that an earlier run could not make, and this one would, in check mode; else empty.
      type: list
      elements: dict
    unchecked:
      description:
        - Foreign keys that rows break and that were made all the same, with C(object), the C(statement) that checks
          them, and a C(query) for these rows.
      type: list
      elements: dict
    edits:
      description: Changes to the dump, with the number of objects and the reason.
      type: list
      elements: dict
    toast_compression:
      description: How long values were compressed while rows were loaded; null if as the target does by itself.
      type: str
    tables_compared:
      description: Number of tables whose rows were counted and found as many as on the source, or null.
      type: int
    rows_compared:
      description: Number of rows in them, or null.
      type: int
    stages:
      description: Stages with their seconds.
      type: list
      elements: dict
    command:
      description: The command that would be run.
      returned: in check mode
      type: list
      elements: str
    planned_stages:
      description: The stages that would be run.
      returned: in check mode
      type: list
      elements: str
    notices:
      description: What check mode cannot tell.
      returned: in check mode
      type: list
      elements: str
finished_databases:
  description: Databases from which the journal was removed.
  returned: when O(state=finished)
  type: list
  elements: str
  sample: [shop]
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    CLIENTS,
    FILLING,
    NAMES,
    PROGRESS,
    RENAME,
    TARGET,
    UNCHECKED,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.restore_import import import_dump


def main():
    roles_and_databases = ["roles", "databases"]
    when = ["auto", "always", "on_create"]
    run(
        {
            **TARGET,
            **RENAME,
            **FILLING,
            **UNCHECKED,
            **CLIENTS,
            **PROGRESS,
            "state": {"type": "str", "choices": ["imported", "finished"], "default": "imported"},
            "dump_directory": {"type": "path"},
            "include": {**NAMES, "choices": roles_and_databases, "default": roles_and_databases},
            "databases": NAMES,
            "role_passwords": {"type": "dict", "default": {}, "no_log": True},
            "update_passwords": {"type": "str", "choices": when, "default": "auto", "no_log": False},
            "restore_extra_args": NAMES,
        },
        lambda module: import_dump(endpoint(module, "target"), module.params, module.check_mode),
        required_if=[("state", "imported", ["dump_directory"]), ("state", "finished", ["databases"])],
    )


if __name__ == "__main__":
    main()
