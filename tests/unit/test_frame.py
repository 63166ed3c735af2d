# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that cannot be meant."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.frame import refuse_numbers
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import sentence


@pytest.mark.parametrize("params", [{}, {"jobs": None}, {"jobs": 1, "sequence_margin": 0}, {"timeout": -1}])
def test_numbers_that_are_taken(params):
    refuse_numbers(params)


@pytest.mark.parametrize("params", [{"jobs": 0}, {"jobs": -1}, {"samples": -1}, {"sequence_margin": -1}])
def test_numbers_that_are_refused(params):
    [(name, number)] = params.items()
    with pytest.raises(HandoverError, match=f"{name} is {number}"):
        refuse_numbers(params)


@pytest.mark.parametrize(
    "text, said", [("no pg_hba.conf entry", "no pg_hba.conf entry."), ("Gone. ", "Gone."), ("", "")]
)
def test_what_a_server_says_ends_like_a_sentence(text, said):
    assert sentence(text) == said
    assert HandoverError("The source: refused", "Fix it.").as_result()["msg"] == "The source: refused. Fix it."
