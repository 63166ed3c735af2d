#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_cutover
short_description: Hand live databases over to their new home, and back
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Takes databases that M(handover.postgresql.pg_logical_migrate) keeps in step, and makes the target the server that
    the application writes to, in one call and under one deadline, mostly within a tenth of a second.
  - If anything fails before the commit, everything is taken back, and the application goes on with the old server as if
    nothing had happened. From the commit on, the old server refuses every write, superusers' included, and says where
    the database lives now.
  - If the old server may subscribe, everything that is written at the new home is replicated to it, so that
    O(direction=back) is a handover like any other, without loss.
  - If a run is killed, a helper program that it started completes it or takes it back; if that is killed too, the next
    run does.
  - The guide, C(docs/cutover.md), says what happens in the window step by step.
extends_documentation_fragment:
  - handover.postgresql.endpoints.both
  - handover.postgresql.databases.pairs
  - handover.postgresql.endpoints.poolers
  - handover.postgresql.endpoints.replication
  - handover.postgresql.endpoints.reverse_replication
  - handover.postgresql.endpoints.attributes
attributes:
  check_mode:
    description: Checks the gates, and returns what would be done in the window and how long that would take.
    support: full
options:
  direction:
    description:
      - V(forward) hands over from the source to the target.
      - V(back) hands over from the target back to the source, with everything that was written to the target.
    type: str
    choices: [forward, back]
    default: forward
  together:
    description:
      - Hand all databases over in one window. If one of them cannot be handed over, none is.
      - With V(false), each has its own window, one after the other.
      - With poolers and several databases, set it to V(true), because a pooler loads all of its entries at once.
    type: bool
    default: false
  deadline:
    description:
      - How long the window may take until the commit. After that time, everything is taken back.
      - A number of seconds, or a number with a unit, for example V(500ms) or V(1min).
    type: str
    default: 10s
  reverse:
    description:
      - Whether to make a way back. With V(true), the module refuses to hand over without one; with V(false), it makes
        none.
      - Without it, there is a way back if the old server may subscribe; otherwise the result says why not.
    type: bool
  replication:
    description:
      - How the target's server reaches the source, when the target follows again after a rollback. Suboptions that are
        not set are taken from O(source).
      - Paths are those of the target's host.
      - If the connecting role is no superuser on the target, it needs a password here or in O(source).
  sequence_margin:
    description:
      - How many calls of C(nextval) to advance sequences beyond their positions at the commit. This leaves room for
        values that sessions fetch from the old server afterwards, which nothing can refuse, and use elsewhere. Values
        that were fetched before the commit are never given again. A sequence never leaves its bounds.
      - Without it, V(0) behind poolers and V(1000) otherwise.
    type: int
  fence_roles:
    description:
      - Roles that lose LOGIN on the old server, with the same commit, for all of its databases. The first of these
        databases that is handed over in the other direction brings LOGIN back.
      - The connecting role must be allowed to alter them.
      - The module refuses the connecting role itself, and roles that a migration's replication uses to log in there.
    type: list
    elements: str
    default: []
  terminate_sessions:
    description: After the handover, end all sessions that are connected to the database on the old server.
    type: bool
    default: false
  require_verification:
    description:
      - Whether M(handover.postgresql.pg_verify) must have found the contents equal before. It must have done so after
        the last start, promotion or restore of either server, and after the last change of publications and
        subscriptions.
      - Without it, this is required for O(direction=forward).
    type: bool
  verified_within:
    description: How old that verification may be, in seconds or with a unit, for example V(90min) or V(2d).
    type: str
    default: 1d
  roles:
    description:
      - What to do about roles that were made or changed since they were brought over, as far as the new home accepts
        it. Passwords are compared by their hashes, if both servers show these.
      - V(bring) brings them over again, right before the window; V(compare) refuses to hand over, and names them;
        V(ignore) does not look.
      - Nothing is taken away from roles of the new home. With O(direction=back), roles that the source never had come
        only if the database needs them.
    type: str
    choices: [bring, compare, ignore]
    default: bring
  role_passwords:
    description:
      - Passwords of roles at the new home, instead of their passwords at the old one.
      - They are hashed before they are sent.
    type: dict
    default: {}
  skip_roles:
    description: Roles to leave alone, besides those that services reserve.
    type: list
    elements: str
    default: []
  follow_schema:
    description:
      - Bring changes of the schema to the new home before the gates are asked, as
        O(handover.postgresql.pg_logical_migrate#module:follow_schema) does. Nothing is copied. What was verified before
        such a change is not known to be equal any more.
      - With O(direction=back), all else, such as indexes, views and functions, is followed, too, from a fresh
        C(pg_dump) of the schema. So that this is told from what there was, the schema of the new home is described
        before the window.
    type: bool
    default: false
    version_added: 0.2.0
  client_directory:
    description:
      - Directories in which C(pg_dump) and C(pg_restore) are looked for, on the host where the module runs. They are
        needed only with O(follow_schema), to describe schemas.
      - Without it, E(PATH) and the usual places of Debian, RHEL, Alpine, Homebrew and execution environments.
    type: list
    elements: path
    version_added: 0.2.0
  cutover_max_lag:
    description: How far the new home may be behind before the window is opened, in seconds or with a unit.
    type: str
    default: 5s
  switch_command:
    description:
      - Program with its arguments that points the application at the new home, if no pooler does. It runs without a
        shell, on the host where the module runs, after the commit and before poolers are resumed.
      - If it fails, the handover stands, and the task fails and says so.
    type: list
    elements: str
    default: []
  switch_timeout:
    description: How long O(switch_command) may take, in seconds or with a unit.
    type: str
    default: 30s
seealso:
  - module: handover.postgresql.pg_logical_migrate
  - module: handover.postgresql.pg_verify
  - name: PgBouncer
    description: PgBouncer's documentation of its admin console.
    link: https://www.pgbouncer.org/usage.html#admin-console
"""

EXAMPLES = r"""
- name: See how long it would take, and what stands in the way
  handover.postgresql.pg_cutover:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
  check_mode: true

- name: Hand over, behind two poolers
  handover.postgresql.pg_cutover:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    poolers:
      - host: pgbouncer1.example.com
        port: 6432
        user: admin
        password: "{{ vault_pgbouncer_password }}"
      - host: pgbouncer2.example.com
        port: 6432
        user: admin
        password: "{{ vault_pgbouncer_password }}"

- name: And back
  handover.postgresql.pg_cutover:
    source:
      uri: "{{ vault_source_uri }}"
    target:
      uri: "{{ vault_target_uri }}"
    databases: [shop]
    direction: back
"""

RETURN = r"""
direction:
  description: The direction.
  returned: success
  type: str
  sample: forward
handed_over:
  description: Whether the databases are handed over. Absent if that is not known.
  returned: when the module fails
  type: bool
  sample: true
databases:
  description: One element for each database.
  returned: success, or when something is left to do after the commit
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
    direction:
      description: The direction.
      type: str
    changed:
      description: Whether anything was done, or would be done in check mode.
      type: bool
    handed_over:
      description: Whether the database is handed over in that direction.
      type: bool
    home:
      description: Where the database lives from then on.
      type: str
    place:
      description: The same as C(host), C(port), C(dbname).
      type: dict
    window_ms:
      description: Milliseconds from pausing the first pooler to resuming the last; in check mode what is expected.
      type: float
    timeline:
      description: The steps of the window, with when each began and how long it took, in milliseconds. Some overlap.
      type: list
      elements: dict
      sample: [{step: pause, at_ms: 0.1, ms: 3.2}, {step: lock, at_ms: 3.4, ms: 2.9}]
    fence_lsn:
      description: A position in the WAL of the old server after which nothing was written to the database.
      type: str
    tables:
      description: Number of tables that are fenced.
      type: int
    sequences:
      description: Number of sequences.
      type: int
    sequence_margin:
      description: How many calls of C(nextval) further they were set.
      type: int
    copied_bytes:
      description: Size of the tables that are copied in the window.
      type: int
    copied_rows:
      description: Rows of these tables.
      type: int
    large_objects:
      description: Number of large objects.
      type: int
    large_objects_in_window:
      description:
        - How many of them were brought over or removed in the window, because they had changed since right before.
      type: int
    unfenced:
      description: Tables of extensions that cannot be fenced, or whose rows are the extension's own; quoted.
      type: list
      elements: str
    strays:
      description:
        - What was changed on the old server only, past the fence, after the window had read it. These are large
          objects, and sequences that went further than the margin.
      type: list
      elements: str
    followed:
      description:
        - With O(follow_schema), the statements that brought changes of the schema to the new home, or would do so.
      returned: if there were any
      type: list
      elements: str
      version_added: 0.2.0
    roles:
      description:
        - The statements that brought roles over again, or would do so, with passwords masked. With O(roles=compare)
          nobody runs them.
      returned: unless O(roles=ignore)
      type: list
      elements: str
    fenced_roles:
      description: Roles that lost LOGIN, with this database or with one that was handed over before it.
      type: list
      elements: str
    terminated:
      description: Number of sessions that were ended.
      type: int
    lag_seconds:
      description: How far the new home was behind before the window.
      type: float
    way_back:
      description: Whether there is a way back, or would be one in check mode.
      type: bool
    way_back_seconds:
      description:
        - Seconds after which the first change was seen to have come back. If databases have windows of their own, it is
          looked for at once after the first window only.
      type: float
    obstacles_to_way_back:
      description: Why there is no way back.
      type: list
      elements: str
    not_on_way_back:
      description:
        - Replicated tables that the new home cannot publish, such as those with REPLICA IDENTITY FULL and generated
          columns from PostgreSQL 18 on. A handover in the other direction copies them, while writers wait.
      type: list
      elements: str
    gates:
      description:
        - The conditions for the handover, with C(gate), C(ok), C(problem), C(remedy). V(continuity) is closed if
          changes were lost on the way, or may have been, as M(handover.postgresql.pg_migration_info) says.
      type: list
      elements: dict
    ready:
      description: Whether the handover could take place now.
      returned: in check mode
      type: bool
    steps:
      description: What would be done in the window.
      returned: in check mode
      type: list
      elements: str
    poolers:
      description:
        - Where the poolers point now. C(leads_to_new) tells from their sessions with a server; null without any.
      type: list
      elements: dict
    to_enable:
      description:
        - What is held back at the new home and may be enabled there now. These are jobs of pg_cron, triggers that are
          disabled or fire always, and event triggers and settings that only the old server has.
      type: dict
    problems:
      description: What could not be done after the commit, with C(step), C(problem), C(remedy).
      type: list
      elements: dict
    notices:
      description: What you need to know.
      type: list
      elements: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import (
    BOTH,
    NAMES,
    NO,
    PAIRS,
    POOLERS,
    REPLICATION,
    REVERSE_REPLICATION,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.hand_over import hand_over


def job(module) -> dict:
    """The job of the module; secrets of the poolers are made known to the frame, too."""
    source, target = endpoint(module, "source"), endpoint(module, "target")
    for pooler in module.params["poolers"]:
        endpoint(module, "pooler", {name: value for name, value in pooler.items() if name != "databases"})
    return hand_over(source, target, module.params, module.check_mode)


def main():
    run(
        {
            **BOTH,
            **PAIRS,
            **POOLERS,
            **REPLICATION,
            **REVERSE_REPLICATION,
            "direction": {"type": "str", "choices": ["forward", "back"], "default": "forward"},
            "together": NO,
            "deadline": {"type": "str", "default": "10s"},
            "reverse": {"type": "bool"},
            "sequence_margin": {"type": "int"},
            "fence_roles": NAMES,
            "terminate_sessions": NO,
            "require_verification": {"type": "bool"},
            "verified_within": {"type": "str", "default": "1d"},
            "roles": {"type": "str", "choices": ["bring", "compare", "ignore"], "default": "bring"},
            "role_passwords": {"type": "dict", "default": {}, "no_log": True},
            "skip_roles": NAMES,
            "follow_schema": NO,
            "client_directory": {"type": "list", "elements": "path"},
            "cutover_max_lag": {"type": "str", "default": "5s"},
            "switch_command": NAMES,
            "switch_timeout": {"type": "str", "default": "30s"},
        },
        job,
    )


if __name__ == "__main__":
    main()
