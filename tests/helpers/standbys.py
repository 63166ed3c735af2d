# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Standbys of servers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab.cluster import Cluster, give, unprivileged


def standby_of(primary: Cluster, directory: Path) -> Cluster:
    """A running standby with the primary's settings and passwords."""
    standby = Cluster(primary.build, directory)
    standby.directory.mkdir()
    standby.directory.chmod(0o755)
    give(standby.directory)
    connection = f"host=127.0.0.1 port={primary.port} user=postgres password={primary.password}"
    subprocess.run(
        [primary.build.program("pg_basebackup"), "-D", standby.data, "-R", "-c", "fast", "-d", connection],
        env={"PATH": os.defpath, **primary.build.environment}, cwd=directory, check=True, capture_output=True,
        **unprivileged(),
    )  # fmt: skip
    standby.password = primary.password
    standby._record.touch(mode=0o600)
    standby._save()
    standby.start()
    return standby
