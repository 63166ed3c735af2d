# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions that are not on the target as they are on the source: named before rows are copied, with what helps."""

from __future__ import annotations

from pathlib import Path

import pytest
from copies import copy
from dumps import done
from rehearsals import about, assert_well, left, made, rehearse
from support import Cluster, Result

KEPT = "SELECT pg_extension_config_dump('shape', '')"
ONE = f"CREATE TABLE shape (id int PRIMARY KEY, colour text); {KEPT};"
WITHOUT_A_COLUMN = f"CREATE TABLE shape (id int PRIMARY KEY, color text); {KEPT};"
WITH_A_ROW = f"{ONE} INSERT INTO shape VALUES (1, 'white');"
MINE = "SELECT * FROM own ORDER BY id"


def offer(cluster: Cluster, place: Path, script: str, control: str = "relocatable = true") -> None:
    """Let the server, of 18 or later, have an extension ``shapes`` that consists of this script."""
    directory = place / f"shapes-{cluster.build.major}" / "extension"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "shapes.control").write_text(f"default_version = '1.0'\n{control}\n")
    (directory / "shapes--1.0.sql").write_text(script)
    cluster.sql("postgres", f"ALTER SYSTEM SET extension_control_path = '$system:{directory.parent}'")
    cluster.reload()


@pytest.fixture
def ends(servers, run_directory) -> tuple[Cluster, Cluster]:
    """The source has what users added to the extension's table, and a table of their own."""
    source, target = servers(18), servers(19, "target")
    offer(source, run_directory, ONE)
    made(
        source,
        "shop",
        """CREATE SCHEMA lib; CREATE EXTENSION shapes SCHEMA lib; INSERT INTO lib.shape VALUES (1, 'blue'), (2, 'red');
        CREATE TABLE own (id int PRIMARY KEY); INSERT INTO own VALUES (1), (2)""",
    )
    return source, target


def refused(found: Result, words: str) -> dict:
    """The one blocker, which names the extension."""
    assert found.failed
    finding = about(found, words)
    assert finding["level"] == "blocker" and "EXTENSION shapes" in finding["objects"]
    return finding


def test_one_that_has_to_be_in_another_schema(ends, run_directory):
    source, target = ends
    offer(target, run_directory, ONE, "schema = shapes")
    assert "SET SCHEMA" in refused(rehearse(source, target), 'must be installed in schema "shapes"')["remedy"]
    source.sql("shop", "CREATE SCHEMA shapes; ALTER EXTENSION shapes SET SCHEMA shapes")
    assert_well(done(rehearse(source, target)))
    done(copy(source, target))
    assert target.sql("shop", "SELECT * FROM shapes.shape ORDER BY id") == [(1, "blue"), (2, "red")]


@pytest.mark.parametrize(
    ("script", "words"), [(WITHOUT_A_COLUMN, 'column "colour"'), (WITH_A_ROW, "shape_pkey")], ids=["column", "row"]
)
def test_one_whose_table_is_another_or_has_rows_of_its_own(ends, run_directory, script, words):
    source, target = ends
    offer(target, run_directory, script)
    finding = refused(rehearse(source, target), words)
    assert "TABLE lib.shape" in finding["objects"] and "exclude_extensions: [shapes]" in finding["remedy"]
    given = {"exclude_extensions": ["shapes"]}
    assert_well(done(rehearse(source, target, **given)))
    done(copy(source, target, **given))
    assert target.sql("shop", MINE) == source.sql("shop", MINE) == [(1,), (2,)]
    assert left(target) == []


def test_one_that_the_target_does_not_have(ends):
    source, target = ends
    made(source, "other", "CREATE TABLE own (id int PRIMARY KEY)")
    found = rehearse(source, target)
    assert "available on the target" in refused(found, "the target does not offer this extension")["remedy"]
    assert found.failed_on == ["shop"] and {one["database"] for one in found["findings"]} == {"shop", "other"}
