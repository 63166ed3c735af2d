# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A continuous migration is finished: every trace of it goes, and the data stay."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import ending
from ansible_collections.handover.postgresql.plugins.module_utils.parts.fencing import fence
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import source_record
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import removal
from ansible_collections.handover.postgresql.plugins.module_utils.parts.roles import memberships


def finish(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Remove every trace, and keep the data, as pg_logical_migrate documents. Raises HandoverError."""
    return ending.end_each(Finishing, source, target, params, check_mode)


class Finishing(ending.Ending):
    """Only what is over can be finished."""

    needs_names = True

    def refuse(self, params: dict) -> None:
        """Only what is over can be finished."""
        migration = self.migration
        if self.target.unknown:
            raise HandoverError(
                f"The target cannot be reached, so it is unknown whether the migration is over. {self.target.problem}",
                "Run this again when the target can be reached, or use state: stopped to free the source now.",
            )
        if migration is None:
            if _has_traces(self) and not _was_handed_over(self):
                raise HandoverError(
                    "The target has no journal of this migration, but the source has traces of one.",
                    "Use state: stopped, which removes them.",
                )
            return
        if migration.phase == "handed_over" or (migration.phase == "stopped" and params["without_cutover"]):
            return
        if migration.phase == "stopped":
            raise HandoverError(
                f"It was stopped, and never handed over. {' '.join(ending.incomplete(migration))}",
                "If nobody will use the target as it is, or if you have set its sequences yourself, use "
                "without_cutover: true.",
            )
        raise HandoverError(
            f"It is not over: its phase is {migration.phase}.", "Cut over first, or give it up with state: stopped."
        )

    def work(self, params: dict) -> None:
        """Remove what is there at both ends. Raises HandoverError."""
        migration, target = self.migration, self.target.connection
        ending.unsubscribe(self, self.target)
        ending.unsubscribe(self, self.source)
        ending.free(self, params["lift_fence"])
        if target is None:  # the database is gone
            return
        with ending.memberships_of_owners(self):
            stays = ending.take_fence_down(self, self.target, params["lift_fence"])
            self.run(self.target, removal.undo(target, migration.undo if migration else []))
        if migration:
            self.run(self.target, removal.record_of_target(target, stays))
            if not self.check_mode:
                memberships.drop_leftovers(target)
        else:
            self.run(self.target, removal.rest_of_target(target, stays))
        ending.say_what_is_left(self)


def _has_traces(finishing: Finishing) -> bool:
    """Whether the source has anything of the migration but a fence."""
    source, identifier = finishing.source.connection, finishing.identifier
    if not source or not identifier:
        return False
    recorded = any(one["id"] == identifier for one in source_record.read(source))
    looks = (removal.publication_names, removal.subscriptions, removal.slots)
    return recorded or any(look(source, identifier) for look in looks)


def _was_handed_over(finishing: Finishing) -> bool:
    """Whether the source is fenced, by which it is known where the journal is gone: finish removed it already, while
    the source was away, or the database went with it.
    """
    found = fence.read(finishing.source.connection)
    return bool(found) and found.closed and ending.is_ours(finishing, finishing.source, found)
