#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_dump_export
short_description: Export roles and databases into a dump directory
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Writes the roles and databases of a server into a directory. M(handover.postgresql.pg_restore_import) brings them
    from there to another server.
  - C(pg_dump) dumps each database from one snapshot, and the module counts the rows in the same snapshot.
  - A dump counts only when it is complete; a manifest names its source, snapshot, options, and every file with its
    SHA-256.
  - Changes nothing on the source.
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.endpoints.clients
  - handover.postgresql.databases.selection
  - handover.postgresql.databases.reading
  - handover.postgresql.endpoints.attributes
  - handover.postgresql.progress
options:
  dump_directory:
    description:
      - Dump directory on the host where the module runs. It is made with mode 0700.
      - It holds all data and, if the role may read them, password hashes. Protect it as you protect the database.
    type: path
    required: true
  include:
    description: What to export.
    type: list
    elements: str
    choices: [roles, databases]
    default: [roles, databases]
  force:
    description:
      - Replace an existing dump. Without it, the module keeps an intact dump of the same database with the same
        options, and fails if the dump is of another source or was made with other options.
    type: bool
    default: false
  target_version:
    description:
      - Major version of the target, for example V(18). The module chooses C(pg_dump) to fit it.
      - Without it, the module uses the newest C(pg_dump).
    type: int
  schemas:
    description: Patterns of schemas to dump, as C(pg_dump --schema) takes them.
    type: list
    elements: str
    default: []
  tables:
    description: Patterns of tables to dump, as C(pg_dump --table) takes them.
    type: list
    elements: str
    default: []
  exclude_table_data:
    description: Patterns of tables to dump without their rows.
    type: list
    elements: str
    default: []
  large_objects:
    description:
      - Whether to dump large objects.
      - Without it, they are dumped unless O(schemas) or O(tables) choose a part of the database.
    type: bool
  quote_all_identifiers:
    description: Quote all identifiers, so that names that a newer major reserves do no harm.
    type: bool
    default: true
  serializable_deferrable:
    description:
      - Wait for a snapshot that shows no anomaly of concurrent serializable transactions.
      - A standby cannot offer that; there the module does without, and says so in a notice.
    type: bool
    default: true
  compress:
    description:
      - Compression, V(none) or V(gzip:LEVEL).
      - V(lz4:LEVEL) and V(zstd:LEVEL) need a C(pg_dump) of 16 or later that was built with them.
      - Without it, C(pg_dump) uses its default, gzip.
    type: str
  count_rows:
    description:
      - Whether to count the rows of each table in the dump's snapshot, for a comparison after the import.
      - Without it, rows are counted for databases of up to O(count_rows_limit).
    type: bool
  count_rows_limit:
    description: If O(count_rows) is not given, count rows up to this many bytes of table data.
    type: int
    default: 107374182400
  check_disk:
    description:
      - Refuse to begin if the directory has less free space than the dump is expected to need.
      - The estimate is 0.6 times the size of the tables, 1.5 times without compression. There is no estimate for a part
        of a database.
    type: bool
    default: true
  dump_extra_args:
    description: More arguments for C(pg_dump), if nothing else helps. They must not hold secrets.
    type: list
    elements: str
    default: []
seealso:
  - module: handover.postgresql.pg_restore_import
  - name: pg_dump
    description: PostgreSQL documentation of pg_dump.
    link: https://www.postgresql.org/docs/current/app-pgdump.html
"""

EXAMPLES = r"""
- name: Export everything for a target of PostgreSQL 18
  handover.postgresql.pg_dump_export:
    source:
      host: db.example.com
      user: postgres
      password: "{{ vault_source_password }}"
    dump_directory: /srv/handover
    target_version: 18

- name: Export one database without the rows of its log, compressed well
  handover.postgresql.pg_dump_export:
    source:
      uri: "{{ vault_source_uri }}"
    dump_directory: /srv/handover
    include: [databases]
    databases: [shop]
    exclude_table_data: [audit.log]
    compress: zstd:9
"""

RETURN = r"""
directory:
  description: The dump directory.
  returned: success
  type: str
  sample: /srv/handover
source:
  description: Identity of the source.
  returned: success
  type: dict
  sample: {version: "15.20", major: 15, system_identifier: "7710278377752326482", in_recovery: false}
selected_databases:
  description: Databases that the options choose, whether or not they are exported in this run.
  returned: success
  type: list
  elements: str
  sample: [shop]
other_databases:
  description: Databases that the options do not choose, templates aside.
  returned: success
  type: list
  elements: str
  sample: [postgres]
database_sizes:
  description: Sizes in bytes of the databases that the options choose, none where the role may not ask for it.
  returned: success
  type: dict
  sample: {shop: 104857600}
roles:
  description: The exported roles.
  returned: when O(include) has V(roles)
  type: dict
  contains:
    changed:
      description: Whether they were written.
      type: bool
    directory:
      description: Where they are, as C(roles.json) and C(roles.sql).
      type: str
    roles:
      description: Number of roles.
      type: int
    memberships:
      description: Number of memberships.
      type: int
    passwords:
      description: V(read), or V(unreadable) if the role may not read C(pg_authid).
      type: str
databases:
  description: One element for each exported database.
  returned: when O(include) has V(databases)
  type: list
  elements: dict
  contains:
    database:
      description: Name.
      type: str
    changed:
      description: Whether it was dumped in this run.
      type: bool
    directory:
      description: Where its dump is.
      type: str
    dump_id:
      description: Identity of the dump.
      type: str
    snapshot:
      description: Isolation level, LSN and time of the snapshot.
      type: dict
    source_is_quiet:
      description: The value of O(source_is_quiet) when the dump was made, or null.
      type: bool
    client:
      description: Version of C(pg_dump).
      type: str
    bytes:
      description: Size of the dump.
      type: int
    tables:
      description: Number of tables whose rows were counted, or null.
      type: int
    rows:
      description: Number of rows counted, or null.
      type: int
    notices:
      description: What was done differently than asked, and why.
      type: list
      elements: str
    stages:
      description: Stages with their seconds.
      type: list
      elements: dict
    command:
      description: The command that would be run.
      returned: in check mode
      type: list
      elements: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    CLIENTS,
    NAMES,
    NO,
    PROGRESS,
    READING,
    SELECTION,
    SOURCE,
    YES,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.dump_export import export


def main():
    roles_and_databases = ["roles", "databases"]
    run(
        {
            **SOURCE,
            **SELECTION,
            **READING,
            **CLIENTS,
            **PROGRESS,
            "dump_directory": {"type": "path", "required": True},
            "include": {**NAMES, "choices": roles_and_databases, "default": roles_and_databases},
            "force": NO,
            "target_version": {"type": "int"},
            "schemas": NAMES,
            "tables": NAMES,
            "exclude_table_data": NAMES,
            "large_objects": {"type": "bool"},
            "quote_all_identifiers": YES,
            "serializable_deferrable": YES,
            "compress": {"type": "str"},
            "count_rows": {"type": "bool"},
            "count_rows_limit": {"type": "int", "default": 107374182400},
            "check_disk": YES,
            "dump_extra_args": NAMES,
        },
        lambda module: export(endpoint(module, "source"), module.params, module.check_mode),
    )


if __name__ == "__main__":
    main()
