#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_info
short_description: Say how continuous migrations are doing
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Reads the journal in the target database and the catalogs of both ends, from any machine, and changes neither the
    source nor the data. It needs nothing from the run that began the migration.
  - What the module cannot look at is null, and never counts as fine. If one end is out of reach, it reports the other.
  - Adds a sample of amounts to the journal, at most one in 10 seconds, unless it runs in check mode or cannot write to
    the journal.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.databases.pairs
  - handover.postgresql.endpoints.attributes
attributes:
  check_mode:
    description: Returns the same, and adds no sample.
    support: full
options:
  databases:
    description:
      - Databases, by their names on the source.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases). If the source cannot be reached,
        those that the journals on the target name.
  samples:
    description: How many samples to return at most, for plots. They are spread over the whole migration.
    type: int
    default: 0
seealso:
  - module: handover.postgresql.pg_logical_migrate
  - module: handover.postgresql.pg_migration_watch
"""

EXAMPLES = r"""
- name: See how it goes
  handover.postgresql.pg_migration_info:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
  register: status

- name: Show it
  handover.postgresql.show:
    text: "{{ status | handover.postgresql.render_status }}"
"""

RETURN = r"""
databases:
  description: One element for each database.
  returned: success
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
      description: Identity of the migration. The names of all that it makes begin with C(handover_ID_).
      type: str
    phase:
      description:
        - V(none), V(copying), V(catching_up), V(in_step), V(handed_over), V(stopped), or null if the target cannot be
          asked. Once reached, V(in_step) stays; RV(databases[].lag) says how it is now.
      type: str
    direction:
      description: Direction of the last handover, V(forward) or V(back); V(forward) before the first.
      type: str
    problems:
      description: Why an end, or a part of it, could not be looked at.
      type: list
      elements: str
    streams:
      description:
        - One element for each wave that has a snapshot, and for the way back, with its C(name), its C(direction),
          C(lag_bytes) and C(lag_seconds), its C(slot) and its C(subscription).
        - C(slot) and C(subscription) are null if the module cannot look at their end, and have C(present) otherwise.
        - A slot has C(active), C(wal_status), C(retained_bytes), C(safe_bytes), the C(invalidation) since 17, and its
          C(sender), which is null if nobody reads, or if that is hidden. A subscription has C(enabled), C(worker_pid),
          C(received_lsn), C(last_message_seconds), and since 15 the number of C(apply_errors) so far. It is C(doubtful)
          if apply has restarted since the last beacon arrived, and none has arrived since.
      type: list
      elements: dict
    errors:
      description:
        - What keeps the migration from going on, with C(kind), C(stream), C(problem) and C(remedy). Null if the module
          could look at neither end.
      type: list
      elements: dict
    lag:
      description:
        - How far the subscribing end is behind, as C(bytes) of WAL that it has not confirmed, and as C(seconds). The
          seconds come from the server itself, or from the last beacon, which is only as new as the last run of
          M(handover.postgresql.pg_migration_watch).
      type: dict
    wal:
      description:
        - What the slots hold back on the publishing C(server), V(source) or V(target). It has C(retained_bytes), the
          C(status), the server's limit C(max_slot_wal_keep_bytes), C(safe_bytes) that may still be written before a
          slot is lost, and the server's C(data_directory) if the role may see it. Null for no limit.
      type: dict
    started:
      description:
        - When the migration began. C(copied), C(in_step), C(cut_over), C(rolled_back), C(stopped) are times, too.
      type: str
    age_seconds:
      description: Seconds since then.
      type: float
    tables:
      description: Number of tables that are C(waiting), C(copying), C(copied), C(indexed), and left to the cutover.
      type: dict
    bytes:
      description: Bytes in all, C(total), and those C(copied).
      type: dict
    bytes_per_second:
      description: The present rate of the copy. Null if nothing is being copied.
      type: float
    eta_seconds:
      description: Seconds until all is copied, or caught up, at this rate. Null if unknown.
      type: float
    waves:
      description: Each wave's C(number), C(tables), C(bytes), and when it was C(started), C(copied), C(subscribed).
      type: list
      elements: dict
    slowest_tables:
      description:
        - The tables whose copy took longest, with their C(bytes), C(rows), and when each was C(started), C(copied) and
          C(indexed).
      type: list
      elements: dict
    drift:
      description:
        - What changed in the definitions of the publisher's tables since they were taken over, with C(table),
          C(change), C(columns) and C(detail). Null if the module could not compare them, empty after a stop.
      type: list
      elements: dict
    continuity:
      description:
        - Signs that changes were lost on the way, or may have been. Each has a C(kind), the C(side), the C(stream) or
          null for all, the C(problem), and the C(tables) that may have lost changes, null for all.
        - The kinds are V(end) (a server went back in time, or another took its place), V(beacon) (an end does not show
          what it has shown before), V(publication), V(subscription) and V(slot) (somebody altered it or made it anew).
        - A sign stays until a verification finds both ends equal, or these tables are copied again. Null if the module
          cannot look at an end.
      type: list
      elements: dict
    running:
      description: Runs that are at work on the migration now. Null if the source cannot be asked.
      type: list
      elements: str
    verified:
      description:
        - Outcome of the last verification, or null. C(outdated) says why it does not count any more; it is an empty
          list if it counts, and null if that is unknown.
      type: dict
    failures:
      description:
        - Definitions that the target refused and that are not there, with C(object), C(class), C(statement),
          C(message), C(sqlstate), C(needs) and C(query).
      type: list
      elements: dict
    notices:
      description: Notices of the migration's runs.
      type: list
      elements: str
    next:
      description: What to do next.
      type: str
    samples:
      description:
        - Samples of the whole migration, oldest first, each with C(at), C(retained_bytes), C(lag_bytes),
          C(lag_seconds), C(copied_bytes). Where there are more, each has the highest amounts of those that it stands
          for.
      returned: when O(samples) is not 0
      type: list
      elements: dict
source:
  description: The C(server), or the C(problem) why it cannot be reached.
  returned: success
  type: dict
  sample: {version: "15.20", major: 15, system_identifier: "7710278377752326482", in_recovery: false}
target:
  description: The same for the target.
  returned: success
  type: dict
  sample: {version: "18.1", major: 18, system_identifier: "7710278377752326491", in_recovery: false}
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import PAIRS
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import run_between
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.info import info


def main():
    run_between({**PAIRS, "samples": {"type": "int", "default": 0}}, info)


if __name__ == "__main__":
    main()
