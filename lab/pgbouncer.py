# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer for the demo, and Odyssey: Debian's packages, taken apart and run on Debian's own C library.

Nothing is installed and no privilege is needed, but an apt that knows a Debian archive.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from lab import builds

SUITES = {"pgbouncer": "trixie", "odyssey": "forky"}


def pgbouncer() -> builds.Build:
    """An installation that has pgbouncer and nothing else; ``version`` is PgBouncer's.

    :raises builds.BuildError: when this machine's apt does not bring it.
    """
    return _install("pgbouncer", "sbin")


def odyssey() -> builds.Build:
    """The same of Odyssey, a pooler that takes PgBouncer's commands in another sense."""
    return _install("odyssey", "bin")


def _install(name: str, place: str) -> builds.Build:
    made = builds.once(name, f"{name} of {SUITES[name]}", lambda prefix: _unpack(prefix, name, place))
    return builds.Build(0, made["version"], Path(made["bin"]))


def _unpack(prefix: Path, name: str, place: str) -> dict:
    builds.say(f"{name}: fetching from Debian {SUITES[name]}")
    program = prefix / "bin" / name
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        root = Path(scratch)
        builds.unpack(root, SUITES[name], name, "libc6")
        libraries, loader = builds.gather_libraries(root)
        shutil.copytree(libraries, prefix / "libraries", symlinks=True)
        shutil.copy2(root / "usr" / place / name, prefix / "libraries" / name)
    libraries = prefix / "libraries"
    words = [libraries / loader.name, "--library-path", libraries, libraries / name]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(shlex.quote(str(word)) for word in words)} "$@"\n')
    program.chmod(0o755)
    return {"bin": str(program.parent), "version": builds.run(program, "--version").split()[1]}
