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
    changed = _make(directory, set_mode, check_mode)
    diff = []
    for path, content in files.items():
        before = _read(path)
        if before != content:
            diff.append({"before_header": path, "before": before or "", "after_header": path, "after": content})
            if not check_mode:
                _write(path, content, move)
        if not check_mode or before is not None:
            changed = set_mode(path, FILE_MODE, changed)
    return {"changed": changed or bool(diff), "diff": diff, "files": list(files)}


def _make(directory: str, set_mode, check_mode: bool) -> bool:
    """Make a directory with those above it that are missing; whether it was not as it is to be."""
    if os.path.isdir(directory):
        return set_mode(directory, DIRECTORY_MODE, False)
    if not check_mode:
        missing = [directory]
        while not os.path.exists(parent := os.path.dirname(missing[-1])):
            missing.append(parent)
        for path in reversed(missing):
            os.mkdir(path)
            set_mode(path, DIRECTORY_MODE, True)
    return True


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
