# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A continuous migration is stopped: the source is free at once, and what was migrated stays."""

from __future__ import annotations

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration import ending
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal


def stop(source: Endpoint, target: Endpoint, params: dict, check_mode: bool) -> dict:
    """Free the sources, and keep what was migrated, as pg_logical_migrate documents. Raises HandoverError."""
    return ending.end_each(Stopping, source, target, params, check_mode)


class Stopping(ending.Ending):
    """Whatever is at work ends, too, if it copies only."""

    ends_copies = True

    def work(self, params: dict) -> None:
        """Unsubscribe, free the source, and say what the target lacks. Raises HandoverError."""
        migration = self.migration
        if migration and (migration.phase, migration.direction) == ("handed_over", "forward"):
            raise HandoverError(
                "The database was handed over: the target is the primary, and the source is fenced.",
                "Use state: finished to remove the traces; or roll back first.",
            )
        ending.unsubscribe_both(self)
        ending.free(self, lift_fence=False)
        if self.target.connection:
            with ending.memberships_of_owners(self):
                ending.take_fence_down(self, self.target, lift=False)
        ending.say_what_is_left(self)
        if migration and migration.phase != "stopped" and self.target.connection:
            self.notices += ending.incomplete(migration)
            if not self.check_mode:
                _keep_address(self)
                migration_journal.set_phase(self.target.connection, migration.id, "stopped")
                migration_journal.add_event(self.target.connection, migration.id, "stopped", left=self.left)
            self.statements["target"].append("UPDATE handover.migration SET phase = 'stopped'")


def _keep_address(stopping: Stopping) -> None:
    """What the journal says of the source, as it is now: its own record is gone, by which finish would know it if it
    was upgraded.
    """
    if stopping.source.connection:
        server, info = stopping.ends.source.server, stopping.source.connection.info
        now = {
            "system_identifier": server.system_identifier,
            "version": server.version,
            "host": info.host,
            "port": info.port,
        }
        source = {**stopping.migration.source, **now}
        migration_journal.update(stopping.target.connection, stopping.identifier, source=source)
