# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous migration, as far as it needs no server: connection strings, waves, drift."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import Endpoint
from ansible_collections.handover.postgresql.plugins.module_utils.facts import naming
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.job import conninfo_parameters
from ansible_collections.handover.postgresql.plugins.module_utils.methods.migration.waves import shares
from ansible_collections.handover.postgresql.plugins.module_utils.parts.migration import drift

SOURCE = {"host": "db.example", "port": "5433", "user": "admin", "sslmode": "verify-full", "sslrootcert": "/here/ca"}
DEFAULTS = {"connect_timeout": "15", "keepalives_idle": "30", "keepalives_interval": "10"}


def conninfo(**replication):
    """libpq's parameters for the target, with what the operator says about them."""
    info = SimpleNamespace(dsn_parameters={**SOURCE, "application_name": "handover", "krbsrvname": ""}, password="own")
    return conninfo_parameters(info, Endpoint("source", {}), replication)


def test_without_a_word_the_target_connects_as_we_do_but_with_no_file_of_ours():
    expected = {"host": "db.example", "port": "5433", "user": "admin", "sslmode": "require", "password": "own"}
    assert conninfo() == {**expected, **DEFAULTS}


def test_what_the_operator_says_wins_and_another_user_never_gets_the_password_of_the_first():
    found = conninfo(host="10.0.0.1", port=5432, user="other", sslmode=None)
    assert {name: found.get(name) for name in ("host", "port", "user", "password")} == {
        "host": "10.0.0.1",
        "port": "5432",
        "user": "other",
        "password": None,
    }


def test_certificates_are_verified_where_the_target_has_the_authority():
    assert conninfo(sslrootcert="/there/ca")["sslmode"] == "verify-full"


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [([], 3, [[]]), ([5], 3, [[5]]), ([1, 9, 4, 5], 2, [[9, 1], [5, 4]]), ([None, 3], 2, [[3], [None]])],
)
def test_waves_are_of_about_the_same_size(sizes, count, expected):
    tables = [SimpleNamespace(schema="s", name=str(number), bytes=size) for number, size in enumerate(sizes)]
    assert [[table.bytes for table in group] for group in shares(tables, count)] == expected


def test_tables_that_foreign_keys_join_are_in_one_wave():
    tables = [SimpleNamespace(schema="s", name=name, bytes=1) for name in "abcdef"]
    pairs = [(("s", one), ("s", other)) for one, other in ("da", "dX", "Xf", "bb", "XX")]
    groups = shares(tables, 3, pairs)
    assert {"a", "d", "f"} in [{table.name for table in group} & set("adf") for group in groups]
    assert len(groups) == 3 and sum(map(len, groups)) == 6


def test_names_are_the_same_from_any_machine_and_different_for_any_other_pair():
    servers = [SimpleNamespace(system_identifier=str(number)) for number in (1, 2)]
    there = naming.migration_id(servers[0], "a", servers[1], "b")
    back = naming.migration_id(servers[1], "b", servers[0], "a")
    assert there != back
    assert len(naming.wave_name(there, 12)) < 64
    assert naming.beacon_table(naming.back_name(there)) == f"beacon_{there}_back"


def table(oid=1, **columns):
    """The fingerprint of a table."""
    return {"oid": oid, "columns": columns, "identity": "d: id", "unlogged": False, "constraints": None, "unique": "x"}


def test_drift_names_tables_and_columns():
    recorded = {"a": table(1, id="integer", gone="text"), "b": table(2, id="integer"), "c": table(3, id="integer")}
    current = {"a": table(1, id="bigint", new="text"), "c": {**table(3, id="integer"), "identity": "f"}, "d": table(4)}
    found = drift.differences(recorded, current)
    assert [(one["table"], one["change"], one["columns"]) for one in found] == [
        ("a", "columns", ["gone", "id", "new"]),
        ("b", "gone", []),
        ("c", "identity", []),
        ("d", "new", []),
    ]
    assert "column id was integer and is bigint" in drift.describe(found)
    assert drift.differences(current, current) == []
    later = {name: {**one, "defaults": "x"} for name, one in current.items()}
    assert drift.differences(current, later) == []  # a journal that knows less


def test_another_table_of_the_same_name_is_drift():
    """No publication has it, so that its rows would never arrive."""
    [found] = drift.differences({"a": table(1, id="integer")}, {"a": table(2, id="integer")})
    assert (found["table"], found["change"]) == ("a", "replaced")


@pytest.mark.parametrize(
    ("recorded", "current"),
    [
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 3, "b": 1}),
        ({"b": 2, "a": 1}, {"b": 1}),
        ({"a": 1, "b": 2}, {"b": 1, "c": 2}),
    ],
)
def test_a_renamed_table_is_nothing_that_could_join_or_be_copied_anew(recorded, current):
    found = drift.differences(*({name: table(oid) for name, oid in one.items()} for one in (recorded, current)))
    assert ("a", "renamed") in {(one["table"], one["change"]) for one in found}
    assert {one["change"] for one in found} == {"renamed"}
