# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""New data directories as initdb makes them, at a quarter of its time: copies of one that it made once.

What tells one server from another is each copy's own: its system identifier, which is in the control file and in the
first page of each WAL file, and its superuser's password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pwd
import re
import secrets
import shutil
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab import builds
from lab.builds import Build

UNPRIVILEGED = "nobody"
SUPERUSER = "postgres"
SCRAM_ROUNDS = 4096  # PostgreSQL's own number
WAL_FILE = re.compile("[0-9A-F]{24}")
AFTER_PAGE_HEADER = 24  # bytes of a WAL file before its system identifier


class BlankError(Exception):
    """No data directory; the message ends with what the program said."""


def unprivileged() -> dict[str, Any]:
    """Arguments of ``subprocess`` that give up root, which PostgreSQL and PgBouncer refuse to run as."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def give(path: Path) -> None:
    """Hand a file or directory to the user that the servers run as."""
    if os.geteuid() == 0:
        shutil.chown(path, UNPRIVILEGED, pwd.getpwnam(UNPRIVILEGED).pw_gid)


def make(build: Build, arguments: Iterable[str], data: Path, password: str, rounds: int) -> None:
    """Make the data directory ``data`` of a server that was never started."""
    arguments = tuple(arguments)
    recipe = " ".join((str(build.bin), build.version, *arguments))
    name = f"blank-{build.major}-{hashlib.sha256(' '.join((str(build.bin), *arguments)).encode()).hexdigest()[:8]}"
    made = builds.once(name, recipe, lambda prefix: _initdb(build, arguments, prefix), readable=False)
    subprocess.run(["cp", "-a", made["data"], data], check=True)
    _identify(data)
    chosen = [one.partition("=")[2] for one in arguments if one.startswith("--username=")]
    superuser = (chosen or [SUPERUSER])[-1]
    statement = f"ALTER ROLE \"{superuser}\" PASSWORD '{verifier(password, rounds)}'\n"
    single = [build.program("postgres"), "--single", "-D", data, "-c", "fsync=off", "postgres"]
    # It prints a prompt even so, and exits with 0 when a statement fails.
    if "ERROR" in (said := _program(build, single, data.parent, statement)):
        raise BlankError(f"no password for {superuser}:\n{said}")


def verifier(password: str, rounds: int = SCRAM_ROUNDS) -> str:
    """What a server keeps of a password: with few rounds, a login costs both ends less. ASCII only."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    words = [base64.b64encode(part).decode() for part in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256${rounds}:{words[0]}${words[1]}:{words[2]}"


def _initdb(build: Build, arguments: tuple[str, ...], prefix: Path) -> dict:
    prefix.chmod(0o755)
    data = prefix / "data"
    data.mkdir(mode=0o700)
    give(data)
    command = [build.program("initdb"), "-D", data, "-U", SUPERUSER, "-A", "scram-sha-256", "--no-sync"]
    password = prefix / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(18))  # no copy has it
    give(password)
    _program(build, [*command, f"--pwfile={password}", *arguments], prefix)
    with (data / "postgresql.conf").open("a") as configuration:
        configuration.write("include 'lab.conf'\n")
    (data / "lab.conf").touch()
    return {"data": str(data)}


def _program(build: Build, command: list[str | Path], place: Path, given: str = "") -> str:
    """What a program of the build said."""
    done = subprocess.run(
        command,
        env={"PATH": os.defpath, "HOME": str(place), "TZ": "UTC", **build.environment},
        cwd=place,
        input=given,
        text=True,
        capture_output=True,
        check=False,
        **unprivileged(),
    )
    if done.returncode:
        raise BlankError(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _identify(data: Path) -> None:
    """Give a data directory whose server never ran a system identifier of its own, made as initdb makes them."""
    now = time.time_ns() // 1000
    identifier = struct.pack("=Q", (now // 10**6 << 32) | (now % 10**6 << 12) | secrets.randbits(12))
    control = data / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    # Where the checksum stands depends on the major; it is of all that stands before it.
    sums = {i: crc for i, crc in enumerate(_crc32c(content[:500]), 1) if i % 4 == 0 and content[i : i + 4] == crc}
    if not sums:
        raise BlankError(f"{control} has no checksum where one is looked for")
    end = min(sums)
    content[:8] = identifier
    content[end : end + 4] = list(_crc32c(content[:end]))[-1]
    with control.open("r+b") as file:
        file.write(content)
    for path in (data / "pg_wal").iterdir():
        if WAL_FILE.fullmatch(path.name):
            with path.open("r+b") as file:
                file.seek(AFTER_PAGE_HEADER)
                file.write(identifier)


def _crc32c(content: bytes | bytearray) -> Iterator[bytes]:
    """CRC-32C of what has been seen, after each byte."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _bit in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        yield struct.pack("=I", crc ^ 0xFFFFFFFF)
