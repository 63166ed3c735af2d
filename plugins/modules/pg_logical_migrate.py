#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_logical_migrate
short_description: Keep a copy of live databases up to date on another server until the cutover
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Copies databases in the snapshot of a logical replication slot, then lets the target subscribe from exactly there.
    The source goes on serving its application meanwhile.
  - A wave is a set of tables that share one slot, one snapshot and one subscription. Whatever ends a run, another run
    goes on. Finished tables keep their wave; the others form the next.
  - The module records each change on both ends before it makes it, in a schema C(handover) of each database.
  - Roles have to exist before; M(handover.postgresql.pg_dump_export) and M(handover.postgresql.pg_restore_import) bring
    them over. The source has to be ready; M(handover.postgresql.pg_source_prepare) does that.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.endpoints.clients
  - handover.postgresql.databases.pairs
  - handover.postgresql.databases.by_itself
  - handover.postgresql.databases.filling
  - handover.postgresql.endpoints.replication
  - handover.postgresql.endpoints.attributes
  - handover.postgresql.progress
attributes:
  diff_mode:
    description: Shows the statements with which the target follows changes of the schema, with O(follow_schema).
    support: partial
options:
  state:
    description:
      - V(replicating) begins, goes on, or does nothing if all is as it should be. It enables a subscription again that
        an error has disabled.
      - V(stopped) gives up. It frees the source at once of slot, publication, and what was changed there, even if the
        target cannot be reached. The target keeps its data.
      - V(finished) removes every trace on both ends after the cutover. The data stays.
      - V(abandoned) gives up, whatever the state, also of a dump. It frees the source as V(stopped) does, takes a fence
        down, and drops the databases on the target that the collection made, with all that is in them. What is needed
        or was there before, it refuses to touch unless O(abandon_databases) names it.
    type: str
    choices: [replicating, stopped, finished, abandoned]
    default: replicating
  no_identity:
    description:
      - What to do with tables that have no replica identity. Once such a table is published, the source refuses the
        application's UPDATE and DELETE on it.
      - V(fail) refuses the migration before anything is published, and returns the SQL that helps.
      - V(full) gives them REPLICA IDENTITY FULL for the time of the migration. The target then searches for each row
        that changes, before PostgreSQL 16 without an index.
      - V(copy_at_cutover) leaves them out of replication, and copies them while writers wait at the cutover.
      - With a source of PostgreSQL 18 or later, a table with generated columns and REPLICA IDENTITY FULL counts as one
        without an identity, because such a source refuses UPDATE and DELETE on it as well. With V(full), it gets its
        primary key or a unique index as identity for the time of the migration; if it has neither, it is refused.
      - Before the module publishes anything, it asks the server for each table whether it could still be changed then.
    type: str
    choices: [fail, full, copy_at_cutover]
    default: fail
  waves:
    description:
      - How many waves to copy the tables in at first. Each wave has a subscription of its own, so that changes are
        applied side by side. Until the cutover, tables of different waves may show different moments.
    type: int
    default: 1
  refresh:
    description:
      - Let tables that were made on the source since the beginning join, as a wave of their own, and let tables that
        were dropped leave; the target keeps its copies of these. If another table of the same name has replaced a
        table, it is copied anew, provided that the target's table has the same definition or was dropped. Renamed
        tables are refused.
      - Copy tables again that have lost changes, or may have, because an end went back in time or somebody altered it.
        Without it, the module refuses them until M(handover.postgresql.pg_verify) has found both ends equal.
    type: bool
    default: false
  follow_schema:
    description:
      - Bring changes of the schema that were made on the source since the beginning to the target, while the source
        is in use. Columns that were added, dropped or renamed, types, defaults and NOT NULL, and tables that were
        renamed or moved to another schema are altered on the target, so that apply goes on and no row is lost. Tables
        are known by their object identifier, and columns by their number.
      - A table that the source has rewritten is copied anew, in a wave of its own, while the others go on.
      - Tables that were made or dropped join or leave, as with O(refresh).
      - All else, such as indexes, views and functions, is made, replaced or dropped by the statements of a fresh
        C(pg_dump) of the schema, never with CASCADE. What the target refuses of that, RV(databases[].notices) says.
      - Tables that cannot be followed are refused by name, as without this option.
    type: bool
    default: false
    version_added: 0.2.0
  wait_for:
    description:
      - V(copied) returns when everything is copied and the target applies changes.
      - V(in_step) waits until a commit on the source arrives within five seconds.
    type: str
    choices: [copied, in_step]
    default: in_step
  timeout:
    description: Seconds to wait for V(in_step). After that, the task fails, and the target goes on catching up.
    type: int
    default: 3600
  slot_patience:
    description:
      - Seconds to wait for transactions that were open when the slot is made. After that, the task fails and names
        them.
    type: int
    default: 300
  create:
    description:
      - Create each database, with the encoding, locale and other properties of the source's.
      - With V(false), the database exists already and must be empty.
  replace_databases:
    description:
      - Names, on the target, of the databases that may be replaced. A database whose migration is under way is never
        replaced.
  max_rate:
    description: How much to copy per second at most, in bytes or with a unit, such as V(50MB).
    type: str
  lift_fence:
    description: With O(state=finished), take down the fence that refuses writes to the source.
    type: bool
    default: false
  without_cutover:
    description: With O(state=finished), finish a migration that was stopped and never handed over.
    type: bool
    default: false
  abandon_databases:
    description:
      - With O(state=abandoned), names, on the target, of databases that are abandoned although they were handed over,
        are in use, were written to since a dump was imported, or come from another source. What they hold is lost.
      - Of these, a database that was there before the migration is emptied and stays. A database that no journal knows
        stays as it is.
    type: list
    elements: str
    default: []
