# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the preflight of a database with many tables takes, and how much memory: the bounds are 10 s and 200 MB.

.build/venv/bin/python benchmarks/preflight.py [--tables 10000] [--source 16] [--target 18]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import support  # noqa: E402
from collection import link_collection  # noqa: E402
from servers import Servers  # noqa: E402

from lab import builds  # noqa: E402

MAKE = """
DO $$ BEGIN
    FOR i IN {first}..{last} LOOP
        EXECUTE format('CREATE TABLE %I (id serial PRIMARY KEY, parent bigint, name text UNIQUE, made timestamptz
                        DEFAULT now() CHECK (made > timestamptz ''2000-01-01+00''), details jsonb)', 'table ' || i);
    END LOOP;
END $$"""
BATCH = 500  # tables a transaction: each holds locks on itself and its indexes


def main() -> None:
    """Make the servers and the tables, look at them, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--source", type=int, default=16)
    parser.add_argument("--target", type=int, default=18)
    arguments = parser.parse_args()
    link_collection()
    place = builds.state() / f"benchmark-{os.getpid()}"
    servers = Servers(place)
    try:
        source, target = servers(arguments.source, "source"), servers(arguments.target, "target")
        dbname = support.create_database(source)
        started = time.monotonic()
        for first in range(1, arguments.tables + 1, BATCH):
            last = min(first + BATCH - 1, arguments.tables)
            source.sql(dbname, MAKE.format(first=first, last=last))
        print(f"{arguments.tables} tables made in {time.monotonic() - started:.1f} s")
        for attempt in ("never analyzed", "analyzed"):
            look(source, target, dbname, attempt)
            source.sql(dbname, "VACUUM ANALYZE")
    finally:
        servers.destroy()
        shutil.rmtree(place, ignore_errors=True)


def look(source: support.Cluster, target: support.Cluster, dbname: str, attempt: str) -> None:
    """One run of the module."""
    arguments = {"source": source.endpoint(), "target": target.endpoint(), "databases": [dbname], "fail_on": "`false`"}
    started = time.monotonic()
    running = support.start_module("pg_preflight", arguments)
    _pid, _status, usage = os.wait4(running.pid, 0)
    seconds = time.monotonic() - started
    report = json.loads(running.stdout)["report"]
    print(
        f"{attempt}: {seconds:.1f} s, {usage.ru_maxrss / 1024:.0f} MB, "
        f"{len({finding['id'] for finding in report['findings']})} checks, {report['summary']}; "
        f"load of this machine {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
