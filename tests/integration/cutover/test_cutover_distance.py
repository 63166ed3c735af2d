# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers and poolers that are far away: what counts is how often something is said to them, and answered."""

from __future__ import annotations

import re

from cutovers import CLERK, USERS, await_commits, eventually_same, handed_over, make_bank
from dumps import CLIENTS, one
from migrations import finished, in_step
from steps_of_windows import moments, watching_steps
from support import create_database, run_module

from lab.bank import Bank
from lab.distance import Distance

FEW, MANY = 5, 40
# What is asked again until it is so, and what pg_dump asks of each sequence before 18.
LEFT_OUT = re.compile(r"SELECT min\(n\)|pg_stat_subscription|pg_stat_replication|seqtypid")
CHANCE = 25  # trips by which two runs of the same differ; what is said a table would be 35

TABLES = """
    DO $$ BEGIN FOR n IN 1..{} LOOP
        EXECUTE format('CREATE TABLE "t %s" (id bigserial PRIMARY KEY, parent bigint REFERENCES "t %s",
                        name text UNIQUE)', n, greatest(n - 1, 1));
        EXECUTE format('INSERT INTO "t %s" (name) SELECT ''name '' || i FROM generate_series(1, 10) AS i', n);
    END LOOP; END $$"""
ACCOUNTS = "SELECT sum(balance), sum(hashint8(id) * balance) FROM bank.account"


def test_trips_do_not_grow_with_the_number_of_tables(servers):
    """But for a COPY into each, which the target has to take by itself, and the rows after it."""
    source, target = servers(15), servers(18)
    with Distance(source, target) as far:
        few, many = (trips_of_stages(far, create_database(source), tables) for tables in (FEW, MANY))
    for stage, counts in few.items():
        copies = MANY - FEW if stage == "replicate" else 0
        for number, count, others in zip((0, 2), counts, many[stage]):
            assert others <= count + number * copies + CHANCE, (stage, few, many)


def trips_of_stages(far, dbname, tables):
    """Those of a migration from begin to end, with (source, target)."""
    far.source.sql(dbname, TABLES.format(tables))
    found = {}

    def counted(stage, work):
        far.forget()
        work()
        found[stage] = [sum(not LEFT_OUT.search(trip.said) for trip in trips) for trips in far.trips()]

    ends, databases = far.ends(), {"databases": [dbname]}
    both = {side: ends[side] for side in ("source", "target")}
    counted("replicate", lambda: in_step(*both.values(), **databases, replication=ends["replication"]))
    counted("verify", lambda: one(run_module("pg_verify", {**both, **databases, "client_directory": CLIENTS})))
    for stage, direction in (("cutover", "forward"), ("rollback", "back")):
        more = {"direction": direction, "reverse_replication": ends["reverse_replication"]}
        counted(stage, lambda more=more: handed_over(run_module("pg_cutover", {**both, **databases, **more})))
    counted("finish", lambda: finished(*both.values(), **databases))
    return found


def test_far_servers_and_a_far_console(servers, pooler, tmp_path):
    """There and back while clients write; the trips of a window are those that nothing can shorten."""
    source, target = servers(15), servers(18)
    make_bank(source, target, tables=MANY)
    front = pooler(source, users=USERS)
    rtt = 0.02
    with (
        Distance(source, target, (rtt, rtt), [front], rtt) as far,
        Bank(front.endpoint(**CLERK), rate=60) as load,
    ):
        ends = far.ends()
        link = {name: ends.pop(name) for name in ("replication", "reverse_replication")}
        given = {**ends, **link, "databases": ["shop"], "require_verification": False, "reverse": True}
        watch = watching_steps(tmp_path / "steps")
        for direction, home in (("forward", target), ("back", source)):
            await_commits(load)
            far.forget()
            front.lead("shop", home)
            args = {**given, "poolers": far.consoles(), "direction": direction}
            found = handed_over(run_module("pg_cutover", args, env=watch))
            began = moments(tmp_path / "steps")[0]
            count = far.count(began, began + found["window_ms"] / 1000)
            # Pause; lock and beacon; sequences, as soon as they stand still; commit; open, and load; resume.
            assert count.chain <= 6.5, (count, found["timeline"], far.trips(began, began + found["window_ms"] / 1000))
            await_commits(load)
    assert load.failures == [] and load.problems(source.connect("shop")) == []
    eventually_same(lambda: target.sql("shop", ACCOUNTS), source.sql("shop", ACCOUNTS))
