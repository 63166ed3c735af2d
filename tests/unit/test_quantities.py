# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and times as options give them."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import bytes_of, seconds_of


@pytest.mark.parametrize(
    "text, expected",
    [("0", 0), (7, 7), ("10kB", 10240), ("1.5 GB", 1610612736), ("2tb", 2 << 40), (" 3 MB ", 3 << 20), (None, None)],
)
def test_sizes(text, expected):
    assert bytes_of("max_rate", text) == expected


@pytest.mark.parametrize(
    "text, expected", [("14d", 1209600), ("90 min", 5400), (30, 30), ("0.5h", 1800), ("250ms", 0.25), (None, None)]
)
def test_times(text, expected):
    assert seconds_of("max_duration", text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1e3", "MB", "5 minutes", "1 GB 2 MB", "5m", True])
def test_what_is_no_quantity(text):
    for read in (bytes_of, seconds_of):
        with pytest.raises(HandoverError, match=r"^max_lag is "):
            read("max_lag", text)
