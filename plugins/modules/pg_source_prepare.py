#!/usr/bin/python
# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_source_prepare
short_description: Make a source ready for a continuous migration, and put it back as it was
version_added: 0.1.0
author: The handover.postgresql authors (@handover)
description:
  - Raises the settings that logical replication needs, and makes a login role for the target with the least privileges
    that work. It uses SQL alone.
  - Settings are never lowered. The module records former values before each change, in the comment of that role.
  - Returns the lines that C(pg_hba.conf) needs, and the settings that wait for a restart. If the server's host can be
    reached over SSH, the playbook C(handover.postgresql.prepare_source) does both.
  - Changes nothing on a standby, or on a server whose configuration files have errors.
extends_documentation_fragment:
  - handover.postgresql.endpoints.source
  - handover.postgresql.databases.selection
  - handover.postgresql.endpoints.attributes
attributes:
  diff_mode:
    description: Shows the settings before and after, and the statements, with secrets masked.
    support: full
options:
  state:
    description:
      - V(present) makes ready.
      - V(absent) takes everything back, and drops the role. It leaves, and returns, what somebody else changed since,
        and what another migration on the same server needs.
    type: str
    choices: [present, absent]
    default: present
  databases:
    description:
      - Databases to migrate. Databases of earlier runs whose replication goes on are kept as well.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases).
  replication_role:
    description: Name of the login role for the target's connection. Migrations that share a server need one each.
    type: str
    default: handover_migrator
  replication_password:
    description:
      - Password of the role. Required to make the role, except with O(hba_method=cert). It is sent as a SCRAM verifier.
      - If the role has another password, the module changes it, but not while the role is in use.
    type: str
  create_replication_role:
    description:
      - With V(false), O(replication_role) is your own role. The module neither changes nor drops it;
        RV(instructions) says what it lacks.
    type: bool
    default: true
  replication_select:
    description:
      - Whether the role may read all tables, with C(pg_read_all_data), or, before 14, with grants in each schema.
      - Not needed for replication itself.
    type: bool
    default: false
  target_addresses:
    description:
      - Addresses, or networks in CIDR notation, that the target connects from. Required for O(state=present).
      - If one is not loopback and the source listens on loopback only, C(listen_addresses) is changed.
    type: list
    elements: str
  listen_addresses:
    description: New value of C(listen_addresses) for a source that listens on loopback only.
    type: str
    default: "*"
  replication_tls:
    description: Whether the target must use TLS, C(hostssl) in C(pg_hba.conf).
    type: bool
    default: true
  hba_method:
    description: Authentication method in C(pg_hba.conf).
    type: str
    choices: [scram-sha-256, cert, trust]
    default: scram-sha-256
  both_ways:
    description: Also prepare what the way back needs; for that, the source becomes the subscriber.
    type: bool
    default: true
  max_slot_wal_keep_size:
    description:
      - How much WAL a slot may hold back, as PostgreSQL takes it, for example V(100GB); a number alone is megabytes.
      - A guard against a full disk. A slot that needs more is lost, and the migration has to start over.
      - Without it, the setting stays as it is. An existing limit is raised, never lowered.
    type: str
  standbys_ready:
    description:
      - Confirm that all standbys of the source already have at least the new C(max_wal_senders) and
        C(max_worker_processes). A standby that has less than its primary stops.
    type: bool
    default: false
  settings_method:
    description:
      - How to change settings. V(alter_system) runs ALTER SYSTEM. V(conf_file) leaves it to a file on the host, which
        has to hold what RV(conf_file) says. V(instructions) leaves it to people.
      - V(auto) is V(alter_system), or V(conf_file) if the server refuses that. It is V(instructions) if the connecting
        role may not change settings, or if there are signs that a service or program manages the server.
    type: str
    choices: [auto, alter_system, conf_file, instructions]
    default: auto
seealso:
  - module: handover.postgresql.pg_configuration_reload
  - module: handover.postgresql.pg_preflight
"""

EXAMPLES = r"""
- name: Make ready for the target at 203.0.113.7
  handover.postgresql.pg_source_prepare:
    source:
      host: db.example.com
      user: postgres
      password: "{{ vault_source_password }}"
    replication_password: "{{ vault_migrator_password }}"
    target_addresses: [203.0.113.7]
    max_slot_wal_keep_size: 100GB
  register: prepared

- name: Show what remains to be done
  ansible.builtin.debug:
    msg: "{{ prepared.hba_lines + prepared.instructions }}"

- name: Put everything back
  handover.postgresql.pg_source_prepare:
    source:
      host: db.example.com
      user: postgres
      password: "{{ vault_source_password }}"
    state: absent
"""

RETURN = r"""
used_by:
  description: What still uses the role, such as sessions and slots.
  returned: if O(state=absent) fails because of it
  type: list
  elements: str
  sample: [1 of its sessions, the slot handover_4a98bd4ead_w1]
statements:
  description: The statements that were run, with secrets masked.
  returned: success
  type: list
  elements: str
  sample: ["ALTER SYSTEM SET wal_level = 'logical'", "SELECT pg_reload_conf()"]
settings:
  description:
    - Settings that were not as needed, with C(name), C(former), C(value), C(reason), whether a C(restart) is needed,
      and the C(method) that changes each. Numbers are in the unit of C(pg_settings).
  returned: when O(state=present)
  type: list
  elements: dict
  sample:
    - {name: wal_level, former: replica, value: logical, reason: logical replication, restart: true,
       method: alter_system}
