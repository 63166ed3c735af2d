"""Whole databases from every major to every newer one: what arrives is what was there."""

from __future__ import annotations

import pytest
from dumps import (
    JOURNAL,
    PUBLISHER,
    assert_nothing_of_ours,
    done,
    expected_on_target,
    export,
    finish,
    look,
    look_at_roles,
    one,
    restore,
    row_counts,
    statistics,
)
from support import assert_same, shared_directory

from lab import every_class, sample

PAIRS = [(13, 17), (13, 19), (14, 18), (15, 19), (16, 18), (17, 19), (18, 18), (18, 19), (19, 19)]
ALIKE = ((15, 19), (17, 19), (18, 18))  # in what the classes of objects have to do with majors, to others


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_sample_arrives_whole(servers, tmp_path, old, new):
    source, target = servers(old), servers(new, "target")
    made = sample.create(source.connect, "shop", scale=0.01)
    before, roles_before = look(source, "shop"), look_at_roles(source)
    exported = one(export(source, tmp_path, target_version=new, unlogged_table_data=True))
    imported = one(restore(target, tmp_path))
    assert (imported["skipped"], imported["edits"]) == ([], [])
    assert exported["tables"] == imported["tables_compared"] == made["tables"]
    assert exported["rows"] == imported["rows_compared"] == made["rows"]
    restored, kinds = imported["restored"], [relation["relkind"] for relation in before["relations"].values()]
    assert restored["TABLE"] == kinds.count("r") + kinds.count("p")
    assert (restored["TABLE DATA"], restored["VIEW"], restored["MATERIALIZED VIEW"]) == tuple(map(kinds.count, "rvm"))
    assert restored["SEQUENCE SET"] == len(before["sequences"])
    assert restored["TRIGGER"] == len(before["triggers"])

    again = one(restore(target, tmp_path))
    assert {**again, "changed": True} == imported, "the facts of the first run, and no change"
    assert_same(before, look(target, "shop"), ignore=JOURNAL)
    finish(target, "shop")
    assert_same(before, look(target, "shop"))
    assert_same(roles_before, look_at_roles(target))
    assert_same(before, look(source, "shop"))
    assert_nothing_of_ours(source, target)

    counted = row_counts(target, "shop")
    assert statistics(target, "shop") == {
        name: (rows, columns if rows else 0) for name, (rows, columns) in counted.items()
    }
    assert target.sql("shop", "SELECT count(*) FROM pg_statistic_ext_data") == [(2,)]


@pytest.mark.parametrize(
    ("old", "new", "tablespaces"),
    [(old, new, False) for old, new in PAIRS if (old, new) not in ALIKE] + [(13, 17, True), (18, 18, True)],
    ids=lambda value: {False: "default tablespace", True: "own tablespace"}.get(value, value),
)
def test_every_class_arrives(servers, tmp_path, run_directory, old, new, tablespaces):
    """Subscriptions are never restored; everything else is, once the target has the source's tablespace."""
    source, target = servers(old), servers(new, "target")
    every_class.create(source.connect, "every")
    before = look(source, "every")
    if tablespaces:
        place = shared_directory(run_directory, f"every-space-{old}-{new}")
        target.sql("postgres", "CREATE TABLESPACE every_space LOCATION %s", [str(place)])
        target.sql("postgres", "GRANT CREATE ON TABLESPACE every_space TO PUBLIC")
    done(export(source, tmp_path, target_version=new, unlogged_table_data=True))
    imported = one(restore(target, tmp_path, no_tablespaces=not tablespaces))
    subscriptions = {f"SUBSCRIPTION {name}" for name in before["subscriptions"]}
    skipped = {entry["object"]: entry["reason"] for entry in imported["skipped"]}
    assert {name for name, reason in skipped.items() if reason == PUBLISHER} == subscriptions
    assert set(skipped) - subscriptions == {'COMMENT SUBSCRIPTION "every_subscription"'}
    finish(target, "every")
    assert_same(expected_on_target(before, tablespaces), look(target, "every"))
    assert_same(look_at_roles(source), look_at_roles(target))
    assert_nothing_of_ours(source, target)