seealso:
  - module: handover.postgresql.pg_migration_info
  - name: Logical replication
    description: PostgreSQL documentation of publications, slots and subscriptions.
    link: https://www.postgresql.org/docs/current/logical-replication.html
"""

EXAMPLES = r"""
- name: Begin, or go on, and wait until the target is in step
  handover.postgresql.pg_logical_migrate:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    replication:
      host: 203.0.113.7
      user: handover_shop
      password: "{{ vault_replication_password }}"

- name: Give up and free the source
  handover.postgresql.pg_logical_migrate:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    state: stopped

- name: Give up, and leave nothing behind
  handover.postgresql.pg_logical_migrate:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    state: abandoned
"""

RETURN = r"""
results:
  description:
    - What a run for each database alone would return, as described below, with its name as C(item), and whether it
      C(failed). The other keys are only in these then.
  returned: with O(each_by_itself)
  type: list
  elements: dict
  sample: [{item: shop, failed: false, changed: true}]
source:
  description: Identity of the source.
  returned: when O(state=replicating)
  type: dict
  sample: {version: "15.20", major: 15, system_identifier: "7710278377752326490", in_recovery: false}
target:
  description: Identity of the target.
  returned: when O(state=replicating)
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
databases:
  description: One element for each database.
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
    id:
      description: Identity of the migration, part of the names of everything that it makes.
      type: str
      sample: 4a98bd4ead
    changed:
      description: Whether this run changed anything.
      type: bool
    phase:
      description: V(copying), V(catching_up) or V(in_step).
      returned: when O(state=replicating), and the migration has begun
      type: str
    waves:
      description: The waves, with C(name), C(number), C(lsn) where the snapshot ended, and C(state).
      returned: when O(state=replicating), not in check mode
      type: list
      elements: dict
    replicated:
      description: Number of tables whose changes are replicated.
      returned: when O(state=replicating)
      type: int
    at_cutover:
      description: Tables that the cutover copies.
      returned: when O(state=replicating)
      type: list
      elements: str
    rows_copied:
      description: Number of rows copied in all waves.
      returned: when O(state=replicating), not in check mode
      type: int
    lag_seconds:
      description: Seconds that the last beacon took from the source to the target, or null if it was not waited for.
      returned: when O(state=replicating), not in check mode
      type: float
    drift:
      description:
        - Tables that were made, dropped or replaced on the source since the beginning, with C(table), C(change),
          C(columns) and C(detail).
      returned: when O(state=replicating)
      type: list
      elements: dict
    followed:
      description: Statements that brought changes of the schema to the target, or would, in check mode.
      returned: when O(state=replicating)
      type: list
      elements: str
      sample: ['ALTER TABLE "public"."orders" ADD COLUMN "note" text']
    failures:
      description:
        - Definitions that the target refused, in check mode of the runs before; else empty, as the module fails, and
          has them beside its message.
      returned: when O(state=replicating), not in check mode
      type: list
      elements: dict
    pending:
      description: Foreign keys that could not be validated yet, each with a C(query) for rows that break it.
      returned: when O(state=replicating), not in check mode
      type: list
      elements: dict
    seconds:
      description: How long this run took for this database.
      returned: when O(state=replicating), not in check mode
      type: float
    stages:
      description: Stages of this run with their seconds.
      returned: when O(state=replicating), not in check mode
      type: list
      elements: dict
    skipped:
      description: Every object that was left out of the copy, with its class and the reason.
      returned: when this run copied
      type: list
      elements: dict
    edits:
      description: Changes made to the schema on its way, with the number of objects and the reason.
      returned: when this run copied
      type: list
      elements: dict
    toast_compression:
      description: How long values were compressed while rows were loaded; null if as the target does by itself.
      returned: when this run copied
      type: str
    statements:
      description:
        - In check mode, the statements that would run on the source and, for the subscription, on the target.
          Passwords are masked.
        - If O(state) is not V(replicating), the statements that ran on V(source) and V(target).
      returned: in check mode, or when O(state) is not V(replicating)
      type: raw
    left:
      description: SQL that removes what is left at an end that cannot be reached.
      returned: when O(state) is not V(replicating)
      type: dict
    next:
      description: What to do next.
      returned: when O(state=replicating), not in check mode
      type: str
    notices:
      description: What you need to know.
      returned: always
      type: list
      elements: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    BY_ITSELF,
    CLIENTS,
    FILLING,
    NAMES,
    NO,
    PAIRS,
    PROGRESS,
    REPLICATION,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run_between
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.abandon import abandon
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.finish import finish
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.replicate import replicate
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.stop import stop

STATES = {"replicating": replicate, "stopped": stop, "finished": finish, "abandoned": abandon}


def main():
    run_between(
        {
            **PAIRS,
            **BY_ITSELF,
            **REPLICATION,
            **FILLING,
            **CLIENTS,
            **PROGRESS,
            "state": {"type": "str", "choices": list(STATES), "default": "replicating"},
            "no_identity": {"type": "str", "choices": ["fail", "full", "copy_at_cutover"], "default": "fail"},
            "waves": {"type": "int", "default": 1},
            "refresh": NO,
            "follow_schema": NO,
            "wait_for": {"type": "str", "choices": ["copied", "in_step"], "default": "in_step"},
            "timeout": {"type": "int", "default": 3600},
            "slot_patience": {"type": "int", "default": 300},
            "max_rate": {"type": "str"},
            "lift_fence": NO,
            "without_cutover": NO,
            "abandon_databases": NAMES,
        },
        lambda source, target, params, check_mode: STATES[params["state"]](source, target, params, check_mode),
    )


if __name__ == "__main__":
    main()
