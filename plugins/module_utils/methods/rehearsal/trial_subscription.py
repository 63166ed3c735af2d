# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subscription of a rehearsal: by the role, and in a database of the owner and with the privileges of the real one.
It is tried and taken back.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import begin
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import Job
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import rehearsal_database


def try_subscription(run: Any, source: Connection, place: Connection, dbname: str, name: str) -> None:
    """``run`` is the Run of rehearse.py, ``place`` a session in the database that was filled, ``name``. Raises
    HandoverError.
    """
    job = Job(
        source=run.source,
        target=run.target,
        params={**run.params, "create": True},
        check_mode=False,
        maintenance=run.connection,
        capabilities=run.capabilities,
        dbname=dbname,
        goal=name,
        id=rehearsal_database.identifier_of(name),
        source_session=source,
        session=place,
    )
    migration_journal.begin(place, job.id, begin.describe(source, dbname))  # what is to be undone is written there
    begin.check_connection(job)
