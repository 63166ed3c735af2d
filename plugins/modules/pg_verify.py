#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_verify
short_description: Compare databases on two servers exactly, also while both are live
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Compares the rows of every table and partition, large objects, sequences, and everything that describes them, from
    columns and constraints to privileges, comments and settings, between any two of PostgreSQL 13 to 19.
  - The servers compute digests of the rows, by value and exact; rows themselves are not moved. If a table differs, the
    module finds the differing rows by their keys.
  - A pair that is replicated is compared at one instant while both ends are in use. Writers of the replicated tables
    wait for that moment, mostly some tens of milliseconds, and get no error; the result says how long.
  - Fails if anything differs, with everything that was found in the result. What the module could not look at is
    V(unknown), never equal.
  - Changes no data. Records finished tables and the verdict in the migration's journal on the target.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.databases.pairs
  - handover.postgresql.progress
  - handover.postgresql.endpoints.attributes
options:
  verify_tables:
    description:
      - Compare only the rows of tables that match these shell patterns of C(schema.table). A pattern that matches no
        table with rows of its own is unknown; a partitioned table has no rows of its own, its partitions do.
      - With it, nothing but rows is compared, and the result does not count as a verification for the cutover.
    type: list
    elements: str
    default: []
  verify_exclude:
    description: Objects that may differ. They are in the result, with the reason.
    type: list
    elements: dict
    default: []
    suboptions:
      class:
        description: Pattern of the class, as in RV(databases[].classes), for example V(rows), V(owners), V(*).
        type: str
        required: true
      name:
        description: Pattern of the name, as in the result. For V(rows), the name of a table is C(schema.table).
        type: str
        default: "*"
      reason:
        description: Why it may differ.
        type: str
        required: true
  no_owner:
    description: Do not compare owners, for databases that were brought over without them.
    type: bool
    default: false
  no_privileges:
    description: Do not compare privileges, for databases that were brought over without them.
    type: bool
    default: false
  locale_map:
    description: Locales of the source, and those of the target that stand for them.
    type: dict
    default: {}
  client_directory:
    description:
      - Directories in which C(pg_dump) and C(pg_restore) are looked for, on the host where the module runs. They are
        needed only where definitions are written in other words on the two ends.
      - Without it, E(PATH) and the usual places of Debian, RHEL, Alpine, Homebrew and execution environments.
    type: list
    elements: path
  jobs:
    description:
      - How many sessions read each of the servers at once.
      - Without it, as many as the host has cores, but not more than 8.
    type: int
  max_rate:
    description: How much to read from each server per second, in bytes or with a unit, for example V(50MB).
    type: str
  lock_timeout:
    description:
      - Milliseconds that a writer may have to wait for a lock of this module, and as long again until the target has
        caught up. If an attempt takes longer, the module gives it up, and tries again until O(lock_patience) has
        passed.
      - The module never uses more than half of the source's C(deadlock_timeout), so that no deadlock with it ends
        somebody else's transaction.
    type: int
    default: 500
  lock_patience:
    description: Seconds to try for the common instant of two live databases.
    type: int
    default: 120
  show_values:
    description:
      - For the rows that are named, show the values of columns that differ.
      - They may be personal data, and go wherever the result goes.
    type: bool
    default: false
  verify_resume:
    description:
      - Go on with a comparison that was killed. Tables that were found equal are not read again.
      - For databases that nobody writes to, that is as good as one run. For live ones, the earlier tables' result is as
        of the earlier instant; RV(databases[].oldest_instant) says which.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says how the databases would be compared. Takes no lock.
    support: full
notes:
  - If the connecting role on the target is no superuser, it becomes a member of the owners of the database's objects
    while the comparison lasts, as it does for an import. It then stands for the source's first superuser, and may own
    what that role owned.
  - Each end has a snapshot open until the comparison ends. Until then, VACUUM cannot remove what was visible in it.
  - The source's role needs SELECT on everything. If both ends are live, it also needs UPDATE, DELETE or TRUNCATE on the
    tables, for LOCK TABLE in SHARE mode.
seealso:
  - module: handover.postgresql.pg_logical_migrate
  - module: handover.postgresql.pg_cutover
