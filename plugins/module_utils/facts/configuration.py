# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a server is configured: what is in force, what its files say, and what the next restart would change.

PostgreSQL documentation, 20.1, and of the system views pg_settings, pg_file_settings and pg_hba_file_rules.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Connection
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts.catalog import rows, value

UNITS = {
    "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4,
    "us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000,
}  # fmt: skip
NUMBER = re.compile(r"\s*(0[xX][0-9a-fA-F]+|[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)\s*([a-zA-Z]*)\s*")
# What pg_file_settings says of a value that takes a restart, there or gone; nothing is wrong with the file then.
NOT_APPLIED = ("setting could not be applied", 'parameter "%" cannot be changed without restarting the server')
RELOAD_PATIENCE = 10  # seconds


@dataclass(frozen=True)
class Setting:
    """One setting of the server; numbers are in its base unit.

    ``running`` is in force. ``configured`` is what the files say, in force after the next restart, or None where the
    files cannot be read. ``place`` is the file and line that decide; ``in_auto_conf`` is what ALTER SYSTEM wrote, or
    None, and ``beneath`` what the files would say without that. ``overridden``: given on the command line, where no
    file can change it. ``restart``: a change takes one. ``kind`` and ``unit`` are pg_settings.vartype and unit.
    """

    name: str
    running: str
    configured: str | None
    place: str | None
    in_auto_conf: str | None
    beneath: str | None
    restart: bool
    overridden: bool
    kind: str
    unit: str | None

    def normal(self, text: str) -> str:
        """A value as pg_settings would show it."""
        return normal(text, self.kind, self.unit)


def read_settings(connection: Connection, names: list[str]) -> dict[str, Setting]:
    """Those of these settings that this major has."""
    query = """
        SELECT name, setting, boot_val, vartype, unit, context = 'postmaster', source = 'command line', pending_restart
        FROM pg_settings WHERE name = ANY (%s)"""
    lines = _lines_of_files(connection, names)
    return {row[0]: _setting(lines, *row) for row in rows(connection, query, (list(names),))}


def _setting(
    lines: list[tuple[Any, ...]] | None,
    name: str,
    running: str,
    built_in: str,
    kind: str,
    unit: str | None,
    restart: bool,
    overridden: bool,
    pending: bool,
) -> Setting:
    text, beneath = built_in, built_in
    place: str | None = None
    in_auto_conf: str | None = None
    for line_of, found, where, is_auto in lines or ():
        if line_of == name:
            text, place = found, where  # the last line wins
            in_auto_conf, beneath = (found, beneath) if is_auto else (in_auto_conf, found)
    known: tuple[str | None, str | None] = (running, running)
    if not overridden and lines is None and pending:
        known = (None, None)
    elif not overridden and lines is not None:
        known = (normal(text, kind, unit), normal(beneath, kind, unit))
    return Setting(name, running, known[0], place, in_auto_conf, known[1], restart, overridden, kind, unit)


def _lines_of_files(connection: Connection, names: list[str]) -> list[tuple[Any, ...]] | None:
    """(name, value, place, whether ALTER SYSTEM wrote it) in the order in which they are read; None if hidden."""
    if not value(connection, "SELECT has_table_privilege('pg_file_settings', 'SELECT')"):
        return None
    query = """
        SELECT name, setting, sourcefile || ':' || sourceline, sourcefile LIKE '%%/postgresql.auto.conf'
        FROM pg_file_settings WHERE name = ANY (%s) ORDER BY seqno"""
    return rows(connection, query, (list(names),))


def normal(text: str, kind: str, unit: str | None) -> str:
    """A value as pg_settings shows it, from what is written in a file; ``kind`` is pg_settings.vartype.

    Raises HandoverError for what is no value of an integer setting.
    """
    if kind == "enum":
        return text.lower()
    if kind != "integer":
        return text
    match = NUMBER.fullmatch(text)
    if not match or (match[2] and (match[2] not in UNITS or unit not in UNITS)):
        raise HandoverError(f"{text!r} is no number" + (f" of {unit}." if unit else "."), "Correct it.")
    number = int(match[1], 16) if match[1].lower().startswith("0x") else float(match[1])
    return str(round(number * UNITS[match[2]] / UNITS[unit]) if match[2] and unit else round(number))


