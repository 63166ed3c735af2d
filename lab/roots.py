# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems of Debian hosts with PostgreSQL as a fresh installation leaves it, sshd, sudo and python3.

mmdebstrap makes them, and need not be installed. It takes root: the files in them belong to many users.

    python3 -m lab.roots [--majors 13 15]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import builds

MAJORS = (13, 15, 17)
PACKAGES = ("openssh-server", "sudo", "python3-psycopg2", "iproute2", "nftables", "procps")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/lib/postgresql/*/lib/bitcode/*")
BUILDER_SUITE = "trixie"
# sshd makes keys of its own at each boot; a name server is nothing that hosts of ours have.
AFTERWARDS = 'rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf'


def roots(majors: Iterable[int] = MAJORS) -> dict[int, Path]:
    """The root file systems of the Debian suites that have these majors, made first where the cache lacks them."""
    with ThreadPoolExecutor(2) as pool:
        made = {major: pool.submit(_root, major) for major in sorted(set(majors), reverse=True)}
        return {major: root.result() for major, root in made.items()}


def _root(major: int) -> Path:
    suite = builds.SUITES[major]
    recipe = f"{suite}: postgresql-{major} {' '.join(PACKAGES)}; {AFTERWARDS}"
    made = builds.once(f"root-{suite}", recipe, lambda prefix: _bootstrap(major, suite, prefix), readable=False)
    return Path(made["root"])


def _bootstrap(major: int, suite: str, prefix: Path) -> dict:
    """Debian's minimum with these packages, none of which is started."""
    builds.say(f"host with PostgreSQL {major}: making Debian {suite}")
    root = prefix / "root"
    builder = Path(builds.once("mmdebstrap", f"mmdebstrap of {BUILDER_SUITE}", _fetch_mmdebstrap)["program"])
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        configuration = builds.private_apt(scratch / "apt", suite)
        settings = configuration.read_text().splitlines()
        transport = [line for line in settings if line.startswith(("Acquire", "Dir::Etc::netrc"))]
        packages = ",".join((f"postgresql-{major}", *PACKAGES))
        builds.run(
            "perl", builder, "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={packages}",
            *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT), *(f"--aptopt={line}" for line in transport),
            f"--customize-hook={AFTERWARDS}", suite, root, scratch / "apt" / "etc" / "sources.list",
            env={**os.environ, "PATH": f"{os.environ['PATH']}{os.pathsep}{builder.parent}", "LANG": "C.UTF-8"},
        )  # fmt: skip
    return {"root": str(root)}


def _fetch_mmdebstrap(prefix: Path) -> dict:
    """mmdebstrap, and mmtarfilter beside it, out of its package."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = builds.private_apt(Path(directory), BUILDER_SUITE)
        environment = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C"}
        builds.run("apt-get", "-qq", "update", env=environment)
        builds.run("apt-get", "-qq", "download", "mmdebstrap", env=environment, cwd=directory)
        builds.run("dpkg-deb", "-x", next(Path(directory).glob("*.deb")), prefix)
    return {"program": str(prefix / "usr" / "bin" / "mmdebstrap")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.roots", description="Make root file systems of Debian hosts.")
    parser.add_argument("--majors", type=int, nargs="+", choices=MAJORS, default=MAJORS, help="all by default")
    try:
        for major, root in roots(parser.parse_args().majors).items():
            print(major, root)
    except builds.BuildError as error:
        builds.say(f"lab.roots: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
