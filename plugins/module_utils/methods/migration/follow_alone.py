# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the schema, and nothing else: for who watches, and before a handover. Nothing is copied."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import read_capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import read_server
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import joining, recopy
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn

PATIENCE = 60  # seconds for rows of before to be through
PHASES = ("catching_up", "in_step", "handed_over")


def follow_alone(source: Endpoint, target: Endpoint, dbname: str, goal: str, check_mode: bool = False) -> list[str]:
    """Bring changes of the schema of one database to the other end; the statements that were run there, or, in
    ``check_mode``, would be.

    Raises HandoverError for what cannot be followed, or not without a copy.
    """
    params: dict[str, Any] = {"follow_schema": True, "refresh": False, "no_identity": "fail", "timeout": PATIENCE}
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(source.connect(dbname)))
        maintenance, keeper = (
            stack.enter_context(contextlib.closing(target.connect_for_maintenance())) for _which in range(2)
        )
        job = Job(
            source=source,
            target=target,
            params=params,
            check_mode=check_mode,
            maintenance=maintenance,
            capabilities=read_capabilities(maintenance),
            dbname=dbname,
            goal=goal,
            id=naming.migration_id(read_server(session), dbname, read_server(maintenance), goal),
            source_session=session,
            may_copy=False,
        )
        stack.enter_context(turn.taken(session, job.id))
        job.session = stack.enter_context(target_database.visit(target, keeper, goal))
        migration = job.read()
        if migration is None or migration.phase not in PHASES:
            return []
        if migration.phase == "handed_over":
            joining.follow_home(job)
        else:
            joining.look(job)
        if not check_mode:
            recopy.conclude(job)
        return job.followed
