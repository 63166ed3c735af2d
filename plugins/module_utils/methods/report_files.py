# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report in files, for people and for programs, and the page of a pair that shows them all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile

DIRECTORY_MODE, FILE_MODE = 0o750, 0o640


def write(params: dict, set_mode, move, check_mode: bool) -> dict:
    """Make the directory and the files as they are to be; ``set_mode`` and ``move`` are AnsibleModule's."""
    if params["page"] is not None:
        return _write_page(params, set_mode, move)
    directory = params["report_directory"]
    files = {}
    if params["name"]:
        text = json.dumps(params["data"], indent=4, sort_keys=True, ensure_ascii=False) + "\n"
        files = {f"{params['name']}.md": params["markdown"], f"{params['name']}.json": text}
    files = {os.path.join(directory, name): content for name, content in files.items()}
    if not check_mode:
        _make(directory, set_mode)
        for path, content in files.items():
            if _read(path) != content:
                _write(path, content, move)
            set_mode(path, FILE_MODE, False)
    page = {"page": _read(_page(params))} if params["pair"] else {}
    return {"changed": False, "files": list(files), **page}


def _page(params: dict) -> str:
    return os.path.join(params["report_directory"], f"{params['pair']}.html")


def _write_page(params: dict, set_mode, move) -> dict:
    """Write the pair's page, unless another run has written one meanwhile: then that one is in the result."""
    path = _page(params)
    lock = os.open(params["report_directory"], os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        former = _read(path)
        if digest(former) != params["former_page"]:
            return {"changed": False, "stale": True, "page": former}
        _write(path, params["page"], move)
        set_mode(path, FILE_MODE, False)
    finally:
        os.close(lock)
    return {"changed": False, "stale": False, "files": [path]}


def digest(text: str | None) -> str:
    """What tells a page apart from another, and from none."""
    return "none" if text is None else hashlib.sha256(text.encode()).hexdigest()


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
