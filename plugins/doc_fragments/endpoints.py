# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """One attribute a fragment: ``handover.postgresql.endpoints.source`` and so on."""

    SOURCE = r"""
options:
  source:
    description:
      - The server that the data comes from.
      - The connection may be narrowed to any database of it; which ones are worked on is said elsewhere.
    type: dict
    required: true
    suboptions:
      uri:
        description:
          - A connection URI as consoles of services hand it out, V(postgresql://user:password@host:port/dbname?sslmode=require).
          - It may be combined with other options, as long as nothing is said twice.
        type: str
      host:
        description: Name or address of the server, or the directory of its socket.
        type: str
      port:
        description: Port of the server. libpq's default is V(5432).
        type: int
      user:
        description: Role to connect as.
        type: str
      password:
        description:
          - Password of the role. Child programs get it in a pass file in memory, never as an argument.
        type: str
      dbname:
        description:
          - Database to connect to for what concerns the whole server.
          - Without it, the first of V(postgres), V(defaultdb), V(template1) that exists.
        type: str
      sslmode:
        description:
          - How TLS is used, as libpq defines it.
          - Without it, V(require) for a host that is reached over the network, libpq's default on loopback.
            With O(ignore:source.service), the service file decides.
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
        description: Seconds to wait for a connection, V(15) without it.
        type: int
"""

    TARGET = r"""
options:
  target:
    description:
      - The server that the data goes to.
      - The connection may be narrowed to any database of it; which ones are worked on is said elsewhere.
    type: dict
    required: true
    suboptions:
      uri:
        description:
          - A connection URI as consoles of services hand it out, V(postgresql://user:password@host:port/dbname?sslmode=require).
          - It may be combined with other options, as long as nothing is said twice.
        type: str
      host:
        description: Name or address of the server, or the directory of its socket.
        type: str
      port:
        description: Port of the server. libpq's default is V(5432).
        type: int
      user:
        description: Role to connect as.
        type: str
      password:
        description:
          - Password of the role. Child programs get it in a pass file in memory, never as an argument.
        type: str
      dbname:
        description:
          - Database to connect to for what concerns the whole server.
          - Without it, the first of V(postgres), V(defaultdb), V(template1) that exists.
        type: str
      sslmode:
        description:
          - How TLS is used, as libpq defines it.
          - Without it, V(require) for a host that is reached over the network, libpq's default on loopback.
            With O(ignore:target.service), the service file decides.
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
        description: Seconds to wait for a connection, V(15) without it.
        type: int
"""

    CLIENTS = r"""
options:
  client_directory:
    description:
      - Directories in which C(pg_dump) and C(pg_restore) are looked for, on the host where the module runs.
      - Without it, E(PATH) and the usual places of Debian, RHEL, Alpine, Homebrew and execution environments.
      - Of the versions found, the one that fits both servers is used. See the guide for the rules.
    type: list
    elements: path
  jobs:
    description:
      - How many sessions read or write at once.
      - Without it, as many as the host has cores and the database has tables, but not more than 8.
    type: int
requirements:
  - psycopg2 >= 2.8
  - C(pg_dump) and C(pg_restore)
"""

    ATTRIBUTES = r"""
attributes:
  check_mode:
    description: Changes nothing, and returns what would be done, down to the commands.
    support: full
  diff_mode:
    description: Shows what would be or was changed.
    support: none
  idempotent:
    description: A second run with the same options reports no change.
    support: full
  action_group:
    description: Endpoints can be given once for all modules of the group, in C(module_defaults).
    support: full
    membership:
      - handover.postgresql.pg
"""
