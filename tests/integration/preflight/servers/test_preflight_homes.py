# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database that stands fenced: what is said of it, and that a dump takes it without what belongs to its migration."""

from __future__ import annotations

import preflights
from copies import copy
from cutovers import cut_over, handed_over, make_bank, refusal
from dumps import done, export, restore
from migrations import migrate

from lab import catalogs

ROWS = "SELECT count(*), sum(balance) FROM bank.account"
LIKE_OURS = """
    CREATE FUNCTION public.fence() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER handover_mine BEFORE INSERT ON bank.account FOR EACH ROW EXECUTE FUNCTION public.fence();
    CREATE PUBLICATION handover_mine"""
MINE = """
    SELECT count(*) FROM (SELECT tgname FROM pg_trigger UNION ALL SELECT pubname FROM pg_publication) AS t (name)
    WHERE name = 'handover_mine'"""
IMPORTED = (
    "schemas: ('handover'",
    "relations: ('handover', 'restore",
    "indexes: ('handover.",
    "constraints: ('handover.",
)


def test_a_fenced_database_is_copied_by_those_who_mean_it(servers, tmp_path):
    source, target = servers(15), servers(17, "target")
    make_bank(source, target)
    assert preflights.look(source.endpoint(), databases=["shop"]).levels("home") == {"info"}, "it is replicated"
    handed_over(cut_over(source, target))
    source.sql("shop", LIKE_OURS)
    for finished in (False, True):
        if finished:
            done(migrate(source, target, databases=["shop"], state="finished"))
        report = preflights.look(source.endpoint(), target.endpoint(), ["shop"])
        assert {(one["level"], *one["methods"]) for one in report.of("home")} == {
            ("blocker", "continuous"),
            ("warning", "dump"),
        }
        assert all(f"127.0.0.1:{target.port}" in one["seen"] for one in report.of("home"))
        name = f"again_{finished}".lower()
        place = tmp_path / name
        done(export(source, place, databases=["shop"], source_is_quiet=True))
        done(restore(target, place, databases=["shop"], rename={"shop": name}))
        done(copy(source, target, databases=["shop"], source_is_quiet=True, rename={"shop": f"{name}_directly"}))
        for made in (name, f"{name}_directly"):
            assert target.sql(made, ROWS) == source.sql("shop", ROWS) and not refusal(target, made)
            left = [one for one in catalogs.traces(catalogs.of_database(target, made)) if not one.startswith(IMPORTED)]
            assert [one for one in left if "handover_mine" not in one] == [] and target.sql(made, MINE) == [(2,)]
