# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One database on its way: both ends, the names of what is made there, and what the journal says."""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint, psycopg2
from ansible_collections.handover.postgresql.plugins.module_utils.base.stages import Stages
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.facts.capabilities import Capabilities
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import quoted_names
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.described_ahead import DescribedAhead
from ansible_collections.handover.postgresql.plugins.module_utils.parts.journals import migration_journal

MASK = "********"
CONNINFO_NAMES = ("host", "hostaddr", "port", "user", "sslmode")
OVERRIDES = ("host", "port", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")


@dataclass
class Job:
    """``maintenance`` is a session in some database of the target; ``source_session`` and ``session`` are in the
    database itself, on the source and on the target; ``session`` is None until that exists.
    """

    source: Endpoint
    target: Endpoint
    params: dict
    check_mode: bool
    maintenance: Connection
    capabilities: Capabilities
    dbname: str
    goal: str
    id: str
    source_session: Connection
    session: Connection | None = None
    ahead: DescribedAhead | None = None  # the schema, for the first wave
    notices: list = field(default_factory=list)
    changed: bool = False
    may_copy: bool = True
    copied: dict = field(default_factory=dict)
    followed: list[str] = field(default_factory=list)  # statements that brought changes of the schema to the other end
    stages: Stages = field(init=False)

    def __post_init__(self) -> None:
        self.stages = Stages(self.dbname)

    def read(self) -> migration_journal.Migration | None:
        """What the journal says of this migration now."""
        return migration_journal.read_migration(self.session, self.id) if self.session else None

    def event(self, kind: str, **details) -> None:
        """Record that something was done."""
        self.changed = True
        migration_journal.add_event(self.session, self.id, kind, **details)

    def note(self, text: str) -> None:
        """Something that the operator is to know, in the result and in the journal."""
        if text not in self.notices:
            self.notices.append(text)

    def wave_name(self, number: int) -> str:
        return naming.wave_name(self.id, number)

    def quoted(self, keys: list[tuple[str, str]]) -> list[str]:
        """Names of tables, (schema, name) each, as the source's server quotes them, in the same order."""
        return quoted_names(self.source_session, keys)

    def conninfo(self, shown: bool = False) -> str:
        """How the target's server reaches the source; to be ``shown``, the password is masked."""
        found = conninfo_parameters(self.source_session.info, self.source, self.params["replication"] or {})
        if shown and "password" in found:
            found["password"] = MASK
        return psycopg2.extensions.make_dsn(**{**found, "dbname": self.dbname})


def conninfo_parameters(info, source: Endpoint, replication: dict) -> dict:
    """libpq's parameters for a connection from the target's host: those of our own session with the source, but for
    what the operator says; files of this machine are none of that host's.
    """
    own = info.dsn_parameters
    found = {name: own[name] for name in CONNINFO_NAMES if own.get(name)}
    given = {name: str(replication[name]) for name in OVERRIDES if replication.get(name) is not None}
    if "host" in given:
        found.pop("hostaddr", None)
    password = info.password or source.parameters.get("password")
    if password and "user" not in given:
        found["password"] = password
    found.update(given)
    if found.get("sslmode", "").startswith("verify") and "sslrootcert" not in given:
        found["sslmode"] = "require"
    return {**found, "connect_timeout": "15", "keepalives_idle": "30", "keepalives_interval": "10"}
