# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which client programs are found, and which of them is chosen for which servers."""

from __future__ import annotations

import os

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.facts import clients
from ansible_collections.handover.postgresql.plugins.module_utils.facts.clients import (
    Client,
    choose_for_dump,
    choose_for_restore,
    find_clients,
)

DEBIAN = [
    Client(f"/{version}", version, knows)
    for version, knows in [("13.23", False), ("15.18", False), ("15.20", True), ("17.12", True), ("18.6", False)]
]


@pytest.mark.parametrize(
    ("source", "target", "has_pg_attver", "chosen"),
    [
        (13, 13, False, "13.23"),
        (13, 14, False, "13.23"),  # the nearest below the target, whose statements the target knows
        (13, 15, False, "15.20"),  # the newest minor of the major
        (14, 17, False, "17.12"),
        (15, 17, True, "17.12"),
        (15, 18, False, "18.6"),
        (15, 18, True, "17.12"),  # 18.6 does not know the option
        (17, 17, True, "17.12"),
        (18, 18, True, "18.6"),  # none knows it; the import takes it out
        (14, None, False, "18.6"),
        (17, 15, False, "17.12"),  # never older than the source
        (16, 16, False, "17.12"),
        (18, 16, False, "18.6"),
        (17, 19, False, "17.12"),  # pg_restore of 18 would refuse the target
        (18, 19, False, "18.6"),  # a direct copy needs no more
    ],
)
def test_pg_dump_is_chosen_by_both_servers(source, target, has_pg_attver, chosen):
    assert choose_for_dump(DEBIAN, source, target, has_pg_attver, None).version == chosen


@pytest.mark.parametrize(
    ("dump", "target", "chosen"),
    [
        (13, 13, "13.23"),
        (13, 16, "15.20"),
        (15, 18, "18.6"),
        (17, 13, "17.12"),
        (18, 13, "18.6"),
        (16, 15, "17.12"),
        (15, 19, "17.12"),
    ],
)
def test_pg_restore_is_chosen_by_the_dump_and_the_target(dump, target, chosen):
    assert choose_for_restore(DEBIAN, dump, target, None).version == chosen


@pytest.mark.parametrize("target", [16, 17, 18])
@pytest.mark.parametrize("versions", [("17.9", "17.10"), ("17.10", "17.9"), ("17beta2", "17.1"), ("17.1", "17rc1")])
def test_the_newest_minor_is_chosen(versions, target):
    found = [Client(f"/{version}", version, False) for version in versions]
    assert choose_for_dump(found, 15, target, False, None).version in ("17.10", "17.1")


def test_a_pg_restore_that_refuses_newer_servers_is_not_chosen_for_one():
    with pytest.raises(HandoverError, match="No pg_restore that connects to a server of PostgreSQL 19 was found"):
        choose_for_restore(DEBIAN, 18, 19, None)
    newest = Client("/19rc1", "19rc1", False)
    assert choose_for_restore([*DEBIAN, newest], 18, 19, None) is newest
    assert choose_for_restore([*DEBIAN, newest], 18, 18, None).version == "18.6"
    assert choose_for_dump([*DEBIAN, newest], 15, 18, False, None).version == "18.6"
    assert choose_for_dump([*DEBIAN, newest], 15, 19, False, None) is newest


def test_what_was_found_instead_is_said():
    with pytest.raises(HandoverError) as raised:
        choose_for_dump(DEBIAN[:2], 17, 18, False, ["/13.23", "/15.18"])
    assert raised.value.problem == (
        "No pg_dump of PostgreSQL 17 or later was found in /13.23, /15.18 (found: 13.23 in /13.23, 15.18 in /15.18)."
    )
    assert "client_directory" in raised.value.remedy
    with pytest.raises(HandoverError, match=r"No pg_restore .* in PATH and the usual places \(found: none\)"):
        choose_for_restore([], 13, 17, None)


def program(place, text):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


def install(directory, answer):
    for name in ("pg_dump", "pg_restore"):
        program(directory / name, f"echo '{answer}'")
    return str(directory)


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """No client on the PATH, and the usual places below a directory of the test's."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    places = [str(tmp_path) + place for place in clients.USUAL_PLACES]
    monkeypatch.setattr(clients, "USUAL_PLACES", places)
    return tmp_path


@pytest.fixture(autouse=True)
def forget():
    """What one run has seen, another looks at again."""
    clients._look_into.cache_clear()


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("pg_dump (PostgreSQL) 18.6 (Debian 18.6-3)", "18.6"),
        ("pg_dump (PostgreSQL) 17beta1", "17beta1"),
        ("pg_dump (PostgreSQL) 19devel", "19devel"),
        ("pg_dump (EnterpriseDB) x", None),
        ("", None),
    ],
)
def test_versions_are_read_from_the_program(empty_machine, answer, version):
    install(empty_machine / "path", answer)
    assert [client.version for client in find_clients()] == [version] * bool(version)


@pytest.mark.parametrize(
    "place", ["usr/lib/postgresql/17/bin", "usr/pgsql-17/bin", "usr/libexec/postgresql17", "usr/local/pgsql/bin"]
)
def test_usual_places_are_searched(empty_machine, place):
    install(empty_machine / place, "pg_dump (PostgreSQL) 17.1")
    [client] = find_clients()
    assert (client.directory, client.major) == (str(empty_machine / place), 17)
    assert client.program("pg_dump") == str(empty_machine / place / "pg_dump")


def test_named_directories_are_searched_alone(empty_machine):
    install(empty_machine / "path", "pg_dump (PostgreSQL) 18.1")
    named = install(empty_machine / "named", "pg_dump (PostgreSQL) 16.1")
    assert [client.version for client in find_clients([named])] == ["16.1"]
    assert find_clients([str(empty_machine / "nowhere")]) == []


def test_a_directory_counts_once_and_only_with_both_programs(empty_machine):
    real = empty_machine / "usr/lib/postgresql/17/bin"
    install(real, "pg_dump (PostgreSQL) 17.1")
    (empty_machine / "path").symlink_to(real)
    assert len(find_clients()) == 1
    (real / "pg_restore").unlink()
    clients._look_into.cache_clear()
    assert find_clients() == []


def test_wrappers_and_broken_programs_are_passed_over(empty_machine):
    place = empty_machine / "path"
    program(empty_machine / "share/pg_wrapper", "echo 'pg_dump (PostgreSQL) 15.1'")
    place.mkdir()
    for name in ("pg_dump", "pg_restore"):
        os.symlink(empty_machine / "share/pg_wrapper", place / name)
    assert find_clients() == []
    program(empty_machine / "broken/pg_restore", "exit 0")
    (empty_machine / "broken/pg_dump").write_bytes(b"\x7fELF no program")
    (empty_machine / "broken/pg_dump").chmod(0o755)
    assert find_clients([str(empty_machine / "broken")]) == []


def test_a_program_that_filters_pg_attver_names_it(empty_machine):
    install(empty_machine / "path", "pg_dump (PostgreSQL) 17.12")
    assert not find_clients()[0].knows_pg_attver
    with (empty_machine / "path/pg_dump").open("a") as script:
        script.write("# SELECT ... WHERE option NOT LIKE 'pg_attver=%'\n")
    clients._look_into.cache_clear()
    assert find_clients()[0].knows_pg_attver