settings_method:
  description: How settings are changed here.
  returned: when O(state=present)
  type: str
  sample: alter_system
conf_file:
  description: Settings that a file on the host has to hold, for all migrations on this server that use V(conf_file).
  returned: success
  type: dict
  sample: {wal_level: logical}
conf_lines:
  description: RV(conf_file) as the lines of that file.
  returned: success
  type: list
  elements: str
  sample: ["wal_level = 'logical'"]
conf_lines_before:
  description: The lines that the file held for the migrations before this one was taken back.
  returned: when O(state=absent)
  type: list
  elements: str
  sample: ["wal_level = 'logical'"]
record:
  description:
    - Settings that were changed for this migration so far, by name, with C(former), what was C(set), and the C(method).
      For V(alter_system), C(former) is what C(postgresql.auto.conf) said, V(none) if nothing.
  returned: success
  type: dict
  sample: {wal_level: {former: null, set: logical, method: alter_system}}
restart_required:
  description: Settings that take effect with a restart, with C(name), C(running), C(configured), and the C(reason).
  returned: success
  type: list
  elements: dict
  sample: [{name: wal_level, running: replica, configured: logical, reason: logical replication}]
also_pending:
  description: Settings that somebody else configured, and that the next restart would put in force, too.
  returned: success
  type: list
  elements: dict
  sample: [{name: shared_buffers, running: "16384", configured: "32768"}]
sessions:
  description:
    - Sessions that a restart would disconnect, with C(database), C(role), C(application_name), C(address), and the
      number of C(sessions). Empty if no restart is needed.
  returned: success
  type: list
  elements: dict
  sample: [{database: shop, role: shop, application_name: web, address: 192.0.2.4, sessions: 8}]
hba_lines:
  description: The lines that C(pg_hba.conf) needs, before any other that matches the target.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["hostssl shop handover_shop 203.0.113.7/32 scram-sha-256"]
hba_refused:
  description:
    - Connections of the target that the present C(pg_hba.conf) refuses, with C(database), C(address), and the C(place)
      of the line that decides. V(none) if the connecting role may not see that.
  returned: when O(state=present)
  type: list
  elements: dict
  sample: [{database: shop, address: 203.0.113.7/32, place: "/etc/postgresql/15/main/pg_hba.conf:97"}]
hba_places:
  description:
    - Lines of C(pg_hba.conf) that name the role, which is gone. V(none) if the connecting role may not see that.
  returned: when O(state=absent)
  type: list
  elements: str
  sample: ["/etc/postgresql/15/main/pg_hba.conf:97"]
role:
  description: The role for the target's connection.
  returned: success
  type: str
  sample: handover_shop
databases:
  description: The databases that the source was made ready for.
  returned: when O(state=present)
  type: list
  elements: str
  sample: [shop]
manager:
  description: The service or program that seems to manage the server.
  returned: when O(state=present)
  type: str
  sample: Patroni
instructions:
  description: What somebody else has to do.
  returned: success
  type: list
  elements: str
  sample: ["Set the flag cloudsql.logical_decoding and the rest on the instance; this restarts it."]
hints:
  description: What is worth knowing about settings that stay as they are.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["wal_sender_timeout is 0: if a connection of the target breaks silently, its slot stays taken."]
left:
  description: Settings that stay as they are, with C(name), C(value) and the C(reason).
  returned: when O(state=absent)
  type: list
  elements: dict
  sample: [{name: wal_level, value: logical, reason: somebody has a logical slot}]
server:
  description:
    - The server, with C(version), C(system_identifier), C(port), C(data_directory), C(config_file), C(hba_file), the
      lines of its pid file, and its command line. Values that the connecting role may not see are V(none).
  returned: success
  type: dict
  sample: {version: "15.20", system_identifier: "7710278377752326482", port: 5432}
"""

from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import NO, SELECTION, SOURCE, YES
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import endpoint, run
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source.prepare import prepare
from ansible_collections.handover.postgresql.plugins.module_utils.methods.source.release import release


def main():
    methods = ["auto", "alter_system", "conf_file", "instructions"]
    jobs = {"present": prepare, "absent": release}
    run(
        {
            **SOURCE,
            **SELECTION,
            "state": {"type": "str", "choices": list(jobs), "default": "present"},
            "replication_role": {"type": "str", "default": "handover_migrator"},
            "replication_password": {"type": "str", "no_log": True},
            "create_replication_role": YES,
            "replication_select": NO,
            "target_addresses": {"type": "list", "elements": "str"},
            "listen_addresses": {"type": "str", "default": "*"},
            "replication_tls": YES,
            "hba_method": {"type": "str", "choices": ["scram-sha-256", "cert", "trust"], "default": "scram-sha-256"},
            "both_ways": YES,
            "max_slot_wal_keep_size": {"type": "str"},
            "standbys_ready": NO,
            "settings_method": {"type": "str", "choices": methods, "default": "auto"},
        },
        lambda module: jobs[module.params["state"]](endpoint(module, "source"), module.params, module.check_mode),
        required_if=[("state", "present", ["target_addresses"])],
    )


if __name__ == "__main__":
    main()
