# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which minors have a defect that concerns a migration."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.parts.preflight.servers import (
    DECODING_MENDED,
    is_older,
)


@pytest.mark.parametrize(
    ("version", "older"),
    [("13.20", True), ("13.21", False), ("15.3", True), ("15.13", False), ("17.5", False), ("17.10", False),
     ("17beta2", True), ("18.0", False), ("18rc1", False)],
)  # fmt: skip
def test_minors_are_compared_as_numbers(version, older):
    assert is_older(version, DECODING_MENDED) is older
