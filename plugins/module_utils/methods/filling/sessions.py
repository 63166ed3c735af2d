# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of the copy engine: rows travel in one encoding, and indexes get the memory that the server has for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection, Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.fitted_archive import (
    FittedArchive,
)
from ansible_collections.handover.postgresql.plugins.module_utils.methods.filling.snapshot_source import (
    SnapshotSource,
)

MAINTENANCE_MEMORY = (64, 1024)  # MB, least and most of one session


# Nobody has chosen another one, for the server, the database or the role.
CAN_COMPRESS = """
    SELECT FROM pg_settings
    WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)"""


def choose_compression(archive: FittedArchive, connected: Callable[[], Connection]) -> str | None:
    """How long values are to be compressed while they are loaded; None is as the target does by itself. The session is
    one that began with the database's settings as they are by now.
    """
    is_left_to_us = archive.params.get("toast_compression") == "auto"
    return "lz4" if is_left_to_us and rows(connected(), CAN_COMPRESS) else None


def connect_for_reading(source: SnapshotSource, archive: FittedArchive) -> Connection:
    """A session on the source, outside of any transaction."""
    session = source.connect()
    _configure(session, archive, {}, "")
    return session


# What expressions of indexes, checks and generated columns may depend on is as it is for the application. Rows are read
# the same whatever it is, as they are written with the settings of every session of ours.
AS_APPLICATION = "RESET TimeZone; RESET DateStyle; RESET IntervalStyle; RESET bytea_output; RESET extra_float_digits; "


def connect_for_building(archive: FittedArchive, dbname: str) -> Connection:
    """A session on the target that takes rows and builds indexes."""
    session = archive.target.connect(dbname)
    _configure(session, archive, _building_settings(session, archive), AS_APPLICATION)
    return session


def connect_for_record(target: Endpoint, dbname: str) -> Connection:
    """A session for ``on_state``. It waits for no disk: what it says of a table is lost in a crash of the target if the
    table's rows are, which were committed in the same way before (PostgreSQL documentation, 30.4).
    """
    session = target.connect(dbname)
    _set(session, {"synchronous_commit": "off"})
    return session


def _configure(session: Connection, archive: FittedArchive, settings: dict[str, Any], before: str) -> None:
    """Rows travel in the encoding of the database that they come from, so that nothing is lost on the way. Text of
    type money means the same on both sides in the same locale only.
    """
    encoding = archive.origin["properties"]["encoding"]
    _set(session, {**settings, "client_encoding": encoding, "xmloption": "content", "lc_monetary": "C"}, before)


def _building_settings(session: Connection, archive: FittedArchive) -> dict[str, Any]:
    """Memory for building indexes, as much as the sessions may have together of what the server has for itself."""
    query = """
        SELECT (SELECT setting::bigint * 8 / 1024 FROM pg_settings WHERE name = 'shared_buffers'),
               (SELECT setting::bigint / 1024 FROM pg_settings WHERE name = 'maintenance_work_mem')"""
    shared, now = rows(session, query)[0]
    least, most = MAINTENANCE_MEMORY
    memory = max(now, min(most, max(least, shared // archive.jobs)))
    found = {"synchronous_commit": "off", "maintenance_work_mem": f"{memory}MB", "check_function_bodies": "off"}
    return found | ({"default_toast_compression": archive.toast_compression} if archive.toast_compression else {})


def _set(session: Connection, settings: dict[str, Any], before: str = "") -> None:
    query = (
        before
        + """
        SELECT pg_catalog.set_config(name, value, false)
        FROM ROWS FROM (pg_catalog.unnest(%s), pg_catalog.unnest(%s)) AS s (name, value)"""
    )
    with session.cursor() as cursor:
        cursor.execute(query, (list(settings), list(settings.values())))
