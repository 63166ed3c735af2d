# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What replication does not bring, changed while the database is handed over by who goes past the poolers."""

from __future__ import annotations

import pytest
from cutovers import await_step, cut_over, handed_over, hold_at, homes, let_go, make_bank, start_cutover
from faults import await_that

TAKE = "SELECT nextval('bank.ledger_id_seq') FROM generate_series(1, 3)"


@pytest.mark.parametrize("majors", [(13, 16), (15, 18)])
def test_no_value_of_a_sequence_is_given_twice(servers, tmp_path, majors):
    """Not those either that were fetched after the window had read it, nor after the commit, also where it is a
    program left behind, or the next run, that lets the new home in."""
    source, target = (servers(major) for major in majors)
    make_bank(source, target)
    for number, (step, end) in enumerate([
        ("commit", "finish"), ("overtake", "finish"), ("overtake", "kill"), ("overtake", "kill_family"),
    ]):  # fmt: skip
        direction, old, new = ("back", target, source) if number % 2 else ("forward", source, target)
        more = {"direction": direction, "sequence_margin": 0}
        place = tmp_path / str(number)
        running = start_cutover(source, target, env=hold_at(place, step), **more)
        await_step(place, running)
        taken = old.sql("shop", TAKE)
        if end == "finish":
            let_go(place)
            handed_over(running.wait())
        else:
            getattr(running, end)()
        if end == "kill":
            await_that(lambda: len(homes(source, target)) == 1, "one home")
        given = new.sql("shop", TAKE) if end == "kill" else None
        handed_over(cut_over(source, target, **more))
        given = given or new.sql("shop", TAKE)
        assert min(given) > max(taken), (step, end, taken, given)
