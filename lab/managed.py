# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Administrators like those that managed services hand out: real roles, with what they may and may not do there.

What a service's own patches allow, such as slots for members of rds_replication, or CREATE EXTENSION as a superuser, is
not imitated: here, such an administrator may do less. None of them reads pg_authid, nor all of pg_subscription,
pg_largeobject and pg_user_mapping, which PostgreSQL keeps from everybody.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from lab.cluster import Cluster


@dataclass(frozen=True)
class Shape:
    """The role that a ``service`` hands out, by its ``name`` there. ``attributes`` are its own; it is a member of
    ``roles`` that are there from 16 on or always, or of a ``group`` of the service's, which has them then.
    ``owns_public``: new databases' schema public is the group's.
    """

    service: str
    name: str
    attributes: tuple[str, ...] = ("CREATEDB", "CREATEROLE")
    roles: tuple[str, ...] = ("pg_create_subscription", "pg_monitor", "pg_signal_backend")
    group: str = ""
    owns_public: bool = False


WITH_SLOTS = ("CREATEDB", "CREATEROLE", "REPLICATION")
SHAPES = (
    Shape("DigitalOcean", "doadmin", (*WITH_SLOTS, "BYPASSRLS"), ("pg_create_subscription", "pg_signal_backend")),
    Shape("Akamai", "akmadmin", WITH_SLOTS),
    Shape("Aiven", "avnadmin", (*WITH_SLOTS, "BYPASSRLS"), ("pg_create_subscription", "pg_monitor")),
    Shape("RDS", "master", group="rds_superuser"),
    Shape("Azure", "azureuser", WITH_SLOTS, group="azure_pg_admin", owns_public=True),
    Shape("Cloud SQL", "administrator", WITH_SLOTS, group="cloudsqlsuperuser"),
)  # fmt: skip


@contextlib.contextmanager
def administrator(cluster: Cluster, shape: Shape) -> Iterator[dict[str, Any]]:
    """The endpoint of such an administrator of the server; databases are made from templates that fit it meanwhile."""
    if shape.group:
        cluster.sql("postgres", sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(shape.group)))
        for role in shape.roles:
            statement = sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(shape.group))
            cluster.sql("postgres", statement)
    admin = cluster.managed_admin(shape.name, shape.attributes, [shape.group] if shape.group else shape.roles)
    owning = "ALTER SCHEMA public OWNER TO {}"
    try:
        if shape.owns_public:
            _in_templates(cluster, sql.SQL(owning).format(sql.Identifier(shape.group)))
        yield admin
    finally:
        if shape.owns_public:
            _in_templates(cluster, sql.SQL(owning).format(sql.Identifier("pg_database_owner")))


def _in_templates(cluster: Cluster, statement: sql.Composable) -> None:
    cluster.sql("postgres", "ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    for dbname in ("template0", "template1", "postgres"):
        cluster.sql(dbname, statement)
    cluster.sql("postgres", "ALTER DATABASE template0 ALLOW_CONNECTIONS false")
