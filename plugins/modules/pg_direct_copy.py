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
  - Brings each database from the source to the target in one snapshot. Several sessions relay rows from one server to
    the other, and build the indexes and keys of a table as soon as it is loaded.
  - The host where the module runs needs no disk space, and little memory, whatever the size of the databases.
  - The schema comes from C(pg_dump) and goes through C(pg_restore). What a service does not allow is left out by class,
    and the result lists every skipped object, as with M(handover.postgresql.pg_restore_import).
  - A database is filled under a temporary name and gets its real name when everything is there. For each table, the
    module compares the rows that the source sent with those that the target took.
  - Changes nothing on the source. Until all rows are read, its tables cannot be dropped, truncated or redefined;
    reading and writing go on.
  - Roles are not copied. M(handover.postgresql.pg_dump_export) and M(handover.postgresql.pg_restore_import) do that.
  - When a run is interrupted, its snapshot is gone. The next run keeps complete tables only if O(source_is_quiet=true)
    and the source has counted no writes since; otherwise it starts over, and says why.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.endpoints.clients
  - handover.postgresql.databases.pairs
  - handover.postgresql.databases.reading
  - handover.postgresql.databases.filling
  - handover.postgresql.databases.unchecked
  - handover.postgresql.endpoints.attributes
  - handover.postgresql.progress
options:
  force:
    description:
      - Copy again if the target has a complete copy of the same database. This replaces the copy, so it also needs
        O(replace) and O(replace_databases).
      - Without it, the module keeps such a copy. It fails if options that decide what is copied have changed since, or,
        with O(source_is_quiet=true), if the source's schema has changed.
    type: bool
    default: false
  count_rows:
    description: Also count the rows of each table on the target, besides comparing what was sent with what was taken.
    type: bool
    default: false
  max_rate:
    description: How much all sessions together read from the source per second at most, such as V(50MB).
    type: str
  split_tables_larger_than:
    description:
      - Tables larger than this, such as V(10GB), are read in ranges by several sessions at once.
      - Without it, a table is split if it is more than a fair share of the work for three or more sessions, or three
        quarters of it for two.
      - Sources before 14 cannot read ranges, and rows of a table that was split are not frozen.
    type: str
seealso:
  - module: handover.postgresql.pg_dump_export
  - module: handover.postgresql.pg_restore_import
  - name: COPY
    description: PostgreSQL documentation of COPY, which carries the rows.
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
  description: The databases that were copied, or had been copied before.
  returned: always
  type: list
  elements: str
  sample: [shop]
other_databases:
  description: The databases of the source that were not selected, templates aside.
  returned: always
  type: list
  elements: str
  sample: [postgres]
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
        - Whether it was copied in this run. If not, the other values are of the run that copied it.
      type: bool
    dump_id:
      description: Identity of the copy.
      type: str
    snapshot:
      description: The snapshot's isolation, LSN and time.
      type: dict
    source_is_quiet:
      description: The value of O(source_is_quiet) when the copy was made.
      type: bool
    client:
      description: Version of C(pg_restore).
      type: str
    jobs:
      description: Number of sessions that copied at once.
      type: int
    tables:
      description: Number of tables that were copied, or would be copied in check mode.
      type: int
    rows:
      description: Number of rows that the source sent and the target took.
      type: int
    bytes:
      description: Number of bytes sent. In check mode, the size of the tables on the source.
      type: int
    restored:
      description: Number of objects by class, as C(pg_restore --list) names the classes.
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
      description: Changes to what C(pg_dump) wrote, with the number of objects and the reason.
      type: list
      elements: dict
    toast_compression:
      description: How long values were compressed while rows were loaded; null if as the target does by itself.
      type: str
    tables_compared:
      description: Number of tables whose sent and received rows are the same.
      type: int
    rows_compared:
      description: Number of rows in them.
      type: int
    stages:
      description: Stages with their seconds.
      type: list
      elements: dict
    notices:
      description: What was done differently than usual, and why; what happened to an interrupted run.
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

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    CLIENTS,
    FILLING,
    NO,
    PAIRS,
    PROGRESS,
    READING,
    UNCHECKED,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run_between
from ansible_collections.handover.postgresql.plugins.module_utils.methods.direct_copy import copy


def main():
    run_between(
        {
            **PAIRS,
            **READING,
            **FILLING,
            **UNCHECKED,
            **CLIENTS,
            **PROGRESS,
            "force": NO,
            "count_rows": NO,
            "max_rate": {"type": "str"},
            "split_tables_larger_than": {"type": "str"},
        },
        copy,
    )


if __name__ == "__main__":
    main()
