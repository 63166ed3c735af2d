# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema was changed since the last look, and the new home follows before its gates are asked."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.route import READY, Route
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.follow_alone import follow_alone


@dataclass(frozen=True)
class Followed:
    """The ``statements`` that the new home was given, or would be, if that is only ``foreseen``; then ``refusal`` is
    what would stop that. ``notices`` say what was not followed.
    """

    statements: list[str] = field(default_factory=list)
    foreseen: bool = False
    refusal: HandoverError | None = None
    notices: list[str] = field(default_factory=list)

    @property
    def is_due(self) -> bool:
        """Whether the new home is to be altered first."""
        return self.foreseen and bool(self.statements)


def follow(routes: list[Route], client_directory: list[str] | None, check_mode: bool) -> dict[str, Followed]:
    """By the names of the source's databases. Raises HandoverError for what cannot be followed, unless in check mode.

    One after the other: the role that alters tables is for a while a member of their owners, which are the server's.
    """
    ready = [route for route in routes if route.status == READY]
    return {route.source.dbname: _follow(route, client_directory, check_mode) for route in ready}


def _follow(route: Route, client_directory: list[str] | None, check_mode: bool) -> Followed:
    source, target = route.source, route.target
    where = source.endpoint, target.endpoint, source.dbname, target.dbname
    try:
        found = follow_alone(*where, client_directory, check_mode, before_handover=True)
    except HandoverError as error:
        if not check_mode:
            raise error.of_database(source.dbname) from None
        return Followed(foreseen=True, refusal=error)
    return Followed(found.statements, foreseen=check_mode, notices=found.notices)
