#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_preflight
short_description: Find out whether databases can be handed over, by which method, and what stands in the way
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Looks at the source, the target and each database, and changes nothing, ever. All sessions are read-only.
  - Each check gives at least one finding, with what was seen, what it would break, and the exact remedy.
    A question that could not be answered is V(unknown), never V(ok).
  - The checks are listed in the collection's guide to findings.
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.endpoints.target
  - handover.postgresql.endpoints.attributes
options:
  target:
    description:
      - The server that the data goes to.
      - Without it, what concerns only the source is said; the rest is V(unknown).
    required: false
  databases:
    description:
      - Databases to look at.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases).
    type: list
    elements: str
    default: []
  ignore_databases:
    description: Databases to leave out when O(databases) is not given.
    type: list
    elements: str
    default: []
  method:
    description: Method that is intended. V(auto) recommends the best that is feasible, for each database.
    type: str
    choices: [auto, dump, continuous]
    default: auto
  client_directory:
    description:
      - Directories in which C(pg_dump) and C(pg_restore) are looked for.
        See M(handover.postgresql.pg_dump_export).
    type: list
    elements: path
  fail_on:
    description:
      - JMESPath expression over RV(report). The task fails if it yields anything but nothing, false, or what is empty.
      - Without it, the task fails when a database has no feasible method, or O(method) is not feasible for it.
      - For example C(findings[?level=='warning' && !waived]).
    type: str
  waive:
    description: Findings that are accepted. They stay in the report, marked as waived, and no longer stand in the way.
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
        description: Objects that are accepted. A finding with others is not waived. Without it, any.
        type: list
        elements: str
        default: []
      reason:
        description: Why it is accepted.
        type: str
        required: true
requirements:
  - psycopg2 >= 2.8
  - jmespath
seealso:
  - module: handover.postgresql.pg_dump_export
"""

EXAMPLES = r"""
- name: Look at everything
  handover.postgresql.pg_preflight:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"

- name: Fail on every blocker and every warning that was not discussed
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
  returned: always, once both servers were reached
  type: dict
  contains:
    source:
      description: Version, identity, role and settings of the source.
      type: dict
    target:
      description: The same of the target, or null.
      type: dict
    databases:
      description: Each database, with sizes, feasible methods, the recommended one, and the obstacles to each.
      type: list
      elements: dict
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
          description: The exact SQL or command that mends it.
          type: str
        methods:
          description: Methods concerned.
          type: list
          elements: str
        waived:
          description: The reason why it is accepted, or null.
          type: str
    summary:
      description: Number of findings by level, and of those waived.
      type: dict
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import endpoint, endpoint_argument, run
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.query import compiled, search
from ansible_collections.handover.postgresql.plugins.module_utils.methods.preflight import preflight

NO_METHOD = "databases[?recommended_method==null]"


def look(module):
    """The job of the module."""
    expression = module.params["fail_on"] or NO_METHOD
    compiled(expression)  # a mistake in it is said before anything is looked at
    target = endpoint(module, "target") if module.params["target"] else None
    report = preflight(endpoint(module, "source"), target, module.params)
    found = search(expression, report)
    if found:
        raise HandoverError(_failure(module.params["fail_on"], found), report=report, failed_on=found)
    return {"report": report, "changed": False}


def _failure(fail_on, found):
    if fail_on:
        number = len(found) if isinstance(found, list) else 1
        return f"fail_on matches {number} times."
    names = ", ".join(database["database"] for database in found)
    reasons = "; ".join(
        sorted({reason for one in found for reasons in one["obstacles"].values() for reason in reasons})
    )
    return f"No feasible method for: {names}. {reasons}"


def main():
    names = {"type": "list", "elements": "str", "default": []}
    waiver = {
        "id": {"type": "str", "required": True},
        "database": {"type": "str"},
        "objects": {"type": "list", "elements": "str", "default": []},
        "reason": {"type": "str", "required": True},
    }
    run(
        {
            "source": endpoint_argument(),
            "target": {**endpoint_argument(), "required": False},
            "databases": names,
            "ignore_databases": names,
            "method": {"type": "str", "choices": ["auto", "dump", "continuous"], "default": "auto"},
            "client_directory": {"type": "list", "elements": "path"},
            "fail_on": {"type": "str"},
            "waive": {"type": "list", "elements": "dict", "default": [], "options": waiver},
        },
        look,
    )


if __name__ == "__main__":
    main()
