# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip where ansible-test looks for it, so that sanity tests need no host but the package index.

ansible-test runs it with the Python of a virtual environment without pip and the arguments meant for get-pip.
The home directory is .build/home (see tests/run), beside the virtual environment whose pip does the work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

pip = [Path.home().parent / "venv" / "bin" / "python", "-m", "pip", "--python", sys.executable]
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
environment = {name: value for name, value in os.environ.items() if name != "GET_PIP"}
subprocess.run([*pip, "install", "--quiet", *wanted], env=environment, check=True)
