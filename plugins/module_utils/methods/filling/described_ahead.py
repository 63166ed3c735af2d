# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A schema that pg_dump describes while the snapshot is still to come that rows are copied in.

pg_dump asks some eighty things one after the other: far away, these are seconds, in which all else can be made ready.
"""

from __future__ import annotations

from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog_stamp import read_stamp
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import Client
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import patience_of
from ansible_collections.handover.postgresql.plugins.module_utils.parts.archive.contents import Contents
from ansible_collections.handover.postgresql.plugins.module_utils.parts.copying import schema

OWN = "--exclude-schema=handover"


class DescribedAhead:
    """Begun in the main thread; ``session`` is one with the source's database, outside of any transaction."""

    def __init__(self, endpoint: Endpoint, dbname: str, session: Connection, client: Client, params: dict[str, Any]):
        self._stamp = read_stamp(session)
        given = schema.SchemaSelection().arguments(client, session, None, patience_of(params))
        given += [] if OWN in given else [OWN]  # it may be made meanwhile
        self._dump = schema.SchemaDump(client, endpoint.for_programs(session), dbname, given)

    def contents(self, session: Connection) -> Contents | None:
        """What there is in the snapshot that the session stands in; None if that may be another schema by now."""
        if read_stamp(session) != self._stamp:
            return None
        try:
            return self._dump.read()
        except HandoverError:  # whoever asks again hears why
            return None

    def close(self) -> None:
        """End pg_dump, if it is still at work."""
        self._dump.close()
