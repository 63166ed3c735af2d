#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rehearse
short_description: Find out what the target refuses, before any row is copied
version_added: 0.2.0
author: The handover.postgresql authors (@handover)
description:
  - Does with each database everything that a migration does, on some rows of each table, in a database of its own on
    the target, and drops that again. What fails in a migration mostly fails in definitions, after hours of copying;
    here it fails in the first minute.
  - Uses the same C(pg_dump), the same edits of its archive, the same role, owners, privileges, extensions and order as
    M(handover.postgresql.pg_direct_copy). Generated columns, domains, checks and expressions of indexes are evaluated
    by the target, materialized views are refreshed, and the subscription of a continuous migration is tried and taken
    back.
  - Then the definitions of both ends are compared, as a target may accept them with another meaning, for example where
    it finds another operator of the same name.
  - Changes nothing on the source. On the target, the database is called C(handover_rehearsal_...) and is dropped on
    every way out. What a killed run leaves, the next run of this module drops, and so does
    M(handover.postgresql.pg_logical_migrate) when it stops or finishes a migration.
  - What was found is also kept on the target, in schema C(handover) of the database that the role connects to, for
    M(handover.postgresql.pg_preflight), until the migration is finished or stopped.
  - Fails if something stands in the way of every method asked for, after everything was looked at.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.endpoints.replication
  - handover.postgresql.endpoints.clients
  - handover.postgresql.databases.pairs
  - handover.postgresql.databases.by_itself
  - handover.postgresql.databases.reading
  - handover.postgresql.databases.filling
  - handover.postgresql.progress
options:
  rehearsal_rows:
    description: How many rows of each table are copied, half of them from its last pages.
    type: int
    default: 100
  method:
    description: The method that is rehearsed. V(auto) and V(continuous) also try the subscription.
    type: str
    choices: [auto, dump, continuous]
    default: auto
  force:
    description:
      - Rehearse also where the target has the database already, or a migration of it is under way.
      - Without it, there is nothing to find out about such a database, unless O(replace_databases) names it.
    type: bool
    default: false
  waive:
    description:
      - Findings that you accept, as in O(handover.postgresql.pg_preflight#module:waive); those whose C(id) is
        V(rehearsal) count here. They stay in the result, marked as waived, and stand in the way of nothing.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: The finding's id, V(rehearsal).
        type: str
        required: true
      database:
        description: The database. Without it, any.
        type: str
      objects:
        description: The objects. Without it, any; with it, a finding that also names others is not waived.
        type: list
        elements: str
        default: []
      reason:
        description: Why you accept it.
        type: str
        required: true
notes:
  - In check mode, the module only reads, and says what it would copy.
  - Where the role may make no database on the target, the database to come is used if it is there and empty, as for
    O(create=false). All is done in one transaction, which is rolled back. The subscription is not tried then, which a
    finding of level C(unknown) says. If there is no such database, nothing is rehearsed, and a finding says so, too.
  - One transaction has locks on all objects that it makes. Where the target has no room for them, see
    C(max_locks_per_transaction), a finding of level C(unknown) says so.
  - Large objects are not copied. Extensions that can only be made in one database of the server, such as pg_cron, are
    checked for that and left out.
seealso:
  - module: handover.postgresql.pg_preflight
  - module: handover.postgresql.pg_direct_copy
"""

EXAMPLES = r"""
- name: Rehearse the migration of all databases
  handover.postgresql.pg_rehearse:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"

- name: Rehearse the dump of one, and accept that a view is lost
  handover.postgresql.pg_rehearse:
    source:
      host: db1.example.com
      user: migrator
      password: "{{ vault_source_password }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    method: dump
    waive:
      - id: rehearsal
        objects: [VIEW public.sessions]
        reason: The new monitoring brings its own.
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
      description: Name that it is to have on the target.
      type: str
    recommended_method:
      description: The method that is best, as far as the rehearsal can tell; none if something is in the way of all.
      type: str
    feasible_methods:
      description: The methods that nothing is in the way of.
      type: list
      elements: str
    stages:
      description: What was done, with seconds.
      type: list
      elements: dict
    notices:
      description: What else there is to know.
      type: list
      elements: str
    place:
      description: The database that would be made and dropped.
      returned: in check mode
      type: str
    planned_stages:
      description: The stages that would be run.
      returned: in check mode
      type: list
      elements: str
findings:
  description: What was met, worst first, in the form of M(handover.postgresql.pg_preflight).
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: V(rehearsal).
      type: str
    level:
      description: One of V(blocker), V(warning), V(unknown), V(info), V(ok).
      type: str
    database:
      description: The database on the source.
      type: str
    seen:
      description: What was met, with the beginning of the statement and what the server says.
      type: str
    consequence:
      description: What it would break.
      type: str
    remedy:
      description: What to do.
      type: str
    objects:
      description: The objects concerned.
      type: list
      elements: str
    methods:
      description: The methods concerned.
      type: list
      elements: str
    waived:
      description: The reason given in O(waive).
      type: str
summary:
  description: How many findings there are of each level, and how many are waived.
  returned: always
  type: dict
  sample: {blocker: 0, warning: 1, unknown: 0, info: 2, ok: 3, waived: 0}
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
failed_on:
  description: The databases that cannot go by any method asked for.
  returned: when the module fails because of the findings
  type: list
  elements: str
  sample: [shop]
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    BOTH,
    BY_ITSELF,
    CLIENTS,
    FILLING,
    NO,
    PAIRS,
    PROGRESS,
    READING,
    REPLICATION,
    WAIVE,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.rehearsal.rehearse import (
    rehearse,
    without_method,
)


def work(module):
    """The job of the module."""
    if module.params["replication"]:
        endpoint(module, "source", module.params["replication"])  # its password is not shown either
    ends = endpoint(module, "source"), endpoint(module, "target")
    result = rehearse(*ends, module.params, module.check_mode)
    found, problem = without_method(result)
    if found:
        remedy = "The findings say what to do. Fix the causes, or accept them with waive."
        raise HandoverError(problem, remedy, failed_on=found, **result)
    return result


def main():
    run(
        {
            **BOTH,
            **REPLICATION,
            **PAIRS,
            **BY_ITSELF,
            **READING,
            **FILLING,
            **CLIENTS,
            **PROGRESS,
            **WAIVE,
            "rehearsal_rows": {"type": "int", "default": 100},
            "method": {"type": "str", "choices": ["auto", "dump", "continuous"], "default": "auto"},
            "force": NO,
        },
        work,
    )


if __name__ == "__main__":
    main()
