# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Goes on trying to break a handover.

.build/venv/bin/python benchmarks/chaos.py [--seed 1] [--faults 100] [--pairs 15:18 17:18 ...] [--lanes 2]
                                           [--only KIND ...] [--non-superuser] [--replay SEED:CYCLE] [--keep DIRECTORY]

Databases are replicated, handed over, brought back and finished, while clients write that remember what was
acknowledged to them. One fault hits each job at a moment that the seed chooses: something is killed, frozen, cut off,
locked, changed, full, or two operators are at work at once. Then the job is run again until it is done, or refuses
rightly. All the time it is looked whether ever both ends take writes, and whether a password can be read anywhere;
after each fault and each job, whether anything acknowledged is lost or there twice; in the end, whether the catalogs
are as they were before. A line for each job, a table in the end; the exit status is 1 if anything was violated, and
then logs and data of that cycle are kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.chaos import faults, lanes  # noqa: E402

PAIRS = ("13:18", "14:16", "15:18", "16:17", "17:18", "18:18")


def main() -> int:
    """What the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=100, help="how many, at least")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="SOURCE:TARGET")
    parser.add_argument("--lanes", type=int, default=2, help="processes side by side, each with servers of its own")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(faults.FAULTS), metavar="KIND")
    parser.add_argument("--non-superuser", action="store_true", help="as the administrator of a managed target")
    parser.add_argument("--replay", metavar="SEED:CYCLE", help="one cycle once more")
    parser.add_argument("--keep", type=Path, help="where logs and data go when something is violated")
    arguments = parser.parse_args()
    if arguments.replay:
        arguments.seed, arguments.cycle = map(int, arguments.replay.split(":"))
    return lanes.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
