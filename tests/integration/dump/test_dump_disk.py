# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are full, too small or closed, on the migrator and on the target."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from dumps import CLIENTS, databases, done, export, one, refused, restore
from faults import await_that
from support import start_module

from lab import builds
from lab.cluster import Cluster, ClusterError, give

GIGABYTE = 1 << 30


@pytest.fixture(scope="module")
def source(all_servers, run_directory):
    """A server with a database of a few megabytes that do not compress."""
    cluster = all_servers.make(15, run_directory / "disk")
    cluster.start()
    cluster.sql("postgres", "CREATE DATABASE app")
    cluster.sql("app", "CREATE TABLE t AS SELECT sha512(i::text::bytea) AS noise FROM generate_series(1, 60000) AS i")
    yield cluster
    cluster.destroy()


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """``small_disk(4, place)`` is a disk of four megabytes, mounted there."""
    mounted: list[Path] = []

    def mount(megabytes: int, place: Path) -> Path:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small disk; the limit on files' sizes is tried by everybody")
        place.mkdir(exist_ok=True)
        size = f"size={megabytes}m"
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine's root may not mount: {done.stderr}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """A file that takes all space but so many bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _megabyte in range(max(0, shutil.disk_usage(place).free - leave) >> 20 or 1 << 40):
            file.write(bytes(1 << 20))
    return filler


def assert_no_dump(place: Path) -> None:
    assert [name for name in os.listdir(place / "databases") if not name.endswith(".lock")] == []


def test_estimate_refuses(source, tmp_path):
    """Files of a table that are all holes are as large as the estimate needs, and take no space."""
    source.sql("postgres", "CREATE DATABASE huge")
    source.sql("huge", "CREATE TABLE t (i int)")
    [(path,)] = source.sql("huge", "SELECT pg_relation_filepath('t')")
    needed = int(1.2 * shutil.disk_usage(tmp_path).free / 0.6 / GIGABYTE) + 2  # other tests may free some meanwhile
    if needed > 20000:
        pytest.skip("the disk is too large to pretend a larger database")
    for number in range(1, needed):
        segment = source.data / f"{path}.{number}"
        segment.touch()
        os.truncate(segment, GIGABYTE)
        give(segment)
    result = refused(export(source, tmp_path, databases=["huge"]), "is expected to need", "check_disk: false")
    assert result.expected_bytes > result.free_bytes > 0
    assert_no_dump(tmp_path)
    refused(export(source, tmp_path / "not" / "there", check=True, databases=["huge"]), "is expected to need")
    done(export(source, tmp_path, databases=["huge"], check_disk=False))


def test_full_disk(source, servers, small_disk, tmp_path):
    place = small_disk(3, tmp_path / "small")
    refused(export(source, place), "is expected to need")
    result = export(source, place, databases=["app"], check_disk=False)
    refused(result, "No space left on device", "Free disk space")
    assert_no_dump(place)
    subprocess.run(["mount", "-o", "remount,size=40m", place], check=True)
    exported = one(export(source, place, databases=["app"]))
    assert one(restore(servers(18), place))["rows_compared"] == exported["rows"] == 60000


def test_former_dump_outlives_a_full_disk(source, small_disk, tmp_path):
    place = small_disk(7, tmp_path / "small")
    former = one(export(source, place, databases=["app"]))
    refused(export(source, place, databases=["app"], force=True, check_disk=False), "No space left on device")
    again = one(export(source, place, databases=["app"]))
    assert (again["changed"], again["dump_id"]) == (False, former["dump_id"])


def test_full_disk_while_roles_are_written(source, small_disk, tmp_path):
    place = small_disk(1, tmp_path / "small")
    (place / "roles").mkdir()
    filler = fill(place)
    refused(export(source, place, include=["roles"]), str(place), "No space left on device", "Free disk space")
    filler.unlink()
    done(export(source, place, include=["roles"]))


def test_limit_on_the_size_of_files(source, tmp_path):
    given = {
        "source": source.endpoint(),
        "dump_directory": str(tmp_path),
        "databases": ["app"],
        "client_directory": CLIENTS,
    }
    running = start_module("pg_dump_export", given)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    refused(running.wait(), "pg_dump", "SIGXFSZ", "ulimit -f")
    assert_no_dump(tmp_path)
    done(export(source, tmp_path, databases=["app"]))


def recovered(server: Cluster) -> bool:
    """Whether it answers again, be it that it ended or that it recovers by itself."""
    with contextlib.suppress(psycopg2.OperationalError, ClusterError):
        server.start()
        return bool(server.sql("postgres", "SELECT 1"))
    return False


@pytest.mark.parametrize("place", ["/dev/null/dump", "/proc/dump"])
def test_directory_that_cannot_be_made(source, place):
    refused(export(source, place), place)


def test_full_disk_of_the_target(source, small_disk, run_directory, tmp_path):
    """Whether a table or the WAL does not fit, in which case the server ends: nothing looks finished."""
    done(export(source, tmp_path, databases=["app"]))
    directory = run_directory / "full-target"
    small_disk(150, directory)
    settings = {"min_wal_size": "2MB", "max_wal_size": "4MB"}
    initdb = ("--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1")
    target = Cluster(builds.build(18), directory, settings=settings, initdb_args=initdb)
    try:
        target.start()
        filler = fill(directory, leave=10 << 20)
        refused(restore(target, tmp_path))
        filler.unlink()
        await_that(lambda: recovered(target), "the end of recovery")
        assert "app" not in databases(target)
        assert one(restore(target, tmp_path))["rows_compared"] == 60000
    finally:
        target.stop("immediate")
