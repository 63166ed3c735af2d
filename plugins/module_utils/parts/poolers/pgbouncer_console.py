# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's admin consoles: pausing a database everywhere at once, loading a configuration, resuming.

The console speaks the simple query protocol only and knows no transactions (PgBouncer's documentation, Usage, Admin
console); psycopg2 in autocommit mode sends nothing else.

A login at a server that a pause cuts off counts as failed: until the next one, clients wait for server_login_retry
(15 s), and those that ask just then are turned away (pull request #420 of PgBouncer). Therefore logins are awaited
before a pause, min_pool_size starts none during it, and where nobody else uses a pooler, it is paused as a whole: a
single database's pause does not keep PgBouncer from logging in for a client that comes meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.parallel import together
from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import masked
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows

CONNECTION_DEFAULTS = {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2"}
RESUME_PATIENCE = 30.0  # seconds during which a pooler that does not answer is asked again to resume
SETTLING = 3.0  # seconds that a pooler may take to end sessions with a server that it was led away from
ANSWER_PATIENCE = 5.0  # seconds for an answer to anything but PAUSE
LOGIN_BEFORE = 0.2  # seconds during which logins at servers are awaited, before a pause
LOGIN_AFTERWARDS = 2.0  # seconds during which clients are awaited that have no server yet, after a pause
AROUND_A_PAUSE = {"server_login_retry": "0", "min_pool_size": "0"}  # settings of PgBouncer, until its next RELOAD
CONSOLE = "pgbouncer"  # the name of the console's own database
UNKNOWN_SETTING = "42704"  # what a server says of SHOW VERSION


class Console:
    """The admin console of one PgBouncer. ``databases`` are entries of its configuration, as clients name them."""

    def __init__(self, options: dict):
        self.options = {name: value for name, value in options.items() if name != "databases"}
        self.wanted = list(options.get("databases") or [])
        self.endpoint = Endpoint.from_options("pooler", self.options)
        self.parameters = {**CONNECTION_DEFAULTS, "dbname": "pgbouncer", **self.endpoint.parameters}
        self.databases: list[str] = []
        self.former: dict[str, str] = {}  # values of settings that were changed
        self._is_held_whole = None  # whether we have paused all of it; None where a former run may have
        self._is_loaded = False
        self._session = None
        self._pausing = []

    @property
    def name(self) -> str:
        """For messages and results: ``10.0.0.5:6432``."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "local socket"
        return f"{host}:{self.parameters.get('port', '5432')}"

    def open(self) -> None:
        """Connect. Raises HandoverError, also where it is no PgBouncer that answers."""
        self._session = self._connect()
        self._refuse_others()

    def close(self) -> None:
        """End the session, with the settings as they were; what is paused stays paused."""
        with contextlib.suppress(psycopg2.Error):  # then its next RELOAD puts them back
            self._put_back()
        for session in (self._session, *self._pausing):
            if session is not None:
                session.close()

    def show(self, what: str) -> list[dict]:
        """What ``SHOW DATABASES``, ``SHOW SERVERS`` and so on list."""
        return _ask_soon(self._session, f"SHOW {what}")

    def choose(self, dbnames: set[str]) -> None:
        """Keep in ``databases`` the entries that the user named, or those that lead to one of these databases of a
        server; where there are none yet, the fallback will make them by these names. Raises HandoverError for a named
        one that is not there, and where it is not clear which are meant, or which process would be told.
        """
        self._refuse_a_shared_port()
        there = {one["name"]: one for one in self.show("DATABASES") if one["name"] != CONSOLE}
        missing = [name for name in self.wanted if name not in there]
        chosen = {name: one for name, one in there.items() if one["database"] in dbnames}
        if missing and not self._has_fallback():
            raise HandoverError(
                f"The pooler {self.name} has no database {', '.join(missing)}; it has {', '.join(sorted(there))}.",
                "Correct databases of that pooler.",
            )
        places = {(one["host"], one["port"]) for one in chosen.values()}
        if len(places) > 1 and not self.wanted:
            raise HandoverError(
                f"The entries {', '.join(sorted(chosen))} of the pooler {self.name} lead to different servers.",
                "Name those that are to be switched in databases of that pooler.",
            )
        self.databases = sorted(self.wanted or chosen or dbnames)

    def places(self) -> dict[str, tuple]:
        """(host, port, database) of each entry that is switched, as the pooler has it loaded."""
        found = {one["name"]: (one["host"], one["port"], one["database"]) for one in self.show("DATABASES")}
        return {name: found[name] for name in self.databases if name in found}

    def paused(self) -> list[str]:
        """Those of our entries that are paused."""
        return [one["name"] for one in self.show("DATABASES") if one["name"] in self.databases and one["paused"]]

    def leads_to(self, connection, dbnames: list[str], patience: float = 0) -> bool | None:
        """Whether the sessions that the pooler has with a server are sessions of this one with these databases; None
        without any. After a RELOAD, former ones may be there for a moment: they get ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s) AND datname = ANY (%s)"
        while True:
            pids = [one["remote_pid"] for one in self.show("SERVERS") if one["database"] in self.databases]
            pids = [pid for pid in pids if pid]
            if not pids:
                return None
            if rows(connection, query, (pids, dbnames))[0][0] == len(pids):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)

    def prepare(self) -> None:
        """What a pause takes, beforehand: sessions, as logging in takes longer than pausing, and settings. Raises
        HandoverError.
        """
        while len(self._pausing) <= len(self.databases):
            self._pausing.append(self._connect())
        if self.former:
            return
        try:
            values = {one["key"]: one["value"] for one in self.show("CONFIG")}
            self.former = {name: values[name] for name in AROUND_A_PAUSE if name in values}
            self._set({name: AROUND_A_PAUSE[name] for name in self.former})
        except psycopg2.Error as error:
            raise self._error("does not change its settings", error) from None

    def pause(self, deadline: float) -> None:
        """Let the transactions that are open end, and keep clients waiting from then on. Raises HandoverError when
        that takes longer than until ``deadline`` (time.monotonic); the caller resumes.
        """
        self.prepare()
        (last, *sessions), self._pausing = self._pausing, []
        self._is_held_whole = False
        try:
            others = self._await_logins()
            self._say_on(sessions, [f"PAUSE {quoted(name)}" for name in self.databases], deadline)
        except psycopg2.Error as error:
            raise self._error("does not pause", error) from None
        with contextlib.closing(last):
            if not others:
                self._pause_as_a_whole(last, deadline)

    def _pause_as_a_whole(self, session, deadline: float) -> None:
        self._is_held_whole = True
        try:
            self._say_on([session], ["PAUSE"], deadline)
        except psycopg2.Error as error:
            if error.pgcode:  # an answer: somebody else has paused it, and we are not to resume that
                self._is_held_whole = False
            raise self._error("does not pause", error) from None

    def _say_on(self, sessions: list, statements: list[str], deadline: float) -> None:
        """One on each, at the same time. Raises psycopg2's errors, and HandoverError when it takes too long."""
        threads, errors = [], []

        def work(session, statement):
            try:
                _ask(session, statement)
            except psycopg2.Error as error:
                errors.append(error)

        for session, statement in zip(sessions, statements):
            threads.append(threading.Thread(target=work, args=(session, statement), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = any(thread.is_alive() for thread in threads)
        for session in sessions:
            cut(session) if late else session.close()
        if late:
            raise self._too_late()
        if errors:
            raise errors[0]

    def reload(self) -> None:
        """Load the configuration from disk. Raises HandoverError where PgBouncer says that it has errors."""
        try:
            _ask_soon(self._session, "RELOAD")
            self._is_loaded = True
            _ask_soon(self._session, "SET server_login_retry = '0'")
        except psycopg2.Error as error:
            raise self._error("does not load its configuration", error) from None

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
        if self._session is None or self._session.closed:
            self._session = self._connect()
        try:
            whole = self.paused() if self._is_held_whole is None else self._is_held_whole
            # The whole first: were we killed after it, everybody would see that the databases are paused.
            for place in [*([""] if whole else []), *map(quoted, self.databases)]:
                self._resume_place(place)
        except psycopg2.Error as error:
            raise self._error("does not resume", error) from None

    def _resume_place(self, place: str) -> None:
        try:
            _ask_soon(self._session, f"RESUME {place}")
        except psycopg2.Error:
            if self._session.closed:
                raise  # else it is not paused

    def _await_logins(self) -> bool:
        """Wait for those that are under way. Returns whether other databases are in use as well."""
        deadline = time.monotonic() + LOGIN_BEFORE
        while True:
            pools = [one for one in self.show("POOLS") if one["database"] != CONSOLE]
            if not any(one["sv_login"] for one in pools) or time.monotonic() > deadline:
                return any(_is_in_use(one) for one in pools if one["database"] not in self.databases)
            time.sleep(0.002)

    def _set(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            _ask_soon(self._session, f"SET {name} = '{value}'")

    def _put_back(self) -> None:
        """The settings, as soon as no client waits for a first login any more; who resumes does it, where that is not
        us.
        """
        changed = self.former or self._is_loaded
        if not changed or self._session is None or self._session.closed or self.paused():
            return
        deadline = time.monotonic() + LOGIN_AFTERWARDS
        while self._clients_wait_for_a_login() and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._is_loaded:
            _ask_soon(self._session, "RELOAD")
        else:
            self._set(self.former)

    def _clients_wait_for_a_login(self) -> bool:
        pools = [one for one in self.show("POOLS") if one["database"] in self.databases]
        return any(one["cl_waiting"] and not _has_servers(one) for one in pools)

    def _connect(self):
        try:
            session = psycopg2.connect(**self.parameters)
        except psycopg2.Error as error:
            if "odyssey: " in str(error):  # which has no database of this name, or refuses the role
                raise self._other("Odyssey", error) from None
            if "dbname" not in self.endpoint.parameters and f'"{CONSOLE}" does not exist' in str(error):
                raise self._other("a PostgreSQL server, or a pooler without a console like pgpool-II", error) from None
            raise self._error("cannot be reached", error) from None
        session.autocommit = True
        return session

    def _refuse_others(self) -> None:
        """Odyssey takes PAUSE with a name, and pauses everything; pgpool-II passes all of it on to a server."""
        try:
            told = [str(told) for one in _ask_soon(self._session, "SHOW VERSION") for told in one.values()]
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise self._error("does not answer", error) from None
            raise self._other(self._who_refuses(error), error) from None
        told += self._session.notices  # by which PgBouncer told it before 1.12
        if not any(CONSOLE in one.lower() for one in told):
            raise self._other(" ".join(told) or "something that does not tell its version")

    def _who_refuses(self, error) -> str:
        """Who does not know the version, which every console shows."""
        if error.pgcode != UNKNOWN_SETTING:
            return "something that does not tell its version"
        with contextlib.suppress(psycopg2.Error):
            _ask_soon(self._session, "SHOW pool_version")
            return "pgpool-II, which has none"
        return "a PostgreSQL server"

    def _other(self, who: str, error=None) -> HandoverError:
        """What is said of something that is no PgBouncer."""
        self.close()
        said = f" ({masked(one_line(error), self.endpoint.secrets)})" if error else ""
        return HandoverError(
            f"The pooler {self.name} is no console of PgBouncer, but {who}{said}. Of no other pooler can a database be "
            "paused by itself.",
            "Give host, port and dbname of PgBouncer's console. Take any other pooler out of poolers "
            "(handover_poolers), and lead it to the new home in switch_command (handover_switch_command); "
            "its clients have to try again what the old home refuses meanwhile.",
            console_of=who,
        )

    def _refuse_a_shared_port(self) -> None:
        """Each session with such a console may be one with another of several processes."""
        is_socket = self.parameters.get("host", "").startswith(("/", "@")) and "hostaddr" not in self.parameters
        shared = any(one["key"] == "so_reuseport" and one["value"] == "1" for one in self.show("CONFIG"))
        if shared and not is_socket:
            raise HandoverError(
                f"Several processes may listen at the pooler {self.name} (so_reuseport), and any of them would answer.",
                "Name each process in poolers, by the directory of its own socket (host: /run/pgbouncer1).",
            )

    def _has_fallback(self) -> bool:
        """An entry ``*`` makes others when a client asks for them; those that lead somewhere now may be such ones."""
        return all(one["name"] == one["database"] for one in self.show("DATABASES"))

    def _too_late(self) -> HandoverError:
        busy = [one for one in self._clients() if one["database"] in self.databases and one["state"] == "active"]
        named = [f"{one['user']} from {one['addr']}:{one['port']}" for one in busy if one.get("link")][:5]
        return HandoverError(
            f"The pooler {self.name} has not paused {', '.join(self.databases)} in time: clients hold their connections"
            + (f": {'; '.join(named)}." if named else "."),
            "Let these end; a pool in session mode cannot be paused while clients are connected: use transaction mode.",
        )

    def _clients(self) -> list[dict]:
        with contextlib.suppress(HandoverError, psycopg2.Error), contextlib.closing(self._connect()) as session:
            return _ask_soon(session, "SHOW CLIENTS")
        return []

    def _error(self, what: str, error) -> HandoverError:
        text = masked(one_line(error), self.endpoint.secrets)
        return HandoverError(
            f"The pooler {self.name} {what}: {text}.", "Check it in poolers; its user must be among admin_users."
        )


class Poolers:
    """All poolers before the databases of a window, worked on in parallel."""

    def __init__(self, consoles: list[Console]):
        self.consoles = consoles

    @classmethod
    def open(cls, options: list[dict]) -> Poolers:
        """Connect to every console. Raises HandoverError if one does not answer; then none stays open."""
        opened = cls([Console(one) for one in options])
        try:
            opened._each(Console.open)
        except BaseException:
            opened.close()
            raise
        return opened

    def __bool__(self) -> bool:
        return bool(self.consoles)

    def prepare(self) -> None:
        """Connect what pausing takes. Raises HandoverError."""
        self._each(Console.prepare)

    def pause(self, deadline: float) -> None:
        """Pause at every pooler. Raises HandoverError; the caller resumes."""
        self._each(lambda console: console.pause(deadline))

    def paused(self) -> bool:
        """Whether any entry of ours is paused."""
        return any(console.paused() for console in self.consoles)

    def places(self) -> dict[str, dict[str, tuple]]:
        """Where each pooler leads, by its name."""
        return {console.name: console.places() for console in self.consoles}

    def reload(self) -> None:
        """Load the configuration at every pooler. Raises the first HandoverError, after all were asked."""
        self._each(Console.reload)

    def resume(self) -> None:
        """Resume at every pooler. Raises the first HandoverError, after all were asked."""
        self._each(Console.resume)

    def close(self) -> None:
        """End the sessions."""
        for console in self.consoles:
            console.close()

    def _each(self, work) -> None:
        together(*(lambda console=console: work(console) for console in self.consoles))


def is_place_of(place: tuple, connection) -> bool:
    """Whether an entry's (host, port, database) is how this session reaches its server."""
    parameters = connection.info.dsn_parameters
    hosts = {parameters.get("host"), parameters.get("hostaddr"), connection.info.host}
    return place[0] in hosts and str(place[1]) == str(connection.info.port)


def _has_servers(pool: dict) -> bool:
    """Whether a row of SHOW POOLS has sessions with a server."""
    return any(pool[name] for name in ("sv_active", "sv_idle", "sv_used", "sv_tested"))


def _is_in_use(pool: dict) -> bool:
    return bool(pool["cl_active"] or pool["cl_waiting"] or pool["sv_login"] or _has_servers(pool))


def quoted(name: str) -> str:
    """A database's name for the console."""
    return '"' + name.replace('"', '""') + '"'


def _ask(session, statement: str) -> list[dict]:
    with session.cursor() as cursor:
        cursor.execute(statement)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row)) for row in cursor.fetchall()] if names else []


def _ask_soon(session, statement: str) -> list[dict]:
    """The same of a pooler that answers at once, or not at all: then the session ends."""
    timer = threading.Timer(ANSWER_PATIENCE, cut, [session])
    timer.daemon = True
    timer.start()
    try:
        return _ask(session, statement)
    finally:
        timer.cancel()


def cut(session) -> None:
    """End a session at once, whatever it waits for. PgBouncer takes that for the end of a wish to pause, and a server
    rolls back what is open.
    """
    with contextlib.suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(session.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
