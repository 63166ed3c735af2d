# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit of a dump directory (the roles, or one database): written whole or not at all, and checked file by file.

DIRECTORY/roles/{manifest.json,roles.json,roles.sql}
DIRECTORY/databases/NAME/{manifest.json,archive/}
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from datetime import datetime, timezone
from urllib.parse import quote, unquote

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK = 1 << 20


class Unit:
    """One folder with a manifest. Hidden neighbours (``.NAME.lock``, ``.NAME.partial``) belong to it."""

    def __init__(self, path: str):
        self.path = path
        parent, name = os.path.split(path)
        self._lock_path = os.path.join(parent, f".{name}.lock")
        self._partial_path = os.path.join(parent, f".{name}.partial")
        self._former_path = os.path.join(parent, f".{name}.former")

    @classmethod
    def of_database(cls, directory: str, dbname: str) -> Unit:
        """Percent-encoded, so that any name of a database is a name of a folder."""
        encoded = quote(dbname, safe="").replace(".", "%2E")
        return cls(os.path.join(directory, "databases", encoded))

    @classmethod
    def of_roles(cls, directory: str) -> Unit:
        return cls(os.path.join(directory, "roles"))

    def file(self, name: str) -> str:
        """The path of a file or folder inside."""
        return os.path.join(self.path, name)

    def read(self) -> dict | None:
        """The manifest, or None where there is no complete unit. Raises HandoverError for one that is unreadable."""
        try:
            with open(self.file(MANIFEST), encoding="utf-8") as file:
                manifest = json.load(file)
        except FileNotFoundError:
            return None
        except ValueError:
            raise HandoverError(f"{self.file(MANIFEST)} is damaged.", "Export again with force: true.") from None
        if manifest.get("format") != FORMAT:
            raise HandoverError(
                f"{self.file(MANIFEST)} has format {manifest.get('format')}; this release reads {FORMAT}.",
                "Use the release that wrote it, or export again with force: true.",
            )
        return manifest

    def require(self) -> dict:
        """The manifest of a complete and intact unit. Raises HandoverError naming what is missing or damaged."""
        manifest = self.read()
        if manifest is None:
            raise HandoverError(
                f"{self.path} holds no complete dump: it has no {MANIFEST}.",
                "Export it first, or correct directory.",
            )
        damaged = self.damage(manifest)
        if damaged:
            raise HandoverError(
                f"The dump in {self.path} is damaged: {'; '.join(damaged[:5])}.",
                "Export it again with force: true.",
                damaged_files=damaged,
            )
        return manifest

    def damage(self, manifest: dict) -> list[str]:
        """Files that are not as the manifest says, each with the reason. Reads every byte."""
        present = set(_files_below(self.path)) - {MANIFEST}
        expected = {file["path"]: file for file in manifest["files"]}
        found = [f"{path} is not in the manifest" for path in sorted(present - set(expected))]
        found += [f"{path} is missing" for path in sorted(set(expected) - present)]
        common = sorted(present & set(expected))
        for path, actual in zip(common, _describe(self.path, common)):
            if actual["size"] != expected[path]["size"]:
                found.append(f"{path} has {actual['size']} bytes instead of {expected[path]['size']}")
            elif actual["sha256"] != expected[path]["sha256"]:
                found.append(f"{path} has another SHA-256 than when it was written")
        return found

    @contextlib.contextmanager
    def locked(self):
        """Keeps other runs from this unit. Raises HandoverError when another has it."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with open(self._lock_path, "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HandoverError(
                    f"Another run is working on {self.path}.", "Wait until it has ended, or stop it."
                ) from None
            yield

    def recover(self) -> None:
        """Finish or undo what a run that was killed left behind. Raises HandoverError when another run is at it."""
        if os.path.exists(self._partial_path) or os.path.exists(self._former_path):
            with self.locked():
                self._settle()

    @contextlib.contextmanager
    def rewritten(self, manifest: dict):
        """Yields a new folder to fill; afterwards describes its files, adds the manifest and puts it into place.

        After an error the former unit stands as it was. Call it under ``locked``.
        """
        self._settle()
        os.mkdir(self._partial_path, mode=0o700)
        try:
            yield self._partial_path
            paths = _files_below(self._partial_path)
            manifest.update(
                format=FORMAT,
                dump_id=str(uuid.uuid4()),
                completed=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                files=_describe(self._partial_path, paths),
            )
            write_private(
                os.path.join(self._partial_path, MANIFEST), json.dumps(manifest, indent=2, ensure_ascii=False)
            )
            if os.path.exists(self.path):
                os.rename(self.path, self._former_path)
            os.rename(self._partial_path, self.path)
        finally:
            self._settle()

    def _settle(self) -> None:
        """Only the unit in place remains; if a kill came between the two renames, the former one returns."""
        if os.path.exists(self._former_path) and not os.path.exists(self.path):
            os.rename(self._former_path, self.path)
        for leftover in (self._partial_path, self._former_path):
            shutil.rmtree(leftover, ignore_errors=True)


def database_units(directory: str) -> list[str]:
    """Names of the databases of which a dump directory holds a dump."""
    place = os.path.join(directory, "databases")
    names = sorted(os.listdir(place)) if os.path.isdir(place) else []
    return [unquote(name) for name in names if not name.startswith(".")]


def write_private(path: str, text: str) -> None:
    """A new file that only its owner can read, on disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = path  # which Python does not know of a descriptor
        raise


def _files_below(directory: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(folder, name), directory)
        for folder, _folders, names in os.walk(directory)
        for name in names
    )


def _describe(directory: str, paths: list[str]) -> list[dict]:
    """Size in bytes and SHA-256 of files, several at a time: hashing leaves the interpreter lock."""

    def describe(path):
        digest = hashlib.sha256()
        with open(os.path.join(directory, path), "rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                digest.update(chunk)
            return {"path": path, "size": file.tell(), "sha256": digest.hexdigest()}

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(describe, paths))
