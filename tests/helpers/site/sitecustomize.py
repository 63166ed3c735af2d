# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps bytecode of what is imported from zip files, as Python does of all other source.

Ansible sends each module as a zip file of source, and compiling it anew for each task costs more than most tasks do.
Of this kind is nothing but the time: the source is still that of the zip file, and what is kept is known by its hash.
"""

from __future__ import annotations

import _imp
import gc
import hashlib
import marshal
import os
import sys
import zipimport

CACHE = os.environ.get("HANDOVER_TEST_BYTECODE", "")
_compile = zipimport._compile_source


def compile_or_recall(path: str, source: bytes):
    """The code of a file in a zip file."""
    name = hashlib.sha256(source + sys.version.encode()).hexdigest()
    place = os.path.join(CACHE, name)
    try:
        with open(place, "rb") as file:
            code = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile(path, source)
        keep(place, marshal.dumps(code))
    _imp._fix_co_filename(code, path)
    return code


def keep(place: str, content: bytes) -> None:
    """Write a file at once, or not at all."""
    new = f"{place}.{os.getpid()}"
    try:
        os.makedirs(CACHE, exist_ok=True)
        with open(new, "wb") as file:
            file.write(content)
        os.replace(new, place)
    except OSError:
        pass


if CACHE:
    zipimport._compile_source = compile_or_recall
    os.register_at_fork(before=gc.freeze)  # Ansible forks for each task; what is there need not be copied
