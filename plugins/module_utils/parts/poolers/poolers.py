# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All poolers before the databases of a window, and the one place that knows which kinds of poolers there are.

Of another kind, a class would stand beside PgBouncer's and answer the same calls; ``_of_options`` and ``_of_record``
would choose between the two. Nothing outside of this package knows PgBouncer, but the preflight, which asks whether
something is one, and the filter lead_pooler, which writes its file.
"""

from __future__ import annotations

import contextlib

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer import PgBouncer

SETTLING = 3.0  # seconds that a pooler may take to end sessions with a server that it was led away from


def _of_options(options: dict) -> PgBouncer:
    return PgBouncer(options)


def _of_record(record: dict) -> PgBouncer:
    return PgBouncer.from_record(record)


@contextlib.contextmanager
def open_poolers(options: list[dict]):
    """Yields Poolers, connected; with the block their sessions end, and settings are as they were. Raises HandoverError
    if one does not answer.
    """
    poolers = Poolers([_of_options(one) for one in options])
    try:
        poolers.open()
        yield poolers
    finally:
        poolers.put_settings_back()
        poolers.close()


def resume_recorded(record: dict, reload: bool) -> None:
    """Resume a pooler by what ``Poolers.as_records`` wrote down, with its configuration loaded anew if asked for.
    Raises HandoverError.
    """
    pooler = _of_record(record)
    try:
        pooler.open()
        if reload:
            with contextlib.suppress(HandoverError):  # its configuration has errors: clients wait for nothing then
                pooler.reload()
        pooler.resume()
    finally:
        pooler.put_settings_back()
        pooler.close()


class Poolers:
    """Poolers, worked on in parallel."""

    def __init__(self, members: list[PgBouncer]):
        self.members = members

    def __bool__(self) -> bool:
        return bool(self.members)

    def __iter__(self):
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def open(self) -> None:
        """Connect to every one. Raises HandoverError if one does not answer."""
        self._each(lambda pooler: pooler.open())

    def prepare(self) -> None:
        """Connect what pausing takes. Raises HandoverError."""
        self._each(lambda pooler: pooler.prepare())

    def await_logins(self) -> None:
        """Right before a pause, until no pooler logs in at a server. Raises HandoverError."""
        self._each(lambda pooler: pooler.await_logins())

    def pause(self, deadline: float) -> None:
        """Pause at every pooler. Raises HandoverError; the caller resumes."""
        self._each(lambda pooler: pooler.pause(deadline))

    def paused(self) -> bool:
        """Whether any entry of ours is paused."""
        return any(pooler.paused() for pooler in self)

    def places(self) -> dict[str, dict[str, tuple]]:
        """Where each pooler leads, by its name."""
        found = together(*(lambda pooler=pooler: (pooler.name, pooler.places()) for pooler in self))
        return dict(found)

    def reload(self) -> None:
        """Load the configuration at every pooler. Raises the first HandoverError, after all were asked."""
        self._each(lambda pooler: pooler.reload())

    def have_loaded(self) -> bool:
        """Whether every one was told to load its configuration, and did."""
        return all(pooler.has_loaded for pooler in self)

    def resume(self) -> None:
        """Resume at every pooler. Raises the first HandoverError, after all were asked."""
        self._each(lambda pooler: pooler.resume())

    def put_settings_back(self) -> None:
        """Those that a pause changes, where nothing is paused still."""
        for pooler in self:
            pooler.put_settings_back()

    def close(self) -> None:
        """End the sessions."""
        for pooler in self:
            pooler.close()

    def as_records(self) -> list[dict]:
        """What another process needs to resume each, should this one be killed."""
        return [pooler.as_record() for pooler in self]

    def _each(self, work) -> None:
        together(*(lambda pooler=pooler: work(pooler) for pooler in self))


def is_place_of(place: tuple, connection) -> bool:
    """Whether an entry's (host, port, database) is how this session reaches its server."""
    parameters = connection.info.dsn_parameters
    hosts = {parameters.get("host"), parameters.get("hostaddr"), connection.info.host}
    return place[0] in hosts and str(place[1]) == str(connection.info.port)
