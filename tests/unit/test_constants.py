# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""String constants that mean the same under any setting."""

from __future__ import annotations

import pytest

from ansible_collections.handover.postgresql.plugins.module_utils.base.constants import constant


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "'plain'"), ("it's", "'it''s'"), ("a\\b", r"E'a\\b'"), ("a\\'b", r"E'a\\''b'"), ("", "''")],
)
def test_constants_say_the_same_everywhere(text, expected):
    assert constant(text) == expected
