# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following the schema, and nothing else: for who watches, and before a handover. Nothing is copied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import read_capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import read_server
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import (
    home_definitions,
    joining,
    recopy,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import target_database
from ansible_collections.handover.postgresql.plugins.module_utils.parts.following import definitions_known
from ansible_collections.handover.postgresql.plugins.module_utils.parts.replication import turn

PATIENCE = 60  # seconds for rows of before to be through
PHASES = ("catching_up", "in_step", "handed_over")
# What pg_logical_migrate takes as options, and is as usual here.
PARAMS: dict[str, Any] = {
    "follow_schema": True,
    "refresh": False,
    "no_identity": "fail",
    "timeout": PATIENCE,
    "leave_out": [],
    "exclude_extensions": [],
    "no_owner": False,
    "no_privileges": False,
    "skip_roles": [],
}


@dataclass(frozen=True)
class FollowedAlone:
    """The ``statements`` that were run at the other end, or, in check mode, would be, and what there is to say."""

    statements: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def follow_alone(
    source: Endpoint,
    target: Endpoint,
    dbname: str,
    goal: str,
    client_directory: list[str] | None,
    check_mode: bool = False,
    before_handover: bool = False,
) -> FollowedAlone:
    """Bring changes of the schema of one database to the other end. ``before_handover`` to that, it is remembered what
    it has, so that what is changed there is told from that.

    Raises HandoverError for what cannot be followed, or not without a copy.
    """
    with visit(source, target, dbname, goal, client_directory, check_mode) as job:
        migration = job.read()
        if migration is None or migration.phase not in PHASES:
            return FollowedAlone()
        if migration.phase == "handed_over":
            joining.follow_home(job)
        else:
            joining.look(job)
        if not check_mode:
            recopy.conclude(job)
        if before_handover and not check_mode:
            _remember_home(job)
        return FollowedAlone(job.followed, job.notices)


@contextlib.contextmanager
def visit(
    source: Endpoint,
    target: Endpoint,
    dbname: str,
    goal: str,
    client_directory: list[str] | None = None,
    check_mode: bool = False,
) -> Iterator[Job]:
    """A job that copies nothing, whose turn it is while the block runs."""
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(contextlib.closing(source.connect(dbname)))
        maintenance, keeper = (
            stack.enter_context(contextlib.closing(target.connect_for_maintenance())) for _which in range(2)
        )
        job = Job(
            source=source,
            target=target,
            params={**PARAMS, "client_directory": client_directory},
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
        yield job


def _remember_home(job: Job) -> None:
    """No reason not to hand over, where that is not possible."""
    try:
        home_definitions.remember(job)
    except HandoverError as error:
        definitions_known.forget_home(job.session, job.id)
        job.note(f"What is dropped at the new home later cannot be followed back: {error.problem} {error.remedy}")
