# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether ways back work, looked for while other databases have their windows.

Before PostgreSQL 16, a server starts workers of subscriptions once in wal_retrieve_retry_interval only, all at once:
who waits for each waits for all of them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover import after
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.fate import Fate
from ansible_collections.handover.postgresql.plugins.module_utils.methods.handover.passage import Passage


class Proofs:
    """Ways back that are not proven yet, of databases whose results ``fate`` has."""

    def __init__(self, fate: Fate):
        self._fate = fate
        self._left: list[tuple[Passage, dict]] = []

    def leave(self, passages: list[Passage]) -> None:
        """These are done with but for that; theirs are the last results."""
        results = self._fate.results[-len(passages) :]
        self._left += [(passage, result) for passage, result in zip(passages, results) if passage.sent_back]

    def make(self, is_due: Callable[[Passage], bool] = lambda _passage: True) -> None:
        """Prove those that are due, and have it in their results. Raises HandoverError for what does not work."""
        due, later = [], []
        for one in self._left:
            (due if is_due(one[0]) else later).append(one)
        self._left = later
        for passage, result in due:
            after.prove_way_back(passage)
            result.update(passage.measures.as_result(), problems=[one.as_result() for one in passage.problems])
        self._fate.complain([passage for passage, _result in due])

    def told_by(self, error: HandoverError) -> HandoverError:
        """The same error of another database, when those are proven which are left, with what is wrong with them."""
        try:
            self.make()
        except HandoverError as more:
            return error.beside(more)
        return error
