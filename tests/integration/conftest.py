# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the integration tests. Servers start when a test asks for them, and end with the test run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from servers import Servers, directory_of_this_run, sweep
from source_hosts import Source, bring_bytecode, keep_bytecode
from support import WITH_BYTECODE, Cluster, create_database, environment, warm_python

from lab import builds
from lab.hosts import Host, Network, obstacle
from lab.pooler import Pooler
from lab.roots import roots
from lab.tls import Authority

SMALL = {"wal_level": "replica", "max_wal_senders": 1, "max_replication_slots": 1, "max_logical_replication_workers": 1}

# Files that take minutes begin first, or one process would work on them when the others are done.
LONG = (
    "test_demo", "test_prepare_source_hosts", "test_restart_source_hosts", "test_dump_playbooks", "test_role_examples",
    "test_cutover_faults", "test_migration_interruptions", "test_dump_interruptions", "test_migration_playbooks",
    "test_cutover_playbook", "test_dump_matrix", "test_restore_managed", "test_preflight", "test_verify",
    "test_migration_cases", "test_direct_copy_interruptions", "test_migration_changes", "test_rehearsal",
    "test_preflight_playbook", "test_verify_live",
)  # fmt: skip


def pytest_report_header() -> str:
    """Which releases the run is with: a suite that is not released has another one every few weeks."""
    return f"PostgreSQL {', '.join(build.version for build in builds.builds().values())}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files in LONG first, in its order."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def warm_modules() -> Iterator[None]:
    """Modules that tests run begin warm, unless a test wants otherwise."""
    with warm_python.opened(environment(WITH_BYTECODE)):
        yield


@pytest.fixture(scope="session")
def disk_directory() -> Iterator[Path]:
    """A directory of this run that the servers' user can reach; pytest's own are closed to it."""
    with directory_of_this_run(builds.state()) as made:
        yield made


@pytest.fixture(scope="session")
def run_directory(disk_directory: Path) -> Iterator[Path]:
    """The same, or one in memory, where programs need not be allowed to run."""
    place = builds.state_in_memory()
    with nullcontext(disk_directory) if place == builds.state() else directory_of_this_run(place) as made:
        yield made


@pytest.fixture(scope="session")
def all_servers(run_directory: Path) -> Iterator[Servers]:
    servers = Servers(run_directory)
    yield servers
    servers.destroy()


@pytest.fixture
def servers(all_servers: Servers) -> Iterator[Servers]:
    """``servers(13)`` is a running server of that major; what the test makes there is dropped after it."""
    yield all_servers
    all_servers.sweep()


@pytest.fixture
def new_cluster(all_servers: Servers, run_directory: Path) -> Iterator[Callable[..., Cluster]]:
    """``new_cluster(15, tls=..., settings=...)`` starts a server of the test's own: for kill -9, TLS, odd settings."""
    made: list[Cluster] = []

    def make(major: int, **options: Any) -> Cluster:
        made.append(all_servers.make(major, run_directory / f"own-{major}-{len(made)}", **options))
        made[-1].start()
        return made[-1]

    yield make
    for cluster in made:
        cluster.destroy()


@pytest.fixture(scope="session")
def small_servers(all_servers: Servers, run_directory: Path) -> Iterator[Callable[..., Cluster]]:
    """Servers that tests share one after the other: what one has changed is put back before the next."""
    made: dict[tuple, Cluster] = {}

    def make(major: int, settings: dict) -> Cluster:
        key = (major, *sorted(settings.items()))
        if key not in made:
            made[key] = all_servers.make(major, run_directory / f"small-{len(made)}", settings=settings)
            made[key].start()
        else:
            cluster = made[key]
            cluster.configure()
            sweep(cluster)
            cluster.reload()
            if cluster.sql("postgres", "SELECT 1 FROM pg_settings WHERE pending_restart"):
                cluster.restart()
        return made[key]

    yield make
    for cluster in made.values():
        cluster.destroy()


@pytest.fixture
def small(new_cluster: Callable[..., Cluster], small_servers: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """``small(15)`` is a server with little of everything, and with a database to migrate."""

    def make(major: int, settings: dict | None = None, **options) -> Cluster:
        settings = {**SMALL, **(settings or {})}
        cluster = new_cluster(major, settings=settings, **options) if options else small_servers(major, settings)
        create_database(cluster, "shop")
        return cluster

    return make


@pytest.fixture(scope="session")
def network(disk_directory: Path) -> Iterator[Network]:
    """A network of hosts; skips the test where this machine can have none, which CI's can."""
    if reason := obstacle(disk_directory):
        assert not (os.environ.get("CI") == "true" and os.geteuid() == 0), reason
        pytest.skip(reason)
    with Network(disk_directory / "network") as made:
        yield made


@pytest.fixture
def host(network: Network) -> Iterator[Callable[..., Host]]:
    """``host(15)`` is a Debian host of the test's own, with PostgreSQL 15 freshly installed."""
    made: list[Host] = []

    def make(major: int, name: str = "") -> Host:
        made.append(network.host(name or f"host{major}", roots([major])[major]))
        bring_bytecode(made[-1])
        return made[-1]

    yield make
    for one in made:
        keep_bytecode(one)
        one.destroy()


@pytest.fixture
def new_source(host: Callable[..., Host]) -> Callable[..., Source]:
    """``new_source(15)`` is a host with a database to migrate, and the password of its superuser."""
    return lambda major, name="": Source(host(major, name or f"source{major}"))


@pytest.fixture
def target_host(host: Callable[..., Host]) -> Host:
    """The host that a target runs on."""
    return host(17, "target")


@pytest.fixture
def pooler(run_directory: Path) -> Iterator[Callable[..., Pooler]]:
    """``pooler(cluster, mode="transaction")`` starts PgBouncer in front of a server."""
    made: list[Pooler] = []

    def make(cluster: Cluster, **options: Any) -> Pooler:
        made.append(Pooler(cluster, run_directory / f"pooler-{len(made)}", **options))
        made[-1].start()
        return made[-1]

    yield make
    for pooler in made:
        pooler.destroy()


@pytest.fixture
def database(servers: Servers) -> Callable[..., str]:
    """``database(cluster)`` makes an empty database and returns its name."""
    return create_database


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority: ``authority.server()`` is for a cluster's ``tls``, ``authority.root`` for clients."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def wrong_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed no server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"), "wrong authority")
