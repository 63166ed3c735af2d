# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How databases are paused at one PgBouncer, and resumed, so that no client fails for it.

A login at a server that a pause cuts off counts as failed: until the next one, clients wait for server_login_retry
(15 s), and those that ask just then are turned away (pull request #420 of PgBouncer). Therefore logins are awaited
before a pause, min_pool_size starts none during it, and where nobody else uses a pooler, it is paused as a whole: a
single database's pause does not keep PgBouncer from logging in for a client that comes meanwhile.
"""

from __future__ import annotations

import contextlib
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_console import (
    ANSWER_PATIENCE,
    CONSOLE,
    Console,
    ask_soon,
    await_answer,
    quoted,
    tell,
)

RESUME_PATIENCE = 30.0  # seconds during which a pooler that does not answer is asked again to resume
LOGIN_BEFORE = 0.2  # seconds during which logins at servers are awaited, before a pause
LOGIN_AFTERWARDS = 2.0  # seconds during which clients are awaited that have no server yet, after a pause
NO_LOGIN_RETRY = "SET server_login_retry = '0'"
AROUND_A_PAUSE = {"server_login_retry": "0", "min_pool_size": "0"}  # settings of PgBouncer, until its next RELOAD


class Pausing:
    """The pause of ``databases``, entries of the pooler's configuration. ``former`` are the values of settings that it
    has changed.
    """

    def __init__(self, console: Console, databases: list[str], former: dict[str, str] | None = None):
        self.console = console
        self.databases = databases
        self.former = dict(former or {})
        self._is_held_whole: bool | None = None  # whether all of it is paused by us; None where a former run may have
        self.is_loaded = False
        self._is_alone = False  # whether nobody else uses the pooler
        self._sessions: list = []  # one for each database, and one for all of it

    def paused(self) -> list[str]:
        """Those of the databases that are paused."""
        there = self.console.show("DATABASES")
        return [one["name"] for one in there if one["name"] in self.databases and one["paused"]]

    def prepare(self) -> None:
        """What a pause takes, beforehand: sessions, as logging in takes longer than pausing, and settings. Raises
        HandoverError.
        """
        while len(self._sessions) <= len(self.databases):
            self._sessions.append(self.console.connect_to_tell())
        if self.former:
            return
        try:
            values = {one["key"]: one["value"] for one in self.console.show("CONFIG")}
            self.former = {name: values[name] for name in AROUND_A_PAUSE if name in values}
            self._set({name: AROUND_A_PAUSE[name] for name in self.former})
        except psycopg2.Error as error:
            raise self.console.failure("does not change its settings", error) from None

    def await_logins(self) -> None:
        """Wait for those that are under way, and look whether anybody else uses the pooler: last before a pause, which
        is what follows. Raises HandoverError.
        """
        deadline = time.monotonic() + LOGIN_BEFORE
        try:
            while True:
                pools = [one for one in self.console.show("POOLS") if one["database"] != CONSOLE]
                if not any(one["sv_login"] for one in pools) or time.monotonic() > deadline:
                    break
                time.sleep(0.002)
        except psycopg2.Error as error:
            raise self.console.failure("does not answer", error) from None
        self._is_alone = not any(_is_in_use(one) for one in pools if one["database"] not in self.databases)

    def pause(self, deadline: float) -> None:
        """Let the transactions that are open end, and keep clients waiting from then on. Raises HandoverError when
        that takes longer than until ``deadline`` (time.monotonic); the caller resumes.
        """
        self._is_held_whole = self._is_alone
        statements = [f"PAUSE {quoted(name)}" for name in self.databases]
        told = [*zip(self._sessions[1:], statements), *([(self._sessions[0], "PAUSE")] if self._is_alone else [])]
        asked, late = None, False
        try:
            # The whole last: were we killed before it, everybody would see the others.
            cursors = [tell(session, statement) for session, statement in told]
            for asked in cursors:
                late = not await_answer(asked.connection, deadline) or late
        except psycopg2.Error as error:
            if error.pgcode and asked and asked.connection is self._sessions[0]:  # somebody else has paused it:
                self._is_held_whole = False  # we are not to resume that
            raise self.console.failure("does not pause", error) from None
        if late:
            self.close()
            raise self._too_late()

    def reload(self) -> None:
        """Load the configuration from disk. Raises HandoverError where PgBouncer says that it has errors."""
        try:
            self.console.ask("RELOAD")
            self.is_loaded = True
        except psycopg2.Error as error:
            raise self.console.failure("does not load its configuration", error) from None

    def resume(self) -> None:
        """Let clients go on. Raises HandoverError when that cannot be said to the pooler."""
        deadline = time.monotonic() + RESUME_PATIENCE
        while True:
            try:
                return self._resume()
            except HandoverError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _resume(self) -> None:
        if not self.console.is_open:
            self.console.reconnect()
        try:
            if self._is_held_whole is not None and self._resume_at_once():
                return
            whole = self.paused() if self._is_held_whole is None else self._is_held_whole
            if self.is_loaded:
                self.console.ask(NO_LOGIN_RETRY)
            # The whole first: were we killed after it, everybody would see that the databases are paused.
            for place in [*([""] if whole else []), *map(quoted, self.databases)]:
                self._resume_place(place)
        except psycopg2.Error as error:
            raise self.console.failure("does not resume", error) from None

    def _resume_at_once(self) -> bool:
        """Whether all that was paused heard, on the sessions that have paused it, that it may go on; the same order."""
        sessions, self._sessions = self._sessions, []
        whole = [(sessions[0], "RESUME")] if sessions and self._is_held_whole else []
        statements = [f"RESUME {quoted(name)}" for name in self.databases]
        told = [*whole, *zip(sessions[1:], statements)]
        deadline = time.monotonic() + ANSWER_PATIENCE
        try:
            cursors = [tell(session, statement) for session, statement in told]
            if self.is_loaded:
                self.console.ask(NO_LOGIN_RETRY)
            late = [one for one in cursors if not await_answer(one.connection, deadline)]
            return bool(cursors) and not late
        except psycopg2.Error:
            return False
        finally:
            for session in sessions:
                session.close()

    def _resume_place(self, place: str) -> None:
        try:
            self.console.ask(f"RESUME {place}")
        except psycopg2.Error:
            if not self.console.is_open:
                raise  # else it is not paused

    def put_settings_back(self) -> None:
        """As soon as no client waits for a first login any more. What is still paused needs them as they are: whoever
        resumes it puts them back; and a pooler that cannot be told does it itself by its next RELOAD.
        """
        with contextlib.suppress(psycopg2.Error):
            changed = self.former or self.is_loaded
            if not changed or not self.console.is_open or self.paused():
                return
            deadline = time.monotonic() + LOGIN_AFTERWARDS
            while self._clients_wait_for_a_login() and time.monotonic() < deadline:
                time.sleep(0.02)
            if self.is_loaded:
                self.console.ask("RELOAD")
            else:
                self._set(self.former)

    def close(self) -> None:
        """End the sessions that were to pause; what is paused stays paused."""
        for session in self._sessions:
            session.close()

    def _set(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self.console.ask(f"SET {name} = '{value}'")

    def _clients_wait_for_a_login(self) -> bool:
        pools = [one for one in self.console.show("POOLS") if one["database"] in self.databases]
        return any(one["cl_waiting"] and not _has_servers(one) for one in pools)

    def _too_late(self) -> HandoverError:
        busy = [one for one in self._clients() if one["database"] in self.databases and one["state"] == "active"]
        named = [f"{one['user']} from {one['addr']}:{one['port']}" for one in busy if one.get("link")][:5]
        return HandoverError(
            f"The pooler {self.console.name} did not pause {', '.join(self.databases)} in time: clients hold their "
            "connections" + (f": {'; '.join(named)}." if named else "."),
            "Let these clients finish. A pool in session mode cannot be paused while clients are connected: use "
            "transaction mode.",
        )

    def _clients(self) -> list[dict]:
        with contextlib.suppress(HandoverError, psycopg2.Error), contextlib.closing(self.console.connect()) as session:
            return ask_soon(session, "SHOW CLIENTS")
        return []


def _has_servers(pool: dict) -> bool:
    """Whether a row of SHOW POOLS has sessions with a server."""
    return any(pool[name] for name in ("sv_active", "sv_idle", "sv_used", "sv_tested"))


def _is_in_use(pool: dict) -> bool:
    return bool(pool["cl_active"] or pool["cl_waiting"] or pool["sv_login"] or _has_servers(pool))
