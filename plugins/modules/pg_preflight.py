#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_preflight
short_description: Find out whether and how databases can be handed over, and what stands in the way
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Looks at the source, the target and each database, and changes nothing. Its sessions are read-only. Only
    O(test_network=subscription) and O(measure=write) write, and that is rolled back before anybody sees it.
  - Each check gives at least one finding, with what was seen, what it would break, and the exact remedy.
    If a check could not look, its finding is V(unknown), never V(ok).
  - C(docs/findings.md) lists the checks.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.endpoints.poolers
  - handover.postgresql.databases.selection
  - handover.postgresql.endpoints.attributes
options:
  target:
    description:
      - The server that the data goes to.
      - Without it, the module reports what concerns only the source; the rest is V(unknown).
      - If it cannot be reached, that is a finding, C(target_connection).
    required: false
  poolers:
    description:
      - Admin consoles of the PgBouncers that the application uses, as M(handover.postgresql.pg_cutover) takes them.
        The module asks them for their version only; another pooler than PgBouncer is a finding.
  method:
    description: The intended method. V(auto) recommends the best feasible one for each database.
    type: str
    choices: [auto, dump, continuous]
    default: auto
  client_directory:
    description:
      - Directories to search for C(pg_dump) and C(pg_restore). See M(handover.postgresql.pg_dump_export).
    type: list
    elements: path
  locale_map:
    description:
      - Locales of the source that the target lacks, and the locales to use there instead.
        See M(handover.postgresql.pg_restore_import).
    type: dict
    default: {}
  jobs:
    description:
      - How many sessions the migration will use to read or write at once.
      - Without it, as many as the host has cores and the database has tables, but not more than 8.
    type: int
  target_addresses:
    description: Addresses, and networks in CIDR notation, that the target will connect from.
    type: list
    elements: str
    default: []
  no_identity:
    description:
      - What a continuous migration does with tables that have no replica identity, as
        O(handover.postgresql.pg_logical_migrate#module:no_identity) says.
        They stand in its way only with V(fail).
    type: str
    choices: [fail, full, copy_at_cutover]
    default: fail
  test_network:
    description:
      - How to find out whether the target reaches the source, as a continuous migration needs it.
      - V(dblink) connects from the target through its extension C(dblink), if that is installed.
      - V(subscription) makes the target connect for a subscription, in a transaction that is rolled back.
      - With V(no) the finding is V(unknown) and has the command to run.
    type: str
    choices: ["no", dblink, subscription]
    default: "no"
  measure:
    description:
      - What to measure, to estimate the time and the disk space that the migration needs.
      - V(read) reads the beginning of the largest table of each database, up to 32 MB and for up to 5 seconds, as
        C(pg_dump) reads it.
      - V(write) also writes rows of random letters into a table on the target, within the same limits, in a transaction
        that is rolled back, because only writing shows the rate of writing. It needs CREATE on the database that
        O(target) names.
    type: str
    choices: [none, read, write]
    default: none
  fail_on:
    description:
      - JMESPath expression over RV(report). The task fails unless it yields null, false, or something empty.
      - Without it, the task fails if a database has no feasible method, or if O(method) is not feasible for it.
      - For example C(findings[?level=='warning' && !waived]). It needs the Python library C(jmespath).
    type: str
  waive:
    description: Findings to accept. They stay in the report, marked as waived, and no longer stand in the way.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Id of the finding.
        type: str
        required: true
      database:
        description: Database of the finding. Without it, any.
        type: str
      objects:
        description: Objects to accept. A finding with other objects is not waived. Without it, any.
        type: list
        elements: str
        default: []
      reason:
        description: Why it is accepted.
        type: str
        required: true
requirements:
  - jmespath, for O(fail_on)
seealso:
  - module: handover.postgresql.pg_dump_export
  - plugin: handover.postgresql.query_report
    plugin_type: filter
  - plugin: handover.postgresql.render_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at everything
  handover.postgresql.pg_preflight:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"

- name: Fail on every blocker and every warning that nobody has accepted
  handover.postgresql.pg_preflight:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    method: dump
    fail_on: findings[?(level=='blocker' || level=='warning') && !waived]
    waive:
      - id: unlogged_tables
        database: shop
        objects: [public.sessions]
        reason: Sessions may be lost.
"""

RETURN = r"""
report:
  description: What was found.
  returned: always, once the source was reached
  type: dict
  contains:
    method:
      description: O(method).
      type: str
    source:
      description: The source.
      type: dict
      contains: &server
        address:
          description: Host and port.
          type: str
        version:
          description: Version with the minor, for example V(15.20).
          type: str
        major:
          description: Major version.
          type: int
        system_identifier:
          description: Identifier of the data directory, the same on standbys.
          type: str
        in_recovery:
          description: Whether it is a standby.
          type: bool
        provider_hints:
          description: Services that the server looks like, each with the C(signs) for it. They decide nothing.
          type: list
          elements: dict
        role:
          description: The connecting role with its C(name), C(attributes), C(member_of), and what it C(may) do here.
          type: dict
        settings:
          description: Settings that matter for a migration, with units.
          type: dict
    target:
      description: The same about the target, or null if there is none, or it was not reached.
      type: dict
    databases:
      description: Each database.
      type: list
      elements: dict
      contains:
        database:
          description: Name.
          type: str
        bytes:
          description: Size, or null if the role may not ask.
          type: int
        table_bytes:
          description: Size of the tables, without indexes.
          type: int
        large_object_bytes:
          description: Size of large objects.
          type: int
        tables:
          description: Number of tables that hold rows of their own. Null if the module could not look at the database.
          type: int
        rows_estimated:
          description: Rows in tables that were analyzed, as the planner estimates them.
          type: int
        tables_never_analyzed:
          description: Number of tables whose number of rows the planner does not know.
          type: int
        largest_tables:
          description: The ten largest tables.
          type: list
          elements: dict
        feasible_methods:
          description: Methods without a blocker, waived ones aside.
          type: list
          elements: str
        recommended_method:
          description: The best feasible method that O(method) allows, or null.
          type: str
        reasons:
          description: Why, in sentences.
          type: list
          elements: str
        obstacles:
          description: For each method, the ids of the blockers in its way.
          type: dict
        next:
          description: V(under_way) if migrations of the database have begun that are not finished, else null.
          type: str
        estimate:
          description: Seconds and bytes, for one session and without the time for indexes. Null if not measured.
          type: dict
          contains:
            sampled_table:
              description: Table whose beginning was read.
              type: str
            read_bytes_per_second:
              description: Bytes of tables, as they lie on disk, read per second.
              type: int
            write_bytes_per_second:
              description: Bytes of text written per second.
              type: int
            export_seconds:
              description: Time of an export by C(pg_dump) with its usual compression.
              type: float
            import_seconds:
              description: Time to load such an export.
              type: float
            copy_seconds:
              description: Time of a copy from the source into the target.
              type: float
            dump_bytes:
              description: Size of the dump.
              type: int
            target_bytes:
              description: Size on the target, at most the size on the source.
              type: int
    findings:
      description: All findings, worst first.
      type: list
      elements: dict
      contains:
        id:
          description: Id of the check.
          type: str
        level:
          description: V(blocker), V(warning), V(unknown), V(info) or V(ok).
          type: str
        database:
          description: Database, or null for the servers.
          type: str
        objects:
          description: Objects concerned.
          type: list
          elements: str
        seen:
          description: What was found.
          type: str
        consequence:
          description: What it would break.
          type: str
        remedy:
          description: The exact SQL or command that fixes it.
          type: str
        methods:
          description: Methods concerned.
          type: list
          elements: str
        waived:
          description: The reason why it is accepted, or null.
          type: str
    summary:
      description: Number of findings by level, without the waived ones, and number of waived findings.
      type: dict
failed_on:
  description: What O(fail_on) yields, or the databases without a feasible method.
  returned: when the task fails because of the findings
  type: raw
  sample: [shop]
"""

import json

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    BOTH,
    NAMES,
    POOLERS,
    SELECTION,
    TARGET,
    WAIVE,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.base.query import compiled, search
from ansible_collections.handover.postgresql.plugins.module_utils.methods.preflight import preflight, without_method

SHOWN = 500  # letters


def look(module):
    """The job of the module."""
    fail_on = module.params["fail_on"]
    if fail_on:
        compiled(fail_on)  # a mistake in it is said before anything is looked at
    target = endpoint(module, "target") if module.params["target"] else None
    for pooler in module.params["poolers"]:
        endpoint(module, "pooler", {name: value for name, value in pooler.items() if name != "databases"})
    report = preflight(endpoint(module, "source"), target, module.params)
    if fail_on:
        found = search(fail_on, report)
        problem = f"fail_on, {fail_on}, yields {shortened(found)}."
    else:
        found, problem = without_method(report)
    if found:
        remedy = "The findings in the report say what to do. Fix them, or accept them with waive."
        raise HandoverError(problem, remedy, report=report, failed_on=found)
    return {"report": report, "changed": False}


def shortened(found):
    """The beginning of what an expression yields, as JSON."""
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def main():
    run(
        {
            **BOTH,
            "target": {**TARGET["target"], "required": False},
            **SELECTION,
            **POOLERS,
            "method": {"type": "str", "choices": ["auto", "dump", "continuous"], "default": "auto"},
            "client_directory": {"type": "list", "elements": "path"},
            "locale_map": {"type": "dict", "default": {}},
            "jobs": {"type": "int"},
            "target_addresses": NAMES,
            "no_identity": {"type": "str", "choices": ["fail", "full", "copy_at_cutover"], "default": "fail"},
            "test_network": {"type": "str", "choices": ["no", "dblink", "subscription"], "default": "no"},
            "measure": {"type": "str", "choices": ["none", "read", "write"], "default": "none"},
            "fail_on": {"type": "str"},
            **WAIVE,
        },
        look,
    )


if __name__ == "__main__":
    main()
