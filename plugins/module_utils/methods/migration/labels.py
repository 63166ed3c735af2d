# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels that enums were given. A transaction cannot use one that it adds, so they come before all else."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.following import read_types, way
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.trying_out import refused
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following.type_amendments import (
    label_statements,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships

OWNERS = "SELECT DISTINCT pg_get_userbyid(typowner)::text FROM pg_type WHERE typtype = 'e' AND oid >= 16384"


def labels(job: Job) -> list[str]:
    """Statements that give enums of the subscriber the labels that were added at the publisher."""
    with way(job) as ends:
        (before, now), there = read_types(job, ends)
        return [one.as_string(ends.subscriber) for one in label_statements(before or {}, now, there)]


def follow_labels(job: Job) -> None:
    """The same, done: rows that have a new label would stop apply. Raises HandoverError."""
    found = labels(job)
    if not found or job.check_mode:
        job.followed += found
        return
    with way(job) as ends:
        owners = [] if ends.is_superuser else [owner for (owner,) in rows(ends.subscriber, OWNERS)]
        with memberships.temporary_memberships(ends.maintenance, owners):
            for text in found:
                with ends.subscriber.cursor() as cursor:
                    try:
                        cursor.execute(text)
                    except psycopg2.Error as error:
                        raise refused(ends.side, text, error, job.followed) from None
                job.followed.append(text)
    job.event("followed", tables=[], statements=found)
