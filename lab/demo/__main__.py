# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo from beginning to end: python3 -m lab.demo."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import signal
import sys
from collections.abc import Iterator

import psycopg2

from lab import demo
from lab.builds import CHECKOUT, BuildError
from lab.cluster import ClusterError
from lab.demo import dump, live
from lab.demo.stage import DEMO, DemoError, Stage, remove, where_to_look
from lab.terminal import heading


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.demo", description=demo.__doc__.partition("\n")[0])
    parser.add_argument("--clean", action="store_true", help="stop the servers and remove what the demo made")
    parser.add_argument("--rollback", action="store_true", help="only the database in use: over, back, over again")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        with only_one():
            remove()
            if not arguments.clean:
                demonstrate(arguments.rollback)
    except (DemoError, BuildError, ClusterError, OSError, psycopg2.Error) as error:
        print(f"\nThe demo failed: {str(error).strip()}", file=sys.stderr)
        if DEMO.exists():
            print(f"Its servers were stopped. What was written so far is in {DEMO}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. The demo's servers were stopped.", file=sys.stderr)
        return 130
    return 0


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Two demos of one checkout would take each other's servers away."""
    with (CHECKOUT / ".build" / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another one runs in this checkout") from None
        yield


def demonstrate(rollback: bool) -> None:
    """The demo; with ``rollback``, only its second part, and back in between.

    The servers stop when anything fails, and stay when all went well.
    """
    with contextlib.ExitStack() as servers:
        heading("Two servers on this machine")
        stage = Stage(servers)
        parts = [live] if rollback else [dump, live]
        if not rollback:
            dump.demonstrate(stage)
        live.demonstrate(stage, rollback)
        heading(f"Both servers stay up. In {CHECKOUT}:")
        for part in parts:
            part.where_to_look(stage)
        where_to_look(stage)
        stage.keep()
        servers.pop_all()


if __name__ == "__main__":
    sys.exit(main())
