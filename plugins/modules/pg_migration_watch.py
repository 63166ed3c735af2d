#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_watch
short_description: Guard continuous migrations, and their sources from them
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Looks at migrations as M(handover.postgresql.pg_migration_info) does, and judges them by guards. Run it on a
    schedule.
  - Past a limit it warns in its result. If O(stop_on) names the guard, it stops the migration, as
    M(handover.postgresql.pg_logical_migrate) does with O(handover.postgresql.pg_logical_migrate#module:state=stopped).
    It does not fail for what it found, so that it looks at all migrations; check RV(tripped) for that.
  - Writes a heartbeat into the source, to measure the lag. The heartbeat also lets the slots advance if nobody else
    writes to the source.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.databases.pairs
  - handover.postgresql.endpoints.attributes
attributes:
  check_mode:
    description: Writes no heartbeat and no sample, and says what would be stopped, with the statements.
    support: full
options:
  databases:
    description:
      - Databases, by their names on the source.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases). If the source cannot be reached,
        those that the journals on the target name.
  max_retained_wal:
    description:
      - How much WAL the slots may hold back, for example V(50GB).
      - If C(max_slot_wal_keep_size) is set on the server, 80 % of that is a limit in any case.
    type: str
  max_duration:
    description: How old a migration may be before the cutover, for example V(14d).
    type: str
    default: 14d
  max_lag:
    description: How far a migration that was in step once may be behind, for example V(15min).
    type: str
    default: 1h
  min_free_space:
    description:
      - How much has to be free on the source's disk, for example V(20GB). SQL does not show that, so set O(free_space),
        too.
    type: str
  free_space:
    description: How much is free there now, for O(min_free_space), in bytes or with a unit.
    type: str
  stop_on:
    description:
      - Guards that stop the migration past their limit. The others warn. A guard that cannot look stops nothing.
      - V(slot) trips if a slot is lost; the migration cannot go on then.
    type: list
    elements: str
    choices: [retained_wal, free_space, age, slot, apply_errors, continuity, drift, lag]
    default: []
  follow_schema:
    description:
      - Bring changes of the schema to the other end, as
        O(handover.postgresql.pg_logical_migrate#module:follow_schema) does, before the guards judge. Nothing is copied;
        tables that have to be, or that are new, are left to M(handover.postgresql.pg_logical_migrate).
      - After a handover, all else, such as indexes, views and functions, is followed, too, from a fresh C(pg_dump) of
        the new home's schema.
    type: bool
    default: false
    version_added: 0.2.0
  client_directory:
    description:
      - Directories in which C(pg_dump) and C(pg_restore) are looked for, on the host where the module runs. They are
        needed only with O(follow_schema), after a handover.
      - Without it, E(PATH) and the usual places of Debian, RHEL, Alpine, Homebrew and execution environments.
    type: list
    elements: path
    version_added: 0.2.0
seealso:
  - module: handover.postgresql.pg_logical_migrate
  - module: handover.postgresql.pg_migration_info
"""

EXAMPLES = r"""
- name: Never let the migration fill the source's disk
  handover.postgresql.pg_migration_watch:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    max_retained_wal: 50GB
    stop_on: [retained_wal]
  register: watched

- name: Tell somebody
  ansible.builtin.assert:
    that: watched.tripped | length == 0
    fail_msg: "{{ watched | handover.postgresql.render_status }}"
"""

RETURN = r"""
databases:
  description: One element for each database, even if the module fails because it could not stop one.
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
      description: Identity of the migration.
      type: str
    phase:
      description: The phase, as RV(handover.postgresql.pg_migration_info#module:databases[].phase) says.
      type: str
    level:
      description:
        - The worst level of its guards. V(not_watched) if no migration is under way and none has left a slot behind,
          V(unknown) if the module cannot see that.
      type: str
    guards:
      description:
        - What each C(guard) has C(seen), and its C(level). That is V(ok), V(warning), V(stop), V(unknown) if it could
          not look, or V(not_watched) if it has no limit or does not apply in this phase.
      type: list
      elements: dict
    status:
      description: The status before anything was stopped, as M(handover.postgresql.pg_migration_info) returns it.
      type: dict
    stopped:
      description:
        - What was done to stop the migration, as M(handover.postgresql.pg_logical_migrate) returns it, or null.
      type: dict
    error:
      description:
        - Why the migration could not be stopped, or null. Then the module fails after it has looked at the others.
      type: str
    followed:
      description: Statements that brought changes of the schema to the other end, with O(follow_schema).
      type: list
      elements: str
    not_followed:
      description: Why changes of the schema were not followed, or not all, with the statements; or null.
      type: str
tripped:
  description: Databases with a guard whose level is V(warning), V(stop) or V(unknown).
  returned: always
  type: list
  elements: str
  sample: [shop]
source:
  description: The C(server), or the C(problem) why it cannot be reached.
  returned: always
  type: dict
  sample: {version: "15.20", major: 15, system_identifier: "7710278377752326482", in_recovery: false}
target:
  description: The same for the target.
  returned: always
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import NO, PAIRS
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run_between
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.watch import watch


def main():
    guards = ["retained_wal", "free_space", "age", "slot", "apply_errors", "continuity", "drift", "lag"]
    run_between(
        {
            **PAIRS,
            "max_retained_wal": {"type": "str"},
            "max_duration": {"type": "str", "default": "14d"},
            "max_lag": {"type": "str", "default": "1h"},
            "min_free_space": {"type": "str"},
            "free_space": {"type": "str"},
            "stop_on": {"type": "list", "elements": "str", "choices": guards, "default": []},
            "follow_schema": NO,
            "client_directory": {"type": "list", "elements": "path"},
        },
        watch,
    )


if __name__ == "__main__":
    main()
