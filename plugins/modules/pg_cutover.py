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
  - Whatever fails before the commit is taken back, and the application goes on with the old server as if nothing had
    happened. From the commit on, the old server refuses every write, superusers' included, and says where the database
    lives now.
  - Everything that is written at the new home is replicated to the old one, where that may subscribe, so that
    O(direction=back) is a handover like any other, without loss.
  - A run that was killed is completed or taken back by a program that it has left behind, or by the next run.
  - The guide, C(docs/cutover.md), says what happens in the window step by step.
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.endpoints.target
  - handover.postgresql.endpoints.attributes
attributes:
  check_mode:
    description: Asks the gates, and returns what would be done in the window and how long that would take.
    support: full
options:
  direction:
    description:
      - V(forward) hands over from the source to the target.
      - V(back) hands over from the target back to the source, with everything that was written to the target.
    type: str
    choices: [forward, back]
    default: forward
  databases:
    description: Databases, by their names on the source. Without it, all but templates and V(postgres).
    type: list
    elements: str
    default: []
  ignore_databases:
    description: Databases to leave out when O(databases) is not given.
    type: list
    elements: str
    default: []
  rename:
    description: Names on the target for databases that are called otherwise there.
    type: dict
    default: {}
  together:
    description:
      - Hand all databases over in one window. If one of them cannot be, none is.
      - With V(false), each has its own window, one after the other.
      - With poolers and several databases it has to be V(true), because a pooler loads all of its entries at once.
    type: bool
    default: false
  deadline:
    description:
      - How long the window may take until the commit. When it is over, everything is taken back.
      - A number of seconds, or with a unit, as V(500ms) and V(1min).
    type: str
    default: 10s
  poolers:
    description:
      - Admin consoles of the PgBouncers that the application uses. Each is paused, told to load its configuration,
        which has to lead to the new home by then, and resumed, whatever happens.
      - Pools have to be in transaction or statement mode, or have no client while the window is open.
    type: list
    elements: dict
    default: []
    suboptions:
      uri:
        description:
          - A connection URI as consoles of services hand it out, V(postgresql://user:password@host:port/dbname?sslmode=require).
          - It may be combined with other options, as long as nothing is said twice.
        type: str
      host:
        description: Name or address of the pooler, or the directory of its socket.
        type: str
      port:
        description: Port of the pooler.
        type: int
      user:
        description: User among C(admin_users).
        type: str
      password:
        description:
          - Password of that user.
        type: str
      dbname:
        description:
          - Name of the admin console. Without it, V(pgbouncer).
        type: str
      sslmode:
        description:
          - How TLS is used, as libpq defines it.
          - Without it, V(require) for a host that is reached over the network, libpq's default on loopback.
            With O(ignore:poolers.service), the service file decides.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      sslrootcert:
        description: File with the certificates of the authorities that are trusted.
        type: str
      sslcert:
        description: File with the client's certificate.
        type: str
      sslkey:
        description: File with the client's key.
        type: str
      sslpassword:
        description: Password of the client's key.
        type: str
      service:
        description: Name of a service in libpq's connection service file.
        type: str
      passfile:
        description: Pass file to use instead of C(~/.pgpass).
        type: str
      connect_timeout:
        description: Seconds to wait for a connection, V(5) without it.
        type: int
      databases:
        description:
          - Entries of the pooler that are switched, as clients name them.
          - Without it, those that lead to a database of the name that it has on the source or on the target.
        type: list
        elements: str
        default: []
  reverse:
    description:
      - Whether there is to be a way back. V(true) refuses to hand over without one.
      - Without it, there is one where the old server may subscribe; otherwise the result says why not.
    type: bool
  reverse_replication:
    description:
      - How the source's server reaches the target, for the way back. What is not said is as in O(target).
      - Paths are those of the source's host.
    type: dict
    suboptions:
      host:
        description: Name or address of the target as the source's host knows it.
        type: str
      port:
        description: Port of the target.
        type: int
      user:
        description: Role on the target with REPLICATION.
        type: str
      password:
        description:
          - Password of that role. With O(reverse_replication.user), that of O(target) is not used.
          - The source keeps it in a catalog that only superusers read.
        type: str
      sslmode:
        description:
          - How TLS is used. V(verify-ca) and V(verify-full) of O(target) become V(require) unless
            O(reverse_replication.sslrootcert) is given.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      sslrootcert:
        description: File with the certificates of the authorities that are trusted, on the source's host.
        type: str
      sslcert:
        description: File with the client's certificate, on the source's host.
        type: str
      sslkey:
        description: File with the client's key, on the source's host.
        type: str
  replication:
    description:
      - How the target's server reaches the source, for the direction in which the target follows again after a
        rollback. What is not said is as in O(source).
      - Paths are those of the target's host.
    type: dict
    suboptions:
      host:
        description: Name or address of the source as the target's host knows it.
        type: str
      port:
        description: Port of the source.
        type: int
      user:
        description: Role on the source with REPLICATION, such as M(handover.postgresql.pg_source_prepare) makes.
        type: str
      password:
        description:
          - Password of that role. With O(replication.user), that of O(source) is not used.
          - The target keeps it in a catalog that only superusers read.
        type: str
      sslmode:
        description:
          - How TLS is used. V(verify-ca) and V(verify-full) of O(source) become V(require) unless
            O(replication.sslrootcert) is given.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      sslrootcert:
        description: File with the certificates of the authorities that are trusted, on the target's host.
        type: str
      sslcert:
        description: File with the client's certificate, on the target's host.
        type: str
      sslkey:
        description: File with the client's key, on the target's host.
        type: str
  sequence_margin:
    description:
      - How many calls of C(nextval) sequences are advanced further than they are, for values that sessions have
        fetched and may still use. It never leaves a sequence's bounds.
      - Without it, V(0) behind poolers and V(1000) otherwise.
    type: int
  fence_roles:
    description:
      - Roles that lose LOGIN on the old server, with the same commit. A handover in the other direction gives it back.
      - The connecting role must be allowed to alter them.
    type: list
    elements: str
    default: []
  terminate_sessions:
    description: End all sessions that are connected to the database on the old server after the handover.
    type: bool
    default: false
  require_verification:
    description:
      - Whether M(handover.postgresql.pg_verify) must have found the contents equal before.
      - Without it, it must for O(direction=forward).
    type: bool
  verified_within:
    description: How old that verification may be, in seconds, or with a unit, as V(90min) and V(2d).
    type: str
    default: 1d
  max_lag:
    description: How far the new home may be behind before the window is opened, in seconds, or with a unit.
    type: str
    default: 5s
  switch_command:
    description:
      - Program with its arguments that sends the application to the new home, where no pooler does. It is run without a
        shell, on the host where the module runs, after the commit and before poolers are resumed.
      - When it fails, the handover stands, and the task fails and says so.
    type: list
    elements: str
    default: []
  switch_timeout:
    description: How long O(switch_command) may take, in seconds, or with a unit.
    type: str
    default: 30s
requirements:
  - psycopg2 >= 2.8
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
  returned: always
  type: str
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
      description: Identity of the migration.
      type: str
    direction:
      description: The direction.
      type: str
    changed:
      description: Whether anything was done, or would be.
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
      description: How many calls further they were set.
      type: int
    copied_bytes:
      description: Bytes of tables that are copied in the window.
      type: int
    copied_rows:
      description: Rows of these tables.
      type: int
    large_objects:
      description: Number of large objects that are copied in the window.
      type: int
    fenced_roles:
      description: Roles that lost LOGIN.
      type: list
      elements: str
    terminated:
      description: Number of sessions that were ended.
      type: int
    lag_seconds:
      description: How far the new home was behind before the window.
      type: float
    way_back:
      description: Whether there is a way back, or would be.
      type: bool
    way_back_seconds:
      description: How long the first change took to come back.
      type: float
    obstacles_to_way_back:
      description: Why there is none.
      type: list
      elements: str
    gates:
      description: What had to be true before, with C(gate), C(ok), C(problem), C(remedy).
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
      description: Where the poolers lead now; C(leads_to_new) is by their sessions with a server, null without any.
      type: list
      elements: dict
    to_enable:
      description:
        - What is held back at the new home and may be enabled there now, jobs of pg_cron, triggers that are disabled or
          fire always, event triggers and settings that only the old server has.
      type: dict
    problems:
      description: What could not be done after the commit, with C(step), C(problem), C(remedy).
      type: list
      elements: dict
    notices:
      description: What the operator has to know.
      type: list
      elements: str
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import endpoint, endpoint_argument, run
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.hand_over import hand_over


def replication_argument() -> dict:
    options = dict(endpoint_argument()["options"])
    for name in ("uri", "dbname", "sslpassword", "service", "passfile", "connect_timeout"):
        del options[name]
    return {"type": "dict", "options": options}


def job(module) -> dict:
    for one in module.params["poolers"]:
        given = {name: value for name, value in one.items() if name != "databases"}
        module.no_log_values.update(Endpoint.from_options("pooler", given).secrets)
    return hand_over(endpoint(module, "source"), endpoint(module, "target"), module.params, module.check_mode)


def main():
    names = {"type": "list", "elements": "str", "default": []}
    no = {"type": "bool", "default": False}
    pooler = {**endpoint_argument()["options"], "databases": names}
    run(
        {
            "source": endpoint_argument(),
            "target": endpoint_argument(),
            "direction": {"type": "str", "choices": ["forward", "back"], "default": "forward"},
            "databases": names,
            "ignore_databases": names,
            "rename": {"type": "dict", "default": {}},
            "together": no,
            "deadline": {"type": "str", "default": "10s"},
            "poolers": {"type": "list", "elements": "dict", "default": [], "options": pooler},
            "reverse": {"type": "bool"},
            "reverse_replication": replication_argument(),
            "replication": replication_argument(),
            "sequence_margin": {"type": "int"},
            "fence_roles": names,
            "terminate_sessions": no,
            "require_verification": {"type": "bool"},
            "verified_within": {"type": "str", "default": "1d"},
            "max_lag": {"type": "str", "default": "5s"},
            "switch_command": names,
            "switch_timeout": {"type": "str", "default": "30s"},
        },
        job,
    )


if __name__ == "__main__":
    main()
