# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each database of a pair, from the results of the tasks that worked on them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: dump_report
short_description: Put together what a dump migration did, database by database
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Joins the results of loops over M(handover.postgresql.pg_dump_export) and M(handover.postgresql.pg_restore_import).
  - Leaves out what differs between a run that does the work and one that finds it done.
positional: exports, imports, steps
options:
  _input:
    description: Names of the databases to bring over.
    type: list
    elements: str
    required: true
  exports:
    description: The results of a loop over databases.
    type: list
    elements: dict
    required: true
  imports:
    description: The results of a loop over databases.
    type: list
    elements: dict
    required: true
  steps:
    description: The chosen steps. Without V(export), for example, a database is complete even if it was not exported.
    type: list
    elements: str
    default: [export, import]
seealso:
  - module: handover.postgresql.pg_dump_export
  - module: handover.postgresql.pg_restore_import
"""

EXAMPLES = r"""
- name: Show what happened to the databases
  ansible.builtin.debug:
    msg: "{{ ['shop', 'blog'] | handover.postgresql.dump_report(exports.results, imports.results) }}"
"""

RETURN = r"""
_value:
  description: One element for each database.
  type: list
  elements: dict
  contains:
    database:
      description: Name on the source.
      type: str
    complete:
      description: Whether every chosen step ran and succeeded.
      type: bool
    export:
      description: What M(handover.postgresql.pg_dump_export) returned about the database, or null.
      type: dict
    import:
      description: What M(handover.postgresql.pg_restore_import) returned about the database, or null.
      type: dict
    error:
      description: Why it is not complete, or null.
      type: str
"""

NOT_REACHED = "The run ended before it reached this database."


def dump_report(databases, exports, imports, steps=("export", "import")):
    """See DOCUMENTATION."""
    return [_one(name, {"export": _find(name, exports), "import": _find(name, imports)}, steps) for name in databases]


def _find(name, results):
    """The result of this database in a loop, empty where the loop did not come so far."""
    return next((result for result in results if result["item"] == name), {})


def _one(name, results, steps):
    units = {step: _unit(result) for step, result in results.items()}
    messages = [result["msg"] for result in results.values() if "msg" in result]
    complete = not messages and all(unit is not None for step, unit in units.items() if step in steps)
    error = None if complete else next(iter(messages), NOT_REACHED)
    return {"database": name, "complete": complete, **units, "error": error}


def _unit(result):
    """What the module said about the database, if it did."""
    if "databases" not in result:
        return None
    return {key: value for key, value in result["databases"][0].items() if key != "changed"}


class FilterModule:
    """Filters of this file."""

    def filters(self):
        """Their names."""
        return {"dump_report": dump_report}
