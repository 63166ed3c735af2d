# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that say how servers and poolers are reached, and what all modules that do so have in common."""

from __future__ import annotations

CONNECTION = """
      uri:
        description:
          - A connection URI as the consoles of services show it, V(postgresql://user:password@host:port/dbname?sslmode=require).
          - You may combine it with other options, as long as nothing is set twice.
        type: str
      host:
        description: Name or address of the {what}, or the directory of its socket.
        type: str
      port:
        description: Port of the {what}. libpq's default is V(5432).
        type: int
      user:
        description: {user}
        type: str
      password:
        description:
          - {password}
        type: str
      dbname:
        description:
          - {dbname}
        type: str
      sslmode:
        description:
          - How TLS is used, as libpq defines it.
          - Without it, V(require) for a host that is reached over the network, and libpq's default on loopback.
            With O(ignore:{option}.service), the service file decides.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      sslrootcert:
        description: File with the certificates of the trusted authorities.
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
        description: Seconds to wait for a connection. Without it, V({timeout}).
        type: int
"""


def _endpoint(option: str, role: str) -> str:
    """Documentation of an option that is an endpoint; ``role`` ends "The server that the data"."""
    connection = CONNECTION.format(
        option=option,
        what="server",
        user="Role to connect as.",
        password="Password of the role. Child programs get it in a pass file in memory, never as an argument.",
        dbname="""Database to connect to for what concerns the whole server.
          - Without it, the first existing one of V(postgres), V(defaultdb), V(template1).""",
        timeout=15,
    )
    return f"""
  {option}:
    description:
      - The server that the data {role}.
      - The module uses the same login for each database that it works on; other options choose the databases.
    type: dict
    required: true
    suboptions:{connection}"""


def _replication(option: str, publisher: str, subscriber: str, user: str, purpose: str = "") -> str:
    """Documentation of an option that says how the subscriber's server reaches the publisher's."""
    return f"""
options:
  {option}:
    description:
      - How the {subscriber}'s server reaches the {publisher}{purpose}. Suboptions that are not set are taken from
        O({publisher}).
      - Paths are those of the {subscriber}'s host.
      - If the connecting role is no superuser on the {subscriber}, it needs a password here or in O({publisher}).
    type: dict
    suboptions:
      host:
        description: Name or address of the {publisher} as the {subscriber}'s host knows it.
        type: str
      port:
        description: Port of the {publisher}.
        type: int
      user:
        description: {user}
        type: str
      password:
        description:
          - Password of that role. If O({option}.user) is set, the password of O({publisher}) is not used.
          - The {subscriber} keeps it in a catalog that only superusers can read.
        type: str
      sslmode:
        description:
          - How TLS is used. V(verify-ca) and V(verify-full) of O({publisher}) become V(require) unless
            O({option}.sslrootcert) is given.
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
      sslrootcert:
        description: File with the certificates of the trusted authorities, on the {subscriber}'s host.
        type: str
      sslcert:
        description: File with the client's certificate, on the {subscriber}'s host.
        type: str
      sslkey:
        description: File with the client's key, on the {subscriber}'s host.
        type: str
"""


class ModuleDocFragment:
    """One attribute a fragment: ``handover.postgresql.endpoints.source`` and so on.

    Those with a type are put together: ansible-test takes what is assigned without one for a literal.
    """

    SOURCE: str = "options:" + _endpoint("source", "comes from")

    TARGET: str = "options:" + _endpoint("target", "goes to")

    BOTH: str = SOURCE + _endpoint("target", "goes to")

    REPLICATION: str = _replication(
        "replication",
        "source",
        "target",
        "Role on the source with REPLICATION, such as M(handover.postgresql.pg_source_prepare) makes.",
    )

    REVERSE_REPLICATION: str = _replication(
        "reverse_replication", "target", "source", "Role on the target with REPLICATION.", ", for the way back"
    )

    POOLERS: str = """
options:
  poolers:
    description:
      - Admin consoles of the PgBouncers that the application uses. The module pauses each, tells it to load its
        configuration, and resumes it, whatever happens. By then the configuration has to point at the new home.
        A pooler that serves nothing else is paused as a whole.
      - Pools have to be in transaction or statement mode, or have no client while the window is open.
    type: list
    elements: dict
    default: []
    suboptions:
      databases:
        description:
          - Entries of the pooler to switch, as clients name them.
          - Without it, the entries that point at a database with the name that it has on the source or on the target.
        type: list
        elements: str
        default: []""" + CONNECTION.format(
        option="poolers",
        what="pooler",
        user="User among C(admin_users).",
        password="Password of that user.",
        dbname="Name of the admin console. Without it, V(pgbouncer).",
        timeout=5,
    )

    CLIENTS = r"""
options:
  client_directory:
    description:
      - Directories to search for C(pg_dump) and C(pg_restore), on the host where the module runs.
      - Without it, E(PATH) and the usual places of Debian, RHEL, Alpine, Homebrew and execution environments.
      - The module uses the version that fits both servers. C(docs/dump.md) has the rules.
    type: list
    elements: path
  jobs:
    description:
      - How many sessions read or write at once.
      - Without it, as many as the host has cores and the database has tables, but not more than 8.
    type: int
requirements:
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
    description: You can give endpoints once for all modules of the group, in C(module_defaults).
    support: full
    membership:
      - handover.postgresql.pg
requirements:
  - psycopg2 >= 2.8
"""
