# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One PgBouncer before the databases: which of its entries are theirs, where it leads, and what a window tells it."""

from __future__ import annotations

import time

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_console import (
    CONSOLE,
    Console,
)
from ansible_collections.handover.postgresql.plugins.module_utils.parts.poolers.pgbouncer_pausing import Pausing


class PgBouncer:
    """What its ``options`` lead to; ``databases`` of these are the entries that the user named."""

    def __init__(self, options: dict):
        self.options = {name: value for name, value in options.items() if name != "databases"}
        self.wanted = list(options.get("databases") or [])
        self.console = Console(self.options)
        self.pausing = Pausing(self.console, [])

    @classmethod
    def from_record(cls, record: dict) -> PgBouncer:
        """As ``as_record`` wrote it down, to be resumed by whoever is left."""
        pooler = cls(record["options"])
        pooler.pausing = Pausing(pooler.console, record["databases"], record["settings"])
        return pooler

    def as_record(self) -> dict:
        """What it takes to resume it and to put its settings back, in types of JSON."""
        return {"options": self.options, "databases": self.databases, "settings": self.pausing.former}

    @property
    def name(self) -> str:
        """For messages and results: ``10.0.0.5:6432``."""
        return self.console.name

    @property
    def databases(self) -> list[str]:
        """Entries of its configuration that are ours to pause and to switch, as clients name them."""
        return self.pausing.databases

    def open(self) -> None:
        """Connect. Raises HandoverError, also where it is no PgBouncer that answers."""
        self.console.open()

    def close(self) -> None:
        """End all sessions with it; what is paused stays paused."""
        self.pausing.close()
        self.console.close()

    def choose(self, dbnames: set[str]) -> None:
        """Keep in ``databases`` the entries that the user named, or those that lead to one of these databases of a
        server; where there are none yet, the fallback will make them by these names. Raises HandoverError for a named
        one that is not there, and where it is not clear which are meant, or which process would be told.
        """
        self.console.refuse_a_shared_port()
        there = {one["name"]: one for one in self.console.show("DATABASES") if one["name"] != CONSOLE}
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
                f"The entries {', '.join(sorted(chosen))} of the pooler {self.name} point at different servers.",
                "Name the entries to switch in databases of that pooler.",
            )
        self.pausing = Pausing(self.console, sorted(self.wanted or chosen or dbnames))

    def places(self) -> dict[str, tuple]:
        """(host, port, database) of each entry that is switched, as the pooler has it loaded."""
        found = {one["name"]: (one["host"], one["port"], one["database"]) for one in self.console.show("DATABASES")}
        return {name: found[name] for name in self.databases if name in found}

    def leads_to(self, connection, dbnames: list[str], patience: float = 0) -> bool | None:
        """Whether the sessions that the pooler has with a server are sessions of this one with these databases; None
        without any. After a RELOAD, former ones may be there for a moment: they get ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s) AND datname = ANY (%s)"
        while True:
            pids = [one["remote_pid"] for one in self.console.show("SERVERS") if one["database"] in self.databases]
            pids = [pid for pid in pids if pid]
            if not pids:
                return None
            if rows(connection, query, (pids, dbnames))[0][0] == len(pids):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)

    def paused(self) -> list[str]:
        """Those of our entries that are paused."""
        return self.pausing.paused()

    def prepare(self) -> None:
        """What a pause takes, beforehand. Raises HandoverError."""
        self.pausing.prepare()

    def await_logins(self) -> None:
        """What comes right before a pause: see Pausing. Raises HandoverError."""
        self.pausing.await_logins()

    def pause(self, deadline: float) -> None:
        """Keep clients waiting, by ``deadline`` (time.monotonic). Raises HandoverError; the caller resumes."""
        self.pausing.pause(deadline)

    def reload(self) -> None:
        """Load the configuration from disk. Raises HandoverError where PgBouncer says that it has errors."""
        self.pausing.reload()

    @property
    def has_loaded(self) -> bool:
        """Whether it has done that."""
        return self.pausing.is_loaded

    def resume(self) -> None:
        """Let clients go on. Raises HandoverError when that cannot be said to the pooler."""
        self.pausing.resume()

    def put_settings_back(self) -> None:
        """Those that a pause changes, unless something is paused still."""
        self.pausing.put_settings_back()

    def _has_fallback(self) -> bool:
        """An entry ``*`` makes others when a client asks for them; those that lead somewhere now may be such ones."""
        return all(one["name"] == one["database"] for one in self.console.show("DATABASES"))
