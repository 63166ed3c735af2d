# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call tells of its databases if it fails."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.exact import Exact
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import (
    Passage,
    Problem,
)


class CommitInDoubtError(HandoverError):
    """A server was lost while it committed: nobody knows whether the database was handed over."""


@dataclass
class Fate(Exact):
    """``results`` are of databases that the call is done with. Of the window that it is at work on, if it has begun
    one: whether its databases are ``handed_over`` (None: not known), its ``timeline``, and ``problems`` that are left.
    """

    results: list[dict] = field(default_factory=list)
    has_begun: bool = False
    handed_over: bool | None = False
    timeline: list[dict] | None = None
    problems: list[Problem] = field(default_factory=list)

    def begin_window(self) -> None:
        """Another window: nothing is handed over in it yet."""
        self.has_begun, self.handed_over, self.timeline = True, False, None

    def complain(self, passages: list[Passage]) -> None:
        """Raise HandoverError where something is left to do after a commit."""
        failed = [passage for passage in passages if passage.problems]
        found = [problem for passage in failed for problem in passage.problems]
        if found:
            self.problems += found
            raise HandoverError(
                "The handover succeeded, but some follow-up steps failed: " + " ".join(one.problem for one in found),
                " ".join(dict.fromkeys(one.remedy for one in found)),
            ).of_database(", ".join(passage.route.source.dbname for passage in failed))

    @property
    def changed(self) -> bool:
        """Whether anything was, of the databases that the call is done with."""
        return any(one["changed"] for one in self.results)

    def told_by(self, error: HandoverError) -> HandoverError:
        """The same error, with all of this in the module's result, and in words which databases are over."""
        error.facts.update(self._as_result())
        over = [one["database"] for one in self.results if one.get("handed_over") and one["changed"]]
        if over:
            error.problem += f" Handed over in this run: {', '.join(over)}."
        return error

    def _as_result(self) -> dict:
        told: dict = {"unknown": True} if self.handed_over is None else {"handed_over": self.handed_over}
        if self.has_begun:
            told.update(databases=self.results, changed=self.changed)
        if self.timeline is not None:
            told["timeline"] = self.timeline
        if self.problems:
            told["problems"] = [problem.as_result() for problem in self.problems]
            told["finished_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return told


def as_handover_error(error: HandoverError | psycopg2.Error) -> HandoverError:
    """What nobody expected of a server is an error of ours, too."""
    if isinstance(error, HandoverError):
        return error
    return HandoverError(
        f"A server refused a statement, or was lost: {one_line(error)}.",
        "Check the server's log for the reason, then run this again.",
        sqlstate=error.pgcode,
    )
