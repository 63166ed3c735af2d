# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Autovacuum that works on a table for hours keeps no step of a migration from its locks."""

from __future__ import annotations

import time

from cutovers import cut_over, eventually_same, handed_over
from dumps import done
from migrations import in_step, migrate
from support import create_database

SHOP = """
    CREATE TABLE t (id int PRIMARY KEY) WITH (autovacuum_vacuum_threshold = 100, autovacuum_analyze_threshold = 1000000,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
    CREATE TABLE referring (id int PRIMARY KEY, t int REFERENCES t (id));
    INSERT INTO t SELECT generate_series(1, 1000);
    INSERT INTO referring SELECT i, i FROM generate_series(1, 1000) AS i"""
SUM = "SELECT count(*), sum(id) FROM t"


def vacuumed(cluster):
    return cluster.sql("shop", "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'public.t'::regclass")


def keep_autovacuum_busy(cluster, begin):
    rows = f"INSERT INTO t SELECT generate_series({begin}, {begin + 30_000}); DELETE FROM t WHERE id >= {begin}"
    cluster.sql("shop", rows)
    eventually_same(lambda: vacuumed(cluster), [(1,)], timeout=30)


def test_there_and_back_and_the_end(new_cluster):
    source, target = (new_cluster(major, settings={"autovacuum_naptime": "1s"}) for major in (15, 18))
    create_database(source, "shop")
    source.sql("shop", SHOP)
    began = time.monotonic()
    keep_autovacuum_busy(source, 100_000)
    in_step(source, target, databases=["shop"])
    eventually_same(lambda: vacuumed(source), [(1,)], timeout=30)
    handed_over(cut_over(source, target))
    keep_autovacuum_busy(target, 200_000)
    handed_over(cut_over(source, target, direction="back"))
    eventually_same(lambda: vacuumed(source), [(1,)], timeout=30)
    done(migrate(source, target, databases=["shop"], state="finished", lift_fence=True))
    assert time.monotonic() - began < 100, "what gives up does so after two minutes"
    assert source.sql("shop", SUM) == target.sql("shop", SUM) == [(1000, 500_500)]
