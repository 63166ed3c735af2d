# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a copy needs of the source besides rows: read while the target is busy with definitions, as it may be far."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.scope import Scope
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying.building import Owners, read_owners
from ansible_collections.handover.postgresql.plugins.module_utils.parts.databases import sequences
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import large_objects


@dataclass(frozen=True)
class ReadAhead:
    """``sequences`` with their values and the number of ``large_objects``, as far as they are in the scope."""

    owners: Owners
    sequences: list[sequences.Sequence]
    large_objects: int


def read_ahead(session: Connection, scope: Scope) -> ReadAhead:
    """The session stands in the snapshot."""
    return ReadAhead(
        read_owners(session),
        sequences.read(session) if scope.sequences else [],
        large_objects.count(session) if scope.large_objects else 0,
    )
