#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_direct_copy
short_description: Copy databases from one server to another without files
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Brings databases from the source to the target as one snapshot of each shows them. Several sessions relay rows from
    one server to the other, and build the indexes and keys of a table as soon as it is loaded.
  - The host where the module runs needs no disk space, and little memory, whatever the size of the databases.
  - The schema comes from C(pg_dump) and goes through C(pg_restore). What a service does not allow is taken out by
    class, and every object skipped is in the result, as with M(handover.postgresql.pg_restore_import).
  - A database is filled under a name of its own and gets its real name when everything is there. The rows that the
    source sent and those that the target took are compared for each table.
  - Nothing is changed on the source. Until all rows are read, its tables cannot be dropped, truncated or redefined;
    reading and writing goes on.
  - Roles are not copied. M(handover.postgresql.pg_dump_export) and M(handover.postgresql.pg_restore_import) do that.
  - When a run is interrupted, its snapshot is gone. The next one keeps the tables that were complete only where
    O(source_is_quiet=true) and the source has counted no rows written since; otherwise it starts over, and says why.
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.endpoints.target
  - handover.postgresql.endpoints.clients
  - handover.postgresql.endpoints.attributes
options:
  databases:
    description:
      - Databases to copy, by their names on the source.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases).
    type: list
    elements: str
    default: []
  ignore_databases:
    description: Databases to leave out when O(databases) is not given.
    type: list
    elements: str
    default: []
  rename:
    description: Names on the target for databases that are to be called otherwise there.
    type: dict
    default: {}
  create:
    description:
      - Create each database, with the encoding, locale and other properties of the source's.
      - With V(false), it exists already and must be empty. It is then filled under its own name, and its owner, comment
        and connection limit stay as they are. The owner that it had on the source gets an owner's privileges.
    type: bool
    default: true
  replace:
    description: Replace databases that exist and are named in O(replace_databases). What they hold is lost.
    type: bool
    default: false
  replace_databases:
    description: Names, on the target, of the databases that may be replaced.
    type: list
    elements: str
    default: []
  force:
    description:
      - Copy again where the target has a complete copy of the same database. It has to be replaced, so O(replace) and
        O(replace_databases) are needed too.
    type: bool
    default: false
  source_is_quiet:
    description:
      - The operator's word that nothing writes to the source, from before the copy until applications use the target.
      - With V(true), a copy that is there is kept only if it was made with V(true), and if the server has counted no
        rows written since; else that is an error. The statistics of a standby cannot tell.
    type: bool
  locale_map:
    description:
      - Locales of the source, and the locales of the target to use instead, for those that do not exist there.
      - 'For example V({en_US.utf8: en_US.UTF-8}).'
    type: dict
    default: {}
  skip_roles:
    description: Roles that the target does not get. What belongs to them there belongs to the connecting role.
    type: list
    elements: str
    default: []
  no_owner:
    description: Let everything belong to the connecting role.
    type: bool
    default: false
  no_privileges:
    description: Leave out privileges, of the database and of everything in it.
    type: bool
    default: false
  no_tablespaces:
    description: Put everything into the default tablespace.
    type: bool
    default: true
  exclude_extensions:
    description:
      - Extensions to leave out, together with everything that needs them, rows included.
      - An extension that the target does not offer is left out by itself as long as no rows need it.
        Otherwise that is an error.
    type: list
    elements: str
    default: []
  exclude_schemas:
    description: Patterns of schemas to leave out, as C(pg_dump --exclude-schema) takes them.
    type: list
    elements: str
    default: []
  exclude_tables:
    description: Patterns of tables to leave out, as C(pg_dump --exclude-table) takes them.
    type: list
    elements: str
    default: []
  unlogged_table_data:
    description: Whether the rows of unlogged tables are copied.
    type: bool
    default: false
  analyze:
    description:
      - V(auto) takes over the source's statistics where C(pg_dump) and the target are 18 or later, and analyzes what
        has none, each table as soon as it is loaded.
      - V(full) analyzes everything, V(in_stages) with a statistics target of 1, then 10, then the default.
        V(none) analyzes nothing.
    type: str
    choices: [auto, full, in_stages, none]
    default: auto
  refresh_materialized_views:
    description: Refresh the materialized views that hold data on the source.
    type: bool
    default: true
  count_rows:
    description: Count the rows of each table on the target, besides comparing what was sent with what was taken.
    type: bool
    default: false
  max_rate:
    description: The most bytes that are read from the source in a second, by all sessions together, such as V(50MB).
    type: str
  split_tables_larger_than:
    description:
      - Tables larger than this, such as V(10GB), are read in ranges by several sessions at once.
      - Without it, a table is split when it is more than a fair share of the work of three or more sessions.
      - Sources before 14 cannot read ranges, and rows of a table that was split are not frozen.
    type: str
  lock_wait_timeout:
    description: Milliseconds to wait for the lock on a table of the source before giving up.
    type: int
    default: 480000
