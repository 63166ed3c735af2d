# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report in two files, for people and for programs."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile

DIRECTORY_MODE, FILE_MODE = 0o750, 0o640


def write(params: dict, set_mode, move, check_mode: bool) -> dict:
    """Make the directory and both files as they are to be; ``set_mode`` and ``move`` are AnsibleModule's."""
    directory = params["report_directory"]
    text = json.dumps(params["data"], indent=4, sort_keys=True, ensure_ascii=False) + "\n"
    files = {
        os.path.join(directory, f"{params['name']}.md"): params["markdown"],
        os.path.join(directory, f"{params['name']}.json"): text,
    }
    if not check_mode:
        _make(directory, set_mode)
        for path, content in files.items():
            if _read(path) != content:
                _write(path, content, move)
            set_mode(path, FILE_MODE, False)
    return {"changed": False, "files": list(files)}


def _make(directory: str, set_mode) -> None:
    """Make a directory with those above it that are missing."""
    missing = [directory]
    while not os.path.exists(missing[-1]):
        missing.append(os.path.dirname(missing[-1]))
    for path in reversed(missing[:-1]):
        os.mkdir(path)
        set_mode(path, DIRECTORY_MODE, False)
    set_mode(directory, DIRECTORY_MODE, False)


def _read(path: str) -> str | None:
    """What a file holds, None where there is none, or none that can be read as text."""
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError), open(path, encoding="utf-8", newline="") as file:
        return file.read()
    return None


def _write(path: str, content: str, move) -> None:
    """Write a file, all or nothing."""
    handle, scratch = tempfile.mkstemp()
    with open(handle, "w", encoding="utf-8", newline="") as file:
        file.write(content)
    move(scratch, path)
