# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a picture of a pair's page, to look at it: python3 docs/screenshot_report.py PAIR.html PICTURE.png.

It needs Chromium, in PATH as chromium, chromium-browser or google-chrome. --print makes a PDF instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1100, help="in pixels, 390 for a phone")
    parser.add_argument("--height", type=int, default=1500)
    parser.add_argument("--dark", action="store_true", help="as for who prefers dark pages")
    parser.add_argument("--print", action="store_true", help="a PDF, as it is printed")
    arguments = parser.parse_args()
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        print(f"None of {', '.join(PROGRAMS)} is in PATH.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [program, *_options(arguments, profile), arguments.page.resolve().as_uri()], check=True, capture_output=True
        )
    return 0


def _options(arguments: argparse.Namespace, profile: str) -> list[str]:
    options = ["--headless=new", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium refuses to have one as root
    if arguments.dark:
        options.append("--force-dark-mode")
        options.append("--blink-settings=preferredColorScheme=0")
    if arguments.print:
        return [*options, "--no-pdf-header-footer", f"--print-to-pdf={arguments.picture}"]
    return [*options, f"--window-size={arguments.width},{arguments.height}", f"--screenshot={arguments.picture}"]


if __name__ == "__main__":
    sys.exit(main())