"""

EXAMPLES = r"""
- name: Compare everything
  handover.postgresql.pg_verify:
    source: "{{ source }}"
    target: "{{ target }}"

- name: Compare one database gently, except what is known to differ
  handover.postgresql.pg_verify:
    source: "{{ source }}"
    target: "{{ target }}"
    databases: [shop]
    max_rate: 50MB
    verify_exclude:
      - class: rows
        name: audit.*
        reason: left behind on purpose, see CHANGE-4711
      - class: event_triggers
        reason: the service does not allow them
"""

RETURN = r"""
databases:
  description:
    - One entry for each database, also when the module fails because something differs or a database could not be
      compared.
  returned: always
  type: list
  elements: dict
  contains:
    database:
      description: Name on the source.
      type: str
    target_database:
      description: Name on the target.
      type: str
    verdict:
      description: V(equal), V(different), or V(incomplete) if nothing differs, but something is unknown.
      type: str
    problem:
      description: Why the database could not be compared, if so.
      type: str
    remedy:
      description: What to do about that problem.
      type: str
    next:
      description: What to do next.
      type: str
    classes:
      description: By class of objects, how many are C(equal), C(different), C(unknown), C(left_out).
      type: dict
      sample: {rows: {equal: 41, different: 0, unknown: 0, left_out: 2}}
    different:
      description:
        - What differs, with C(class), C(object), and either a C(problem) or C(what) is not the same.
        - For rows, the number on each side, and up to 20 keys each that are C(missing) on the target, C(extra) there,
          or C(changed), with the names of the columns; C(counts) of them if all were found, C(more) if not all are
          named; C(not_narrowed) says why rows cannot be named.
      type: list
      elements: dict
    unknown:
      description: What the module could not look at, with C(class), C(object), C(reason).
      type: list
      elements: dict
    left_out:
      description: What was not compared on purpose, with C(class), C(object), C(reason).
      type: list
      elements: dict
    not_listed:
      description: How many entries each of these lists lacks; a list has at most 500.
      type: dict
    instant:
      description:
        - The snapshots that were compared, with time and LSN of each side; C(live) if they show the same instant of a
          replicated database.
      type: dict
    waited_ms:
      description: Milliseconds that a writer may have waited for this module, at most. 0 if nothing was locked.
      type: float
    oldest_instant:
      description: The oldest instant that a part of the result shows, by the target's clock.
      type: str
    quiet:
      description:
        - For a pair that is not live, whether nothing was written to either end during the comparison. This rests on
          the servers' statistics, which lag by up to 10 seconds. Null if they do not say, or if the pair is live.
      type: bool
    tables:
      description: How many tables were read on both ends.
      type: int
    rows:
      description: How many rows they have on the source.
      type: int
    bytes:
      description: How large they are on the source.
      type: int
    resumed_tables:
      description: How many tables had been found equal by a run that was killed.
      type: int
    seconds:
      description: How long it took.
      type: float
    stages:
      description: How long each stage took.
      type: list
      elements: dict
    notices:
      description: What you need to know to read the result.
      type: list
      elements: str
source:
  description: The source's version and identity.
  returned: always
  type: dict
  sample: {version: "15.20", major: 15, system_identifier: "7710278377752326482", in_recovery: false}
target:
  description: The target's version and identity.
  returned: always
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import NAMES, NO, PAIRS, PROGRESS, YES
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run_between
from ansible_collections.handover.postgresql.plugins.module_utils.methods.verification import verify


def main():
    exclusion = {
        "class": {"type": "str", "required": True},
        "name": {"type": "str", "default": "*"},
        "reason": {"type": "str", "required": True},
    }
    run_between(
        {
            **PAIRS,
            **PROGRESS,
            "verify_tables": NAMES,
            "verify_exclude": {"type": "list", "elements": "dict", "default": [], "options": exclusion},
            "no_owner": NO,
            "no_privileges": NO,
            "locale_map": {"type": "dict", "default": {}},
            "client_directory": {"type": "list", "elements": "path"},
            "jobs": {"type": "int"},
            "max_rate": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 500},
            "lock_patience": {"type": "int", "default": 120},
            "show_values": NO,
            "verify_resume": YES,
        },
        verify,
    )


if __name__ == "__main__":
    main()
