# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer for the demo: Debian's package, taken apart and run on Debian's own C library, whatever this machine has.

Nothing is installed and no privilege is needed, but an apt that knows a Debian archive.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from lab import builds

SUITE = "trixie"


def pgbouncer() -> builds.Build:
    """An installation that has pgbouncer and nothing else; ``version`` is PgBouncer's.

    :raises builds.BuildError: when this machine's apt does not bring it.
    """
    made = builds.once("pgbouncer", f"pgbouncer of {SUITE}", _unpack)
    return builds.Build(0, made["version"], Path(made["bin"]))


def _unpack(prefix: Path) -> dict:
    builds.say(f"PgBouncer: fetching from Debian {SUITE}")
    program = prefix / "bin" / "pgbouncer"
    with tempfile.TemporaryDirectory(dir=prefix) as scratch:
        root = Path(scratch)
        builds.unpack(root, SUITE, "pgbouncer", "libc6")
        libraries, loader = builds.gather_libraries(root)
        shutil.copytree(libraries, prefix / "libraries", symlinks=True)
        shutil.copy2(root / "usr" / "sbin" / "pgbouncer", prefix / "libraries" / "pgbouncer")
    libraries = prefix / "libraries"
    words = [libraries / loader.name, "--library-path", libraries, libraries / "pgbouncer"]
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(shlex.quote(str(word)) for word in words)} "$@"\n')
    program.chmod(0o755)
    return {"bin": str(program.parent), "version": builds.run(program, "--version").split()[1]}
