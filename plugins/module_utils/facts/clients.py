# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client programs on this machine: pg_dump and pg_restore of which versions, and which of them fits."""

from __future__ import annotations

import functools
import glob
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

# Debian, PGDG on RHEL, Alpine, Homebrew, built from source. PATH comes first, a directory given by option alone.
USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)

# From this major on pg_restore refuses servers newer than itself; those before connect to any.
RESTORES_TO_NO_NEWER = 18


@dataclass(frozen=True)
class Client:
    """One directory with pg_dump and pg_restore of one version."""

    directory: str
    version: str
    knows_pg_attver: bool

    @property
    def major(self) -> int:
        return major_of(self.version)

    def restores_to(self, server_major: int) -> bool:
        """Whether its pg_restore connects to servers of this major."""
        return server_major <= self.major or self.major < RESTORES_TO_NO_NEWER

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return os.path.join(self.directory, name)

    def as_result(self) -> dict[str, Any]:
        return {"directory": self.directory, "version": self.version}


def major_of(version: str) -> int:
    """The major of a version such as ``17.2``, ``18beta1`` or ``19devel``."""
    return int(re.split(r"\D", version, maxsplit=1)[0])


def find_clients(directories: list[str] | None = None) -> list[Client]:
    """All clients in the given directories, or in PATH and the usual places."""
    if not directories:
        usual = [place for pattern in USUAL_PLACES for place in sorted(glob.glob(pattern))]
        directories = os.environ.get("PATH", "").split(os.pathsep) + usual
    found: dict[str, Client] = {}
    for directory in directories:
        client = _look_into(directory)
        if client:
            found.setdefault(os.path.realpath(directory), client)
    return list(found.values())


def choose_for_dump(
    clients: list[Client], source_major: int, target_major: int | None, has_pg_attver: bool, searched: list[str] | None
) -> Client:
    """The client for pg_dump: never older than the source; best of the target's major, or just below.

    Where columns carry the internal option pg_attver, one that knows it is preferred; failing that,
    the import takes these statements out again. Those are preferred, too, whose archive a pg_restore that is here can
    bring to the target. Raises HandoverError when there is none.
    """
    fit = [client for client in clients if client.major >= source_major]
    if not fit:
        raise _none_fits(f"pg_dump of PostgreSQL {source_major} or later", clients, searched)
    if has_pg_attver:
        fit = [client for client in fit if client.knows_pg_attver] or fit
    if target_major:
        newest = max((client.major for client in clients if client.restores_to(target_major)), default=0)
        fit = [client for client in fit if client.major <= newest] or fit
    return _nearest(fit, target_major or max(client.major for client in fit))


def choose_for_restore(clients: list[Client], dump_major: int, target_major: int, searched: list[str] | None) -> Client:
    """The client for pg_restore: not older than the pg_dump that made the archive, best not newer than the target,
    which it has to connect to. Raises HandoverError when there is none.
    """
    read = [client for client in clients if client.major >= dump_major]
    if not read:
        raise _none_fits(f"pg_restore of PostgreSQL {dump_major} or later", clients, searched)
    fit = [client for client in read if client.restores_to(target_major)]
    if not fit:
        raise _none_fits(f"pg_restore that connects to a server of PostgreSQL {target_major}", clients, searched)
    return _nearest(fit, target_major)


def _nearest(clients: list[Client], major: int) -> Client:
    """The highest major up to this one, else the lowest above: a client above may emit what the server lacks."""
    majors = {client.major for client in clients}
    nearest = max((one for one in majors if one <= major), default=min(majors))
    return max((client for client in clients if client.major == nearest), key=_minor)


def _minor(client: Client) -> int:
    """A beta has none; it comes before all releases."""
    found = re.match(r"\d+\.(\d+)", client.version)
    return int(found.group(1)) if found else -1


def _none_fits(wanted: str, clients: list[Client], searched: list[str] | None) -> HandoverError:
    seen = ", ".join(f"{client.version} in {client.directory}" for client in clients) or "none"
    places = ", ".join(searched) if searched else "PATH and the usual places"
    return HandoverError(
        f"No {wanted} was found in {places} (found: {seen}).",
        "Install that client package on the host where the module runs, or name its directory in client_directory.",
    )


@functools.cache  # one run asks for each of its databases
def _look_into(directory: str) -> Client | None:
    dump, restore = os.path.join(directory, "pg_dump"), os.path.join(directory, "pg_restore")
    if not (os.access(dump, os.X_OK) and os.access(restore, os.X_OK)):
        return None
    if os.path.basename(os.path.realpath(dump)) == "pg_wrapper":
        return None  # Debian's wrapper chooses by its own rules; the real programs are in the usual places
    try:
        answer = subprocess.run([dump, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", answer)
    return Client(directory, version.group(1), _mentions_pg_attver(dump)) if version else None


def _mentions_pg_attver(program: str) -> bool:
    """Whether this pg_dump leaves the internal column option pg_attver out.

    Servers of the minors of 2026-11-12 store it. Vendors apply fixes under version numbers of their own,
    so the program itself is asked: one that filters the option has its name in a query.
    """
    with open(program, "rb") as file:
        return b"pg_attver" in file.read()
