# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with the admin console of one PgBouncer, which speaks the simple query protocol only and knows no
transactions (PgBouncer's documentation, Usage, Admin console); psycopg2 in autocommit mode sends nothing else.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.cutting import cut
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    Connection,
    Cursor,
    Endpoint,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import masked
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line

CONNECTION_DEFAULTS = {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2"}
ANSWER_PATIENCE = 5.0  # seconds for an answer to anything but PAUSE
CONSOLE = "pgbouncer"  # the name of the console's own database
UNKNOWN_SETTING = "42704"  # what a server says of SHOW VERSION
READ, WRITE = (psycopg2.extensions.POLL_READ, psycopg2.extensions.POLL_WRITE) if psycopg2 else (1, 2)


class NoConsoleError(HandoverError):
    """Something answers where a console was expected, and is known to be none of PgBouncer's."""


class Console:
    """The admin console that ``options`` lead to, as the modules' option poolers has them."""

    def __init__(self, options: dict):
        self.endpoint = Endpoint.from_options("pooler", options)
        self.parameters: dict[str, Any] = {**CONNECTION_DEFAULTS, "dbname": CONSOLE, **self.endpoint.parameters}
        self._session: Connection | None = None

    @property
    def name(self) -> str:
        """For messages and results: ``10.0.0.5:6432``."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "local socket"
        return f"{host}:{self.parameters.get('port', '5432')}"

    @property
    def is_open(self) -> bool:
        """Whether there is a session that was not lost."""
        return self._session is not None and not self._session.closed

    def open(self) -> None:
        """Connect. Raises HandoverError, and NoConsoleError where it is no PgBouncer that answers."""
        self._session = self.connect()
        self._refuse_others()

    def reconnect(self) -> None:
        """Connect again where the session was lost. Raises HandoverError."""
        self._session = self.connect()

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.close()

    def ask(self, statement: str) -> list[dict]:
        """The rows of an answer that comes at once, or not at all: then the session ends. Raises psycopg2's errors."""
        return ask_soon(self._session, statement)

    def show(self, what: str) -> list[dict]:
        """What ``SHOW DATABASES``, ``SHOW SERVERS`` and so on list."""
        return self.ask(f"SHOW {what}")

    def connect(self):
        """Another session with it. Raises HandoverError."""
        session = self._connect()
        session.autocommit = True
        return session

    def connect_to_tell(self) -> Connection:
        """A session by which something is said without waiting for the answer: see ``tell``. Raises HandoverError."""
        return self._connect(async_=1)

    def _connect(self, **more: Any) -> Connection:
        try:
            session = psycopg2.connect(**self.parameters, **more)
            if more and not await_answer(session, time.monotonic() + ANSWER_PATIENCE):
                raise psycopg2.OperationalError("timeout expired")
            return session
        except psycopg2.Error as error:  # which has no SQLSTATE: the words are all that tells who refuses
            if "odyssey: " in str(error):  # which has no database of this name, or refuses the role
                raise self._no_console("Odyssey", error) from None
            if "dbname" not in self.endpoint.parameters and f'"{CONSOLE}" does not exist' in str(error):
                who = "a PostgreSQL server, or a pooler without a console, such as pgpool-II"
                raise self._no_console(who, error) from None
            raise self.failure("cannot be reached", error) from None

    def refuse_a_shared_port(self) -> None:
        """Each session with such a console may be one with another of several processes. Raises HandoverError."""
        is_socket = self.parameters.get("host", "").startswith(("/", "@")) and "hostaddr" not in self.parameters
        shared = any(one["key"] == "so_reuseport" and one["value"] == "1" for one in self.show("CONFIG"))
        if shared and not is_socket:
            raise HandoverError(
                f"Several processes may listen at the pooler {self.name} (so_reuseport), and any of them may answer.",
                "Name each process in poolers, by the directory of its own socket (host: /run/pgbouncer1).",
            )

    def failure(self, what: str, error) -> HandoverError:
        """What is said where the pooler does not do as it is told: ``failure("does not pause", error)``."""
        text = masked(one_line(error), self.endpoint.secrets)
        return HandoverError(
            f"The pooler {self.name} {what}: {text}.", "Check it in poolers; its user must be among admin_users."
        )

    def _refuse_others(self) -> None:
        """Odyssey takes PAUSE with a name, and pauses everything; pgpool-II passes all of it on to a server."""
        try:
            told = [str(told) for one in self.ask("SHOW VERSION") for told in one.values()]
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise self.failure("does not answer", error) from None
            raise self._no_console(self._who_refuses(error), error) from None
        told += self._session.notices  # by which PgBouncer told it before 1.12
        if not any(CONSOLE in one.lower() for one in told):
            raise self._no_console(" ".join(told) or "something that does not tell its version")

    def _who_refuses(self, error) -> str:
        """Who does not know the version, which every console shows."""
        if error.pgcode != UNKNOWN_SETTING:
            return "something that does not tell its version"
        with contextlib.suppress(psycopg2.Error):
            self.ask("SHOW pool_version")
            return "pgpool-II, which has no console"
        return "a PostgreSQL server"

    def _no_console(self, who: str, error=None) -> NoConsoleError:
        self.close()
        said = f" ({masked(one_line(error), self.endpoint.secrets)})" if error else ""
        return NoConsoleError(
            f"The pooler {self.name} is not a PgBouncer console, but {who}{said}. Only PgBouncer can pause a single "
            "database.",
            "Give host, port and dbname of PgBouncer's console. Take any other pooler out of poolers "
            "(handover_poolers), and point it at the new home in switch_command (handover_switch_command); its "
            "clients have to retry what the old home refuses meanwhile.",
        )


def ask(session, statement: str) -> list[dict]:
    """The rows of the answer, whenever it comes. Raises psycopg2's errors."""
    with session.cursor() as cursor:
        cursor.execute(statement)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []


def ask_soon(session, statement: str) -> list[dict]:
    """The same of a pooler that answers at once, or not at all: then the session ends."""
    timer = threading.Timer(ANSWER_PATIENCE, cut, [session])
    timer.daemon = True
    timer.start()
    try:
        return ask(session, statement)
    finally:
        timer.cancel()


def tell(session: Connection, statement: str) -> Cursor:
    """Say something on a session that ``connect_to_tell`` made. It is on its way afterwards, before what is said next
    anywhere. What is returned is to be kept until the answer came.
    """
    cursor = session.cursor()
    cursor.execute(statement)
    return cursor


def await_answer(session: Connection, deadline: float) -> bool:
    """Whether the answer came by ``deadline`` (time.monotonic). Raises psycopg2's errors."""
    while (state := session.poll()) != psycopg2.extensions.POLL_OK:
        reading, writing = ([session] if state == wanted else [] for wanted in (READ, WRITE))
        if not any(select.select(reading, writing, [], max(0.0, deadline - time.monotonic()))):
            return False
    return True


def quoted(name: str) -> str:
    """A database's name for the console."""
    return '"' + name.replace('"', '""') + '"'