def pending_restart(connection: Connection) -> list[dict[str, Any]]:
    """Settings that somebody configured and that wait for a restart."""
    query = "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name"
    found = read_settings(connection, [name for (name,) in rows(connection, query)])
    return [{"name": one.name, "running": one.running, "configured": one.configured} for one in found.values()]


def errors_in_files(connection: Connection) -> list[str] | None:
    """Why a reload would be refused, or the next start fail: ``/etc/.../pg_hba.conf:12: invalid ...``; None if hidden.

    A broken pg_hba.conf leaves the former rules in force at a reload, and keeps the server from starting.
    """
    views = ["pg_file_settings", "pg_hba_file_rules"]
    query = "SELECT bool_and(has_table_privilege(view, 'SELECT')) FROM unnest(%s::text[]) AS view"
    if not value(connection, query, (views,)):
        return None
    hba_file = "file_name" if connection.info.server_version >= 160000 else "current_setting('hba_file')"
    query = f"""
        SELECT coalesce(sourcefile || ':' || sourceline || ': ', '') || error FROM pg_file_settings
        WHERE error IS NOT NULL AND error <> %s AND error NOT LIKE %s
        UNION ALL
        SELECT coalesce({hba_file}, current_setting('hba_file')) || coalesce(':' || line_number, '') || ': ' || error
        FROM pg_hba_file_rules WHERE error IS NOT NULL AND type IS NULL"""
    return [text for (text,) in rows(connection, query, NOT_APPLIED)]


def is_loaded(connection: Connection) -> bool | None:
    """Whether the server has read all its files since they were last written; None where that cannot be seen.

    Times of files come in whole seconds: what was read in the second in which it was written counts as not read.
    """
    if not value(connection, "SELECT has_function_privilege('pg_stat_file(text,boolean)', 'EXECUTE')"):
        return None
    included = "UNION SELECT file_name FROM pg_hba_file_rules" if connection.info.server_version >= 160000 else ""
    query = f"""
        SELECT coalesce(bool_and(coalesce(s.change, s.modification) + interval '1 s' <= pg_conf_load_time()), true)
        FROM (SELECT current_setting(name) FROM unnest(ARRAY['config_file', 'hba_file', 'ident_file']) AS name
              UNION SELECT sourcefile FROM pg_file_settings {included}) AS f (file), pg_stat_file(file, true) AS s
        WHERE file IS NOT NULL"""
    return value(connection, query)


def reload(connection: Connection) -> None:
    """Have the server read its files again, and wait until it has. Raises HandoverError."""
    before = value(connection, "SELECT pg_conf_load_time()")
    value(connection, "SELECT pg_reload_conf()")
    deadline = time.monotonic() + RELOAD_PATIENCE
    while value(connection, "SELECT pg_conf_load_time()") == before:
        if time.monotonic() > deadline:
            raise HandoverError(
                f"The server did not read its configuration again within {RELOAD_PATIENCE} s.",
                "Check what its log says about the reload.",
            )
        time.sleep(0.02)


def read_process(connection: Connection) -> dict[str, Any]:
    """Where the running server lives: files, port, command line; None for what this role may not see.

    ``pid_file`` holds the lines of postmaster.pid, by which a process is known for this very server.
    """
    names = ("data_directory", "config_file", "hba_file", "port")
    shown = dict(rows(connection, "SELECT name, setting FROM pg_settings WHERE name = ANY (%s)", (list(names),)))
    may = value(connection, "SELECT has_function_privilege('pg_read_file(text)', 'EXECUTE')")
    files = {"pid_file": "postmaster.pid", "command": "postmaster.opts"}
    contents = {
        name: value(connection, "SELECT pg_read_file(%s)", (file,)).strip() if may else None
        for name, file in files.items()
    }
    return {**{name: shown.get(name) for name in names}, **contents}


def sessions(connection: Connection) -> list[dict[str, Any]]:
    """Who is connected, our own session aside: database, role, program and address, with the number of sessions."""
    query = """
        SELECT datname::text, usename::text, application_name, host(client_addr), count(*)::int
        FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()
        GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3, 4"""
    names = ("database", "role", "application_name", "address", "sessions")
    return [dict(zip(names, row)) for row in rows(connection, query)]