seealso:
  - module: handover.postgresql.pg_dump_export
  - module: handover.postgresql.pg_restore_import
  - name: COPY
    description: PostgreSQL documentation of COPY, by which rows travel.
    link: https://www.postgresql.org/docs/current/sql-copy.html
"""

EXAMPLES = r"""
- name: Copy everything
  handover.postgresql.pg_direct_copy:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    source_is_quiet: true

- name: Copy one database at night, without taking more than 50 MB a second from the source
  handover.postgresql.pg_direct_copy:
    source:
      host: db1.example.com
      user: migrator
      password: "{{ vault_source_password }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    max_rate: 50MB
    jobs: 4
"""

RETURN = r"""
selected_databases:
  description: The databases that were copied, or were there.
  returned: always
  type: list
  elements: str
other_databases:
  description: The databases of the source that were not selected, templates aside.
  returned: always
  type: list
  elements: str
source:
  description: Identity of the source.
  returned: always
  type: dict
  sample: {version: "13.22", major: 13, system_identifier: "7710278377752326490", in_recovery: false}
target:
  description: Identity of the target.
  returned: always
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
databases:
  description: One element for each database.
  returned: always
  type: list
  elements: dict
  contains:
    database:
      description: Name on the target.
      type: str
    source_database:
      description: Name on the source.
      type: str
    changed:
      description:
        - Whether it was copied in this run. The rest is then of this run, else of the run that did it.
      type: bool
    dump_id:
      description: Identity of the copy.
      type: str
    snapshot:
      description: The snapshot's isolation, LSN and time.
      type: dict
    source_is_quiet:
      description: The operator's word at the time.
      type: bool
    client:
      description: Version of C(pg_restore).
      type: str
    jobs:
      description: Number of sessions that copied at once.
      type: int
    tables:
      description: Number of tables that were copied, or in check mode, would be.
      type: int
    rows:
      description: Number of rows that the source sent and the target took.
      type: int
    bytes:
      description: Bytes that were sent. In check mode, the size of the tables on the source.
      type: int
    restored:
      description: Number of objects by class, as C(pg_restore --list) names the classes.
      type: dict
    skipped:
      description: Every object that was left out, with its class and the reason.
      type: list
      elements: dict
    edits:
      description: Changes to what C(pg_dump) wrote, with the number of objects and the reason.
      type: list
      elements: dict
    tables_compared:
      description: Number of tables of which what was sent and what was taken is the same.
      type: int
    rows_compared:
      description: Number of rows in them.
      type: int
    stages:
      description: Stages with their seconds.
      type: list
      elements: dict
    notices:
      description: What was done otherwise than usual, and why; what became of an interrupted run.
      type: list
      elements: str
    origin:
      description: What tells a rerun whether the source is still as it was.
      type: dict
    command:
      description: The command that describes the schema.
      returned: in check mode
      type: list
      elements: str
    planned_stages:
      description: The stages that would be run.
      returned: in check mode
      type: list
      elements: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import endpoint, endpoint_argument, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.direct_copy import copy


def main():
    names = {"type": "list", "elements": "str", "default": []}
    run(
        {
            "source": endpoint_argument(),
            "target": endpoint_argument(),
            "databases": names,
            "ignore_databases": names,
            "rename": {"type": "dict", "default": {}},
            "create": {"type": "bool", "default": True},
            "replace": {"type": "bool", "default": False},
            "replace_databases": names,
            "force": {"type": "bool", "default": False},
            "source_is_quiet": {"type": "bool"},
            "locale_map": {"type": "dict", "default": {}},
            "skip_roles": names,
            "no_owner": {"type": "bool", "default": False},
            "no_privileges": {"type": "bool", "default": False},
            "no_tablespaces": {"type": "bool", "default": True},
            "exclude_extensions": names,
            "exclude_schemas": names,
            "exclude_tables": names,
            "unlogged_table_data": {"type": "bool", "default": False},
            "analyze": {"type": "str", "choices": ["auto", "full", "in_stages", "none"], "default": "auto"},
            "refresh_materialized_views": {"type": "bool", "default": True},
            "count_rows": {"type": "bool", "default": False},
            "max_rate": {"type": "str"},
            "split_tables_larger_than": {"type": "str"},
            "lock_wait_timeout": {"type": "int", "default": 480000},
            "client_directory": {"type": "list", "elements": "path"},
            "jobs": {"type": "int"},
        },
        lambda module: copy(endpoint(module, "source"), endpoint(module, "target"), module.params, module.check_mode),
    )


if __name__ == "__main__":
    main()
